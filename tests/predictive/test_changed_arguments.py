"""Predictions with arguments unlike the training's, against the model's own draws."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import DataTypeError, OutputWarning, SiteError
from aimz_lab.inference.feeds import fingerprint
from tests.runs import mean_field

pytestmark = pytest.mark.allow_rank_promotion

RNG = np.random.default_rng(0)
N, N_GROUPS, N_DRAWS = 40, 4, 60
X = RNG.normal(size=N).astype("f4")
T = RNG.integers(0, 2, N).astype("f4")
Y = RNG.normal(size=N).astype("f4")
GROUP = np.arange(N) % N_GROUPS
SIZE = RNG.normal(size=N_GROUPS).astype("f4")
SLOPE = RNG.normal(size=N_DRAWS).astype("f4")
OPTIONS = {"rng_key": jax.random.key(1), "store": "memory", "progress": False}


TABLE = {"linear": np.zeros(N_GROUPS, "f4"), "shifted": np.ones(N_GROUPS, "f4")}


def of_groups(X, group, size, y=None, *, link="linear", spread=1e-3, training=True):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("groups", N_GROUPS):
        if link == "square":
            mean = slope * size**2
        else:
            mean = jax.jit(lambda slope: slope * (size + TABLE[link]))(slope)
        level = numpyro.sample("level", dist.Normal(mean, spread))
    with numpyro.plate("row", X.shape[0]):
        mean = level[group] + X
        numpyro.sample("y", dist.Normal(mean if training else 1 * mean, 1e-3), obs=y)


def mediated(X, t, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        level = numpyro.sample("level", dist.Normal(slope * t, 1e-3))
        numpyro.sample("y", dist.Normal(level + X, 1e-3), obs=y)


def trained(kernel, inputs, *outputs, level, **arguments):
    """A model that has seen data, with draws that a test can compute with."""
    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    fit = im.fit_on_batch if outputs else im.fit
    length = {"num_steps": 2} if outputs else {"epochs": 1}
    with jax.numpy_rank_promotion("allow"):
        fit(inputs, *outputs, num_samples=2, progress=False, **length, **arguments)
    return im.set_posterior_sample({"slope": SLOPE, "level": level})


LEVEL_OF_GROUPS = (SLOPE[:, None] * SIZE + 5).astype("f4")
LEVEL_OF_ROWS = (SLOPE[:, None] * T + 5).astype("f4")


@pytest.fixture(scope="module")
def with_groups():
    return trained(of_groups, X, Y, level=LEVEL_OF_GROUPS, group=GROUP, size=SIZE)


@pytest.fixture(scope="module")
def with_rows():
    return trained(mediated, X, Y, level=LEVEL_OF_ROWS, t=T)


def predicted(im, inputs, **arguments):
    tree = im.predict(inputs, **OPTIONS, **arguments)
    group = "predictions" if "predictions" in tree else "posterior_predictive"
    return tree[group].y.values[0]


@pytest.mark.parametrize(
    ("changed", "by_kernel"),
    [
        ({"size": SIZE + 1}, SLOPE[:, None] * (SIZE + 1)),
        ({"link": "square"}, SLOPE[:, None] * SIZE**2),
        ({"link": "shifted"}, SLOPE[:, None] * (SIZE + 1)),
        ({"spread": 1e-2}, SLOPE[:, None] * SIZE),
    ],
    ids=["array", "option", "table in a compiled function", "number"],
)
def test_levels_of_groups_do_not_know_of_other_arguments(with_groups, changed, by_kernel):
    [name] = changed
    given = {"group": GROUP, "size": SIZE, **changed}
    with pytest.raises(SiteError, match=f"'{name}' is not as in training and changes site 'level'"):
        predicted(with_groups, X, **given)
    kept = predicted(with_groups, X, held="keep", **given)
    np.testing.assert_allclose(kept, LEVEL_OF_GROUPS[:, GROUP] + X, atol=0.02)
    redrawn = predicted(with_groups, X, held="redraw", **given)
    np.testing.assert_allclose(redrawn, by_kernel[:, GROUP] + X, atol=0.06)
    with pytest.raises(SiteError, match=f"Pass '{name}' as in training, or fit the model"):
        with_groups.log_likelihood(X, Y, store="memory", progress=False, **given)


def of_a_dictionary(X, D, y=None):
    """The groups and the rows are in one container."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("groups", N_GROUPS):
        level = numpyro.sample("level", dist.Normal(slope * D["size"], 1e-3))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[D["group"]] + D["t"] + X, 1e-3), obs=y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*does not run on another number of rows")
