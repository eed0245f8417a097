"""Whether a kernel treats rows one by one, without which its rows must not be cut.

They are independent given the sites without rows if each row's log-density, the parameters of its
distributions and each computed value follow from the row alone, every value that is drawn being
kept. Of most kernels the traced program proves that. Others are tested: they run on some rows, in
several orders, and again on each half of them. A scan, a cumulative sum, a statistic of the batch,
or the mere number of rows shows up as a difference. Nothing random is compared, so that rounding is
the only tolerance needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions import Distribution, MaskedDistribution

from aimz_lab.predictive.blocks import BLOCK_ROWS
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.programs.forward import Blocks, Keys, Shared, Simulator

TEST_ROWS = 2 * BLOCK_ROWS

_COLUMNS = 64
"""Columns of an argument whose extremes are looked for, at most."""

_LOOKED_AT = 2**24
"""Values of an argument that are looked at for its extremes: hundredths of a second at most."""

_NUMBERS = (jax.Array, np.ndarray, np.generic, int, float)
"""What parameters of distributions are; whatever else a distribution holds is left out."""


def choose_rows(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Choose rows to test with, in orders whose halves, and whose rows at the cut, differ much.

    Args:
        arrays: What has one entry a row, rows leading.

    Returns:
        Indices ``(orders, TEST_ROWS)``: rows from all over the input and those with the extremes of
        each column, or, of few rows, a random lot with repetitions. They are ordered by the sum of
        their standardised columns, up and down, so that any statistic of a half differs from that
        of all; low and high in turn, so that neighbours differ; as in the input; and at random.
    """
    arrays = list(arrays)
    rng, n_rows = np.random.default_rng(0), len(arrays[0])
    if n_rows < TEST_ROWS:
        chosen = rng.integers(n_rows, size=TEST_ROWS)
    else:
        spread = np.linspace(0, n_rows - 1, TEST_ROWS).astype(np.int64)
        extreme = _extremes(arrays)
        chosen = np.concatenate([extreme, spread[rng.permutation(TEST_ROWS)]])[:TEST_ROWS]
    upwards = chosen[np.argsort(_score(arrays, chosen), kind="stable")]
    in_turn = np.stack([upwards[:BLOCK_ROWS], upwards[BLOCK_ROWS:]], axis=1).ravel()
    return np.stack([upwards, upwards[::-1], in_turn, np.sort(chosen), rng.permutation(chosen)])


def _score(arrays: list[np.ndarray], chosen: np.ndarray) -> np.ndarray:
    score = np.zeros(TEST_ROWS)
    for values in arrays:
        columns = np.asarray(values[chosen], dtype=np.float64).reshape(TEST_ROWS, -1)
        spread = columns.std(0)
        score += np.divide(columns, spread, out=np.zeros_like(columns), where=spread > 0).sum(1)
    return score


