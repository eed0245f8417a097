"""An effect explored by hand: the numbers of estimate_effect and sweep, and what is refused."""

from __future__ import annotations

import re

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro import optim
from numpyro.infer import SVI, Trace_ELBO

pytest.importorskip("ipywidgets", reason="needs the lab extra: pip install 'aimz_lab[lab]'")

from aimz_lab import ImpactModel, TableSpec, lab, summarize_effect
from aimz_lab.errors import ArgumentError, SiteError
from aimz_lab.lab.explorers import effect_answers
from aimz_lab.lab.explorers.charts import Bars, Role
from tests.runs import mean_field, mean_field_model

pytestmark = pytest.mark.allow_rank_promotion

N, S = 400, 60
_rng = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "dose": _rng.uniform(0, 4, N),
        "visits": _rng.integers(1, 40, N),
        "treated": _rng.integers(0, 2, N),
        "region": pd.Categorical(_rng.choice(["north", "south", "west"], N)),
        "sales": _rng.normal(100, 5, N),
    }
)
DOSE = FRAME["dose"].to_numpy(np.float32)
KEY = jax.random.key(7)


def linear(X, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    b = numpyro.sample("b", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(a + X @ b, 1.0), obs=y)


def treatment(X, dose, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    lift = numpyro.sample("lift", dist.Normal(level, 1))
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", 2 + X + lift * dose)
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def whole(X, y=None):
    lift = numpyro.sample("lift", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X[:, 0] * lift, 0.5), obs=y)


@pytest.fixture
def table_model():
    spec = TableSpec(X="scale(dose) + visits + treated + C(region)", y="scale(sales)")
    im = ImpactModel(linear, jax.random.key(0), svi=mean_field(linear), table=spec)
    return im.fit(FRAME, epochs=3, num_samples=S, progress=False)


def test_values_that_are_not_offered_are_answered_by_those_that_are(table_model):
    explorer = lab.explore_effect(table_model, FRAME, rng_key=KEY)
    with pytest.raises(ArgumentError, match=r"does not take 7\. It takes 'observed', 0, 1\."):
        explorer.set(treated=7)
    with pytest.raises(ArgumentError, match=r"It takes 'observed', 0\.2, 0\.4, .*, 3\.8"):
        explorer.set(dose=45)
    classes = explorer.controls["dose"]._dom_classes
    assert "aimz-explorer-choices" in classes  # whose numbers cannot be written over


@pytest.fixture(scope="module")
def im():
    draws = {
        "level": _rng.normal(2, 0.1, S).astype(np.float32),
        "lift": _rng.normal(2, 0.1, S).astype(np.float32),
    }
    model = mean_field_model(treatment).set_posterior_sample(draws)
    model.predict_on_batch(DOSE[:2], dose=DOSE[:2])
    return model  # which knows the kernel's sites


def twice(before, after):
    return 2 * (after - before)


def latent_mediator(X, t, y=None):
    a = numpyro.sample("a", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        E = numpyro.sample("E", dist.Normal(a * t, 0.1))
        numpyro.sample("y", dist.Normal(t + 3 * E, 1), obs=y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
def test_a_latent_mediator_is_drawn_anew_or_kept_in_effect_and_curve():
    a = _rng.normal(size=S).astype(np.float32)
    draws = {"a": a, "E": _rng.normal(size=(S, 40)).astype(np.float32)}
    im = mean_field_model(latent_mediator).set_posterior_sample(draws)
    given = {"X": DOSE[:40], "t": np.resize([0.0, 1.0], 40).astype(np.float32), "rng_key": KEY}
    with pytest.raises(SiteError, match="Pass held='redraw'"):
        lab.explore_effect(im, **given)
    for held, slope in {"redraw": 1 + 3 * a.mean(), "keep": 1.0}.items():
        explorer = lab.explore_effect(im, **given, held=held)
        explorer.set(t=1.0, t_baseline=0.0, curve="t")
        assert explorer.table()["mean"].item() == pytest.approx(slope, abs=1e-3)
        found = run_code(explorer, im=im, X=given["X"], t=given["t"])
        effect = summarize_effect(found["effect"], direction="greater")
        pd.testing.assert_frame_equal(explorer.table(), effect.table(), check_exact=True)
        mean = summarize_effect(found["curve"]).y.sel(summary="mean").values.ravel()
        np.testing.assert_array_equal(explorer.view.charts[1].layers[0].values[1:], mean)


def run_code(explorer, **names):
    scope = dict(names)
    exec(explorer.code(), scope)
    return scope


@pytest.mark.slow
def test_a_tables_effect_and_curve_are_those_of_the_code_to_the_last_bit(table_model, capsys):
    explorer = lab.explore_effect(table_model, FRAME, by="region", rng_key=KEY)
    assert [*explorer.controls][:4] == ["dose", "visits", "treated", "region"]
    for moved in (
        {"dose": 2.2, "treated": 1, "treated_baseline": 0},
        {"region": "west", "visits": 10, "curve": "region", "contrast": "percent"},
        {"by": "all rows", "curve": "visits"},
    ):
        explorer.set(**moved)
        found = run_code(explorer, im=table_model, X=FRAME)
        effect = summarize_effect(found["effect"], direction="greater")
        pd.testing.assert_frame_equal(explorer.table(), effect.table(), check_exact=True)
        site = found["curve"].posterior_predictive.y
        lines = explorer.view.charts[1].layers
        mean = summarize_effect(found["curve"]).y.sel(summary="mean")
        if site.ndim == 3:
            np.testing.assert_array_equal(lines[1].y, mean)
        else:
            dots = explorer.values["curve"] == "region"
            drawn = lines[0].values[1:] if dots else lines[0].y  # of levels, after those observed
            np.testing.assert_array_equal(drawn, mean[:, 0])
    assert "with the 94% highest-density interval" in capsys.readouterr().out
    assert explorer.view.sentences[0] == (
        "Baseline: treated = 0. Intervention: dose = 2.2, visits = 10, treated = 1, region = west."
    )
    # The outcome is called by its column.
    said = " ".join(explorer.view.sentences)
    assert "changes sales by" in said or "makes sales" in said
    assert "The average of sales is" in said
    first, curve = explorer.view.charts[:2]
    assert first.title.startswith("Effect on sales: ")
    assert (first.x_label.split(" (")[0], curve.y_label) == (
        "effect on the average of sales",
        "average of sales",
    )


@pytest.mark.slow
def test_arguments_sites_and_a_pinned_scenario(im):
    explorer = lab.explore_effect(
        im,
        DOSE,
        dose=DOSE,
        vary={"dose": None, "lift": [0.0, 1.0]},
        weights=np.ones(N),
        rng_key=KEY,
        held="redraw",
    )
    lift = np.asarray(im.posterior["lift"], float)
    explorer.set(dose=3.0, dose_baseline=1.0)
    assert explorer.table()["mean"]["y"] == pytest.approx(2 * lift.mean(), rel=1e-4)
    found = run_code(explorer, im=im, X=DOSE, dose=DOSE, weights=np.ones(N))
    assert explorer.table()["mean"]["y"] == float(found["effect"].posterior_predictive.y.mean())
    part = lab.explore_effect(
        im, DOSE, dose=DOSE, vary="dose", of={"dose": "argument"}, subset=DOSE > 2, prob=0.5
    )
    found = run_code(part, im=im, X=DOSE, dose=DOSE, subset=DOSE > 2)
    half = summarize_effect(found["effect"], 0.5, direction="greater")[["y"]]
    assert '[["y"]])' in part.code()
    pd.testing.assert_frame_equal(part.table(), half.table(), check_exact=True)
    explorer.pin()
    explorer.set(lift=1.0, lift_baseline=1.0)
    both = explorer.table().set_index("scenario")
    assert both["mean"]["now"] == pytest.approx(2.0, abs=1e-4)
    assert both["mean"]["now - pinned"] == pytest.approx(2 - 2 * lift.mean(), abs=1e-3)
    assert "smaller" in explorer.view.sentences[3]
    ratio = explorer.set(contrast="ratio").sentences[3]
    assert re.search(r"The ratio now is [\d.]+ (larger|smaller) \(", ratio)
    percent = explorer.set(contrast="percent").sentences[3]
    assert re.search(r"The effect now is [\d.]+ percentage points (larger|smaller)", percent)
    explorer.set(contrast="difference")
    explorer.unpin()
    labels = {"dose": np.arange(N) % 2}
    own = lab.explore_effect(im, DOSE, dose=DOSE, vary={"dose": [0, 1]}, by=labels, contrast=twice)
    found = run_code(own, im=im, X=DOSE, dose=DOSE, by=labels, contrast=twice)
    mean = found["effect"].posterior_predictive.y.mean(["chain", "draw"])
    np.testing.assert_array_equal(own.table()["mean"], mean)
    assert found["curve"].posterior_predictive.y.dims[-1] == "dose_observed"
    assert explorer.set(site="mean", contrast="ratio").table.index.tolist() == ["mean"]
    assert explorer.values["lift"] == 1.0
    found = run_code(explorer, im=im, X=DOSE, dose=DOSE, weights=np.ones(N))
    ratio = found["effect"].posterior_predictive["mean"].values
    assert explorer.table()["mean"]["mean"] == float(ratio.mean())


@pytest.mark.slow
def test_titles_name_both_scenarios(im):
    vary = {"dose": [0.0, 0.5, 1.0], "lift": [0.0, 1.0]}
    explorer = lab.explore_effect(im, DOSE, dose=DOSE, vary=vary, by={"half": np.arange(N) % 2})
    first = explorer.set(dose=1.0, dose_baseline=0.5).charts[0]
    assert first.title == "Effect on y by half: dose = 1 against 0.5"
    explorer.set(by="all rows")
    for moved, said in (
        ({"dose": 1.0, "dose_baseline": 0.5}, "dose = 1 against 0.5"),
        ({"dose_baseline": 0.0}, "dose = 1 against 0"),
        ({"dose": "observed", "lift": 1.0}, "dose = observed against 0, lift = 1 against not set"),
        ({"dose": 0.0, "lift": "not set"}, "dose = 0"),
        ({"dose": "observed", "dose_baseline": "observed"}, "as observed in both"),
    ):
        assert explorer.set(**moved).charts[0].title == f"Effect on y: {said}"
    for moved, said in (
        ({"dose": 1.0}, ""),  # which the curve moves
        ({"lift": 1.0}, ": lift = 1"),
    ):
        title = f"Average of y over dose{said}"
        assert explorer.set(**moved, curve="dose").charts[1].title == title


def counts(X, y=None):
    rate = numpyro.sample("rate", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("share", jax.nn.sigmoid(rate * X))
        numpyro.deterministic("change", rate * X)
        numpyro.sample("y", dist.Poisson(0.5 + 0 * X), obs=y)


@pytest.mark.slow
def test_only_measures_that_can_work_are_offered():
    draws = {"rate": np.linspace(-1, 1, 20, dtype=np.float32)}
    model = mean_field_model(counts).set_posterior_sample(draws)
    explorer = lab.explore_effect(model, DOSE, vary={"X": [1.0, 2.0]})
    contrast = explorer.controls["contrast"]
    assert contrast.options == ("difference", "ratio", "percent")  # averages of counts below 1
    explorer.set(site="share", contrast="odds_ratio")
    explorer.set(contrast="ratio", site="y")
    assert contrast.value == "ratio"
    explorer.set(site="share", contrast="odds_ratio")
    with pytest.raises(ArgumentError, match="'X' does not take 7"):
        explorer.set(site="y", X=7)
    assert contrast.value == "odds_ratio"  # as before, with its site
    explorer.set(site="change")
    assert (contrast.options, contrast.value) == (("difference",), "difference")
    with pytest.raises(ArgumentError, match="'contrast' does not take 'odds_ratio'"):
        explorer.set(contrast="odds_ratio")
    own = lab.explore_effect(model, DOSE, vary={"X": [1.0, 2.0]}, contrast=twice)
    assert own.set(site="change").table is not None
    assert own.controls["contrast"].options == ("difference", "twice")


def purchases(X, y=None):
    rate = numpyro.sample("rate", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.deterministic("expected", 10 * jax.nn.sigmoid(rate * X))
        buys = numpyro.sample("buys", dist.Bernoulli(logits=rate * X))
        numpyro.sample("y", dist.Normal(10.0 * buys, 1.0), obs=y)


@pytest.mark.slow
def test_an_effect_on_what_hangs_on_drawn_values_says_so():
    draws = {"rate": np.linspace(0.9, 1.1, 20, dtype=np.float32)}
    model = mean_field_model(purchases).set_posterior_sample(draws)
    explorer = lab.explore_effect(model, DOSE[:9], vary={"X": [1.0, 2.0]})
    for site, is_drawn in (("y", True), ("expected", False)):
        view = explorer.set(site=site)
        (said,) = [text for text in view.sentences if "on average" in text]
        assert ("Outcomes are drawn here" in said) == is_drawn
        effect, curve = view.charts
        for label in (effect.x_label, curve.y_label):
            assert ("(of drawn outcomes)" in label) == is_drawn


def test_only_what_changed_is_computed_again(im, monkeypatch):
    asked = []
    paired = type(im)._paired

    def counted(self, key, moment, calls, reduces, **options):
        asked.extend(float(np.mean(call["dose"])) for call in calls)
        return paired(self, key, moment, calls, reduces, **options)

    monkeypatch.setattr(type(im), "_paired", counted)
    explorer = lab.explore_effect(im, DOSE, dose=DOSE, vary={"dose": [0, 1, 2, 3]})
    explorer.wait()
    assert sorted(set(asked)) == sorted([0, 1, 2, 3, float(DOSE.mean())])
    assert len(asked) == 5
    explorer.set(dose=1)
    explorer.set(contrast="percent")
    explorer.set(dose_baseline=0, site="mean")
    assert len(asked) == 5
    im_draws = im.posterior
    im.set_posterior_sample({name: np.asarray(d) + 1 for name, d in im_draws.items()})
    followed = explorer.set(dose=3)
    moved = followed.table["mean"]["mean"]
    assert len(asked) > 5  # a new posterior is a new effect
    assert "the numbers are of its present posterior." in followed.sentences[-1]
    im.set_posterior_sample(im_draws)
    assert explorer.set(dose=2).table["mean"]["mean"] < moved


@pytest.mark.slow
def test_far_values_are_noted_and_a_running_fit_is_waited_for(im):
    frame = pd.DataFrame({"dose": DOSE, "w": np.ones(N)})
    line = ImpactModel(whole, jax.random.key(0), svi=mean_field(whole))
    line.fit(frame[["dose"]], DOSE, epochs=2, num_samples=30, progress=False)
    explorer = lab.explore_effect(line, frame[["dose"]], vary={"dose": [1.0, 90.0]})
    assert any(said.startswith("Note:") and "dose" in said for said in explorer.view.sentences)
    handle = line.fit(
        frame[["dose"]], DOSE, epochs=100_000, num_samples=30, progress=False, blocking=False
    )
    try:
        with pytest.raises(ArgumentError, match="being trained"):
            explorer.set(dose_baseline=90.0)
    finally:
        handle.stop()
    explorer.set(dose_baseline=90.0, dose=90.0)
    assert explorer.table()["mean"].tolist() == [0.0]


def without_latents(X, dose, y=None):
    lift = numpyro.param("lift", 1.0)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X + lift * dose, 0.5), obs=y)


@pytest.mark.slow
def test_numbers_follow_a_new_training_before_they_are_read():
    svi = SVI(without_latents, lambda X, dose, y=None: None, optim.Adam(0.1), Trace_ELBO())
    im = ImpactModel(without_latents, jax.random.key(0), svi=svi)
    small = {"dose": DOSE, "by_row": ["dose"], "num_samples": 10, "progress": False}
    im.fit(DOSE, 3 * DOSE, epochs=1, **small)
    explorer = lab.explore_effect(im, DOSE, dose=DOSE, vary={"dose": [0.0, 1.0]}, rng_key=KEY)
    before = explorer.table()["mean"]["y"]
    im.fit(DOSE, 3 * DOSE, epochs=100, **small)
    slope = float(im.vi_result.params["lift"])
    assert abs(before - slope) > 0.1
    assert explorer.table()["mean"]["y"] == pytest.approx(slope, rel=1e-3)
    im.fit(DOSE, 3 * DOSE, epochs=1, **small)
    assert f"{float(im.vi_result.params['lift']):.4g}" in repr(explorer)
    im.train_on_batch(DOSE, DOSE, dose=DOSE, by_row=["dose"], n_obs=N)
    with pytest.raises(ArgumentError, match="needs a posterior of the present state"):
        explorer.table()


def test_the_effect_comes_first_and_the_rest_of_the_curve_when_it_is_asked_for(im, monkeypatch):
    given = {"dose": DOSE, "vary": {"dose": [0, 1, 2, 3]}, "rng_key": KEY}
    at_once = lab.explore_effect(im, DOSE, **given)
    at_once.wait()
    monkeypatch.setattr(effect_answers, "_FIRST_S", -1.0)
    explorer = lab.explore_effect(im, DOSE, **given)
    pd.testing.assert_frame_equal(explorer.table(), at_once.table(), check_exact=True)
    assert "The curve has 1 of 4 values so far." in explorer.view.sentences
    explorer.figure()
    assert explorer.view.sentences == at_once.view.sentences
    in_text = lab.explore_effect(im, DOSE, **given)
    assert "values so far" in in_text.view.text()
    assert "values so far" not in repr(in_text)
    assert repr(in_text) == repr(at_once)
    curves = [one.view.charts[1].layers[1].y for one in (explorer, at_once)]
    np.testing.assert_array_equal(*curves)


def test_later_changes_of_the_data_change_nothing(im):
    dose = DOSE.copy()
    explorer = lab.explore_effect(im, DOSE, dose=dose, vary={"dose": [0, 1, 2]}, rng_key=KEY)
    dose[:] = 100.0
    explorer.controls["dose_baseline"].value = 1
    explorer.set(dose=0)
    again = lab.explore_effect(im, DOSE, dose=DOSE, vary={"dose": [0, 1, 2]}, rng_key=KEY)
    expected = again.set(dose=0, dose_baseline=1).table
    pd.testing.assert_frame_equal(explorer.wait().table, expected, check_exact=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vary": "dosis"}, "no column, argument or site 'dosis'"),
        ({"vary": {"dose": []}}, "grid="),
        ({"vary": 3}, "vary=3"),
        ({"vary": {"level": None}, "of": {"level": "column"}}, "no column 'level'"),
        ({"contrast": "quotient"}, "contrast='quotient'"),
        ({"prob": 1.5}, "prob"),
        ({"rng_key": KEY, "reduce": "mean"}, "reduce= does not go"),
        ({"X": iter([DOSE])}, "rows in memory"),
        ({"X": np.ones((N, 2), np.float32), "dose": 1.0, "vary": "X"}, "sets one number"),
        ({"by": "region"}, "by="),
    ],
)
def test_what_cannot_be_explored_is_refused_in_words(im, change, words):
    given = {"X": DOSE, "dose": DOSE, **change}
    with pytest.raises(ArgumentError, match=words):
        lab.explore_effect(im, **given)


def test_a_value_that_cannot_be_right_is_refused_and_the_answer_stays(im):
    explorer = lab.explore_effect(
        im, DOSE, dose=DOSE, vary={"dose": [0.0, 1.0], "level": [1.0, 3.0]}
    )
    before = explorer.table()
    with pytest.raises(SiteError, match="held="):
        explorer.set(level=3.0)
    with pytest.raises(ArgumentError, match="does not take 7"):
        explorer.set(dose=7)
    assert explorer.values["level"] == "not set"
    pd.testing.assert_frame_equal(explorer.table(), before)
    with pytest.raises(ArgumentError, match="no posterior"):
        lab.explore_effect(mean_field_model(treatment), DOSE, dose=DOSE)


def test_the_code_sets_an_argument_that_was_given_as_a_list(im, capsys):
    dose = [0.0, 1.0] * 15
    X = np.zeros(30, "float32")
    explorer = lab.explore_effect(im, X, dose=dose, vary={"dose": [0.0, 2.0]})
    exec(explorer.code(), {"im": im, "X": X, "dose": dose})
    assert f"{explorer.table()['mean'].iloc[0]:.3g}" in capsys.readouterr().out


@pytest.mark.slow
def test_the_first_question_sets_what_is_0_or_1(table_model):
    explorer = lab.explore_effect(table_model, FRAME[["region", "dose", "visits", "treated"]])
    assert explorer.view.sentences[0] == "Baseline: treated = 0. Intervention: treated = 1."
    assert explorer.wait().charts[1].title == "Average of sales over dose: treated = 1"
    # A category that is left as it is has a place of its own beside its levels.
    chart = explorer.set(curve="region").charts[1]
    assert list(chart.names()) == ["observed", "north", "south", "west"]
    assert [(handle.at, handle.text) for handle in chart.handles] == [(0, "observed")] * 2
    told = re.search(r"and ([\d.]+) under the intervention\.$", explorer.view.sentences[2])
    assert float(told[1]) == pytest.approx(chart.layers[0].values[0], abs=0.005)
    chart = explorer.set(curve="region", by="treated").charts[1]
    dots = chart.layers[:2]
    assert [type(each) for each in dots] == [Bars, Bars]  # a line would join levels
    assert dots[0].beside == -dots[1].beside < 0  # the groups' dots would lie on one another
    assert chart.y_label == "average of sales, 94% interval"
    assert all((each.low < each.values).all() and (each.values < each.high).all() for each in dots)
    asked = lab.explore_effect(table_model, FRAME, vary=["region", "treated"])
    assert asked.view.sentences[0] == "Baseline: as observed. Intervention: region = west."
    explorer.close()
    asked.close()


def test_each_group_has_a_curve_and_0_and_1_are_levels(table_model):
    ward = np.arange(N) % 14
    explorer = lab.explore_effect(table_model, FRAME, vary=["treated", "dose"], by={"ward": ward})
    explorer.set(curve="treated", dose="observed")
    _, *charts = explorer.wait().charts
    assert [chart.title for chart in charts[::11]] == ["ward = 0 (1 of 14)", "ward = 11 (12 of 14)"]
    assert len({chart.limits() for chart in charts}) == 1  # so that they can be compared
    assert "in the first 12 of 14 groups of ward, on one scale." in explorer.view.sentences[-1]
    for chart in charts:
        assert list(chart.names()) == ["observed", "0", "1"]
        assert isinstance(chart.layers[0], Bars)  # there is nothing between 0 and 1
    assert [handle.at for handle in charts[-1].handles] == [2, 1]
    assert [bool(chart.handles[0].mark) for chart in charts] == [True] + 11 * [False]
    _, *charts = explorer.set(curve="dose").charts
    band, line = charts[0].layers[:2]
    assert (band.low < line.y).all()
    assert (line.y < band.high).all()
    explorer.close()


def test_handles_have_room_below_what_they_would_hide(table_model):
    explorer = lab.explore_effect(table_model, FRAME, by="treated")
    chart = explorer.set(curve="region").charts[1]
    low, high = chart.limits()[1]
    least = min(dots.low.min() for dots in chart.layers[:2])
    assert low < chart.lowest_tick <= least
    assert (least - low) / (high - low) > 0.15
    explorer.close()


@pytest.mark.slow
def test_a_handle_moves_the_scenario_of_its_colour(table_model):
    explorer = lab.explore_effect(table_model, FRAME, vary=["dose", "region"])

    def handles():
        """The handles, after the page has dragged one or not."""
        return {one.mark: one for one in explorer.wait().charts[1].handles}

    def role(label: str) -> Role:
        return next(one.role for one in explorer.view.charts[1].layers if one.label == label)

    explorer.set(dose="observed", curve="dose")
    assert list(handles()) == ["intervention", "baseline"]  # in the order of the keyboard's focus
    assert {mark: one.text for mark, one in handles().items()} == dict.fromkeys(
        ["intervention", "baseline"], "observed"
    )
    assert handles()["intervention"].role == role("average, 94% interval")
    assert handles()["baseline"].role == role("baseline")
    kept = handles()["intervention"]
    assert kept.at == handles()["baseline"].at == pytest.approx(FRAME["dose"].mean())
    explorer.take({"kind": "drag", "name": kept.name, "value": 3.01})
    assert [one.text for one in handles().values()] == ["3", "observed"]
    explorer.set(curve="region")
    for name, place, texts in (
        ("region", 2, ["south", "observed"]),
        ("region_baseline", 3, ["south", "west"]),
        ("region", 0, ["observed", "west"]),
    ):
        explorer.take({"kind": "drag", "name": name, "value": place})
        assert [one.text for one in handles().values()] == texts
    explorer.close()


def test_a_curve_that_reaches_far_does_not_squeeze_the_effect_into_a_line(table_model):
    explorer = lab.explore_effect(table_model, FRAME, vary=["treated", "visits"])
    chart = explorer.set(curve="visits").charts[0]
    (left, right), _ = chart.limits()
    assert np.ptp(chart.layers[0].x) > (right - left) / 5
    explorer.close()


@pytest.mark.parametrize(("top", "has_others"), [(1.2, True), (2.0, False)])
def test_the_axis_has_the_effects_of_the_curve_while_its_own_fills_much_of_it(top, has_others):
    lift = np.random.default_rng(0).uniform(1, 3, S).astype(np.float32)
    im = mean_field_model(treatment).set_posterior_sample({"level": 0 * lift, "lift": lift})
    explorer = lab.explore_effect(im, DOSE, dose=DOSE, vary={"dose": [0.0, 1.0, top]})
    chart = explorer.set(dose=1.0, dose_baseline=0.0, curve="dose").charts[0]
    (left, right), _ = chart.limits()
    assert np.ptp(lift) > (right - left) / 2.9
    assert (right > 3 * top) == has_others
    explorer.close()
