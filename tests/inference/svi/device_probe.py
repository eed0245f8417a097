"""Fits on 8 simulated devices in several ways; prints what each run reported as JSON."""

from __future__ import annotations

import json

import jax

if __name__ == "__main__":  # before anything else asks for a device; not when it is collected
    jax.config.update("jax_num_cpu_devices", 8)

import numpy as np
import numpyro
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpyro import handlers
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO, TraceEnum_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.data import derive_key
from aimz_lab.errors import AimzLabError
from tests import kernels

N, B = 90, 20
X, Y = kernels.regression_data(N, 3, seed=5)


def rows_on(count):
    """A sharding of the rows over the first devices."""
    mesh = Mesh(np.array(jax.devices()[:count]), ("rows",))
    return NamedSharding(mesh, PartitionSpec("rows"))


def fit(device=None, data=(X, Y), **options):
    kernel = kernels.regression
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi, device=device)
    options = {"batch_size": B, "epochs": 7, "num_samples": 5, "progress": False} | options
    im.fit(*data, **options)
    run = im.last_run
    return {
        "ids": sorted({one.id for leaf in run.params.values() for one in leaf.devices()}),
        "losses": run.losses.astype(float).tolist(),
        "n_pad": run.column("n_pad").tolist(),
        "devices": len(run.info.devices),
        "row_multiple": run.info.row_multiple,
        "draws": np.asarray(im.posterior["beta"]).tolist(),
    }


def chains():
    """Two chains on two devices, by this package and by NumPyro itself."""
    mcmc, theirs = (
        MCMC(
            HMC(kernels.regression, num_steps=3, trajectory_length=None),
            num_warmup=4,
            num_samples=4,
            num_chains=2,
            chain_method="parallel",
            progress_bar=False,
        )
        for _ in range(2)
    )
    im = ImpactModel(kernels.regression, jax.random.key(0), inference=mcmc)
    key = jax.random.key(5)
    im.fit_on_batch(X, Y, rng_key=key, progress=False)
    theirs.run(derive_key(derive_key(key, 0), 0), X=X, y=Y)
    draws = [m.get_samples(group_by_chain=True)["beta"] for m in (mcmc, theirs)]
    kept = im.last_run.chains.values("beta", range(3))
    return {"ours": draws[0].tolist(), "theirs": draws[1].tolist(), "kept": kept.tolist()}


def chains_on(device):
    """Ids of the devices where chains run that are told one."""
    sampler = HMC(kernels.regression, num_steps=3, trajectory_length=None)
    mcmc = MCMC(sampler, num_warmup=2, num_samples=2, progress_bar=False)
    im = ImpactModel(kernels.regression, jax.random.key(0), inference=mcmc, device=device)
    im.fit_on_batch(X, Y, rng_key=jax.random.key(5), progress=False)
    return [one.id for one in mcmc.get_samples()["beta"].devices()]


def under_default(device):
    """A fit where ``jax.default_device`` is set."""
    with jax.default_device(device):
        return fit()


def spread_chains(rows=80):
    """Two chains together, with the rows on one device and on eight; and what is refused."""

    def run(device, rows=rows, **options):
        sampler = HMC(kernels.regression, num_steps=3, trajectory_length=None)
        options = {"num_chains": 2, "chain_method": "vectorized", **options}
        mcmc = MCMC(sampler, num_warmup=4, num_samples=4, progress_bar=False, **options)
        im = ImpactModel(kernels.regression, jax.random.key(0), inference=mcmc, device=device)
        im.fit_on_batch(X[:rows], Y[:rows], rng_key=jax.random.key(5), progress=False)
        return np.asarray(im.posterior["beta"]).tolist()

    def refusal(*args, **options):
        try:
            run(*args, **options)
        except AimzLabError as error:
            return str(error)

    return {
        "one": run(None),
        "eight": run(rows_on(8)),
        "uneven": refusal(rows_on(8), rows=83),
        "parallel": refusal(rows_on(8), chain_method="parallel"),
    }


def copies():
    """How far apart the devices are after a fit in which each has a whole copy of each batch.

    They read the memory that later batches are written to, and those that come last lag behind.
    """
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100_000, 16)).astype(np.float32)
    y = rng.normal(size=len(x)).astype(np.float32)
    guide = AutoNormal(handlers.block(kernels.mixture, hide=["which"]))
    svi = SVI(kernels.mixture, guide, numpyro.optim.Adam(0.01), TraceEnum_ELBO())
    im = ImpactModel(kernels.mixture, jax.random.key(0), svi=svi)
    im.fit(x, y, batch_size=1000, epochs=20, num_samples=5, progress=False)
    params = [
        np.stack([np.asarray(shard.data) for shard in leaf.addressable_shards])
        for leaf in jax.tree.leaves(im.vi_result.params)
    ]
    return {"devices": len(params[0]), "apart": max(float(np.ptp(p, axis=0).max()) for p in params)}


def loader(**options):
    return (ArrayLoader(ArrayDataset(X=X, y=Y), jax.random.key(3), batch_size=B, **options),)


if __name__ == "__main__":
    one = jax.devices()[0]
    runs = {
        "one": fit(one),
        "all": fit(),
        "default": under_default(jax.devices()[3]),
        "three": fit(rows_on(3)),
        "full": fit(batch_size=N),
        "full on one": fit(one, batch_size=N),
        "loader on one": fit(data=loader(device=one), batch_size=None),
        "loader on two": fit(data=loader(device=rows_on(2)), batch_size=None),
        "model before loader": fit(rows_on(2), data=loader(device=one), batch_size=None),
        "resident": fit(
            data=(
                ArrayLoader(ArrayDataset(X=X, y=Y, to_jax=True), jax.random.key(3), batch_size=B),
            ),
            batch_size=None,
        ),
    }
    told = {
        "chains": chains(),
        "chains on": chains_on(jax.devices()[5]),
        "spread": spread_chains(),
        "copies": copies(),
    }
    print(json.dumps({**runs, **told}))
