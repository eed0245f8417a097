"""The kernel on all draws and blocks: what runs side by side, and what one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import random

from aimz_lab.predictive.forward import Blocks, Shared
from aimz_lab.predictive.products import draws_first

Combine = Callable[..., dict[str, jax.Array]]
"""What becomes of the results of all scenarios: one alone stays, two give a contrast."""


def over_blocks(simulators: tuple[Callable, ...], combine: Combine, draw_chunk: int) -> Callable:
    """Return the simulation of all draws on all blocks.

    Args:
        simulators: For each scenario, one draw on one block: ``(block, shared, sites, key)``.
        combine: What becomes of their results, which have the same noise.
        draw_chunk: Draws that run side by side; the chunks run one after the other.

    Returns:
        A function ``(keys, sites, blocks, shared)``. The words of the keys are ``(G, S, 2)``; the
        others have an entry for each scenario: the values of sites that a draw fixes
        ``(S, ...)``, the rows ``(G, B, ...)``, and what all get. Results are ``(S, G, B, ...)``.
    """

    def run(keys: jax.Array, sites: tuple, blocks: tuple, shared: tuple) -> Any:
        def one_draw(draw: tuple[jax.Array, tuple]) -> Any:
            of_blocks, fixed = draw

            def one_block(key: jax.Array, blocks: tuple[Blocks, ...]) -> Any:
                return _run_all(simulators, combine, blocks, shared, fixed, key)

            return jax.vmap(one_block)(of_blocks, blocks)

        return _map_draws(one_draw, (jnp.moveaxis(keys, 1, 0), sites), draw_chunk)

    return run


def over_draws(simulators: tuple[Callable, ...], combine: Combine, draw_chunk: int) -> Callable:
    """Return the simulation of all draws on one block each.

    The arguments are those of :func:`over_blocks`, but keys are ``(S, 2)``, rows ``(B, ...)`` and
    results ``(S, ...)``.
    """

    def run(keys: jax.Array, sites: tuple, blocks: tuple, shared: tuple) -> Any:
        def one_draw(draw: tuple[jax.Array, tuple]) -> Any:
            key, fixed = draw
            return _run_all(simulators, combine, blocks, shared, fixed, key)

        return _map_draws(one_draw, (keys, sites), draw_chunk)

    return run


def _run_all(
    simulators: tuple[Callable, ...],
    combine: Combine,
    blocks: tuple[Blocks, ...],
    shared: tuple[Shared, ...],
    sites: tuple[Mapping[str, Any], ...],
    words: jax.Array,
) -> dict[str, jax.Array]:
    key = random.wrap_key_data(words, impl="threefry2x32")
    arms = zip(simulators, blocks, shared, sites, strict=True)
    return combine(*[run(block, every, fixed, key) for run, block, every, fixed in arms])


def _map_draws(one_draw: Callable, draws: tuple, draw_chunk: int) -> Any:
    """Map over the draws; a remainder would be a second copy of the program."""
    if draw_chunk > 1:
        return jax.lax.map(draws_first(one_draw), draws, batch_size=draw_chunk)
    return jax.lax.map(one_draw, draws)
