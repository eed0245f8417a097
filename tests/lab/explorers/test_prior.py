"""Priors moved by hand: the same numbers as priors written by hand, or a reason why not."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.reparam import LocScaleReparam

from aimz_lab import ImpactModel, TableSpec
from aimz_lab.errors import ArgumentError, DataError, DataTypeError, KernelError
from aimz_lab.lab import explore_prior
from aimz_lab.lab.explorers.charts import Bars
from aimz_lab.lab.explorers.moved_priors import MovedPriors
from aimz_lab.lab.explorers.prior_sites import SURE
from aimz_lab.lab.explorers.quantiles import quantile_with_error
from aimz_lab.lab.explorers.remade import arguments_of, arrays_of, remade

pytest.importorskip("ipywidgets")

X = np.linspace(-1.0, 1.0, 40, dtype="float32")
Y = np.abs(3 * X) + 1


def model(kernel):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi)


def written(intercept=0.5, slope=(0.0, 5.0), spread=2.0):
    """The same kernel with priors of these numbers, written by hand."""

    def kernel(X, y=None):
        a = numpyro.sample("a", dist.Normal(intercept, 1.0))
        b = numpyro.sample("b", dist.Normal(slope[0], slope[1]).expand([2]).to_event(1))
        tau = numpyro.sample("tau", dist.Gamma(spread, 2.0))
        with numpyro.plate("group", 4):
            shift = numpyro.sample("shift", dist.Normal(0.25, tau))
            level = numpyro.sample("level", dist.Normal(1.0, spread))
        mean = numpyro.deterministic("mean", a + b[0] * X + b[1] * X**2 + (shift + level)[0])
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    return kernel


MOVED = {
    "a.loc": -2.0,
    "b.loc": 1.5,
    "b.scale": 0.5,
    "tau.concentration": 3.0,
    "level.scale": 3.0,
}
BY_HAND = written(intercept=-2.0, slope=(1.5, 0.5), spread=3.0)


def abstract(kernel):
    """The distributions of a kernel's sites by name, without computing anything."""
    found = {}

    def run(key):
        sites = numpyro.handlers.trace(numpyro.handlers.seed(kernel, key)).get_trace()
        found.update({name: one["fn"] for name, one in sites.items() if "fn" in one})

    jax.eval_shape(run, jax.random.key(0))
    return found


@pytest.fixture(scope="module")
def explorer():
    return explore_prior(model(written()), X, Y, possible=(-5, 5))


@pytest.fixture
def moved(explorer):
    before = {name: control.value for name, control in explorer.controls.items()}
    explorer.set(**MOVED)
    yield explorer
    explorer.set(**before)


@pytest.mark.slow
def test_moved_priors_predict_and_train_as_priors_written_by_hand(moved):
    by_hand, by_explorer = model(BY_HAND), model(moved.kernel)
    options = {"num_samples": 50, "return_sites": ["a", "b", "level", "y"]}
    draws = [
        im.sample_prior_predictive_on_batch(X, **options).prior_predictive
        for im in (by_hand, by_explorer)
    ]
    for site in options["return_sites"]:
        assert np.array_equal(draws[0][site], draws[1][site])
    losses = [
        [float(im.train_on_batch(X, Y, n_obs=len(X))[1]) for _ in range(3)]
        for im in (by_hand, by_explorer)
    ]
    assert losses[0] == losses[1]


def test_a_kernel_says_which_priors_it_has(moved):
    new = [f"{site}.{name} = " for site, its in moved.moved.items() for name in its]
    said = repr(moved.kernel)
    assert said.startswith(f"<{moved.kernel.__name__} with {new[0]}")
    assert all(one in said for one in new)
    assert repr(MovedPriors(BY_HAND, {})) == f"<{BY_HAND.__name__} with its own priors>"


def test_the_picture_is_of_the_priors_written_by_hand(moved):
    other = explore_prior(model(BY_HAND), X, Y, possible=(-5, 5))
    for column in ("mean", "sd", "5%", "95%", "impossible"):
        np.testing.assert_allclose(moved.table()[column], other.table()[column], rtol=1e-4)
    for ours, theirs in zip(moved.view.charts[:3], other.view.charts[:3], strict=True):
        np.testing.assert_allclose(ours.layers[0].x, theirs.layers[0].x, rtol=1e-4, atol=1e-5)


