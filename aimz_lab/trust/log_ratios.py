"""Log of the joint density over the guide's, at draws from the guide, summed over blocks of rows.

``log p(y, theta) - log q(theta)`` is what one draw of the ELBO is made of. The terms of the rows
are summed block by block, each row with the weight 1; terms without rows count once. So a data set
of any size takes the memory of one block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from numpyro import handlers
from numpyro.distributions import Delta, Distribution, Independent
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoLaplaceApproximation
from numpyro.infer.util import log_density

from aimz_lab.inference.compiling import QUICK, compiler_options, named
from aimz_lab.inference.shared_programs import SharedJit
from aimz_lab.inference.svi.plan import TrainingPlan
from aimz_lab.kernel.scaling import DataSize, RowScale, scale_rows
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.types import Params, Rows

_VALUES_AT_ONCE = 1 << 22
"""Values of rows, times draws, that are computed together."""

_CURVED = "_of_laplace"


@dataclass(frozen=True)
class GuideDraws:
    """Draws from a guide, and their densities.

    Attributes:
        draws: Latent sites of the kernel by name; those with one value per row only where all rows
            are one block.
        log_p: Log joint density of the kernel and all rows, in nats.
        log_q: Log density of the guide, in nats.
        is_point: Whether the guide has one value and no density, as ``AutoDelta`` has.
    """

    draws: dict[str, Shaped[np.ndarray, "draw ..."]]
    log_p: Float[np.ndarray, " draw"]
    log_q: Float[np.ndarray, " draw"]
    is_point: bool = False

    @property
    def log_ratios(self) -> Float[np.ndarray, " draw"]:
        """Log of the joint density over the guide's."""
        return self.log_p - self.log_q


class _Fitted(NamedTuple):
    """What a fit found; arguments of the programs, so that later fits need no others.

    Attributes:
        params: Constrained parameters of kernel and guide.
        curved: The posterior of a Laplace guide, in its unconstrained space.
    """

    params: Params
    curved: Distribution | None


