"""The parameters panel names the site and the entry behind each value of a guide."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import SVI, Trace_ELBO, autoguide

from aimz_lab import ImpactModel, TableSpec, lab
from aimz_lab.inference.numpyro_patches import initial_state
from aimz_lab.lab.panels import ParametersPanel
from tests.lab.runs import begun, feed

pytestmark = pytest.mark.slow  # NumPyro sets up a guide of each kind

N = 6


def packed(X, y=None):
    slopes = numpyro.sample("slopes", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    grid = numpyro.sample("grid", dist.Normal(0.0, 1.0).expand([2, 2]).to_event(2))
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    mean = X @ slopes + grid.sum() + shares[0]
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, sigma), obs=y)


def small(X, y=None):
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(slope * X[:, 0], sigma).to_event(1), obs=y)


def batched(X, y=None):
    with numpyro.plate("side", 2):
        slopes = numpyro.sample("slopes", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes.sum(0), sigma.sum()), obs=y)


X = np.random.default_rng(0).normal(size=(N, 3)).astype("float32")
Y = X.sum(1)


def _numpyros_ranks():
    return jax.numpy_rank_promotion("allow")  # NumPyro's code, not ours


def params_of(guide, model, **data):
    """The first parameters of a guide, which is set up in one compilation."""
    svi = SVI(model, guide, numpyro.optim.Adam(0.1), Trace_ELBO())
    with _numpyros_ranks():
        return svi.get_params(initial_state(svi, jax.random.key(0), data, {}))


@functools.cache
def set_up(name, prefix="auto", model=packed, **options):
    """A guide that is set up, and its parameters."""
    guide = getattr(autoguide, name)(model, prefix=prefix, **options)
    return guide, params_of(guide, model, X=X, y=Y)


def moved(guide, params, changed):
    """The panel of a run in which values of a guide's parameters change."""
    values = iter([params, {**params, **changed}])
    run = begun(get_params=lambda: next(values))
    run.guide = guide
    panel = ParametersPanel()
    panel.begin(run)
    panel.frame(run)
    feed(run, [1.0] * 10)
    return panel.frame(run)


# By site, where each entry stands in the vector that NumPyro makes of all sites.
PLACES = {
    "slopes[2]": ("slopes", 2, "{}"),
    "sigma": ("sigma", 0, "{}, unconstrained"),
    "grid[1, 0]": ("grid", 2, "{}"),
    "shares[1]": ("shares", 1, "{}, unconstrained"),
}
GUIDES = {  # those of others are named and laid out like one of these
    "AutoMultivariateNormal": ["loc", "scale_tril"],
    "AutoLowRankMultivariateNormal": ["loc", "scale", "cov_factor"],
    "AutoDAIS": ["z_0_loc", "z_0_scale", "mass_matrix"],
}
KINDS = {"loc": "location", "mass_matrix": "mass", "cov_factor": "factor 1 of the covariance"}


def kind_of(part):
    return KINDS.get(part.removeprefix("z_0_"), "scale")


@pytest.mark.parametrize("name", GUIDES)
def test_guides_that_pack_sites_name_each_entry(name):
    prefix = "mine" if name == "AutoDAIS" else "auto"
    guide, params = set_up(name, prefix)
    one = np.arange(guide.latent_dim)
    # NumPyro itself says where in the vector each entry is.
    places = {site: np.asarray(at) for site, at in guide._unpack_latent(one).items()}
    for part in GUIDES[name]:
        for entry, (site, offset, wording) in PLACES.items():
            at = places[site].reshape(-1)[offset]
            value = np.array(params[f"{prefix}_{part}"])
            value[(at, 0) if part == "cov_factor" else (at, at)[: value.ndim]] += 100.0
            row = moved(guide, params, {f"{prefix}_{part}": value})["rows"][0]
            found = (row["site"], row["kind"])
            assert found == (entry, wording.format(kind_of(part))), (part, entry)


