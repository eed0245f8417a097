"""The still picture of a view."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from aimz_lab.lab.explorers.charts import Bars, Cells, Chart, Handle, Line, Rule, View
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.pictures import ink

X = np.arange(3.0)


@pytest.mark.parametrize("title", ["y = orders, all rows", "y"])
def test_a_legend_above_a_chart_does_not_cover_its_title(title):
    labels = ["90% of the draws", "prior predictive", "pinned", "data", "impossible beyond"]
    charts = [Chart([Line(X, X, label=label) for label in labels], title=title)]
    figure = draw_view(View([Chart([Line(X, X)], title="a", size="small"), *charts]))
    figure.draw_without_rendering()
    axes = figure.axes[-1]
    [words] = [text for text in axes.findobj(Text) if text.get_text() == title]
    box = words.get_window_extent()
    assert not box.overlaps(axes.get_legend().get_window_extent())
    assert words.get_fontsize() == 9
    assert to_hex(words.get_color()) == ink.TEXT
    assert box.y1 <= figure.bbox.y1


def test_a_long_title_is_broken_into_lines_within_the_picture():
    words = ", ".join(f"income_{i} = 196705 against 150000" for i in range(6))
    figure = draw_view(View([Chart([Line(X, X, label="average")], title=words)]))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    [title] = [text for text in axes.findobj(Text) if text.get_text().startswith("income_0")]
    assert title.get_text().split() == words.split()
    box = title.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert box.y1 <= figure.bbox.y1
    assert not box.overlaps(axes.get_legend().get_window_extent())


def test_a_legend_of_one_name_stands_above_the_chart():
    (axes,) = draw_view(View([Chart([Line(X, X, label="average")], title="y")])).axes
    assert axes.get_legend().get_window_extent().y0 >= axes.bbox.y1


def test_dots_of_several_layers_stand_beside_each_other():
    layers = [Bars(["a", "b"], X[:2], X[:2] - 1, X[:2] + 1, beside) for beside in (-0.2, 0.2)]
    (axes,) = draw_view(View([Chart(layers)])).axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[-0.2, 0.8], [0.2, 1.2]]
    ends = [line.get_segments()[0][:, 0].tolist() for line in axes.collections]
    assert ends == [[-0.2, -0.2], [0.2, 0.2]]


def test_handles_at_one_place_stand_above_each_other_with_their_names():
    handles = [
        Handle(n, 1.0, mark=n, text="observed", role=r) for n, r in (("a", "main"), ("b", "data"))
    ]
    (axes,) = draw_view(View([Chart([Line(X, X)], handles=handles)])).axes
    heights = [line.get_ydata()[0] for line in axes.lines if line.get_marker() == "^"]
    assert heights[0] < heights[1]
    assert [text.get_text() for text in axes.texts] == ["a: observed", "b: observed"]
    assert len({line.get_color() for line in axes.lines if line.get_marker() == "^"}) == 2


def test_no_line_runs_through_the_name_of_a_handle():
    marks = {"loc": 1.0, "scale": 1.08}
    handles = [Handle(name, at, mark=name, text=f"{at}") for name, at in marks.items()]
    layers = [Line(X, X), Rule(1.16), Rule(0.02, axis="y")]
    (axes,) = draw_view(View([Chart(layers, handles=handles)])).axes
    names = {text.get_text(): text.get_window_extent() for text in axes.texts}
    loc, scale = names["loc: 1.0"], names["scale: 1.08"]
    for box, lines in ((loc, (1.08, 1.16)), (scale, (1.16,))):
        at = axes.transData.transform([(place, 0.0) for place in lines])
        assert not any(box.x0 < x < box.x1 for x, _ in at)
        assert box.y1 < at[0, 1]  # the values, and lines across them, are above
    assert min(axes.get_yticks()) >= 0


def test_small_charts_are_equally_wide_in_each_row():
    figure = draw_view(View([Chart([Line(X, X)], size="small")] * 5))
    assert {axes.get_subplotspec().get_gridspec().ncols for axes in figure.axes} == {3}


def test_a_cell_that_is_none_has_no_lines_around_it():
    layer = Cells([[0, 1], [0, -1]], kinds=[("rows", "main"), ("padding", "bad")])
    (axes,) = draw_view(View([Chart([layer])])).axes
    (mesh,) = (one for one in axes.collections if one.get_array() is not None)
    assert mesh.get_edgecolor()[:, 3].tolist() == [1, 1, 1, 0]