def test_an_array_of_a_container_changes_what_is_computed_from_it_alone(tmp_path):
    given = {"size": SIZE, "group": GROUP, "t": T}
    im = trained(of_a_dictionary, X, Y, level=LEVEL_OF_GROUPS, D=given)
    im.save(tmp_path / "im")
    loaded = ImpactModel.load(tmp_path / "im", of_a_dictionary, svi=mean_field(of_a_dictionary))
    expected = LEVEL_OF_GROUPS[:, GROUP] + X + 1
    for each in (im, loaded):
        found = predicted(each, X, D={**given, "t": np.ones(N, "f4")})
        np.testing.assert_allclose(found, expected, atol=0.02)
        with pytest.raises(SiteError, match=r"\"D\['size'\]\" is not as in training and changes"):
            predicted(each, X, D={**given, "size": SIZE + 1})
    few = {"size": SIZE, "group": GROUP[:9], "t": np.ones(9, "f4")}
    np.testing.assert_allclose(predicted(im, X[:9] + 1, D=few), expected[:, :9] + 1, atol=0.02)
    im.log_likelihood(X[:9] + 1, Y[:9], D=few, store="memory", progress=False)
    with pytest.raises(SiteError, match=r"Pass \"D\['size'\]\" as in training"):
        im.log_likelihood(X, Y, D={**given, "size": SIZE + 1}, store="memory", progress=False)


@pytest.mark.parametrize(
    "same",
    [
        {"size": SIZE.astype("f8")},
        {"training": False},
        {"training": True, "link": "linear", "spread": 1e-3},
    ],
    ids=["other type", "a flag of the output alone", "defaults"],
)
def test_what_changes_no_draws_is_no_matter(with_groups, same):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predicted(with_groups, X[:7], **{"group": GROUP[:7], "size": SIZE, **same})
    np.testing.assert_allclose(found, LEVEL_OF_GROUPS[:, GROUP[:7]] + X[:7], atol=0.02)


def test_a_model_of_a_loader_and_a_loaded_one_know_what_they_were_trained_with(tmp_path):
    data = ArrayDataset(X=X, y=Y, group=GROUP)
    loader = ArrayLoader(data, jax.random.key(0), batch_size=10)
    im = trained(of_groups, loader, level=LEVEL_OF_GROUPS, size=SIZE)
    im.save(tmp_path / "im")
    loaded = ImpactModel.load(tmp_path / "im", of_groups, svi=mean_field(of_groups))
    for each in (im, loaded):
        assert predicted(each, X, group=GROUP, size=SIZE).shape == (N_DRAWS, N)
        with pytest.raises(SiteError, match="'size' is not as in training"):
            predicted(each, X, group=GROUP, size=SIZE + 1)


def test_a_hand_written_loop_knows_what_it_was_trained_with():
    im = ImpactModel(of_groups, jax.random.key(0), svi=mean_field(of_groups))
    for _ in range(2):
        im.train_on_batch(X, Y, group=GROUP, size=SIZE, n_obs=N)
    im.set_posterior_sample({"slope": SLOPE, "level": LEVEL_OF_GROUPS})
    assert predicted(im, X, group=GROUP, size=SIZE).shape == (N_DRAWS, N)
    for changed in ({"size": SIZE + 1}, {"size": SIZE, "link": "square"}):
        with pytest.raises(SiteError, match="is not as in training"):
            predicted(im, X, group=GROUP, **changed)


@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
def test_values_by_row_do_not_know_of_a_changed_input(with_rows):
    np.testing.assert_allclose(predicted(with_rows, X, t=T), LEVEL_OF_ROWS + X, atol=0.02)
    with pytest.raises(SiteError, match="'t' is not as in training and changes site 'level'"):
        predicted(with_rows, X, t=1 - T)
    kept = predicted(with_rows, X, t=1 - T, held="keep")
    np.testing.assert_allclose(kept, LEVEL_OF_ROWS + X, atol=0.02)
    redrawn = predicted(with_rows, X, t=1 - T, held="redraw")
    np.testing.assert_allclose(redrawn, SLOPE[:, None] * (1 - T) + X, atol=0.02)


@pytest.mark.parametrize("n_rows", [N, 9])
def test_other_rows_get_values_of_their_own_on_word(with_rows, n_rows):
    rows, t = X[:n_rows] + 1, 1 - T[:n_rows]
    with pytest.raises(SiteError, match="held='redraw'"):
        predicted(with_rows, rows, t=t)
    redrawn = predicted(with_rows, rows, t=t, held="redraw")
    np.testing.assert_allclose(redrawn, SLOPE[:, None] * t + rows, atol=0.02)


