"""Buckets of a trace: against NumPy on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.inference.run.buckets import Buckets
from aimz_lab.inference.run.smoothing import average_at, averaged_steps
from aimz_lab.lab.traces import Trace, float32, smooth, thin, unpack

floats = st.floats(-1e6, 1e6, width=32) | st.just(np.nan) | st.just(np.inf)


def cut(values, sizes):
    edges = np.minimum(np.cumsum(sizes), len(values))
    return np.split(np.asarray(values, float), edges)


def oracle(values, width):
    """Lowest, highest and mean of the finite values in each stretch of ``width``."""
    found = []
    for start in range(0, len(values), width):
        part = np.asarray(values[start : start + width], float)
        part = part[np.isfinite(part)]
        found.append((part.min(), part.max(), part.mean()) if len(part) else (np.nan,) * 3)
    return np.array(found).reshape(-1, 3).T


@given(st.lists(floats, max_size=200), st.lists(st.integers(0, 70), max_size=6))
def test_buckets_equal_numpy_however_the_values_are_cut(values, sizes):
    trace = Trace(capacity=8)
    for part in cut(values, sizes):
        trace.add(part)
    low, high, mean = oracle(values, trace.width)
    np.testing.assert_array_equal(trace.low, low)
    np.testing.assert_array_equal(trace.high, high)
    np.testing.assert_allclose(trace.mean, mean, rtol=1e-12, atol=1e-9)
    assert trace.n_steps == len(values)


@given(st.lists(floats, max_size=300), st.lists(st.integers(0, 90), max_size=6), st.booleans())
def test_a_trace_that_follows_a_bounded_column_is_that_of_all_values(values, sizes, several):
    column = Buckets(np.float32, "measured", limit=16, shape=(2,) if several else ())
    trace, whole = Trace(capacity=8), Trace(capacity=8)
    for part in cut(values, sizes):
        column.extend(np.stack([part + 1, part], axis=1) if several else part)
        trace.follow(column, 1 if several else None)
        whole.add(part)
        assert (trace.n_steps, trace.width) == (whole.n_steps, whole.width)
        np.testing.assert_array_equal(trace.low, whole.low)
        np.testing.assert_array_equal(trace.high, whole.high)
        np.testing.assert_allclose(trace.mean, whole.mean, rtol=1e-12, atol=1e-9)
    late = Trace(capacity=8)
    late.follow(column, 1 if several else None)
    np.testing.assert_array_equal(late.high, whole.high)
    assert late.frame()["steps"] == whole.frame()["steps"]


@given(st.integers(0, 3000))
def test_the_number_of_buckets_is_bounded_and_the_last_step_is_there(n):
    trace = Trace(capacity=16)
    trace.add(np.arange(n))
    assert len(trace.mean) <= 16 + 1
    assert trace.width & (trace.width - 1) == 0
    if n:
        assert trace.steps[-1] == n
        assert trace.high.max() == n - 1
        assert trace.low.min() == 0


@given(st.lists(floats, min_size=1, max_size=200), st.sampled_from([2, 6, 16]), st.integers(1, 16))
def test_a_coarser_trace_equals_numpy_on_its_wider_buckets(values, capacity, most):
    trace = Trace(capacity)
    trace.add(values)
    coarse = trace.coarser(most)
    low, high, mean = oracle(values, coarse.width)
    np.testing.assert_array_equal(coarse.low, low)
    np.testing.assert_array_equal(coarse.high, high)
    np.testing.assert_allclose(coarse.mean, mean, rtol=1e-12, atol=1e-9)
    assert len(mean) <= most
    assert coarse.steps[-1] == len(values)


def test_a_frame_leaves_out_the_extremes_as_long_as_a_bucket_is_a_step():
    trace = Trace(capacity=4)
    trace.add([1.0, 3.0])
    assert set(trace.frame()) == {"width", "steps", "mean"}
    trace.add([5.0, 7.0])
    frame = trace.frame()
    assert frame["width"] == 2
    np.testing.assert_array_equal(unpack(frame["low"]), [1, 5])
    np.testing.assert_array_equal(unpack(frame["high"]), [3, 7])
    np.testing.assert_array_equal(unpack(frame["mean"]), [2, 6])


def test_a_frame_has_the_same_size_after_a_million_steps():
    trace = Trace()
    rng = np.random.default_rng(0)
    for _ in range(100):
        trace.add(rng.normal(size=10_000))
    frame = trace.frame()
    assert frame["steps"] == 1_000_000
    assert sum(len(frame[name]) for name in ("mean", "low", "high")) <= 3 * 4 * 1025


@given(
    st.lists(floats, min_size=1, max_size=200),
    st.sampled_from([1, 4, 16]),
    st.sampled_from([None, 1, 3, 10]),
)
def test_smoothing_is_the_mean_of_the_last_steps(values, width, epoch):
    steps = np.repeat(np.array(values), width)[: width * len(values) - width // 2]
    found = smooth(np.array(values), width, len(steps), epoch)
    for i in range(len(values)):
        expected = average_at(steps, min(width * (i + 1), len(steps)), epoch)
        np.testing.assert_allclose(found[i], np.nan if expected is None else expected, atol=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300), st.integers(0, 300))
def test_later_steps_do_not_change_what_is_smoothed(values, more):
    values = np.array(values)
    longer = smooth(np.append(values, np.full(more, 7.0)), 1, steps_per_epoch=5)
    np.testing.assert_array_equal(longer[: len(values)], smooth(values, 1, steps_per_epoch=5))


def test_smoothing_a_constant_gives_the_constant_from_the_first_value_on():
    np.testing.assert_allclose(smooth(np.full(20, 3.5), 4), 3.5)


def test_smoothing_does_not_drag_a_high_start_along():
    losses = np.full(1000, 2.5)
    losses[:10] = 1e30
    smoothed = smooth(losses, 1)
    np.testing.assert_array_equal(smoothed[12:], 2.5)


def test_a_bucket_of_few_steps_weighs_little():
    trace = Trace(64)
    trace.add(np.full(64 * 128, 2.5))
    trace.add([3.5])
    assert trace.width > 1
    assert trace.smooth(1)[-1] == pytest.approx(2.5 + 1 / averaged_steps(8193, 1))


def test_smoothing_passes_over_gaps():
    values = np.full(100, 1.0)
    values[[0, 49]] = np.nan, np.inf
    np.testing.assert_array_equal(smooth(values, 1, 100, 1), [np.nan] + [1.0] * 99)


def test_the_steps_that_are_averaged_grow_with_the_run_in_whole_epochs():
    assert averaged_steps(np.array([1, 80, 5_000, 50_000]), None).tolist() == [1, 10, 256, 1000]
    assert averaged_steps(np.array([1, 80, 5_000, 50_000]), 30).tolist() == [1, 10, 90, 990]


@given(st.lists(floats, min_size=1, max_size=300), st.integers(2, 60))
def test_thinning_keeps_order_bound_and_extremes(values, most):
    x, y = np.arange(len(values)), np.array(values)
    kept_x, kept_y = thin(x, y, most)
    assert len(kept_x) <= max(most, 2)
    assert (np.diff(kept_x) > 0).all()
    np.testing.assert_array_equal(kept_y, y[kept_x])
    finite = y[np.isfinite(y)]
    if len(finite):
        assert finite.min() in kept_y
        assert finite.max() in kept_y


@pytest.mark.parametrize("values", [[], [1.5], [1.0, -2.0, np.nan]])
def test_a_packed_buffer_reads_back(values):
    np.testing.assert_array_equal(unpack(float32(values)), np.array(values, np.float32))
    assert len(float32(values)) == 4 * len(values)
