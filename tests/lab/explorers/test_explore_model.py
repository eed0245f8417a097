"""What a model's explorer says of its sites: before and after a fit, by SVI and by chains."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

from aimz_lab import Callback, ImpactModel, TableSpec, lab
from aimz_lab.errors import (
    ArgumentError,
    DataTypeError,
    FitWarning,
    NotFittedError,
    OutputWarning,
)
from aimz_lab.lab.explorers.charts import Area, Line, Points, Steps

pytest.importorskip("ipywidgets", reason="needs the lab extra: pip install 'aimz_lab[lab]'")
pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Normal, drawn with a sample shape

N = 90
RNG = np.random.default_rng(0)
X = RNG.normal(size=N).astype(np.float32)
GROUP = np.arange(N) % 3
Y = (GROUP + 2 * X + 0.5 * RNG.normal(size=N)).astype(np.float32)


def kernel(X, group, y=None):
    centre = numpyro.sample("centre", dist.Normal(1.0, 2.0))
    with numpyro.plate("group", 3):
        level = numpyro.sample("level", dist.Normal(centre, 1.5))
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.5))
    mean = numpyro.deterministic("mean", level[group] + slope * X)
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 0.5), obs=y)


def svi_model(kernel, guide=AutoNormal, **options):
    guide = guide(kernel) if isinstance(guide, type) else guide
    svi = SVI(kernel, guide, numpyro.optim.Adam(0.05), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi, **options)


@pytest.fixture(scope="module")
def im():
    jax.config.update("jax_numpy_rank_promotion", "allow")  # a module's fixture comes first
    model = svi_model(kernel)
    return model.fit(X, Y, group=GROUP, by_row=["group"], epochs=400, progress=False)


@pytest.fixture(scope="module")
def explorer(im):
    return lab.explore_model(im, num_samples=20_000, rng_key=jax.random.key(1))


def layers(view, kind):
    return [layer for chart in view.charts for layer in chart.layers if isinstance(layer, kind)]


def sentence(view, word):
    return next(one for one in view.sentences if word in one)


def test_the_table_of_sites_is_the_graph(explorer):
    explorer.set(numbers="sites")
    table = explorer.table()
    assert list(table.index) == ["centre", "level", "slope", "mean", "y"]
    assert table["parents"].to_dict() == {
        "centre": (), "level": ("centre",), "slope": (), "mean": ("level", "slope"), "y": ("mean",),
    }  # fmt: skip
    assert table.loc["level", "plates"] == ("group",)
    assert table.loc["y", "shape"] == (N,)
    assert table.loc["slope", "line"].endswith("of test_explore_model.py")


def test_prior_and_posterior_of_a_site_are_those_of_the_model(im, explorer):
    view = explorer.set(site="level", entry="level[2]", numbers="entries")
    table = explorer.table()
    assert list(table.index) == ["level[0]", "level[1]", "level[2]"]
    sd = np.hypot(2.0, 1.5)  # of a Normal around a Normal
    np.testing.assert_allclose(table["prior_mean"], 1.0, atol=5 * sd / 20_000**0.5)
    np.testing.assert_allclose(table["prior_sd"], sd, rtol=0.03)
    np.testing.assert_allclose(table["prior_95%"], 1 + 1.645 * sd, rtol=0.03)
    draws = np.asarray(im.posterior["level"])
    np.testing.assert_allclose(table["posterior_mean"], draws.mean(axis=0), rtol=1e-4)
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    prior = table["prior_95%"] - table["prior_5%"]
    np.testing.assert_allclose(table["narrowed"], prior / (high - low), rtol=1e-4)
    assert [layer.label for layer in layers(view, Area)] == ["prior", "posterior"]
    assert view.charts[0].title == "level[2]"
    area = layers(view, Area)[1]
    np.testing.assert_allclose(np.trapezoid(area.y, area.x), 1, atol=0.02)
    assert 'numpyro.sample("level", dist.Normal(centre, 1.5))' in sentence(view, "Written in")


def test_the_guides_parameters_of_an_entry_are_named(im, explorer):
    view = explorer.set(site="level", entry="level[1]", numbers="guide")
    table = explorer.table()
    own = table[table["entry"] == "level[1]"]["value"]
    for part in ("loc", "scale"):
        value = float(im.vi_result.params[f"level_auto_{part}"][1])
        assert own[f"level_auto_{part}"] == pytest.approx(value)
    assert "level_auto_loc" in sentence(view, "Guide's parameters of level[1]")


def test_two_entries_are_shown_against_each_other(im, explorer):
    view = explorer.set(site="slope", pair="level[0]")
    one, other = np.asarray(im.posterior["slope"]), np.asarray(im.posterior["level"])[:, 0]
    (points,) = layers(view, Points)
    np.testing.assert_array_equal(points.y, other)
    assert f"correlation {np.corrcoef(one, other)[0, 1]:.2f}" in view.charts[-1].title
    explorer.set(pair="nothing")


def test_what_depends_on_rows_needs_them_and_is_then_computed(im, explorer):
    view = explorer.set(site="mean")
    assert "pass the rows" in sentence(view, "Prior:")
    assert view.charts == []
    with_rows = lab.explore_model(im, X, Y, group=GROUP, by_row=["group"])
    with_rows.set(site="mean", entry="mean[4]", numbers="entries")
    level, slope = (np.asarray(im.posterior[name]) for name in ("level", "slope"))
    expected = level[:, GROUP[4]] + slope * X[4]
    row = with_rows.table().loc["mean[4]"]
    assert row["posterior_mean"] == pytest.approx(expected.mean(), rel=1e-4)
    assert row["posterior_sd"] == pytest.approx(expected.std(), rel=1e-3)
    (data,) = layers(with_rows.set(site="y"), Steps)
    assert data.heights.sum() == pytest.approx(1)
    assert (data.edges[0], data.edges[-1]) == pytest.approx((Y.min(), Y.max()))


def test_nothing_of_the_model_changes_and_figure_and_code_are_there(im, explorer):
    before = jax.random.key_data(im.rng_key), im.describe(), im.posterior["slope"]
    again = lab.explore_model(im, X, Y, group=GROUP, shared=(), kernel_kwargs={})
    again.set(numbers="entries", entry="slope", site="slope")  # in whatever order
    assert (jax.random.key_data(im.rng_key) == before[0]).all()
    assert im.describe() == before[1]
    assert im.posterior["slope"] is before[2]
    assert "5 sites" in again.figure().alt
    names = {"im": im, "X": X, "y": Y, "rng_key": jax.random.key(1)}
    explorer.set(site="slope", numbers="entries")
    exec(explorer.code().replace("explorer.table()", "found = explorer.table()"), names)
    assert names["found"].loc["slope", "posterior_mean"] == pytest.approx(
        explorer.table().loc["slope", "posterior_mean"]
    )


def test_the_code_passes_on_what_the_explorer_was_given(im):
    key = jax.random.key(4)
    given = {"im": im, "X": X, "y": Y, "group": GROUP, "rng_key": key, "by_row": ["group"]}
    explorer = lab.explore_model(
        im, X, Y, group=GROUP, num_samples=50, rng_key=key, by_row=["group"]
    )
    explorer.set(site="mean", entry="mean[4]", numbers="entries")
    lines = explorer.code().partition("\n\n#")[0].splitlines()
    assert lines[0] == (
        "# im, X, y, group, by_row and rng_key are those that explore_model was given."
    )
    exec("\n".join(lines[:-1]), given)
    assert eval(lines[-1], given).equals(explorer.table())


def test_before_a_fit_there_is_the_prior_of_the_rows_that_are_passed():
    def scaled(X, y=None):
        wide = numpyro.sample("wide", dist.Normal(X.mean(), 3.0 * X.std()))
        flat = numpyro.sample("flat", dist.ImproperUniform(dist.constraints.real, (), ()))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(wide + flat, 1.0), obs=y)

    model = svi_model(scaled)
    with pytest.raises(NotFittedError, match=r"explore_model\(im, X, y\)"):
        lab.explore_model(model)
    explorer = lab.explore_model(model, X, Y, num_samples=4000)
    view = explorer.set(numbers="entries")
    row = explorer.table().loc["wide"]
    assert row["prior_sd"] == pytest.approx(3 * X.std(), rel=0.05)
    assert "posterior_mean" not in row
    assert "no posterior yet" in sentence(view, "Posterior:")
    assert "no sampler" in sentence(explorer.set(site="flat"), "Prior:")


@pytest.mark.slow
def test_draws_that_are_not_to_be_used_are_not_shown():
    class Spoil(Callback):
        def on_fit_begin(self, run):
            run.control.set_learning_rate(1e20)

    model = svi_model(kernel)
    with pytest.warns(FitWarning, match="which is not to be used"):
        model.fit(
            X, Y, group=GROUP, by_row=["group"], progress=False, callbacks=[Spoil()], epochs=9
        )
    view = lab.explore_model(model).set(site="slope")
    assert "Not shown, as the training diverged" in sentence(view, "Posterior:")


def test_chains_are_drawn_one_by_one():
    def mean_of(X, y=None):
        mean = numpyro.sample("mean", dist.Normal(0.0, 10.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)

    mcmc = MCMC(NUTS(mean_of), num_warmup=1, num_samples=1, progress_bar=False)
    im = ImpactModel(mean_of, jax.random.key(0), inference=mcmc)
    im.set_posterior_sample({"mean": RNG.normal(size=120)}, num_chains=2)
    view = lab.explore_model(im, X, Y).set(site="mean")
    chains = im.posterior_tree["posterior"]["mean"].values
    for layer, chain in zip(layers(view, Line), chains, strict=True):
        np.testing.assert_array_equal(layer.y, chain)
    assert [layer.label for layer in layers(view, Line)] == ["chain 1", "chain 2"]
    assert not [one for one in view.sentences if "Guide" in one]


@pytest.mark.slow
def test_entries_have_the_names_of_levels_and_guides_those_of_their_sites():
    def by_region(X, region, n_regions, y=None):
        with numpyro.plate("regions", n_regions):
            level = numpyro.sample("level", dist.Normal(0.0, 1.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(level[region] + X[:, 0], 1.0), obs=y)

    frame = pd.DataFrame({"x": X, "place": np.array(["east", "north", "west"])[GROUP], "sold": Y})
    spec = TableSpec(X=["x"], region="index(place)", n_regions="levels(place)", y="sold")
    im = svi_model(by_region, AutoMultivariateNormal, table=spec)
    before = lab.explore_model(im, frame)
    before.set(numbers="entries")
    names = ["level[east]", "level[north]", "level[west]"]
    assert list(before.table().index) == names
    im.fit(frame, epochs=20, progress=False)
    explorer = lab.explore_model(im)
    explorer.set(entry="level[north]", numbers="guide")
    table = explorer.table().reset_index().set_index(["parameter", "entry"])["value"]
    assert table["auto_loc", "level[north]"] == pytest.approx(
        float(im.vi_result.params["auto_loc"][1])
    )
    scales = np.linalg.norm(im.vi_result.params["auto_scale_tril"], axis=-1)
    assert table["auto_scale_tril", "level[west]"] == pytest.approx(scales[2])


@pytest.mark.slow
def test_a_guide_of_ones_own_has_the_parameters_that_its_site_is_drawn_with():
    def model(X, y=None):
        a = numpyro.sample("a", dist.Normal())
        b = numpyro.sample("b", dist.Normal())
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(a + b * X, 1.0), obs=y)

    def guide(X, y=None):
        place = numpyro.param("place", 0.25)
        width = numpyro.param("width", 0.5, constraint=dist.constraints.positive)
        numpyro.sample("a", dist.Normal(place, 1.0))
        numpyro.sample("b", dist.Normal(0.0, width))

    im = svi_model(model, guide).fit(X, Y, epochs=3, progress=False)
    explorer = lab.explore_model(im)
    explorer.set(numbers="guide")
    assert explorer.table()["value"].to_dict() == {
        "place": pytest.approx(float(im.vi_result.params["place"]))
    }
    explorer.set(site="b")
    assert list(explorer.table().index) == ["width"]


def test_what_is_no_model_and_what_can_be_read_once_are_refused(im):
    with pytest.raises(ArgumentError, match="shows an ImpactModel"):
        lab.explore_model(kernel)
    with pytest.raises(ArgumentError, match="num_samples"):
        lab.explore_model(im, num_samples=0)
    with pytest.raises(DataTypeError, match="only once"):
        lab.explore_model(im, iter([{"X": X, "y": Y}]))


def test_a_count_is_drawn_by_its_values_and_a_constant_as_a_line():
    def counts(X, y=None):
        number = numpyro.sample("number", dist.Poisson(2.0))
        numpyro.deterministic("three", jnp.float32(3.0))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(number, 1.0), obs=y)

    explorer = lab.explore_model(svi_model(counts, lambda X, y=None: None), X, Y)
    (bars,) = layers(explorer.view, Steps)
    drawn = np.floor(bars.edges[:-1] + 0.5)
    expected = np.exp(dist.Poisson(2.0).log_prob(jnp.asarray(drawn)))
    np.testing.assert_allclose(bars.heights, expected, atol=0.05)
    assert explorer.set(site="three").charts[0].layers[0].at == 3.0


@pytest.mark.slow
def test_a_panel_says_that_the_model_has_changed_since():
    im = svi_model(kernel)
    rows = {"X": X, "y": Y, "group": GROUP, "by_row": ["group"]}
    few = {"epochs": 2, "num_samples": 10, "progress": False}
    explorer = lab.explore_model(im, **rows)
    says = "This is of an earlier state of the model"
    for change in (lambda: im.fit(**rows, **few), lambda: im.set_posterior_sample(im.posterior)):
        assert says not in repr(explorer)
        change()
        assert explorer.view.sentences[0].startswith(says)
        assert explorer.set(site="slope").sentences[0].startswith(says)
        with pytest.warns(OutputWarning, match="call lab.explore_model with the model again"):
            explorer.table()
        assert explorer.code().startswith("# The model has changed since")
        explorer = lab.explore_model(im)
    assert says not in explorer.view.alt