def test_the_code_written_into_the_kernel_has_these_priors(moved):
    code = moved.code()
    assert "numpyro.sample('b', dist.Normal(1.5, 0.5).expand([2]).to_event(1))" in code
    space = {"numpyro": numpyro, "dist": dist, "jnp": jnp, "spread": 3.0, "intercept": -2.0}
    sites = abstract(lambda: exec(code, space))
    assert (sites["a"].loc, sites["a"].scale) == (-2.0, 1.0)
    assert (sites["b"].event_shape, sites["b"].base_dist.base_dist.loc) == ((2,), 1.5)
    assert sites["tau"].concentration == 3.0
    assert (sites["level"].batch_shape, sites["level"].base_dist.scale) == ((4,), 3.0)
    ours = abstract(lambda: moved.kernel(X))
    assert ours["level"].base_dist.scale == 3.0
    assert ours["b"].base_dist.base_dist.scale == 0.5


def test_density_and_data_are_right(explorer):
    view = explorer.set(**{"a.loc": 0.5, "a.scale": 2.0})
    area = view.charts[0].layers[0]
    np.testing.assert_allclose(area.y, np.exp(dist.Normal(0.5, 2.0).log_prob(area.x)), rtol=1e-4)
    assert explorer.table().loc["data", "mean"] == pytest.approx(Y.mean(), rel=1e-5)
    data = next(one for one in view.charts[-1].layers if one.role == "data")
    places = view.charts[-1].layers[0].x
    assert np.sum(data.y) * (places[1] - places[0]) == pytest.approx(1.0)
    explorer.set(**{"a.scale": 1.0})


def test_a_spread_that_rounding_hides_is_not_told(explorer):
    assert "times as far as the data" in " ".join(explorer.set(**{"a.scale": 1e4}).sentences)
    said = " ".join(explorer.set(**{"a.scale": 1e9}).sentences)
    assert "times as far" not in said
    assert re.search(r"within a draw is not known: .* rounding leaves steps of \d+", said)
    assert repr(explorer.kernel) == "<kernel with a.scale = 1e+09>"
    explorer.set(**{"a.scale": 1.0})


def test_a_drag_of_the_scale_moves_every_draw_with_it(explorer):
    narrow = explorer.set(**{"a.scale": 0.5}).table
    handle = {one.name: one for one in explorer.view.handles()}["a.scale"]
    assert handle.at == pytest.approx(1.0)  # loc and one scale
    assert (handle.mark, handle.text) == ("scale", "0.5")  # which is not what the axis says there
    explorer.take({"kind": "drag", "name": "a.scale", "value": 1.5})
    wide = explorer.wait().table
    assert explorer.controls["a.scale"].value == pytest.approx(1.0)
    # The same noise: the spread of the draws doubles exactly.
    assert wide.loc["a", "sd"] == pytest.approx(2 * narrow.loc["a", "sd"], rel=1e-4)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"a.scale": -1.0}, "a.scale cannot be -1: it is above 0"),
        ({"a.loc": np.nan}, "finite number"),
        ({"tau.rate": 0.0}, "above 0"),
        ({"a.scale": -1.0, "tau.rate": 0.0}, "a.scale cannot be -1.*\\n.*tau.rate cannot be 0"),
        ({"shift.scale": 1.0}, "No control is called 'shift.scale'"),
    ],
)
def test_numbers_that_make_no_prior_are_refused(explorer, bad, said):
    before = explorer.view
    with pytest.raises(ArgumentError, match=said):
        explorer.set(**bad)
    assert explorer.view.sentences == before.sentences


def test_a_choice_that_there_is_not_is_refused_with_those_that_there_are(explorer):
    said = "does not take 'densty'. Did you mean 'density'. It takes 'density', 'ECDF', "
    with pytest.raises(ArgumentError, match=said):
        explorer.set(picture="densty")