def of_some_rows(X, n, t=None, y=None):
    """A kernel that knows how many rows there are, with an argument that may be left out."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    with numpyro.plate("row", n):
        level = numpyro.sample("level", dist.Normal(0 if t is None else slope * t, 1e-3))
        numpyro.sample("y", dist.Normal(level + X, 1e-3), obs=y)


@pytest.mark.filterwarnings("ignore:The posterior holds one value a row")
@pytest.mark.filterwarnings("ignore:.*does not run on another number of rows")
def test_an_argument_that_is_left_out_and_a_number_of_rows():
    im = trained(of_some_rows, X, Y, level=LEVEL_OF_ROWS, t=T, n=N)
    with pytest.raises(SiteError, match="'t' is not as in training and changes site 'level'"):
        predicted(im, X, n=N)
    redrawn = predicted(im, X, n=N, held="redraw")
    np.testing.assert_allclose(redrawn, np.tile(X, (N_DRAWS, 1)), atol=0.02)
    few = predicted(im, X[:9] + 1, t=T[:9], n=9, held="redraw")
    np.testing.assert_allclose(few, SLOPE[:, None] * T[:9] + X[:9] + 1, atol=0.02)


@pytest.mark.filterwarnings("ignore:.*does not run on another number of rows")
def test_another_number_of_rows_is_no_matter_of_parameters():
    def kernel(X, n, y=None):
        slope = numpyro.sample("slope", dist.Normal(0, 1))
        with numpyro.plate("row", n):
            numpyro.sample("y", dist.Normal(slope * X, 1e-3), obs=y)

    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    im.fit_on_batch(X, Y, n=N, num_steps=2, num_samples=5, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputWarning)
        found = [predicted(im, X[:9], n=9, held=held) for held in ("refuse", "redraw")]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], im.posterior["slope"][:, None] * X[:9], atol=0.02)


SIZES = {N}


def of_a_size(X, size, y=None):
    """A kernel that in time does not run any more with the training's size."""
    if X.shape[0] != size or size not in SIZES:
        raise ValueError("another size")
    with numpyro.plate("groups", N_GROUPS):
        level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level.mean() + X, 1e-3), obs=y)


@pytest.mark.filterwarnings("ignore:.*does not run on another number of rows")
def test_what_cannot_be_told_is_said(monkeypatch):
    im = ImpactModel(of_a_size, jax.random.key(0), svi=mean_field(of_a_size))
    im.fit_on_batch(X, Y, size=N, num_steps=2, num_samples=5, progress=False)
    monkeypatch.setitem(globals(), "SIZES", {9})
    told = "'size' is not as in training, and it cannot be told whether site 'level' depends on"
    for held in ("refuse", "redraw"):
        with pytest.warns(OutputWarning, match=told):
            im.predict(X[:9], size=9, held=held, **OPTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutputWarning)
        im.predict(X[:9], size=9, held="keep", **OPTIONS)


def of_shares(X, group, t, y=None):
    """The level of a group depends on the share of its rows that are treated."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    treated = jnp.zeros(N_GROUPS).at[group].add(t) / jnp.zeros(N_GROUPS).at[group].add(1)
    with numpyro.plate("groups", N_GROUPS):
        level = numpyro.sample("level", dist.Normal(slope * treated, 1e-3))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level[group] + X, 1e-3), obs=y)


@pytest.mark.filterwarnings("ignore:The kernel computes across rows")
@pytest.mark.filterwarnings("ignore:Site 'level' is computed")
def test_levels_of_groups_that_are_computed_from_rows():
    im = trained(of_shares, X, Y, level=LEVEL_OF_GROUPS, group=GROUP, t=T)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=OutputWarning)
        predicted(im, X, group=GROUP, t=T)
    treated = {"group": GROUP, "t": np.ones_like(T)}
    with pytest.warns(OutputWarning, match="'level' is computed from 'group', 't' of all rows"):
        kept = predicted(im, X, **treated)
    np.testing.assert_allclose(kept, LEVEL_OF_GROUPS[:, GROUP] + X, atol=0.02)
    redrawn = predicted(im, X, held="redraw", **treated)
    np.testing.assert_allclose(redrawn, SLOPE[:, None] + X, atol=0.02)
    loader = ArrayLoader(ArrayDataset(X=X, **treated), jax.random.key(0), batch_size=10)
    with pytest.warns(OutputWarning, match="'level' is computed from 'group', 't' of all rows"):
        predicted(im, loader)
    with pytest.raises(DataTypeError, match="Pass the rows as arrays"):
        predicted(im, loader, held="redraw")
    untreated = {"X": X, "group": GROUP, "t": np.zeros_like(T)}
    calls = [untreated, {"X": X, **treated}]
    names = "args_baseline", "args_intervention"
    with pytest.raises(SiteError, match="'t' differs between the scenarios and changes site 'leve"):
        im.estimate_effect(**dict(zip(names, calls, strict=True)))
    calls = [{**call, "held": "redraw"} for call in calls]
    effect = im.estimate_effect(**dict(zip(names, calls, strict=True)), average=True)
    np.testing.assert_allclose(effect.posterior_predictive.y.values.ravel(), SLOPE, atol=1e-3)


@pytest.mark.parametrize("n_rows", [N, N - 3])
def test_a_call_compares_new_rows_with_the_training_once(with_groups, monkeypatch, n_rows):
    compared, checksum = [], fingerprint._checksum
    counted = lambda name, array: compared.append(name) or checksum(name, array)  # noqa: E731
    monkeypatch.setattr(fingerprint, "_checksum", counted)
    predicted(with_groups, X[:n_rows] + 1, group=GROUP[:n_rows], size=SIZE)
    assert sorted(compared) == (["X", "group"] if n_rows == N else [])
