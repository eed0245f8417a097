"""Columns of a run in bounded memory: against NumPy on all values, however they came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimz_lab.inference.run.buckets import COUNT, HIGH, LOW, SUM, Buckets, mean_of, width_of

LIMIT = 8
TYPES = {"last": np.float32, "sum": np.int32, "measured": np.float32}
floats = st.floats(width=32) | st.sampled_from([np.nan, np.inf, -np.inf])
counts = st.integers(-(2**31), 2**31 - 1)
chunks = st.lists(st.integers(0, 40), max_size=12)


@st.composite
def streams(draw):
    """A kind of column and values for it."""
    kind = draw(st.sampled_from(list(TYPES)))
    values = draw(st.lists(counts if kind == "sum" else floats, max_size=150))
    return kind, np.array(values, TYPES[kind])


def column_of(kind, values, sizes=()):
    """A column that took the values in chunks of these sizes, and the rest at once."""
    column = Buckets(TYPES[kind], kind, limit=LIMIT)
    for part in np.split(values, np.minimum(np.cumsum(np.array(sizes, int)), len(values))):
        column.extend(part)
    return column


def same(one, other):
    return (one.width, len(one), one.kept.tobytes()) == (
        other.width,
        len(other),
        other.kept.tobytes(),
    )


def expected(kind, part):
    """What a bucket keeps of these steps, by NumPy."""
    if kind != "measured":
        return part[-1] if kind == "last" else part.sum(dtype=np.int64)
    part = part[np.isfinite(part)].astype(float)
    return [part.min(), part.max(), part.sum(), len(part)] if len(part) else [np.nan, np.nan, 0, 0]


@given(streams(), chunks)
def test_chunks_do_not_matter_to_a_bit(stream, sizes):
    assert same(column_of(*stream, sizes), column_of(*stream))


@given(streams())
def test_buckets_equal_numpy(stream):
    kind, values = stream
    column = column_of(kind, values)
    assert column.width == width_of(len(values), LIMIT)
    assert column.sizes.sum() == len(values) == len(column)
    assert len(column.sizes) < LIMIT + column.width
    if column.is_exact:
        assert column.kept.dtype == values.dtype
        np.testing.assert_array_equal(column.kept, values)
        return
    parts = np.split(values, np.cumsum(column.sizes)[:-1])
    wanted = np.array([expected(kind, part) for part in parts])
    if kind != "measured":
        np.testing.assert_array_equal(column.kept, wanted)
        return
    exact = [LOW, HIGH, COUNT]
    np.testing.assert_array_equal(column.kept[:, exact], wanted[:, exact])
    rounding = [1e-12 * np.abs(part[np.isfinite(part)].astype(float)).sum() for part in parts]
    assert (np.abs(column.kept[:, SUM] - wanted[:, SUM]) <= rounding).all()
    count = column.kept[:, COUNT]
    np.testing.assert_array_equal(np.isnan(mean_of(column.kept)), count == 0)
    np.testing.assert_array_equal(
        (mean_of(column.kept) * count)[count == 1], column.kept[count == 1, SUM]
    )


@given(streams(), st.integers(0, 150), chunks)
def test_a_restored_column_goes_on_as_if_it_had_never_stopped(stream, at, sizes):
    kind, values = stream
    before = column_of(kind, values[:at])
    after = Buckets(TYPES[kind], kind, limit=LIMIT)
    after.restore(before.kept.copy(), len(before))
    assert same(after, before)
    for part in np.split(
        values[at:], np.minimum(np.cumsum(np.array(sizes, int)), len(values[at:]))
    ):
        after.extend(part)
    assert same(after, column_of(kind, values))


@given(streams(), st.integers(0, 20))
def test_the_buckets_from_one_on_are_a_part_of_all(stream, first):
    column = column_of(*stream)
    every, sizes = column.since(0)
    np.testing.assert_array_equal(sizes, column.sizes)
    assert every.shape == (len(sizes), 4)
    for begin in {first, -max(first, 1)}:
        stats, of_these = column.since(begin)
        np.testing.assert_array_equal(of_these, sizes[begin:])
        np.testing.assert_array_equal(stats, every[begin:])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("wrong", ["one less", "one more", "another axis"])
def test_what_cannot_be_of_so_many_steps_is_refused(kind, wrong):
    kept = column_of(kind, np.arange(37).astype(TYPES[kind])).kept
    bad = {
        "one less": kept[1:],
        "one more": np.concatenate([kept, kept[:1]]),
        "another axis": kept[None],
    }
    with pytest.raises(ValueError, match="37 steps are kept in the shape"):
        Buckets(TYPES[kind], kind, limit=LIMIT).restore(bad[wrong], 37)


@pytest.mark.parametrize("kind", TYPES)
def test_what_was_read_before_does_not_change(kind):
    values = np.arange(64).astype(TYPES[kind])
    column = Buckets(TYPES[kind], kind, limit=LIMIT)
    read = []
    for value in values:
        column.extend([value])
        read.append((column.kept, column.kept.copy()))
    for view, copy in read:
        np.testing.assert_array_equal(view, copy)


def test_values_of_several_chains_are_kept_apart():
    values = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    together = Buckets(np.float32, "measured", limit=LIMIT, shape=(3,))
    together.extend(values)
    for chain in range(3):
        alone = column_of("measured", values[:, chain])
        assert together.kept[..., chain].tobytes() == alone.kept.tobytes()