def test_a_quantile_among_infinite_draws_is_infinite():
    def kernel(X, y=None):
        scale = numpyro.sample("scale", dist.LogNormal(0.0, 500.0))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X, scale), obs=y)

    explorer = explore_prior(model(kernel), X, Y, num_samples=500)
    table = explorer.view.table
    assert table.loc["scale", ["5%", "95%"]].tolist() == [0.0, np.inf]
    assert table.loc["scale", "50%"] < np.inf
    assert np.isnan(table.loc["scale", "sd"])
    assert not any("nan" in sentence for sentence in explorer.view.sentences)
    for picture in ("ECDF", "curve over X"):
        assert "nan" not in explorer.set(picture=picture).words()


def counts(X, y=None):
    rate = jnp.exp(numpyro.sample("a", dist.Normal(0.0, 2.0)) + numpyro.sample("b", NORMAL) * X)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(rate), obs=y)


NORMAL = dist.Normal(0.0, 1.0)
COUNTS = np.arange(40) % 4


def test_the_error_of_a_quantile_is_how_far_it_moves_with_other_draws(rng):
    """The values of a draw go together: there are as many draws as if each had one value."""
    found = []
    for _ in range(200):
        rate = np.exp(rng.normal(0.0, 2.0, (200, 1)))
        found.append(quantile_with_error(rng.poisson(rate, (200, 30)), 0.95))
    ends, errors = np.transpose(found)
    assert 0.8 < np.mean(errors) / np.std(ends) < 1.3


@pytest.mark.slow
def test_the_numbers_of_a_prior_are_told_with_the_error_of_the_draws():
    said = explore_prior(model(counts), X, COUNTS).view.sentences
    end = r"lies from 0 to \d+ ± \d+ \(± is the standard error of 200 draws\)\."
    assert re.search(end, said[0])
    assert re.search(r"spread [\d.]+ ± [\d.]+ times as far as the data\.", said[2])


def flags(X, y=None):
    a = numpyro.sample("a", NORMAL)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=a + 0 * X), obs=y)


@pytest.mark.slow
def test_an_outcome_of_0_and_1_is_drawn_by_the_share_of_each():
    explorer = explore_prior(model(flags), X, COUNTS % 2)
    explorer.pin()
    view = explorer.view
    chart = view.charts[-1]
    data, _, drawn, *rules = chart.layers
    assert chart.y_label == "share of the values"
    assert [layer.label for layer in chart.layers] == [
        *("data", "pinned", "prior predictive, 90% of the draws", "impossible beyond", ""),
    ]
    assert data.values.tolist() == [0.5, 0.5]
    mean = view.table.loc["y", "mean"]
    np.testing.assert_allclose(drawn.values, [1 - mean, mean], rtol=1e-6)
    assert drawn.names == ["0", "1"]
    assert [rule.at for rule in rules] == [-0.5, 1.5]
    low, high = chart.limits()[0]
    assert low < -0.5
    assert high > 1.5
    ends = rf"{drawn.low[1]:.1f}\d* ± [\d.]+ to {drawn.high[1]:.1f}\d* ± [\d.]+ in 90%"
    assert re.search(rf"share of 1 among the values of y is from {ends}", view.sentences[0])
    assert view.sentences[0].endswith("(± is the standard error of 200 draws).")
    assert view.sentences[1] == "All of it is from 0 to 1, as its distribution says."


def test_a_standard_error_is_explained_only_where_there_is_one():
    def certain(X, y=None):
        numpyro.sample("y", dist.Bernoulli(probs=jnp.ones(len(X))), obs=y)

    said = " ".join(explore_prior(model(certain), X).view.sentences)
    assert "is from 1 to 1 in 90% of the draws." in said
    assert "±" not in said


def test_a_curve_of_counts_that_reach_far_has_the_axis_of_their_density():
    explorer = explore_prior(model(counts), X, COUNTS)
    scale = explorer.view.charts[-1].x_scale
    chart = explorer.set(picture="curve over X").charts[-1]
    assert chart.y_scale == scale == "log1p"
    band = chart.layers[0]
    assert chart.y_range[0] < 0 < band.high.max() < chart.y_range[1]
    axes = explorer.figure().axes[-1]
    places = axes.transData.transform([(0.0, 0.0), (0.0, 3.0), (0.0, chart.y_range[1])])[:, 1]
    assert places[1] - places[0] > 0.1 * (places[2] - places[0])  # on a linear axis less than 0.02
    assert [text.get_text() for text in axes.get_yticklabels()][:2] == ["0", "1"]


