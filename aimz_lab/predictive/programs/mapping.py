"""The kernel on all draws and blocks: what runs side by side, and what one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import random

from aimz_lab.data.keys import THREEFRY
from aimz_lab.predictive.programs.draw_keys import GLOBAL_BLOCK
from aimz_lab.predictive.programs.forward import Blocks, Keys, Shared
from aimz_lab.predictive.programs.matmul_layout import draws_first

Combine = Callable[..., dict[str, jax.Array]]
"""What becomes of the results of all scenarios: one alone stays, two give a contrast."""


def over_blocks(simulators: tuple[Callable, ...], combine: Combine, draw_chunk: int) -> Callable:
    """Return the simulation of all draws on all blocks.

    Args:
        simulators: For each scenario, one draw on one block: ``(block, shared, sites, keys)``.
        combine: What becomes of their results, which have the same noise.
        draw_chunk: Draws that run side by side; the chunks run one after the other.

    Returns:
        A function ``(numbers, words, sites, blocks, shared)``: the numbers of the blocks
        ``(G,)``, and the words of the draws' keys ``(S, 2)``. The others have an entry for each
        scenario: the values of sites that a draw fixes ``(S, ...)``, the rows ``(G, B, ...)``, and
        what all get. Results are ``(S, G, B, ...)``.
    """

    def run(
        numbers: jax.Array, words: jax.Array, sites: tuple, blocks: tuple, shared: tuple
    ) -> Any:
        def one_draw(draw: tuple[jax.Array, tuple]) -> Any:
            own, fixed = draw
            of_draw = random.fold_in(_typed(own), GLOBAL_BLOCK)

            def one_block(number: jax.Array, blocks: tuple[Blocks, ...]) -> Any:
                keys = Keys(random.fold_in(_typed(own), number), of_draw)
                return _run_all(simulators, combine, blocks, shared, fixed, keys)

            return jax.vmap(one_block)(numbers, blocks)

        return _map_draws(one_draw, (words, sites), draw_chunk)

    return run


def over_draws(simulators: tuple[Callable, ...], combine: Combine, draw_chunk: int) -> Callable:
    """Return the simulation of all draws on one block each.

    The function takes ``(words, sites, blocks, shared)``: the words are of the keys of the draws
    and the block, the rows ``(B, ...)``, and the results ``(S, ...)``; else see
    :func:`over_blocks`.
    """

    def run(words: jax.Array, sites: tuple, blocks: tuple, shared: tuple) -> Any:
        def one_draw(draw: tuple[jax.Array, tuple]) -> Any:
            own, fixed = draw
            keys = Keys(_typed(own), _typed(own))
            return _run_all(simulators, combine, blocks, shared, fixed, keys)

        return _map_draws(one_draw, (words, sites), draw_chunk)

    return run


def _run_all(
    simulators: tuple[Callable, ...],
    combine: Combine,
    blocks: tuple[Blocks, ...],
    shared: tuple[Shared, ...],
    sites: tuple[Mapping[str, Any], ...],
    keys: Keys,
) -> dict[str, jax.Array]:
    scenarios = zip(simulators, blocks, shared, sites, strict=True)
    return combine(*[run(block, every, fixed, keys) for run, block, every, fixed in scenarios])


def _typed(words: jax.Array) -> jax.Array:
    return random.wrap_key_data(words, impl=THREEFRY)


def _map_draws(one_draw: Callable, draws: tuple, draw_chunk: int) -> Any:
    """Map over the draws; a remainder would be a second copy of the program."""
    if draw_chunk > 1:
        return jax.lax.map(draws_first(one_draw), draws, batch_size=draw_chunk)
    return jax.lax.map(one_draw, draws)
