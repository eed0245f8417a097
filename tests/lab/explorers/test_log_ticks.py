"""Ticks of logarithmic axes in still pictures can be read, and are enough to read values by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from aimz_lab.lab.explorers.charts import Chart, Steps, View
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.explorers.log_ticks import log_ticks


def wide(label):
    return 5.0 * len(label) + 10.0


@pytest.mark.parametrize("low", [2e-11, 0.03, 1.0, 3e4])
@pytest.mark.parametrize("length", [100.0, 400.0])
def test_over_any_number_of_decades_they_are_a_few(low, length):
    for decades in (0.1, 0.5, 0.8, *range(1, 41), 76, 250):
        ticks = log_ticks(low, low * 10.0**decades, length, wide)
        assert all(0.998 * low <= tick <= 1.002 * low * 10.0**decades for tick in ticks)
        assert (1 if length < 200 else 2) <= len(ticks) <= 9, decades


@pytest.mark.parametrize("decades", [1, 4, 7, 23])
def test_no_number_of_a_drawn_axis_is_on_another(decades):
    edges = np.geomspace(2e-6, 2e-6 * 10.0**decades, 11)
    bins, options = Steps(edges, np.ones(10)), {"x_scale": "log", "x_range": (2e-6, edges[-1])}
    figure = draw_view(
        View([Chart([bins], **options), *[Chart([bins], size="small", **options)] * 2])
    )
    figure.draw_without_rendering()
    for axes, least in zip(figure.axes, (3, 1, 1), strict=True):
        low, high = axes.get_xlim()
        ticks = [one for one in axes.xaxis.get_major_ticks() if low <= one.get_loc() <= high]
        boxes = [tick.label1.get_window_extent() for tick in ticks]
        assert len(boxes) >= least
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))


def test_few_decades_have_numbers_between_powers_of_ten_and_counts_a_zero():
    assert log_ticks(1.0, 99.0, 400.0, wide) == [1, 2, 5, 10, 20, 50]
    assert log_ticks(-0.5, 5_000.0, 400.0, wide, of_counts=True) == [0, 1, 10, 100, 1_000]
