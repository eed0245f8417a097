"""The test that a kernel treats rows one by one, without which its rows must not be cut.

The kernel runs on some rows, and again on each half of them with every value that it drew kept.
If rows are independent given the sites without rows, then each row's log-density and each computed
value is the same in both blockings. A scan, a cumulative sum, a statistic of the batch, or the mere
number of rows shows up as a difference. Nothing random is compared, so that rounding is the only
tolerance needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.kernel.spec import Site
from aimz_lab.predictive.forward import Blocks, Shared, Simulator
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.stream import BLOCK_ROWS

TEST_ROWS = 2 * BLOCK_ROWS

Quantities = dict[str, tuple[jax.Array, int | None]]


def choose_rows(n_rows: int) -> np.ndarray:
    """Choose the rows to test with: the first ones, or, of few, a random lot with repetitions.

    A lot, because a cycle would give both halves the same mean.
    """
    if n_rows >= TEST_ROWS:
        return np.arange(TEST_ROWS)
    return np.random.default_rng(0).integers(n_rows, size=TEST_ROWS)


def crossing_sites(simulator: Simulator, plan: Plan) -> Callable:
    """Return a function that tells which sites depend on other rows.

    Args:
        simulator: The kernel.
        plan: Which of its sites matter.

    Returns:
        A function ``(block, shared, sites, key) -> {site: bool}`` of one block of
        ``TEST_ROWS`` rows and one draw.
    """
    axes = {name: site.row_axes for name, site in plan.spec.sites.items()}

    def run(block: Blocks, shared: Shared, held: Mapping[str, Any], key: jax.Array) -> dict:
        whole = simulator.trace(block, shared, held, key)
        latents = [name for name in plan.spec.of_kind("latent") if name in whole]
        drawn = {name: whole[name]["value"] for name in latents if name not in held}
        fixed = {name: value for name, value in drawn.items() if not axes[name]}
        kept = {name: _halves(value, axes[name][0]) for name, value in drawn.items() if axes[name]}
        parts = [jax.tree.map(lambda array: _halves(array, 0), part) for part in block[1:]]

        def again(parts: list[Any], kept: Mapping[str, Any]) -> dict[str, jax.Array]:
            half = Blocks(block.ids, *parts)
            trace = simulator.trace(half, shared, {**held, **fixed, **kept}, key)
            return {name: value for name, (value, _) in _quantities(trace, plan).items()}

        halves = jax.vmap(again)(parts, kept)
        return {
            name: _differ(halves[name], value, axis, plan.spec.sites[name])
            for name, (value, axis) in _quantities(whole, plan).items()
        }

    return run


def _quantities(trace: Mapping[str, Any], plan: Plan) -> Quantities:
    """What has to be the same in any blocking, and its axis of rows counted from the right."""
    found: Quantities = {}
    for name, site in plan.spec.sites.items():
        if name not in trace:
            continue
        wanted = name in plan.row_axes
        if site.kind == "deterministic" and wanted:
            axis = site.row_axes[0] - len(site.shape) if site.row_axes else None
            found[name] = jnp.asarray(trace[name]["value"]), axis
        matters = wanted or site.row_axes or name in plan.globals_drawn
        if site.kind in ("latent", "observed") and matters:
            density = trace[name]["fn"].log_prob(trace[name]["value"])
            found[name] = density, site.row_batch_axis
    return found


def _halves(array: jax.Array, axis: int) -> jax.Array:
    """Cut an axis in two, with the halves on a new leading axis."""
    axis %= array.ndim
    shape = (*array.shape[:axis], 2, array.shape[axis] // 2, *array.shape[axis + 1 :])
    return jnp.moveaxis(array.reshape(shape), axis, 0)


def _differ(halves: jax.Array, whole: jax.Array, axis: int | None, site: Site) -> jax.Array:
    if axis is not None and whole.shape[axis] != halves.shape[axis]:
        whole = _halves(whole, axis)
    got, expected = (value.astype(jnp.result_type(float)) for value in (halves, whole))
    expected = jnp.broadcast_to(expected, got.shape)
    size = jnp.where(jnp.isfinite(expected), jnp.abs(expected), 0.0)
    # A log-density magnifies the rounding of its site's parameters; a plain value does not.
    computed = site.kind == "deterministic"
    allowed = 1e-6 + 1e-3 * jnp.max(size, initial=0.0) if computed else 1e-2 + 1e-3 * size
    same = (got == expected) | (jnp.isnan(got) & jnp.isnan(expected))
    return jnp.any(~same & ~(jnp.abs(got - expected) <= allowed))