def test_a_curve_over_0_and_1_has_dots():
    flags = (np.arange(len(X)) % 2).astype(np.float32)
    explorer = explore_prior(model(counts), flags)
    chart = explorer.set(picture="curve over X").charts[-1]
    assert chart.names() == ("0", "1")
    assert isinstance(chart.layers[0], Bars)


def by_region(X, region, n_regions, y=None):
    shift = numpyro.sample("shift", NORMAL.expand([n_regions]).to_event(1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(X + 100 * shift[region], 1.0), obs=y)


def test_a_curve_over_a_table_names_formulas_and_levels():
    table = pd.DataFrame({"age": X, "area": list("BABC") * 10, "sales": Y})
    spec = TableSpec(X="scale(age)", y="sales", region="index(area)", n_regions="levels(area)")
    svi = SVI(by_region, AutoNormal(by_region), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(by_region, jax.random.key(0), svi=svi, table=spec)
    explorer = explore_prior(im, table)
    choices = explorer.controls["picture"].options
    assert choices[2:] == ("curve over scale(age)", "curve over area")
    assert explorer.set(picture=choices[2]).charts[-1].x_label == "scale(age)"
    explorer.pin()
    view = explorer.set(picture=choices[3], **{"shift.loc": 1.0})
    bars, pinned, data = view.charts[-1].layers
    assert view.charts[-1].names() == bars.names == ("A", "B", "C")
    assert (bars.low < bars.values).all() & (bars.values < bars.high).all()
    assert np.all(bars.values - pinned.y > 50)  # each level moved by 100
    np.testing.assert_allclose(np.sort(data.y), np.sort(Y))
    assert np.round(data.x).tolist() == [1, 0, 1, 2] * 10
    labels = [text.get_text() for text in explorer.figure().axes[-1].get_xticklabels()]
    assert labels == ["A", "B", "C"]


@pytest.mark.slow
def test_an_outcome_of_levels_has_their_names():
    def chosen(X, n_brands=2, y=None):
        at = numpyro.sample("at", NORMAL.expand([n_brands]).to_event(1))
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Categorical(logits=at[None] + 0 * X[:, None]), obs=y)

    def bought(X, y=None):
        at = numpyro.sample("at", NORMAL)
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Bernoulli(logits=at + X), obs=y)

    table = pd.DataFrame({"age": X, "brand": ["pear", "plum", "fig", "fig"] * 10})
    table["bought"] = np.where(X > 0, "yes", "no")
    of = {"y": "index(brand)", "n_brands": "levels(brand)"}
    for kernel, spec, title, names, said in (
        (chosen, of, "brand", ("fig", "pear", "plum"), "brand is one of 3 levels"),
        (bought, {"y": "bought"}, "y = bought", ("no", "yes"), "The share of yes among the"),
        (bought, {"y": "I(bought == 'yes')"}, "bought = yes", ("0", "1"), "The share of 1 among"),
    ):
        svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
        spec = TableSpec(X="age", **spec)
        view = explore_prior(
            ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec), table
        ).view
        chart = view.charts[-1]
        assert (chart.title, tuple(chart.names())) == (f"{title}, all rows", names)
        assert view.sentences[0].startswith(said)


def test_pictures_of_every_kind(explorer):
    explorer.pin()
    for picture in ("ECDF", "curve over X", "density"):
        chart = explorer.set(picture=picture, **{"b.scale": 1.0}).charts[-1]
        assert {"pinned", "data"} <= {layer.role for layer in chart.layers}
    explorer.unpin()
    chart = explorer.set(site="mean", picture="curve over X").charts[-1]
    assert chart.title == "mean over X"
    with pytest.raises(ArgumentError, match="A curve needs one value of 'a' for each row"):
        explorer.set(site="a")
    explorer.set(site="y", picture="density", **{"b.scale": 5.0})


