"""What a script written for aimz finds here: the same names, layouts, errors and continuations."""

from __future__ import annotations

import inspect
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cloudpickle
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro import handlers
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from numpyro.infer.svi import SVIRunResult

import aimz_lab
from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, errors, open_results
from aimz_lab.model import KernelSpec

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's guides draw with a sample shape

N_ROWS, N_DRAWS = 30, 6
_rng = np.random.default_rng(0)
X = _rng.normal(size=(N_ROWS, 2)).astype(np.float32)
Y = (X @ np.float32([1.0, -1.0]) + 0.5 * _rng.normal(size=N_ROWS)).astype(np.float32)
KEY = jax.random.key(7)


def linear(X, y=None):
    slope = numpyro.sample("slope", dist.Normal().expand([2]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        mu = numpyro.deterministic("mu", X @ slope)
        numpyro.sample("y", dist.Normal(mu, 0.5), obs=y)


def two_branches(X, y=None):
    """A score with data, a draw without."""
    slope = numpyro.sample("slope", dist.Normal().expand([2]).to_event(1))
    mu = numpyro.deterministic("mu", X @ slope)
    with numpyro.plate("data", X.shape[0]):
        if y is None:
            bought = numpyro.sample("bought", dist.Bernoulli(logits=mu))
            numpyro.deterministic("y", bought * mu)
        else:
            numpyro.factor("y", dist.Normal(mu, 1.0).log_prob(y))


def svi(kernel=linear, guide=AutoNormal, optim=None):
    return SVI(kernel, guide(kernel), optim or numpyro.optim.Adam(0.02), Trace_ELBO())


def model(kernel=linear, **options):
    return ImpactModel(kernel, rng_key=jax.random.key(0), inference=svi(kernel), **options)


@pytest.fixture(scope="module")
def im():
    with jax.numpy_rank_promotion("allow"):
        return model().fit_on_batch(X, Y, num_steps=50, num_samples=N_DRAWS, progress=False)


@pytest.fixture(scope="module")
def elsewhere():
    """The result of NumPyro's own training, long enough to be near its end."""
    return svi().run(jax.random.PRNGKey(0), 1000, X=X, y=Y, progress_bar=False)


def predictive(im, **options):
    return im.predict(X, rng_key=KEY, progress=False, **options)


# Names


def test_errors_and_warnings_have_the_names_and_the_bases_of_aimz():
    bases = {
        "NotFittedError": (ValueError, AttributeError),
        "KernelValidationError": (Exception,),
        "AimzWarning": (UserWarning,),
        "FitWarning": (aimz_lab.AimzWarning, RuntimeWarning),
        "OutputWarning": (aimz_lab.AimzWarning,),
        "PerformanceWarning": (aimz_lab.AimzWarning,),
    }
    for name, expected in bases.items():
        found = getattr(aimz_lab, name)
        assert all(issubclass(found, base) for base in expected), name
        assert name in aimz_lab.__all__
    assert aimz_lab.KernelValidationError is errors.KernelError
    assert issubclass(errors.NoSamplerError, NotImplementedError)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: model().predict(X), aimz_lab.NotFittedError),
        (lambda: model().estimate_effect(), aimz_lab.NotFittedError),
        (lambda: model().sample(), aimz_lab.NotFittedError),
        (lambda: model().fit(X), errors.MissingOutputError),
        (lambda: model().fit_on_batch(X, None), errors.MissingOutputError),
    ],
    ids=["predict", "effect", "sample", "fit without y", "fit_on_batch without y"],
)
def test_what_aimz_refuses_as_a_value_error_is_one(call, error):
    with pytest.raises(ValueError, match=r"\w") as raised:
        call()
    assert raised.type is error


def test_an_svi_object_with_static_arguments_is_a_value_error():
    with pytest.raises(errors.ArgumentError, match="static"):
        ImpactModel(
            linear,
            KEY,
            SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.1), Trace_ELBO(), sd=1.0),
        )


def test_the_aliases_of_predict_name_their_arguments():
    for alias, target in (
        ("sample_posterior_predictive", "predict"),
        ("sample_posterior_predictive_on_batch", "predict_on_batch"),
    ):
        own, other = (
            inspect.signature(getattr(ImpactModel, name)).parameters for name in (alias, target)
        )
        assert [p for p in other.values() if p.name != "in_sample"] == list(own.values())


