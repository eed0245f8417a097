"""Average effects: contrasts of averages, by group, weighted, on a part of the rows."""

from __future__ import annotations

from contextlib import nullcontext

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.distributions.transforms import ExpTransform

from aimz_lab import effects
from aimz_lab.errors import ArgumentError, DataError, OutputWarning
from tests.runs import mean_field_model

N, S = 700, 30
_rng = np.random.default_rng(4)
X = _rng.normal(size=N).astype(np.float32)
CLINIC = _rng.choice(["east", "north", "west"], N)
SEX = _rng.integers(0, 2, N)
WEIGHTS = _rng.gamma(2.0, size=N)
TREATED = _rng.random(N) < 0.3
SLOPE = _rng.normal(0.5, 0.2, S).astype(np.float32)
LIFT = _rng.normal(0.8, 0.1, S).astype(np.float32)
BEFORE = np.exp(SLOPE[:, None] * X)
AFTER = np.exp(SLOPE[:, None] * X + LIFT[:, None])
FORMULAS = {
    "difference": lambda a, b: b - a,
    "ratio": lambda a, b: b / a,
    "percent": lambda a, b: 100 * (b / a - 1),
    "odds_ratio": lambda a, b: (b / (1 - b)) / (a / (1 - a)),
}


def kernel(X, treated, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    lift = numpyro.sample("lift", dist.Normal())
    rate = numpyro.deterministic("rate", jnp.exp(slope * X + lift * treated))
    numpyro.deterministic("share", rate / (1 + rate))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


@pytest.fixture(scope="module")
def im():
    return mean_field_model(kernel).set_posterior_sample({"slope": SLOPE, "lift": LIFT})


def sides(**options):
    zeros = np.zeros(N, np.float32)
    base = {"X": X, "return_sites": ["rate", "share"], **options}
    return {
        "args_baseline": {**base, "treated": zeros},
        "args_intervention": {**base, "treated": zeros + 1},
    }


def average(values, weights=None, at=slice(None)):
    return np.average(values[:, at], axis=1, weights=None if weights is None else weights[at])


def shares(values):
    return values / (1 + values)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["obs", "draw"])
@pytest.mark.parametrize("contrast", FORMULAS)
def test_the_contrast_of_the_averages(im, contrast, axis):
    given = sides(shard_axis=axis)
    site = "share" if contrast == "odds_ratio" else "rate"
    for side in given.values():
        side["return_sites"] = [site]
    before, after = (shares(v) if site == "share" else v for v in (BEFORE, AFTER))
    effect = im.estimate_effect(**given, contrast=contrast, average=True).posterior_predictive
    expected = FORMULAS[contrast](average(before), average(after))
    np.testing.assert_allclose(effect[site].values[0], expected, rtol=2e-5)
    assert effect[site].dims == ("chain", "draw")
    assert effect.attrs["contrast"] == contrast


@pytest.mark.slow
def test_groups_weights_and_a_part_of_the_rows_in_one_pass_and_of_trees(im, key):
    given = sides()
    options = {
        "contrast": "ratio",
        "by": {"clinic": CLINIC, "sex": SEX},
        "weights": pd.Series(WEIGHTS, name="survey"),
        "subset": TREATED,
    }
    effect = im.estimate_effect(**given, **options).posterior_predictive
    assert effect.rate.dims == ("chain", "draw", "clinic", "sex")
    assert effect.attrs["weights"] == "survey"
    treated = im.estimate_effect(**given, subset=TREATED).posterior_predictive.rate
    np.testing.assert_allclose(treated.values[0], average(AFTER - BEFORE, None, TREATED), rtol=2e-5)
    at = (CLINIC == "north") & (SEX == 1) & TREATED
    expected = average(AFTER, WEIGHTS, at) / average(BEFORE, WEIGHTS, at)
    north = effect.rate.sel(clinic="north", sex=1).values[0]
    np.testing.assert_allclose(north, expected, rtol=2e-5)
    trees = [im.predict(**side, rng_key=key, progress=False) for side in given.values()]
    again = im.estimate_effect(*trees, **options).posterior_predictive
    np.testing.assert_allclose(again.rate, effect.rate, rtol=2e-5)
    plain = effects.estimate_effect(*trees, **options, average=True).posterior_predictive
    np.testing.assert_array_equal(plain.share, again.share)


@pytest.mark.slow
def test_averages_have_the_order_of_draws(im, key):
    zeros = {"X": X[:5], "treated": np.zeros(5, np.float32)}
    draws = im.predict(**zeros, rng_key=key, progress=False).posterior_predictive
    average = im.estimate_effect(args_baseline=zeros, args_intervention=zeros, average=True)
    assert list(average.posterior_predictive) == list(draws)
    assert next(iter(draws)) == "y"