def strange(X, y=None):
    """A kernel of priors that cannot be moved, or only in part."""
    a = numpyro.sample("a", dist.Normal(0.0, X.std()))
    numpyro.sample("steps", dist.Normal(jnp.arange(3.0), 2.0))
    numpyro.sample("masked", dist.Normal(0.0, 2.0).mask(False))
    numpyro.sample("affine", dist.TransformedDistribution(
        dist.Normal(0.0, 1.0), dist.transforms.AffineTransform(0.0, 2.0)
    ))  # fmt: skip
    numpyro.sample("vector", dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2)))
    numpyro.sample("flag", dist.Bernoulli(0.25))
    numpyro.sample("above", dist.TruncatedNormal(0.0, 2.0, low=0.5))
    numpyro.sample("edge", dist.Uniform(-1.0, 2.0))
    with numpyro.handlers.reparam(config={"centre": LocScaleReparam(0.0)}):
        numpyro.sample("centre", dist.Normal(a, 2.0))

    def step(carry, _):
        return carry + numpyro.sample("noise", dist.Normal(0.0, 1.0)), None

    scan(step, 0.0, None, length=3)
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(a * X, 1.0), obs=y)


@pytest.fixture(scope="module")
def odd():
    return explore_prior(model(strange), X, num_samples=50)


def test_what_cannot_be_moved_is_named_with_the_reason(odd):
    said = "\n".join(odd.view.sentences)
    for reason in (
        "Of a only a part can be moved: its scale is computed from the data",
        "Of steps only a part can be moved: its loc is an array of different numbers",
        "affine cannot be moved: TransformedDistribution",
        "vector cannot be moved: MultivariateNormal",
        "centre_decentered cannot be moved: it comes from a reparametrisation",
        "noise cannot be moved: it is drawn in a loop",
    ):
        assert reason in said
    names = [name for name in odd.controls if "." in name]
    assert names == [
        *("a.loc", "steps.scale", "masked.loc", "masked.scale", "flag.probs"),
        *("above.loc", "above.scale", "above.low", "edge.low", "edge.high"),
    ]


def test_masks_bounds_and_kept_numbers_stay_in_code_and_kernel(odd):
    odd.set(**{"a.loc": 1.0, "masked.scale": 3.0, "above.low": 1.0, "flag.probs": 0.5})
    code = odd.code()
    assert "a = numpyro.sample('a', dist.Normal(1.0, X.std()))" in code
    assert "dist.Normal(0.0, 3.0).mask(False)" in code
    assert "dist.TruncatedNormal(0.0, 2.0, low=1.0)" in code
    sites = abstract(lambda: odd.kernel(X))
    assert isinstance(sites["masked"], dist.distribution.MaskedDistribution)
    assert sites["masked"].base_dist.scale == 3.0
    assert (sites["above"].low, sites["above"].base_dist.scale) == (1.0, 2.0)
    assert sites["a"].loc == 1.0
    with pytest.raises(ArgumentError, match="is no distribution"):
        odd.set(**{"edge.low": 3.0})