class GuideDensity:
    """Draws from a guide, with the densities of kernel and guide.

    Args:
        svi: The inference object; its guide has been set up.
        plan: Which sites follow the rows, and who scales them.
        examined: The rows.
        params: Constrained parameters of kernel and guide.
        with_likelihood: Whether the terms of the rows belong to the density; without, only those
            without rows do.
    """

    def __init__(
        self,
        svi: SVI,
        plan: TrainingPlan,
        examined: ExaminedRows,
        params: Params,
        *,
        with_likelihood: bool = True,
    ) -> None:
        self._svi, self._plan, self._examined = svi, plan, examined
        self._with_likelihood = with_likelihood
        data = examined.data
        self._kernel, self._guide = data.for_batches(svi.model), data.for_batches(svi.guide)
        self._others = {**data.shared, **data.static}
        # Where rows are cut, what the guide draws for all of them is held over the blocks. Else the
        # same key draws the same again, and flows need no inverse.
        self._holds = not examined.is_whole and bool(plan.step.guide_scale.sites)
        curved = None
        if isinstance(svi.guide, AutoLaplaceApproximation):
            program = named("curvature at the mode", svi.guide.get_posterior)
            with tracing_lock:  # one program, where its second derivatives are a hundred operations
                curved = SharedJit(program, options=compiler_options(QUICK))(dict(params))
                if not np.any(curved.scale_tril):  # NumPyro warns, but not when compiled
                    curved = svi.guide.get_posterior(dict(params))
        self._fitted = _Fitted(dict(params), curved)

    def draw(self, key: jax.Array, num_draws: int) -> GuideDraws:
        """Draw from the guide, and sum the densities over all rows.

        Args:
            key: A typed random key.
            num_draws: Number of draws.
        """
        keys = jax.random.split(key, num_draws)
        with tracing_lock:
            blocks = self._examined.blocks(padded=self._plan.step.padded)
            first, valid = next(blocks)
            size = self._draws_at_once(first, num_draws)
            draw = self._compiled("draws of the guide", self._draw, size)
            held, draws = draw(self._fitted, keys, first, np.int32(0))
            score = self._compiled("densities of draws", self._score, size)
            compute = partial(self._sums, score, held, keys)
            sums = compute(first, valid, 0, 1.0 if self._with_likelihood else 0.0)
            sums = [np.asarray(one, np.float64) for one in sums]
            if not self._examined.is_whole and self._with_likelihood:
                sums = self._over_blocks(compute, blocks, first, valid, sums)
        host = {name: np.asarray(value) for name, value in draws.items()}
        return GuideDraws(host, *sums, is_point=not held)

    def _over_blocks(
        self,
        compute: Callable,
        blocks: object,
        first: Rows,
        valid: int,
        sums: list[np.ndarray],
    ) -> list[np.ndarray]:
        """Add the rows of all other blocks; what has no rows is in each sum, and counts once."""
        apart = [np.asarray(one, np.float64) for one in compute(first, valid, 0, 0.0)]
        impossible = [np.isneginf(one) for one in sums]
        for number, (rows, count) in enumerate(blocks, start=1):
            found = [np.asarray(one, np.float64) for one in compute(rows, count, number, 1.0)]
            impossible = [a | np.isneginf(b) for a, b in zip(impossible, found, strict=True)]
            with np.errstate(invalid="ignore"):
                sums = [a + (b - c) for a, b, c in zip(sums, found, apart, strict=True)]
        return [np.where(no, -np.inf, one) for no, one in zip(impossible, sums, strict=True)]

    def _draws_at_once(self, rows: Rows, num_draws: int) -> int:
        values = sum(np.size(array) for array in rows.values()) + 1
        return int(np.clip(_VALUES_AT_ONCE // values, 1, num_draws))

    def _compiled(self, name: str, function: Callable, size: int) -> Callable:
        """Compile a function of one draw, mapped over all draws in groups of ``size``."""

        def mapped(fitted: _Fitted, per_draw: object, *fixed: object) -> object:
            return jax.lax.map(lambda one: function(fitted, one, *fixed), per_draw, batch_size=size)

        return SharedJit(named(name, mapped), options=compiler_options(QUICK))

    def _sums(
        self,
        score: Callable,
        held: dict[str, jax.Array],
        keys: jax.Array,
        rows: Rows,
        valid: int,
        number: int,
        weight: float,
    ) -> tuple[jax.Array, jax.Array]:
        numbers = np.int32(valid), np.int32(number), np.float32(weight)
        return score(self._fitted, (held, keys), rows, *numbers)

    def _draw(
        self, fitted: _Fitted, key: jax.Array, rows: Rows, number: jax.Array
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Draw once: the sites that are held for all blocks, and the kernel's latent sites."""
        held = {}
        if fitted.curved is not None:
            held[_CURVED] = fitted.curved.sample(jax.random.fold_in(key, 1))
        trace = self._guide_trace(fitted, key, held, rows, number)
        by_row = () if self._examined.is_whole else tuple(self._plan.step.guide_scale.sites)
        held |= {
            name: site["value"]
            for name, site in trace.items()
            if name not in by_row and not _is_point(site["fn"])
        }
        latents = {
            name: trace[name]["value"]
            for name in self._plan.spec.latent_sites
            if name in trace and name not in by_row
        }
        return held, latents

    def _guide_trace(
        self,
        fitted: _Fitted,
        key: jax.Array,
        held: dict[str, jax.Array],
        rows: Rows,
        number: jax.Array,
        scaled: Callable | None = None,
    ) -> dict[str, dict]:
        """Trace the guide at held values; other sites are drawn for this block, or again."""
        guide = scaled or self._guide
        values = {}
        if self._holds:
            key = jax.random.fold_in(key, number)
            values = {name: value for name, value in held.items() if name != _CURVED}
        guide = handlers.substitute(guide, data={**self._params_at(fitted, held), **values})
        trace = handlers.trace(handlers.seed(guide, key)).get_trace(**rows, **self._others)
        return {
            name: site
            for name, site in trace.items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    def _params_at(self, fitted: _Fitted, held: dict[str, jax.Array]) -> Params:
        """Return the parameters; a Laplace guide's location is its draw."""
        if fitted.curved is None:
            return fitted.params
        return {**fitted.params, f"{self._svi.guide.prefix}_loc": held[_CURVED]}

    def _score(
        self,
        fitted: _Fitted,
        drawn: tuple[dict[str, jax.Array], jax.Array],
        rows: Rows,
        valid: jax.Array,
        number: jax.Array,
        weight: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        """Log densities of kernel and guide at one draw, for one block of rows."""
        held, key = drawn
        step = self._plan.step

        def scaled(fn: Callable, scale: RowScale) -> Callable:
            size = DataSize(self._examined.n_rows, 1.0)
            count = len(next(iter(rows.values())))
            weights = scale.weights(count, valid, size, padded=step.padded)
            weights = {who: weight * value for who, value in weights.items()}
            return scale_rows(fn, scale.sites, weights)

        guide = scaled(self._guide, step.guide_scale)
        trace = self._guide_trace(fitted, key, held, rows, number, guide)
        log_q = sum((_log_prob(site) for site in trace.values()), jnp.zeros(()))
        if fitted.curved is not None:
            log_q = log_q + fitted.curved.log_prob(held[_CURVED])
        values = {name: site["value"] for name, site in trace.items()}
        kernel = handlers.seed(scaled(self._kernel, step.model_scale), jax.random.fold_in(key, 2))
        known = {**fitted.params, **values}
        log_p, _ = log_density(kernel, (), {**rows, **self._others}, known)
        return log_p, log_q


def _is_point(fn: Distribution) -> bool:
    while isinstance(fn, Independent):
        fn = fn.base_dist
    return isinstance(fn, Delta)


def _log_prob(site: dict) -> jax.Array:
    """Log density of a traced site, with its scale and its mask."""
    given = (site["intermediates"],) if site["intermediates"] else ()
    density = site["fn"].log_prob(site["value"], *given)
    if site["scale"] is not None:
        density = site["scale"] * density
    return jnp.sum(density)