def test_the_aliases_pass_all_arguments_on(im, tmp_path):
    values = {"slope": np.float32([1.0, 2.0])}
    expected = im.predict_on_batch(X, intervention=values, return_sites="mu", rng_key=KEY)
    batch = im.sample_posterior_predictive_on_batch(
        X,
        intervention=values,
        condition=None,
        held="refuse",
        rng_key=KEY,
        return_sites="mu",
        rows="auto",
        return_datatree=True,
        dims={"slope": ["feature"]},
        coords={"feature": ["a", "b"]},
        allow_nonfinite=False,
        by_row=(),
        shared=(),
        kernel_kwargs=None,
    )
    stored = im.sample_posterior_predictive(
        X,
        intervention=values,
        condition=None,
        held="refuse",
        rng_key=KEY,
        return_sites="mu",
        shard_axis="obs",
        rows="auto",
        batch_size=10,
        store="persistent",
        output_dir=tmp_path,
        reduce=None,
        dims={"slope": ["feature"]},
        coords={"feature": ["a", "b"]},
        progress=False,
        executor=None,
        allow_nonfinite=False,
        by_row=(),
        shared=(),
        kernel_kwargs=None,
    )
    for tree in (batch, stored):
        assert tree.posterior.slope.dims == ("chain", "draw", "feature")
        np.testing.assert_array_equal(
            tree.posterior_predictive.mu, expected.posterior_predictive.mu
        )
    with pytest.raises(errors.CallError, match="in_sample"):
        im.sample_posterior_predictive(X, in_sample=False)


# Training goes on from a result


@pytest.mark.parametrize("method", ["fit", "fit_on_batch", "train_on_batch"])
@pytest.mark.slow
def test_training_goes_on_from_a_result_with_its_state(elsewhere, method):
    here = model()
    here.vi_result = elsewhere
    if method == "train_on_batch":
        losses = [here.train_on_batch(X, Y, n_obs=N_ROWS)[1]]
    else:
        options = {"num_steps": 3} if method == "fit_on_batch" else {"batch_size": N_ROWS}
        losses = getattr(here, method)(X, Y, progress=False, **options).vi_result.losses
    # A fresh start would begin far above.
    assert losses[0] < 1.2 * elsewhere.losses[-50:].mean() < 0.5 * elsewhere.losses[0]


def test_a_fresh_guide_is_set_up_to_sample_or_names_what_is_missing(elsewhere):
    here = model()
    here.vi_result = elsewhere
    for given, missing in (({}, "'X' and 'y' are"), ({"X": X}, "'y' is"), ({"y": Y}, "'X' is")):
        with pytest.raises(errors.CallError, match=missing):
            here.sample(**given)
    draws = here.sample(num_samples=500, return_datatree=False, X=X, y=Y)
    loc = elsewhere.params["slope_auto_loc"]
    np.testing.assert_allclose(draws["slope"].mean(0), loc, atol=0.05)
    assert here.posterior is None
    np.testing.assert_allclose(
        here.fit_on_batch(X, Y, num_steps=2, progress=False).vi_result.losses[0],
        elsewhere.losses[-50:].mean(),
        rtol=0.2,
    )


@pytest.mark.slow
def test_a_result_of_another_model_is_refused_and_changes_nothing(elsewhere):
    here = ImpactModel(linear, KEY, svi(guide=AutoMultivariateNormal))
    here.vi_result = elsewhere
    guide = dict(vars(here.inference.guide))
    for call in (
        lambda: here.fit(X, Y, progress=False),
        lambda: here.train_on_batch(X, Y, n_obs=N_ROWS),
        lambda: here.sample(X=X, y=Y),
    ):
        with pytest.raises(errors.GuideError, match="'auto_loc' is missing"):
            call()
        assert vars(here.inference.guide).keys() == guide.keys()
    here = ImpactModel(linear, KEY, svi(optim=numpyro.optim.SGD(0.1)))
    with pytest.raises(errors.GuideError, match="optimizer"):
        here.vi_result = elsewhere


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"params": [1.0]}, errors.CallError),
        ({"params": {"slope_auto_loc": "x"}}, errors.CallError),
        ({"params": {"slope_auto_loc": np.full(2, np.nan)}}, errors.ArgumentError),
        ({"losses": None}, errors.CallError),
        ({"losses": "x"}, errors.CallError),
        ({"losses": np.ones((2, 2))}, errors.CallError),
        ({"state": 5}, errors.CallError),
        ({"params": {}}, errors.GuideError),
    ],
)
def test_a_result_with_wrong_fields_is_refused(elsewhere, change, error):
    here = model()
    with pytest.raises(error, match="vi_result"):
        here.vi_result = elsewhere._replace(**change)
    assert here.vi_result is None
    assert here._vi_state is None