def test_a_prior_without_a_sampler_is_refused():
    def flat(X, y=None):
        a = numpyro.sample("a", dist.ImproperUniform(dist.constraints.real, (), ()))
        numpyro.sample("y", dist.Normal(a * X, 1.0), obs=y)

    with pytest.raises(KernelError, match="'a' has no sampler"):
        explore_prior(model(flat), X)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "said"),
    [
        ((X, Y[:3]), {}, DataError, "y has 3 rows and X has 40"),
        ((X,), {"possible": (2, 1)}, ArgumentError, "low < high"),
        ((X,), {"num_samples": 1}, ArgumentError, "from 2 to 100,000"),
        ((X,), {"rng_key": 3}, DataTypeError, "rng_key must be a key"),
        ((X, np.full(40, np.nan)), {}, DataError, "y= has no finite number"),
        ((X, np.stack([Y, Y], 1)), {}, DataError, "y has shape"),
        ((np.zeros(300_000, "float32"),), {}, ArgumentError, "too many to follow a hand"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, options, error, said):
    with pytest.raises(error, match=said):
        explore_prior(model(written()), *arguments, **options)


def test_further_arguments_and_the_key_reach_the_kernel():
    def scaled(X, num_samples, w, y=None):
        a = numpyro.sample("a", dist.Normal(0.0, 1.0))
        numpyro.sample("seen", dist.Normal(a, 1.0), obs=w)  # data is no prior predictive
        numpyro.sample("y", dist.Normal(a * w * num_samples, 0.001), obs=y)

    explorer = explore_prior(
        model(scaled),
        X,
        possible=(-6, 6),
        num_samples=4000,
        rng_key=jax.random.key(3),
        kernel_kwargs={"num_samples": 2.0},
        w=np.full(40, 3.0, "float32"),
    )
    assert explorer.controls["site"].options == ("y", "a")
    found = explorer.table()
    assert found.loc["y", "sd"] == pytest.approx(6 * found.loc["a", "sd"], rel=1e-2)
    assert found.loc["y", "impossible"] == pytest.approx(0.3173, abs=0.02)  # beyond one sd


@pytest.mark.parametrize("family", SURE, ids=lambda one: one.__name__)
def test_families_that_are_not_tried_are_the_same_when_made_anew(family):
    numbers = {"low": 1.0, "high": 3.0, "probs": 0.3, "loc": 0.7}
    names = list(family.arg_constraints)
    one = family(**{name: numbers.get(name, 1.5) for name in names})
    again = remade(one, dict(arrays_of(one)))
    assert jax.tree.structure(one) == jax.tree.structure(again)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(again), strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)
    assert arguments_of(remade(one, {(names[0],): 0.4}))[names[0]] == 0.4


@pytest.mark.slow
def test_whole_numbers_stay_whole_and_a_wide_prior_is_drawn():
    def counts(X, y=None):
        wide = numpyro.sample("wide", dist.LogNormal(0.0, 20.0))
        n = numpyro.sample("n", dist.Binomial(10, 0.3))
        numpyro.sample("y", dist.Normal(n + 0 * jnp.minimum(wide, 1.0) * X, 1e9), obs=y)

    y = np.where(X > 0, np.nan, X)
    explorer = explore_prior(model(counts), X, y, possible=(0, np.inf), num_samples=np.int64(500))
    said = " ".join(explorer.view.sentences)
    assert "impossible: below 0." in said
    assert "20 of 40 values of y" in said
    assert "whole numbers alone" not in said  # large numbers of a Normal are no counts
    view = explorer.set(**{"n.total_count": 20})
    assert view.table.loc["n", "mean"] == pytest.approx(6.0, abs=0.4)
    assert explorer.code() == "n = numpyro.sample('n', dist.Binomial(20, 0.3))"
    with pytest.raises(ArgumentError, match="whole numbers"):
        explorer.set(**{"n.total_count": 10.5})


@pytest.mark.parametrize("picture", ["density", "ECDF"])
def test_a_site_with_one_value_a_draw_is_drawn_over_its_draws(picture):
    explorer = explore_prior(model(written()), X, Y)
    chart = explorer.set(site="a", picture=picture).charts[-1]
    (line,) = chart.layers  # no band: within a draw there is nothing to be spread
    assert "rows" not in chart.title
    if picture == "ECDF":
        assert np.isin(np.diff(line.y).round(9), 1 / 200).all()
    else:
        assert np.trapezoid(line.y, line.x) == pytest.approx(1, abs=0.1)
    two = explorer.set(site="b").charts[-1].layers
    assert [one.label for one in two] == ["b[0]", "b[1]"]


def test_the_output_is_compared_as_the_kernel_observes_it():
    def of_logs(X, y=None):
        with numpyro.plate("rows", X.shape[0]):
            numpyro.sample("y", dist.Normal(X, 1.0), obs=None if y is None else jnp.log(y))

    explorer = explore_prior(model(of_logs), X, Y)
    assert explorer.table().loc["data", "mean"] == pytest.approx(np.log(Y).mean(), rel=1e-3)