def test_batched_guides_do_as_well():
    guide, params = set_up("AutoBatchedLowRankMultivariateNormal", model=batched, batch_ndim=1)
    place = np.eye(2, 4, 1)
    frame = moved(guide, params, {"auto_loc": np.array(params["auto_loc"]) + 100 * place})
    expected = {
        f"{site}[{', '.join(map(str, at))}]"
        for site, value in guide._unpack_latent(jnp.asarray(place.reshape(-1))).items()
        for at in zip(*np.nonzero(value), strict=True)
    }
    assert len(expected) == 2
    assert {row["site"] for row in frame["rows"][:2]} == expected


def test_guides_by_site_say_what_is_unconstrained():
    kinds = {"AutoNormal": "location, unconstrained", "AutoDelta": "location"}
    for name, kind in kinds.items():  # AutoDelta holds the value itself
        guide, params = set_up(name, model=small)
        frame = moved(guide, params, {"sigma_auto_loc": params["sigma_auto_loc"] + 9})
        assert (frame["rows"][0]["site"], frame["rows"][0]["kind"]) == ("sigma", kind)


def test_guides_with_rows_of_their_own_name_row_and_entry():
    def local(sigma):
        with numpyro.plate("obs", N):
            level = numpyro.sample("level", dist.Normal(0.0, 1.0))
            both = numpyro.sample("both", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
            numpyro.sample("y", dist.Normal(level + both.sum(-1), sigma), obs=jnp.asarray(Y))

    def whole():
        return numpyro.sample("sigma", dist.HalfNormal(1.0))

    def model():
        local(whole())

    guide = autoguide.AutoSemiDAIS(model, local, autoguide.AutoNormal(whole))
    params = params_of(guide, model)
    assert params["auto_z_0_loc"].shape == (N, 3)
    for at, latent in enumerate(np.eye(3)):
        unpacked = guide._unpack_local_latent(jnp.tile(latent, (N, 1)))
        [name] = (name for name, value in unpacked.items() if np.any(value))
        inner = np.argmax(np.asarray(unpacked[name])[4])
        value = np.array(params["auto_z_0_loc"])
        value[4, at] += 100
        row = moved(guide, params, {"auto_z_0_loc": value})["rows"][0]
        assert row["site"] == ("level[4]" if name == "level" else f"both[4, {inner}]")


@pytest.mark.parametrize("name", ["AutoIAFNormal", "AutoBNAFNormal"])
def test_a_flow_says_that_its_weights_belong_to_all_sites(name):
    guide = getattr(autoguide, name)(small)
    guide.prototype_trace = {}  # as if it were set up, which takes long
    params = {"auto_arn__0$params": [(np.ones(2), np.ones(3)), ()]}
    changed = {"auto_arn__0$params": [(np.ones(2), np.array([1.0, 9.0, 1.0])), ()]}
    frame = moved(guide, params, changed)
    assert frame["rows"][0]["site"] == "auto_arn__0.0.1[1]"
    assert frame["note"] == "5 values. The weights of a flow belong to all sites together."


def test_columns_and_levels_of_a_table_are_the_names_of_entries():
    def kernel(X, clinic, n_clinics, y=None):
        slopes = numpyro.sample("slopes", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        effect = numpyro.sample("effect", dist.Normal(0.0, 1.0).expand([n_clinics]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ slopes + effect[clinic], 1.0), obs=y)

    rng = np.random.default_rng(0)
    people = pd.DataFrame(rng.normal(size=(60, 3)), columns=["age", "income", "minutes"])
    people["clinic"] = np.array(["Aarau", "Bern", "Chur"])[rng.integers(0, 3, size=60)]
    spec = TableSpec(
        X=["age", "income"], clinic="index(clinic)", n_clinics="levels(clinic)", y="minutes"
    )
    guide = autoguide.AutoDiagonalNormal(kernel)
    svi = SVI(kernel, guide, numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    panel, frames = ParametersPanel(), []

    def look(run, steps):
        frames.append(panel.frame(run))

    watch = lab.LambdaCallback(on_fit_begin=panel.begin, on_steps_end=look)
    with _numpyros_ranks():
        im.fit(people, batch_size=20, epochs=40, progress=False, callbacks=[watch])
    frames.append(panel.frame(im.last_run))
    known = {row["site"] for frame in frames for row in frame.get("rows", [])}
    assert known & {"slopes[age]", "slopes[income]"}
    assert known & {"effect[Aarau]", "effect[Bern]", "effect[Chur]"}
