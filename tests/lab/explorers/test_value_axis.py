"""The axis of a histogram follows the values."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.lab.explorers.charts import Chart, Steps, View
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.explorers.value_axis import axis_for, whole_ecdf

rng = np.random.default_rng(0)
NORMAL = rng.normal(size=5_000)
COUNTS = rng.poisson(np.exp(rng.normal(0, 3, 5_000))).astype(float)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (NORMAL, "linear"),
        (np.exp(NORMAL), "linear"),
        (np.exp(3 * NORMAL), "log"),
        (NORMAL / rng.normal(size=5_000), "linear"),
        (rng.poisson(3, 5_000).astype(float), "linear"),
        (rng.integers(0, 2, 5_000).astype(float), "linear"),
        (COUNTS, "log1p"),
    ],
    ids=["normal", "lognormal", "wide lognormal", "Cauchy", "Poisson", "binary", "wide counts"],
)
def test_most_bins_have_values(values, scale):
    axis = axis_for(values, None)
    assert axis.scale == scale
    shares = axis.shares(values)
    assert 0.95 < shares.sum() <= 1.0
    assert len(shares) == 2 or np.mean(shares > 0.001) > 0.4  # no L along the axes
    width = {"linear": lambda x: x, "log": np.log, "log1p": np.log1p}[scale]
    assert np.isclose(np.sum(axis.density(values) * np.diff(width(axis.edges))), shares.sum())


def test_a_bin_of_counts_stands_at_its_counts():
    axis = axis_for(COUNTS, None)
    assert axis.scale == "log1p"
    single = np.diff(axis.edges) == 1
    np.testing.assert_allclose(axis.places[single], axis.edges[:-1][single] + 0.5, atol=1e-9)
    assert axis.places[0] == 0.0  # where negative values are impossible, nothing is drawn there
    assert np.all((axis.edges[:-1] < axis.places) & (axis.places < axis.edges[1:]))


@pytest.mark.parametrize("values", [COUNTS, rng.poisson(3, 500).astype(float)])
def test_an_ecdf_of_counts_jumps_at_each_of_them(values):
    axis = axis_for(values, None)
    assert axis.is_whole
    shares = np.mean(values[:, None] < axis.edges, axis=0)
    x, y = whole_ecdf(axis.edges, shares)
    # Just before each jump, and at it.
    np.testing.assert_allclose(y[1::2], np.mean(values[:, None] <= x[1::2], axis=0))
    np.testing.assert_allclose(y[::2], np.mean(values[:, None] <= x[::2], axis=0))
    for count in (0, 1, 2):  # where the pointer reads the nearest place
        assert y[np.argmin(np.abs(x - count))] == np.mean(values <= count)
    assert np.all(np.diff(x) > 0)


def test_data_is_always_within_and_makes_an_axis_logarithmic():
    assert axis_for(NORMAL / rng.normal(size=5_000), np.array([500.0])).ends[1] >= 500
    few, far = rng.poisson(3, 5_000).astype(float), np.array([0.0, 1.0, 900.0])
    axis = axis_for(few, far)
    assert (axis.scale, axis.ends[0]) == ("log1p", -0.5)
    assert axis.ends[1] > 899
    assert axis_for(np.array([np.inf, np.nan]), None).ends == (-0.5, 1.5)


def test_a_picture_of_counts_has_zero_and_powers_of_ten():
    axis = axis_for(COUNTS, None)
    bins = Steps(axis.edges, axis.density(COUNTS))
    figure = draw_view(View([Chart([bins], x_scale=axis.scale, x_range=axis.ends)]))
    figure.draw_without_rendering()
    told = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert {"0", "1", "10", "100"} <= set(told)
