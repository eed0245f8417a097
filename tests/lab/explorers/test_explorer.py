"""Controls and answers of an explorer, without a page."""

from __future__ import annotations

import threading
import time

import numpy as np
import pandas as pd
import pytest

from aimz_lab.errors import ArgumentError
from aimz_lab.lab.explorers.charts import Area, Chart, Handle, Line, Points, Steps, View
from aimz_lab.lab.explorers.controls import move
from aimz_lab.lab.explorers.explorer import Explorer
from aimz_lab.lab.explorers.page import Page
from tests.lab.dashboard.test_views import Outputs

ipywidgets = pytest.importorskip("ipywidgets")

X = np.linspace(0.0, 1.0, 20)


def squares(answer=None):
    """An explorer of squares, which refuses sevens."""
    controls = {
        "n": ipywidgets.IntSlider(2, 0, 10, description="n"),
        "power": ipywidgets.FloatText(2.0, description="power"),
    }

    def usual(values):
        if values["n"] == 7:
            raise ValueError("no sevens")
        result = float(values["n"] ** values["power"])
        chart = Chart([Area(X, X)], handles=[Handle("n", 0.5, lambda x: round(10 * x))])
        return View([chart], table=pd.DataFrame({"result": [result]}), sentences=[f"{result}"])

    def code(values):
        return f"{values['n']} ** {values['power']}"

    return Explorer(controls, answer or usual, code)


def test_set_moves_controls_and_waits_for_the_answer():
    one = squares()
    assert one.view.sentences == ["4.0"]
    assert one.set(n=3, power=3.0).sentences == ["27.0"]
    assert one.table()["result"].tolist() == [27.0]
    assert one.code() == "3 ** 3.0"
    assert len(one.times) == 1  # one question, though two controls were moved


def test_an_answer_prints_its_sentences_and_numbers_and_no_arrays():
    answer = squares().set(n=3)
    assert repr(answer).splitlines() == ["9.0", "   result", "0     9.0"]
    assert repr(View([Chart([Area(X, X)], title="a density")])) == "a density"


@pytest.mark.parametrize(
    ("bad", "error", "said"),
    [
        ({"m": 3}, ArgumentError, "There are: n, power"),
        ({"n": 11}, ArgumentError, "from 0 to 10"),
        ({"n": "three"}, ArgumentError, "does not take 'three'"),
        ({"power": 1.0, "n": 7}, ValueError, "no sevens"),
    ],
)
def test_a_bad_value_is_refused_and_leaves_everything_as_it_was(bad, error, said):
    one = squares()
    one.set(n=3)
    with pytest.raises(error, match=said):
        one.set(**bad)
    assert (one.values, one.problem) == ({"n": 3, "power": 2.0}, None)
    assert one.view.sentences == ["9.0"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (0.0123, r"take 0\.0123\. The nearest that it takes is 0\.012\. It takes 'observed', 0"),
        (np.float32(7), r"The nearest that it takes is 0\.049\."),
        (np.nan, r"does not take nan\. It takes 'observed', 0"),
    ],
)
def test_a_number_beside_the_choices_is_told_the_nearest_one(bad, said):
    choices = ["observed", *(i / 1000 for i in range(50))]
    one = ipywidgets.SelectionSlider(options=choices, description="dose")
    with pytest.raises(ArgumentError, match=said):
        move(one, "dose", bad)
    assert one.value == "observed"


def test_a_bad_value_of_the_page_leaves_the_last_good_answer_and_its_code():
    one = squares()
    one.controls["n"].value = 7
    with pytest.raises(ValueError, match="no sevens"):
        one.wait()
    assert str(one.problem) == "no sevens"
    assert (one.view.sentences, one.code()) == (["4.0"], "2 ** 2.0")
    one.controls["n"].value = 8
    assert one.wait().sentences == ["64.0"]
    assert one.problem is None


def test_the_page_says_which_value_holds_where_another_is_refused():
    one = squares()
    page = Page(one)
    one._page = page
    one.controls["n"].value = 7
    with pytest.raises(ValueError, match="no sevens"):
        one.wait()
    assert page.picture.problem == "no sevens\nThe picture is still that of n = 2."
    one.controls["n"].value = 8
    one.wait()
    assert page.picture.problem == ""


def test_a_page_that_trusts_no_widget_shows_the_words_once(monkeypatch):
    outputs = Outputs()
    monkeypatch.setattr("IPython.display.display", outputs.display)
    Page(squares())
    panel, still = outputs
    assert (
        panel["text/plain"]
        == "Explorer: a live view, which needs its kernel and a page that shows widgets"
    )
    assert still["text/plain"].startswith("4.0")