def test_a_result_whose_loss_is_not_finite_warns(elsewhere):
    here = model()
    with pytest.warns(aimz_lab.FitWarning, match="1 of the 2 losses"):
        here.vi_result = elsewhere._replace(losses=np.array([1.0, np.nan]))


def test_chains_have_no_vi_result(elsewhere):
    here = ImpactModel(linear, KEY, MCMC(NUTS(linear), num_warmup=1, num_samples=1))
    with pytest.raises(errors.InferenceError, match="vi_result"):
        here.vi_result = elsewhere


def test_a_result_without_a_state_gives_parameters_alone(elsewhere, im):
    here = cloudpickle.loads(cloudpickle.dumps(im))
    here.vi_result = SVIRunResult(elsewhere.params, None, [])
    loc = elsewhere.params["slope_auto_loc"]
    draws = here.sample(num_samples=500, return_datatree=False)["slope"]
    assert type(draws) is np.ndarray
    np.testing.assert_allclose(draws.mean(0), loc, atol=0.05)


def negative(params):
    return {k: -abs(v) if "scale" in k else v for k, v in params.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda params: {"slope_auto_loc": params["slope_auto_loc"]}, "_scale' is missing"),
        (lambda params: params | {"more": 1.0}, "'more' is unknown"),
        (lambda params: {k: np.ones(7) for k in params}, "shape"),
        (negative, "constraint"),
    ],
)
def test_parameters_without_a_state_must_be_those_of_a_guide_that_was_set_up(
    elsewhere, im, change, message
):
    here = cloudpickle.loads(cloudpickle.dumps(im))
    before = here.vi_result
    with pytest.raises(errors.GuideError, match=message):
        here.vi_result = SVIRunResult(change(dict(elsewhere.params)), None, [])
    assert here.vi_result is before


def test_a_fresh_guide_does_not_draw_with_a_negative_scale(elsewhere):
    here = model()
    here.vi_result = SVIRunResult(negative(elsewhere.params), None, [])
    with pytest.raises(errors.GuideError, match="constraint"):
        here.sample(X=X, y=Y)


# The kernel's sites


@pytest.mark.slow
def test_the_sites_of_both_branches_are_known():
    here = model(two_branches)
    assert here.kernel_spec is None
    here.sample_prior_predictive_on_batch(X[:9], num_samples=5)
    assert isinstance(here.kernel_spec, KernelSpec)
    assert here.kernel_spec.return_sites == ("y", "mu")
    assert here.kernel_spec.sample_sites == ("slope", "bought")
    assert not here.kernel_spec.output_observed
    here.fit_on_batch(X, Y, num_steps=5, num_samples=N_DRAWS, progress=False)
    spec = here.kernel_spec
    assert spec.return_sites == ("y", "mu")
    assert set(spec.sample_sites) == {"slope", "bought"}
    assert spec.sites["bought"].shape == (N_ROWS,)
    assert spec.sites["bought"].plates[0].subsample_size == N_ROWS
    tree = here.predict_on_batch(X, return_sites=["bought"])
    assert set(tree.posterior_predictive.data_vars) == {"bought"}
    mu = X @ np.asarray(here.posterior["slope"]).T
    scores = here.log_likelihood(X, Y, store="memory", progress=False).log_likelihood.y[0]
    np.testing.assert_allclose(
        scores, -0.5 * np.log(2 * np.pi) - 0.5 * (Y[:, None] - mu).T ** 2, rtol=1e-4, atol=1e-5
    )
    copied = cloudpickle.loads(cloudpickle.dumps(here))
    assert set(copied.kernel_spec.sample_sites) == {"slope", "bought"}