@pytest.mark.slow
def test_a_row_far_away_takes_no_digits_from_other_groups(im):
    outlier = X.copy()
    outlier[0] = 30.0  # its rate is a million times that of the others
    slope = np.ones(S, np.float32)
    far = mean_field_model(kernel).set_posterior_sample({"slope": slope, "lift": LIFT * 0})
    base = {"X": outlier, "treated": np.zeros(N, np.float32), "return_sites": ["rate"]}
    given = {"args_baseline": base, "args_intervention": base}
    first = np.arange(N) < 1
    expected = np.exp(outlier[1:].astype(np.float64)).mean()
    at = lambda a, b: b + 0 * a  # noqa: E731
    kept = far.estimate_effect(**given, contrast=at, subset=~first).posterior_predictive.rate
    np.testing.assert_allclose(kept.squeeze(), expected, rtol=1e-5)
    groups = far.estimate_effect(**given, contrast=at, by=first).posterior_predictive.rate
    np.testing.assert_allclose(groups.sel(group=False).squeeze(), expected, rtol=1e-5)
    means = far.predict(**base, by=first, progress=False)["group_summary"].rate_mean
    np.testing.assert_allclose(means.sel(group=False, summary="mean"), expected, rtol=1e-5)


def test_the_unit_of_weights_is_that_of_their_group(im):
    unit = np.where(CLINIC == "east", 1e-300, 1e300)
    tree = im.estimate_effect(**sides(), by=CLINIC, weights=WEIGHTS * unit)
    for name, clinic in enumerate(["east", "north", "west"]):
        at = clinic == CLINIC
        expected = average(AFTER - BEFORE, WEIGHTS, at)
        found = tree.posterior_predictive.rate.isel(group=name).squeeze()
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_function_an_argument_by_its_name_and_a_ratio_on_each_row(im):
    def log_ratio(before, after):
        return np.log(after / before)

    effect = im.estimate_effect(**sides(), contrast=log_ratio, weights=WEIGHTS)
    np.testing.assert_allclose(effect.posterior_predictive.rate.values[0], LIFT, rtol=1e-4)
    given = {name: {**side, "X": np.sign(X)} for name, side in sides().items()}
    by_sign = im.estimate_effect(**given, by="X").posterior_predictive
    assert by_sign.X.values.tolist() == [-1, 1]
    each = im.estimate_effect(**sides(), contrast="ratio", average=False).posterior_predictive
    assert each.rate.dims == ("chain", "draw", "row")
    np.testing.assert_allclose(each.rate.values[0], AFTER / BEFORE, rtol=1e-4)


def test_a_contrast_that_is_not_defined_on_some_rows_is_warned_of(im):
    given = sides(return_sites=["share"])
    contrast = lambda before, after: (after - before) / (before > 0.5)  # noqa: E731
    with pytest.warns(OutputWarning, match="of 'share' is not defined for [0-9,]+ of 21,000"):
        im.estimate_effect(**given, contrast=contrast, average=False)