def test_a_saved_notebook_has_the_words_beside_the_picture(monkeypatch):
    pytest.importorskip("matplotlib")
    outputs = Outputs()
    monkeypatch.setattr("IPython.display.display", outputs.display)
    chart = Chart([Area(X, X)])
    Page(squares(lambda _: View([chart], sentences=["It changes <b> by 4.0."])))
    html = outputs[1]["text/html"]
    assert "<p>It changes &lt;b&gt; by 4.0.</p>" in html
    assert html.index("<p>") < html.index("<img")


def test_a_table_without_rows_is_not_on_the_page():
    empty = pd.DataFrame({"result": []})
    page = Page(squares(lambda _: View(table=empty, sentences=["None."])))
    assert page.picture.view["table"] is None


def test_changes_while_it_computes_wait_as_one_and_none_overtakes():
    asked, going_on = [], threading.Event()

    def slow(values):
        asked.append(values["n"])
        if values["n"] == 1:
            going_on.wait(10)
        return View(sentences=[str(values["n"])])

    one = squares(slow)
    one.controls["n"].value = 1
    while asked[-1] != 1:
        time.sleep(0.005)
    for n in (3, 4, 5):
        one.controls["n"].value = n
    going_on.set()
    assert one.wait().sentences == ["5"]
    assert asked == [2, 1, 5]


def test_an_error_of_the_code_is_a_problem_too_and_the_next_answer_comes():
    control = ipywidgets.IntSlider(2, 0, 10, description="n")
    one = Explorer(
        {"n": control}, lambda v: View(sentences=[str(v["n"])]), lambda v: f"{6 / v['n']}"
    )
    control.value = 0
    with pytest.raises(ZeroDivisionError):
        one.wait()
    assert (one.view.sentences, one.code()) == (["2"], "3.0")
    assert one.set(n=3).sentences == ["3"]


def test_a_drag_and_a_pick_move_controls():
    one = squares()
    one.take({"kind": "drag", "name": "n", "value": 0.6})
    assert one.wait().sentences == ["36.0"]
    for odd in ({"kind": "drag", "name": "n", "value": float("nan")}, {"kind": "pick"}, {}):
        one.take(odd)
    assert one.wait().sentences == ["36.0"]


def test_a_pinned_answer_is_handed_to_the_next_ones():
    pinned = []

    def answer(values):
        pinned.append(values["pinned"])
        return View()

    control = ipywidgets.IntSlider(2, 0, 10, description="n")
    one = Explorer(
        {"n": control}, answer, str, title="Numbers", groups={"Heading": ["n"]}, pins=True
    )
    one.pin()
    one.set(n=5)
    one.unpin()
    assert pinned == [None, {"n": 2}, {"n": 2}, None]
    assert repr(one) == "Numbers"
    with pytest.raises(ArgumentError, match="keeps no answer"):
        squares().pin()


def test_a_long_session_keeps_a_bounded_history():
    one = squares()
    for i in range(520):
        one.controls["power"].value = float(i)
        one.wait()
    assert len(one.times) == 500
    before = threading.active_count()
    one.close()
    with pytest.raises(ArgumentError, match="was closed"):
        one.set(n=1)
    assert threading.active_count() <= before


def test_figure_has_the_layers_of_the_view():
    pytest.importorskip("matplotlib")
    figure = squares().figure()
    (axes,) = figure.axes
    assert np.array_equal(axes.lines[0].get_xydata(), np.column_stack([X, X]))
    assert figure.alt == "4.0"


def test_charts_refuse_what_they_cannot_draw():
    with pytest.raises(ArgumentError, match="at most 2,000"):
        Points(np.zeros(2001), np.zeros(2001))
    with pytest.raises(ArgumentError, match="as many"):
        Line(np.zeros(3), np.zeros(2))
    with pytest.raises(ArgumentError, match="one value more"):
        Steps(np.zeros(3), np.zeros(3))
    with pytest.raises(ArgumentError, match="role="):
        Line(X, X, role="red")


def test_limits_hold_all_layers_and_skip_what_a_log_axis_has_not():
    chart = Chart([Line([0.0, 1.0, np.inf], [-1.0, 10.0, 3.0])], x_scale="log", y_scale="log")
    (left, right), (low, high) = chart.limits()
    assert 0 < left <= 1 <= right < np.inf
    assert 0 < low <= 3 < 10 <= high
    assert Chart([Area(X, X)]).limits()[1][0] == 0  # a density stands on the axis