def test_the_output_may_have_another_name_without_data():
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y" if y is not None else "y_new", dist.Normal(slope, 1.0), obs=y)

    here = model(kernel).set_posterior_sample({"slope": np.ones(4)})
    tree = here.predict(X, return_sites="y_new", progress=False)
    assert tree.posterior_predictive.y_new.dims == ("chain", "draw", "obs")
    with pytest.raises(errors.SiteError, match="return_sites="):
        here.predict(X, progress=False)


def test_draws_are_compared_with_sites_known_from_the_prior():
    here = model(two_branches)
    here.sample_prior_predictive_on_batch(X[:9], num_samples=5)
    with pytest.warns(aimz_lab.OutputWarning, match="no draws of 'slope'"):
        here.set_posterior_sample({"mu": np.ones((4, 9))})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here.set_posterior_sample({"slope": np.ones((4, 2)), "bought": np.ones((4, 9))})


def test_a_description_names_dimensions_and_the_observed_output():
    here = model()
    here.sample_prior_predictive_on_batch(X, num_samples=2)
    sites = here.describe()["sites"]
    assert {name: site["kind"] for name, site in sites.items()} == {
        "slope": "latent",
        "mu": "deterministic",
        "y": "observed",
    }
    assert {name: site["dims"] for name, site in sites.items()} == {
        "slope": None,
        "mu": ["obs"],
        "y": ["obs"],
    }


def test_a_kernel_may_be_bound_and_wrapped_in_handlers():
    @handlers.scale(scale=1.0)
    @handlers.condition(data={})
    def wrapped(X, sd, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(slope * X[:, 0], sd), obs=y)

    here = model(partial(wrapped, sd=0.5))
    assert here.describe()["arguments"] == ["X", "sd", "y"]
    tree = here.sample_prior_predictive_on_batch(X, num_samples=3)
    assert tree.prior_predictive.y.shape == (1, 3, N_ROWS)


# Layout


def named(X, y=None):
    slope = numpyro.sample(
        "slope", dist.Normal().expand([2]).to_event(1), infer={"event_dims": ["feature"]}
    )
    shift = numpyro.sample(
        "shift", dist.Normal().expand([3]).to_event(1), infer={"event_dims": ["part", "more"]}
    )
    level = numpyro.sample("level", dist.Normal().expand([3]).to_event(1), infer={"event_dims": 5})
    with numpyro.plate("obs", X.shape[0]):
        mean = X @ slope + shift.sum() + level.sum()
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def test_event_dimensions_have_the_names_that_the_kernel_gives():
    here = model(named)
    draws = {"slope": np.ones((4, 2)), "shift": np.ones((4, 3)), "level": np.ones((4, 3))}
    here.set_posterior_sample(draws)
    with pytest.warns(aimz_lab.OutputWarning, match="of 'shift', 'level' cannot be used"):
        tree = here.predict_on_batch(X)
    dims = {name: values.dims[2:] for name, values in tree.posterior.data_vars.items()}
    assert dims == {"slope": ("feature",), "shift": ("shift_dim_0",), "level": ("level_dim_0",)}
    assert here.describe()["sites"]["slope"]["dims"] == ["feature"]


def test_a_name_with_two_lengths_names_neither():
    def kernel(X, y=None):
        for name, size in (("a", 2), ("b", 3)):
            numpyro.sample(
                name, dist.Normal().expand([size]).to_event(1), infer={"event_dims": ["f"]}
            )
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    here = model(kernel).set_posterior_sample({"a": np.ones((4, 2)), "b": np.ones((4, 3))})
    with pytest.warns(aimz_lab.OutputWarning, match="two lengths"):
        tree = here.predict_on_batch(X)
    assert tree.posterior.a.dims[2:] == ("a_dim_0",)
    assert tree.posterior.b.dims[2:] == ("b_dim_0",)


