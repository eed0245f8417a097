"""Charts of draws beside the data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aimz_lab.lab.explorers.charts import Band, Bars, Rule, Steps, View
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.explorers.prior_predictive_charts import predictive_chart

rng = np.random.default_rng(0)


def chart_of(values, data=None, possible=(-math.inf, math.inf)):
    return predictive_chart(values, data, possible, None, name="y", as_ecdf=False)


def test_bounds_of_whole_numbers_stand_behind_the_last_possible_one():
    values = rng.integers(20, 30, (50, 40)).astype(float)
    chart, ends = chart_of(values, possible=(22, 28.5))
    (bars,) = (layer for layer in chart.layers if isinstance(layer, Bars))
    assert bars.names == [str(one) for one in range(20, 30)]
    assert ends == (19.5, 29.5)
    # The places of named bars are 0, 1, ...
    assert [layer.at for layer in chart.layers if isinstance(layer, Rule)] == [1.5, 8.5]
    each = np.mean(values == 23, axis=1)
    low, high = np.quantile(each, [0.05, 0.95])
    found = bars.low[3], bars.values[3], bars.high[3]
    np.testing.assert_allclose(found, [low, each.mean(), high])


def test_more_whole_numbers_are_steps():
    values = rng.integers(0, 90, (20, 400)).astype(float)
    chart, _ = chart_of(values, data=values[0], possible=(0, 50))
    steps, band = chart.layers[:2]
    assert isinstance(steps, Steps)
    assert isinstance(band, Band)
    np.testing.assert_allclose(steps.heights.sum(), 1.0)
    assert [layer.at for layer in chart.layers if isinstance(layer, Rule)] == [-0.5, 50.5]


@pytest.mark.parametrize("value", [np.inf, 3.0])
def test_values_that_are_all_the_same_are_drawn(value):
    chart, _ = chart_of(np.full((3, 4), value))
    draw_view(View([chart])).draw_without_rendering()