BAD = {
    "a word": ({"contrast": "odds"}, ArgumentError, "contrast='odds' is not known.*odds_ratio"),
    "a function of arrays of NumPy": (
        {"contrast": lambda _, b: np.asarray(b), "average": False},
        ArgumentError,
        "calls a function of NumPy.*arrays of JAX",
    ),
    "one number for all": (
        {"contrast": lambda _, b: b.mean(), "average": False},
        ArgumentError,
        "one number for each",
    ),
    "single outcomes": (
        {"contrast": "ratio", "average": False, "return_sites": None},
        ArgumentError,
        "single outcomes of 'y'",
    ),
    "odds of rates": ({"contrast": "odds_ratio"}, DataError, "'rate' needs flags or probabilities"),
    "the treatment": ({"by": "treated"}, ArgumentError, "differs between the scenarios"),
    "no such name": ({"by": "ward"}, ArgumentError, "by='ward': no column or argument.*treated"),
    "other groups": ({"by": CLINIC[:9]}, DataError, "^The values of by= are for 9 rows; "),
    "other weights": ({"weights": WEIGHTS[:9]}, DataError, "^The values of weights= are for 9 ro"),
    "another part": ({"subset": SEX[:9] > 0}, DataError, "^The values of subset= are for 9 rows; "),
    "both of other rows": (
        {"by": CLINIC[:9], "weights": WEIGHTS[:9]},
        DataError,
        "^The values of by= and weights= are for 9 rows; ",
    ),
    "unequal rows": ({"by": CLINIC, "weights": WEIGHTS[:9]}, DataError, "weights= has 9"),
    "negative": ({"weights": -WEIGHTS}, DataError, "at least 0; that of row 0"),
    "no flags": ({"subset": SEX + 1}, DataError, "a flag for each row"),
    "nobody": ({"subset": SEX > 1}, DataError, "No row is left"),
    "an empty group": (
        {"by": {"clinic": CLINIC}, "subset": CLINIC != "east"},
        DataError,
        "leave no row of clinic east",
    ),
    "both": ({"by": SEX, "average": False}, ArgumentError, "by= is about an average"),
    "reduced": (
        {"by": SEX, "reduce": "mean"},
        ArgumentError,
        "reduce= does not go with an average",
    ),
    "another shape": (
        {"contrast": lambda before, after: after[:2]},
        ArgumentError,
        "one number for each of them",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name_and_costs_no_key(im, name):
    options, error, said = BAD[name]
    given = sides()
    if "return_sites" in (options := dict(options)):
        del options["return_sites"]
        given = {k: {**v, "return_sites": None} for k, v in given.items()}
    before = im.rng_key
    with pytest.raises(error, match=said):
        im.estimate_effect(**given, **options)
    assert im.rng_key == before


def test_a_single_group_keeps_its_dimension_also_after_none(im):
    found = [im.estimate_effect(**sides(), by=by, weights=WEIGHTS) for by in (0 * SEX, None)]
    one, none = (tree.posterior_predictive.rate for tree in found)
    assert (one.dims, none.dims) == (("chain", "draw", "group"), ("chain", "draw"))
    np.testing.assert_allclose(one.sel(group=0), none, rtol=1e-6)


def test_rows_labelled_in_another_order_are_refused(im):
    index = pd.RangeIndex(1000, 1000 + N, name="person")
    given = {n: {**side, "X": pd.Series(X, index)} for n, side in sides().items()}
    frame = pd.DataFrame({"clinic": CLINIC, "w": WEIGHTS}, index)
    effect = im.estimate_effect(**given, by=frame.clinic, weights=frame.w).posterior_predictive
    assert effect.rate.dims == ("chain", "draw", "clinic")
    for wrong in ({"by": frame.clinic[::-1]}, {"by": frame.clinic, "weights": frame.w[::-1]}):
        with pytest.raises(DataError, match="other labels than"):
            im.estimate_effect(**given, **wrong)
    trees = [im.predict(**side, progress=False, rng_key=im.rng_key) for side in given.values()]
    with pytest.raises(DataError, match="other labels than"):
        im.estimate_effect(*trees, subset=frame.w[::-1] > 1)


def test_a_ratio_to_nothing_is_refused(im):
    tree = im.predict(X, treated=np.zeros(N, np.float32), return_sites=["y"], progress=False)
    nobody = {"subset": np.arange(N) == int(np.argmin(SLOPE.mean() * X)), "contrast": "ratio"}
    with pytest.raises(DataError, match="divides by the averages of the baseline, and .* are zero"):
        im.estimate_effect(tree, tree, **nobody)


def small_counts(X, y=None):
    rate = numpyro.sample("rate", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Poisson(0.5 * jnp.exp(rate * X)), obs=y)


def test_odds_of_counts_are_refused_however_small_their_means():
    draws = {"rate": np.full(40, 0.1, np.float32)}
    im = mean_field_model(small_counts).set_posterior_sample(draws)
    sides = {"args_baseline": {"X": np.zeros(200)}, "args_intervention": {"X": np.ones(200)}}
    ratio = im.estimate_effect(**sides, contrast="ratio").posterior_predictive.y
    np.testing.assert_allclose(ratio, np.exp(0.1), rtol=1e-5)  # of what is expected
    with pytest.raises(DataError, match="odds"):
        im.estimate_effect(**sides, contrast="odds_ratio")
    with pytest.raises(DataError, match="odds"):
        im.sweep("X", [0.0, 1.0], np.zeros(200), reference=0.0, contrast="odds_ratio")


def levels_by_row(X, y=None):
    with numpyro.plate("row", X.shape[0]):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(level + X, 1.0), obs=y)


def test_latent_sites_keep_the_draws_of_the_posterior():
    draws = np.random.default_rng(0).normal(5.0, 1.0, (30, 8)).astype(np.float32)
    im = mean_field_model(levels_by_row).set_posterior_sample({"level": draws})
    zeros = {"X": np.zeros(8), "shard_axis": "draw"}
    sides = {"args_baseline": {**zeros, "return_sites": ["level", "y"]}}
    sides["args_intervention"] = {**sides["args_baseline"], "X": np.ones(8)}
    found = im.estimate_effect(**sides, contrast="ratio").posterior_predictive
    np.testing.assert_allclose(found.level, 1.0, rtol=1e-6)
    means = draws.mean(1, dtype=np.float64)
    np.testing.assert_allclose(found.y.values[0], (means + 1) / means, rtol=1e-5)
    decision = im.decide({"one": zeros, "other": zeros}, site="level")
    assert decision.table.loc["one", "utility"] == pytest.approx(means.mean(), rel=1e-5)


def as_lognormal(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.LogNormal(slope * X, 0.5), obs=y)


def as_transformed(X, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        normal = dist.Normal(slope * X, 0.5)
        numpyro.sample("y", dist.TransformedDistribution(normal, ExpTransform()), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "is_known"), [(as_lognormal, True), (as_transformed, False)])
def test_averages_of_drawn_outcomes_say_so(kernel, is_known):
    """Without a known mean, a row on its own has the noise of its outcome."""
    draws = {"slope": np.linspace(0.9, 1.1, 60, dtype=np.float32)}
    im = mean_field_model(kernel).set_posterior_sample(draws)
    sides = {"args_baseline": {"X": np.zeros(5)}, "args_intervention": {"X": np.ones(5)}}
    effect = im.estimate_effect(**sides, by=np.arange(5))
    exact = (np.exp(draws["slope"]) - 1) * np.exp(0.125)
    is_exact = np.allclose(effect.posterior_predictive.y, exact[:, None], rtol=1e-5)
    assert is_exact == is_known
    for summary in (effects.summarize_effect(effect), effects.summarize_effect(sweep_of(im))):
        assert says_drawn(summary.y) != is_known
    rows = im.estimate_effect(**sides)
    average = effects.summarize_effect(rows.posterior_predictive.to_dataset().mean("row"))
    assert says_drawn(average.y)  # rows are drawn, whatever NumPyro knows
    assert "interval (of drawn outcomes)" in str(rows)


def says_drawn(summary):
    return "Outcomes are drawn here" in summary.text


def purchases(X, w=None, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        w = numpyro.sample("w", dist.Normal(slope * X, 1.0), obs=w)
        buys = numpyro.sample("buys", dist.Bernoulli(logits=slope * X))
        numpyro.sample("y", dist.Normal(10 * buys, 1.0), obs=y)


@pytest.mark.slow
@pytest.mark.parametrize("is_given", [False, True])
def test_what_hangs_on_values_drawn_by_row_says_so(is_given, key):
    draws = {"slope": np.linspace(0.9, 1.1, 60, dtype=np.float32)}
    im = mean_field_model(purchases).set_posterior_sample(draws)
    zeros = np.zeros(5, np.float32)
    one = {"X": zeros, "rng_key": key, "return_sites": ["w", "buys", "y"]}
    sides = [one, {**one, "X": zeros + 1}]
    if is_given:  # in one scenario: the other holds its noise
        sides = [{**one, "w": zeros}, {**one, "w": zeros + 3, "intervention": {"buys": 1}}]
    with_warning = pytest.warns(OutputWarning, match="buys") if is_given else nullcontext()
    with with_warning:
        effect = im.estimate_effect(None, None, *sides, by=np.arange(5))
        both = [im.predict(**each, progress=False) for each in sides]
    assert effect.posterior_predictive.attrs["drawn"] == ["y"]
    summary = effects.summarize_effect(effect)
    assert [says_drawn(summary[name]) for name in ("w", "buys", "y")] == [False, False, True]
    w = effect.posterior_predictive.w.values[0]  # given values are no means of a distribution
    np.testing.assert_allclose(w, 3.0 if is_given else np.tile(draws["slope"], (5, 1)).T)
    held = pytest.warns(OutputWarning, match="hold 'w'") if is_given else nullcontext()
    with held:
        at_hand = effects.summarize_effect(effects.estimate_effect(*both, by=np.arange(5)))
    assert [says_drawn(at_hand[name]) for name in ("w", "buys")] == [not is_given, True]


def sweep_of(im):
    return im.sweep("X", [0.0, 1.0], np.zeros(5), reference=0.0)


def two_outcomes(X, m=None, y=None):
    slope = numpyro.sample("slope", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("m", dist.Normal(slope * X, 1.0), obs=m)
        numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=y)


@pytest.mark.slow
def test_an_effect_says_how_to_ask_for_the_other_outcome():
    im = mean_field_model(two_outcomes)
    im.fit_on_batch(X, X, m=X, num_steps=10, num_samples=20, progress=False)

    def effect(**options):
        calls = {"args_baseline": {"X": X, **options}, "args_intervention": {"X": X + 1, **options}}
        return im.estimate_effect(average=True, **calls)

    said = "It is not on 'm', which the kernel draws too: pass return_sites=['y', 'm'] in both"
    found = effect()
    assert said in str(found)
    assert "pass return_sites=" in found._repr_html_()
    assert "It is not on" not in str(effect(return_sites=["y", "m"]))
    assert "It is not on" not in str(effect(return_sites=["y"]))
    assert "It is not on" not in str(effect(m=X))  # held at its data
    rows = {"args_baseline": {"X": X}, "args_intervention": {"X": X + 1}}
    assert "It is not on" not in str(im.estimate_effect(reduce="mean", **rows))