def test_sites_may_have_the_names_of_default_dimensions():
    def kernel(x, obs=None):
        numpyro.sample("b_dim_0", dist.Normal())
        slope = numpyro.sample("b", dist.Normal().expand([2]).to_event(1))
        numpyro.sample("obs", dist.Normal(x @ slope, 1.0), obs=obs)

    here = model(kernel, param_input="x", param_output="obs")
    here.set_posterior_sample({"b": np.ones((4, 2)), "b_dim_0": np.ones(4)})
    tree = here.predict(X, progress=False)
    assert tree.posterior_predictive.obs.dims == ("chain", "draw", "obs_row")
    assert tree.posterior.b.dims == ("chain", "draw", "b_dim_1")
    assert open_results(tree.attrs["artifact_path"]).equals(tree)


def test_an_output_without_a_value_for_each_row_is_an_output_warning():
    def lag(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("step", X.shape[0] - 1):
            numpyro.sample("y", dist.Normal(slope * X[:-1], 0.1), obs=None if y is None else y[1:])

    with pytest.warns(aimz_lab.OutputWarning, match="does not have one value a row"):
        tree = model(lag).sample_prior_predictive(X[:, 0], num_samples=3, progress=False)
    assert tree.prior_predictive.y.shape == (1, 3, N_ROWS - 1)


def test_every_group_tells_when_and_by_what_it_was_made(im):
    before = datetime.now(UTC)
    kept = predictive(im, store="memory")
    stored = predictive(im)
    sampled = im.sample(num_samples=3)
    for tree in (kept, stored, open_results(stored.attrs["artifact_path"]), sampled):
        for name, group in tree.children.items():
            made = datetime.fromisoformat(group.attrs["created_at"])
            assert before <= made <= datetime.now(UTC), name
            assert group.attrs["aimz_lab_version"] == aimz_lab.__version__
            assert group.attrs["creation_library"] == "aimz_lab"
            assert group.attrs["inference_library"] == "numpyro"
            assert group.attrs["inference_library_version"] == numpyro.__version__
    path = stored.attrs["artifact_path"]
    assert Path(path).exists()
    assert {group.attrs["artifact_path"] for group in stored.children.values()} == {path}
    assert not any("artifact_path" in node.attrs for node in kept.subtree)


@pytest.mark.slow
def test_the_prior_keeps_the_posterior_beside_it(im):
    before = {name: values.copy() for name, values in im.posterior.items()}
    few = X[:7]
    trees = [
        im.sample_prior_predictive(
            few, num_samples=4, coords={"obs": list("abcdefg")}, progress=False
        ),
        im.sample_prior_predictive_on_batch(few, num_samples=4),
        im.sample_prior_predictive(few, num_samples=4, reduce="mean", progress=False),
    ]
    for tree in trees:
        np.testing.assert_array_equal(tree.posterior.slope.values[0], before["slope"])
    assert trees[0].prior_predictive.y.shape == (1, 4, 7)
    assert im.is_fitted()
    np.testing.assert_array_equal(im.posterior["slope"], before["slope"])
    assert "posterior" not in model().sample_prior_predictive_on_batch(few, num_samples=4)


def test_rows_of_the_posterior_need_not_be_those_of_the_prior():
    def kernel(X, y=None):
        with numpyro.plate("obs", X.shape[0]):
            level = numpyro.sample("level", dist.Normal())
            numpyro.sample("y", dist.Normal(level, 1.0), obs=y)

    here = model(kernel).set_posterior_sample({"level": np.ones((8, N_ROWS))}, num_chains=2)
    tree = here.sample_prior_predictive(
        X[:3], num_samples=4, coords={"obs": list("abc")}, progress=False
    )
    assert dict(tree.posterior.sizes) == {"chain": 2, "draw": 4, "obs": N_ROWS}
    assert list(tree.prior_predictive.obs.values) == list("abc")


# Effects


def test_an_effect_names_the_stores_of_both_scenarios(im):
    shifted = {"slope": np.float32([0.0, 0.0])}
    baseline, treated = predictive(im), predictive(im, intervention=shifted)
    effect = im.estimate_effect(baseline, treated)
    named = {
        f"artifact_path_{name}": tree.attrs["artifact_path"]
        for name, tree in (("baseline", baseline), ("intervention", treated))
    }
    assert effect.attrs == named
    attrs = effect.posterior_predictive.attrs
    assert named.items() <= attrs.items()
    assert (attrs["intervention_baseline"], attrs["intervention"]) == ([], ["slope"])
    del baseline, treated
    assert all(Path(path).exists() for path in named.values())
    one_pass = im.estimate_effect(
        args_baseline={"X": X, "rng_key": KEY},
        args_intervention={"X": X, "intervention": shifted},
    )
    np.testing.assert_allclose(
        one_pass.posterior_predictive.mu, effect.posterior_predictive.mu, rtol=1e-5, atol=1e-6
    )
    attrs = one_pass.posterior_predictive.attrs
    assert (attrs["intervention_baseline"], attrs["intervention"]) == ([], ["slope"])


def test_scenarios_may_differ_in_their_options(im):
    shifted = {"slope": np.float32([0.0, 0.0])}
    stores = ("persistent", "memory")
    effect = im.estimate_effect(
        args_baseline={"X": X, "rng_key": KEY, "store": stores[0]},
        args_intervention={"X": X, "rng_key": KEY, "store": stores[1], "intervention": shifted},
    )
    assert set(effect.attrs) == {"artifact_path_baseline"}
    on_batch = im.estimate_effect(
        args_baseline={"X": X, "rng_key": KEY, "return_datatree": False},
        args_intervention={
            "X": X,
            "rng_key": KEY,
            "return_datatree": False,
            "intervention": shifted,
        },
        on_batch=True,
    )
    xr.testing.assert_allclose(
        effect["posterior_predictive"].to_dataset(), on_batch["posterior_predictive"].to_dataset()
    )


def test_an_effect_under_the_prior_needs_no_posterior_and_compares_none(im):
    before, after = (
        each.sample_prior_predictive_on_batch(X, num_samples=4, rng_key=KEY)
        for each in (im, model())
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        effect = im.estimate_effect(after, before)
    assert set(effect.children) == {"prior_predictive"}
    assert float(abs(effect.prior_predictive.y).max()) == 0


# Batches and copies


def test_a_batch_of_a_loader_says_where_its_fields_are(im):
    loader = ArrayLoader(ArrayDataset(X=X, y=Y), KEY, batch_size=10)
    copied = cloudpickle.loads(cloudpickle.dumps(im))
    for batch, n_pad in loader:
        copied.train_on_batch(**batch, n_pad=n_pad, n_obs=N_ROWS)
    pair = next(iter(loader))
    for wrong in (lambda: pair["X"], lambda: dict(pair), lambda: pair.pop("X")):
        with pytest.raises(errors.CallError, match="for batch, n_pad in loader"):
            wrong()


@pytest.mark.slow
def test_keys_are_good_in_another_process(tmp_path):
    def counts(X, y=None):
        rate = numpyro.sample("rate", dist.Normal())
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Poisson(jax.numpy.exp(rate)), obs=y)

    here = model(counts).set_posterior_sample({"rate": np.zeros(4)})
    path = tmp_path / "model.pkl"
    path.write_bytes(cloudpickle.dumps((here, X)))
    code = (
        "import cloudpickle, pathlib, sys\n"
        "im, X = cloudpickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(int(im.predict_on_batch(X).posterior_predictive.y.sum()))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) == int(here.predict_on_batch(X).posterior_predictive.y.sum())


# What is better here on purpose, and what has to change


def bare(X, y=None):
    slope = numpyro.sample("slope", dist.Normal().expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ slope, 1.0), obs=y)


def two_outputs(X, y=None):
    slope = numpyro.sample("slope", dist.Normal().expand([2]).to_event(1))
    with numpyro.plate("data", 30, subsample_size=X.shape[0]):
        mean = jax.numpy.stack([X @ slope, X @ slope], axis=1)
        numpyro.sample("y", dist.Normal(mean, 1.0).to_event(1), obs=y)


def chained(X, y=None):
    z = numpyro.sample("z", dist.Normal())
    m = numpyro.sample("m", dist.Normal(3.0 * z, 0.1))
    with numpyro.plate("obs", X.shape[0]):
        mu = numpyro.deterministic("mu", m + X[:, 0])
        numpyro.sample("y", dist.Normal(mu, 0.1), obs=y)


def with_draws(kernel):
    names = ("z", "m") if kernel is chained else ("slope",)
    shape = (4,) if kernel is chained else (4, 2)
    return model(kernel).set_posterior_sample({name: np.ones(shape) for name in names})


def short_fit():
    return model().fit_on_batch(X, Y, num_steps=2, num_samples=3, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "call", "says"),
    [
        (linear, lambda im: im.predict(X, return_sites="slop"), "did you mean 'slope'"),
        (chained, lambda im: im.predict(X, intervention={"z": 0.0}), "held='redraw'"),
        (chained, lambda im: im.predict(X, condition={"m": 0.0}), "held='redraw'"),
        (chained, lambda im: im.predict(X, intervention={"z": X[:, 0]}), "argument of the kernel"),
        (two_outputs, lambda im: im.predict(np.tile(X, (2, 1))), r"max\(30, X\.shape\[0\]\)"),
        (
            linear,
            lambda im: im.estimate_effect(im.predict_on_batch(X), im.predict_on_batch(X[:9])),
            "on the same rows",
        ),
        (linear, lambda im: model().log_likelihood(X, Y), "needs a posterior"),
        (linear, lambda _: short_fit().sample(return_sites="mu"), r"predict\(X, return_sites"),
    ],
    ids=["typo", "held", "condition", "value a row", "plate", "rows", "no posterior", "computed"],
)
def test_what_is_refused_says_what_to_do(kernel, call, says):
    with pytest.raises(errors.AimzLabError, match=says):
        call(with_draws(kernel))


