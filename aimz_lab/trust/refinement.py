"""Better draws beside the guide's: importance resampling, or a short NUTS run from the guide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from numpyro import handlers
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import unconstrain_fn

from aimz_lab.errors import SiteError
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.smoothing import Smoothed
from aimz_lab.types import Arguments, Params

Refine = Literal["importance", "nuts"]

CHAINS, WARMUP, DRAWS = 4, 300, 250
"""Of the short NUTS run."""

_MOST_DENSE = 200
"""Values up to which the mass matrix is dense."""


def resampled(draws: Mapping[str, Shaped[np.ndarray, "draw ..."]], weights: Smoothed) -> Posterior:
    """Draw again, with replacement and by the smoothed weights; Rubin (1988).

    Args:
        draws: Draws of the guide.
        weights: Their weights.
    """
    rng = own_rng("refinement")
    chosen = rng.choice(len(weights.weights), len(weights.weights), p=weights.weights)
    return Posterior({name: jnp.asarray(values[chosen]) for name, values in draws.items()})


def nuts_from_guide(
    kernel: Callable,
    arguments: Arguments,
    params: Params,
    draws: Mapping[str, Shaped[np.ndarray, "draw ..."]],
    key: jax.Array,
) -> Posterior:
    """Run four short chains that begin at draws of the guide, with its covariance as mass matrix.

    Hoffman and Gelman (2014). Chains that begin near the posterior need little warm-up; whether
    they arrived is for their R-hat to say.

    Args:
        kernel: The kernel.
        arguments: Its arguments, with all rows.
        params: Learned values of its ``param`` sites.
        draws: Draws of the guide.
        key: A typed random key.

    Raises:
        SiteError: If the chains have no finite draws.
    """
    fixed = handlers.substitute(kernel, data=dict(params))
    with tracing_lock:
        values = {name: jnp.asarray(array) for name, array in draws.items()}
        seeded = handlers.seed(fixed, jax.random.fold_in(key, 0))
        to_free = jax.jit(jax.vmap(lambda one: unconstrain_fn(seeded, (), dict(arguments), one)))
        free = to_free(values)
        names = sorted(free)
        flat = np.concatenate(
            [np.asarray(free[name], np.float64).reshape(len(free[name]), -1) for name in names], 1
        )
        usable = np.flatnonzero(np.isfinite(flat).all(1))
        if len(usable) < CHAINS:
            msg = "The guide has no finite draws to begin chains at; train it first."
            raise SiteError(msg)
        begin = own_rng("refinement").choice(usable, CHAINS, replace=False)
        is_dense = flat.shape[1] <= _MOST_DENSE
        sampler = NUTS(
            fixed,
            dense_mass=[tuple(names)] if is_dense else False,
            inverse_mass_matrix={tuple(names): jnp.asarray(_mass(flat[usable], dense=is_dense))},
        )
        mcmc = MCMC(
            sampler,
            num_warmup=WARMUP,
            num_samples=DRAWS,
            num_chains=CHAINS,
            chain_method="vectorized",
            progress_bar=False,
        )
        first = {name: free[name][begin] for name in names}
        fields = ("diverging", "energy")
        mcmc.run(key, init_params=first, extra_fields=fields, **arguments)
        found = mcmc.get_samples()
    latent = {name: found[name] for name in draws if name in found}
    if not all(np.isfinite(np.asarray(array)).all() for array in latent.values()):
        msg = "The NUTS run has draws that are not finite; read diagnose without refine='nuts'."
        raise SiteError(msg)
    return Posterior(latent, CHAINS, dict(mcmc.get_extra_fields()))


def _mass(flat: np.ndarray, *, dense: bool) -> np.ndarray:
    """The inverse mass matrix: covariances of the guide, shrunk a little as Stan's are."""
    count = len(flat)
    share = count / (count + 5.0)
    if not dense:
        return (share * flat.var(0) + 1e-3 * (1 - share)).astype(np.float32)
    covariance = np.atleast_2d(np.cov(flat.T))
    return (share * covariance + 1e-3 * (1 - share) * np.eye(len(covariance))).astype(np.float32)
