"""Map the kernel over blocks by ``vmap`` and over draws by ``lax.map``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import UInt32

from aimz_lab.data import fold_in, key_data
from aimz_lab.data.keys import THREEFRY
from aimz_lab.predictive.programs.forward import Blocks, Keys, Shared
from aimz_lab.predictive.programs.matmul_layout import draws_first
from aimz_lab.predictive.programs.own_keys import wrapped_keys

Results = dict[str, jax.Array]

Combine = Callable[..., Results]
"""Combines the results of scenarios: the identity for one, the contrast of two."""

GLOBAL_BLOCK = 0xFFFFFFFF
"""Block number for sites without rows; larger than the number of any block of rows."""


def draw_keys(key: jax.Array, n_draws: int) -> UInt32[np.ndarray, "draw words"]:
    """Return the data of the draws' keys, on the host.

    With other generators than Threefry the bits of a batched key may depend on the batch, so that
    noise would too; such a key becomes a seed for Threefry.
    """
    if random.key_impl(key) != THREEFRY:
        key = random.key(random.bits(key, (), jnp.uint32), impl=THREEFRY)
    return fold_in(key_data(key), np.arange(n_draws))


def over_blocks(simulators: tuple[Callable, ...], combine: Combine, draw_chunk: int) -> Callable:
    """Return the simulation of all draws on all blocks.

    Args:
        simulators: For each scenario, one draw on one block: ``(block, shared, sites, keys)``.
        combine: Combines their results, which have the same noise.
        draw_chunk: Draws in a vectorised chunk; chunks run one after the other.

    Returns:
        A function ``(numbers, key_data, sites, blocks, shared)``: the numbers of the blocks
        ``(G,)``, and the data of the draws' keys ``(S, 2)``. The others have an entry for each
        scenario: the fixed sites of each draw ``(S, ...)``, the rows ``(G, B, ...)``, and the
        shared values. Results are ``(S, G, B, ...)``.
    """

    def run(
        numbers: jax.Array, key_data: jax.Array, sites: tuple, blocks: tuple, shared: tuple
    ) -> Results:
        def one_draw(draw: tuple[jax.Array, tuple]) -> Results:
            own, fixed = draw
            of_draw = random.fold_in(wrapped_keys(own), GLOBAL_BLOCK)

            def one_block(number: jax.Array, blocks: tuple[Blocks, ...]) -> Results:
                keys = Keys(random.fold_in(wrapped_keys(own), number), of_draw)
                return _run_all(simulators, combine, blocks, shared, fixed, keys)

            return jax.vmap(one_block)(numbers, blocks)

        return _map_draws(one_draw, (key_data, sites), draw_chunk)

    return run


def over_draws(simulators: tuple[Callable, ...], combine: Combine, draw_chunk: int) -> Callable:
    """Return the simulation of all draws on one block each.

    The function takes ``(key_data, sites, blocks, shared)``: the data of the keys of each draw and
    its block, and the rows ``(B, ...)``. Results are ``(S, ...)``; see also :func:`over_blocks`.
    """

    def run(key_data: jax.Array, sites: tuple, blocks: tuple, shared: tuple) -> Results:
        def one_draw(draw: tuple[jax.Array, tuple]) -> Results:
            own, fixed = draw
            keys = Keys(wrapped_keys(own), wrapped_keys(own))
            return _run_all(simulators, combine, blocks, shared, fixed, keys)

        return _map_draws(one_draw, (key_data, sites), draw_chunk)

    return run


def _run_all(
    simulators: tuple[Callable, ...],
    combine: Combine,
    blocks: tuple[Blocks, ...],
    shared: tuple[Shared, ...],
    sites: tuple[Mapping[str, jax.Array], ...],
    keys: Keys,
) -> Results:
    scenarios = zip(simulators, blocks, shared, sites, strict=True)
    return combine(*[run(block, common, fixed, keys) for run, block, common, fixed in scenarios])


def _map_draws(one_draw: Callable, draws: tuple, draw_chunk: int) -> Results:
    """Map over the draws; a remainder would be a second copy of the program."""
    if draw_chunk > 1:
        # JAX cannot join chunks of a site without entries, whose size is divided by 0.
        with contextlib.suppress(ZeroDivisionError):
            return jax.lax.map(draws_first(one_draw), draws, batch_size=draw_chunk)
    return jax.lax.map(one_draw, draws)