@pytest.mark.slow
def test_rows_have_one_name_and_other_dimensions_their_axis():
    here = with_draws(bare)
    assert here.kernel_spec is None
    assert here.predict_on_batch(X).posterior_predictive.y.dims == ("chain", "draw", "obs")
    here = with_draws(two_outputs)
    dims = here.predict_on_batch(X).posterior_predictive.y.dims
    assert dims == ("chain", "draw", "data", "y_dim_1")


def test_a_site_that_is_intervened_on_keeps_its_own_draws_with_a_warning():
    with pytest.warns(aimz_lab.OutputWarning, match="'slope' are intervened on"):
        tree = with_draws(linear).predict_on_batch(
            X, intervention={"slope": [3.0, 4.0]}, return_sites=["slope", "mu"]
        )
    assert (tree.posterior_predictive.slope == 1).all()
    np.testing.assert_allclose(tree.posterior_predictive.mu[0, 0], X @ [3.0, 4.0], rtol=1e-5)


def test_a_legacy_key_is_taken_as_it_is():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        here = ImpactModel(linear, jax.random.PRNGKey(3), svi())
    assert here.rng_key == jax.random.key(3)


# Beside aimz itself, where it is installed


def test_each_argument_of_aimz_is_one_here_with_the_same_default():
    aimz = pytest.importorskip("aimz")
    for name, theirs in vars(aimz.ImpactModel).items():
        if name.startswith("_"):
            continue
        ours = inspect.getattr_static(ImpactModel, name)
        if isinstance(theirs, property):
            assert isinstance(ours, property), name
            continue
        theirs, ours = (
            inspect.signature(getattr(cls, name)).parameters
            for cls in (aimz.ImpactModel, ImpactModel)
        )
        for argument in theirs.values():
            found = ours[argument.name]
            assert (found.kind, found.default) == (argument.kind, argument.default), argument
    assert set(aimz.__all__) <= set(aimz_lab.__all__)


def test_the_groups_of_aimz_are_here_with_the_same_dimensions(im):
    aimz = pytest.importorskip("aimz")
    theirs = aimz.ImpactModel(linear, rng_key=KEY, inference=svi())
    theirs.set_posterior_sample({"slope": np.asarray(im.posterior["slope"])})
    calls = {
        "predict_on_batch": {"X": X},
        "sample_prior_predictive_on_batch": {"X": X, "num_samples": 4},
        "log_likelihood": {"X": X, "y": Y, "store": "memory", "progress": False},
    }
    for method, arguments in calls.items():
        expected, found = (getattr(each, method)(**arguments) for each in (theirs, im))
        for group in expected.children:
            for name, values in expected[group].data_vars.items():
                assert found[group][name].dims == values.dims, (method, name)
                assert found[group][name].shape == values.shape, (method, name)
        for group in ("posterior", "log_likelihood"):
            if group in expected.children:
                xr.testing.assert_allclose(
                    expected[group].to_dataset(), found[group].to_dataset(), rtol=1e-4
                )