def _extremes(arrays: list[np.ndarray]) -> np.ndarray:
    """Rows with the least and the greatest value of columns: what is rare shows there."""
    found = []
    for values in arrays:
        columns = np.asarray(values).reshape(len(values), -1)[:, :_COLUMNS]
        step = -(-columns.size // _LOOKED_AT)
        found += [columns[::step].argmin(0) * step, columns[::step].argmax(0) * step]
    return np.unique(np.concatenate(found))[: TEST_ROWS // 2]


def by_rows_alone(
    simulator: Simulator, plan: Plan
) -> Callable[[Blocks, Shared, Mapping[str, Any]], dict[str, jax.Array]]:
    """Return a function of rows, of what they share and of all values drawn, to be proven.

    Args:
        simulator: The kernel.
        plan: Which of its sites matter.
    """
    keys = Keys(*[jax.random.key(0)] * 2)  # of noise that is no site's

    def run(block: Blocks, shared: Shared, drawn: Mapping[str, Any]) -> dict[str, jax.Array]:
        return _quantities(simulator.trace(block, shared, drawn, keys), plan)

    return run


def both_blockings(simulator: Simulator, plan: Plan) -> Callable:
    """Return a function that runs the kernel on some rows and on each half of them.

    Args:
        simulator: The kernel.
        plan: Which of its sites matter.

    Returns:
        A function ``(blocks, shared, sites, words of a key)`` of blocks of ``TEST_ROWS`` rows, one
        an order, and one draw. It gives two mappings by site, with a leading axis of orders: what
        was found on all rows, and, with an axis behind it, on the halves.
    """
    axes = {name: site.row_axes for name, site in plan.spec.sites.items()}

    def run(blocks: Blocks, shared: Shared, held: Mapping[str, Any], words: jax.Array) -> tuple:
        return jax.vmap(lambda block: both(block, shared, held, words))(blocks)

    def both(block: Blocks, shared: Shared, held: Mapping[str, Any], words: jax.Array) -> tuple:
        keys = Keys(*[jax.random.wrap_key_data(words, impl="threefry2x32")] * 2)
        whole = simulator.trace(block, shared, held, keys)
        latents = [name for name in plan.spec.of_kind("latent") if name in whole]
        drawn = {name: whole[name]["value"] for name in latents if name not in held}
        fixed = {name: value for name, value in drawn.items() if not axes[name]}
        kept = {name: _halves(value, axes[name][0]) for name, value in drawn.items() if axes[name]}
        parts = [jax.tree.map(lambda array: _halves(array, 0), part) for part in block]

        def again(parts: list[Any], kept: Mapping[str, Any]) -> dict[str, jax.Array]:
            half = Blocks(*parts)
            trace = simulator.trace(half, shared, {**held, **fixed, **kept}, keys)
            return _quantities(trace, plan)

        return _quantities(whole, plan), jax.vmap(again)(parts, kept)

    return run


def crossing_sites(
    plan: Plan, whole: Mapping[str, np.ndarray], halves: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Tell which sites depend on other rows, from what :func:`both_blockings` found."""

    def crosses(name: str) -> bool:
        computed = plan.spec.sites[name].kind == "deterministic"
        pairs = zip(halves[name], whole[name], strict=True)
        return any(
            _differ(*order, is_density=index == 0 and not computed)
            for index, pair in enumerate(pairs)
            for order in zip(*pair, strict=True)
        )

    return tuple(name for name in whole if crosses(name))


def _quantities(trace: Mapping[str, Any], plan: Plan) -> dict[str, list[jax.Array]]:
    """What has to be the same in any blocking, by site: what was computed, or how it is drawn.

    A density alone does not tell the latter: that of a uniform distribution is the same wherever
    the distribution lies. Behind it come the parameters.
    """
    found: dict[str, list[jax.Array]] = {}
    for name, site in plan.spec.sites.items():
        if name not in trace:
            continue
        wanted = name in plan.row_axes
        if site.kind == "deterministic" and wanted:
            found[name] = [jnp.asarray(trace[name]["value"])]
        matters = wanted or site.row_axes or name in plan.globals_drawn
        if site.kind in ("latent", "observed") and matters:
            distribution, value = trace[name]["fn"], trace[name]["value"]
            found[name] = [_unmasked(distribution).log_prob(value), *_parameters(distribution)]
    return found


def _unmasked(distribution: Distribution) -> Distribution:
    """Without masks, under which it has no density, but draws all the same."""
    while isinstance(distribution, MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _parameters(distribution: Distribution) -> list[jax.Array]:
    leaves = jax.tree.leaves(distribution)
    return [jnp.asarray(leaf) for leaf in leaves if isinstance(leaf, _NUMBERS)]


def _halves(array: Any, axis: int) -> Any:
    """Cut an axis in two, with the halves on a new leading axis."""
    axis %= array.ndim
    shape = (*array.shape[:axis], 2, array.shape[axis] // 2, *array.shape[axis + 1 :])
    halves = array.reshape(shape)
    order = (axis, *[other for other in range(halves.ndim) if other != axis])
    return halves.transpose(order)


def _differ(halves: np.ndarray, whole: np.ndarray, *, is_density: bool) -> bool:
    if halves.ndim != whole.ndim + 1:
        return True
    sizes = zip(halves.shape[1:], whole.shape, strict=True)
    rows = [axis for axis, (of_half, of_all) in enumerate(sizes) if of_half != of_all]
    if [whole.shape[axis] for axis in rows] not in ([], [TEST_ROWS]):
        return True
    for axis in rows:
        whole = _halves(whole, axis)
    got, expected = np.broadcast_arrays(halves.astype(np.float64), whole.astype(np.float64))
    size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
    # A log-density magnifies the rounding of its site's parameters; a plain value does not.
    allowed = 1e-2 + 1e-3 * size if is_density else 1e-6 + 1e-3 * size.max(initial=0.0)
    with np.errstate(invalid="ignore"):
        near = np.abs(got - expected) <= allowed
    return not (near | (got == expected) | (np.isnan(got) & np.isnan(expected))).all()
