"""Give latent sites of a traced kernel their draws, or mark them with bounds of their support."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from numpyro.handlers import substitute
from numpyro.primitives import Messenger

from aimz_lab.kernel.tracing import Message

_NAMES = {
    (False, False): "_latent_anywhere",
    (True, False): "_latent_above",
    (False, True): "_latent_below",
    (True, True): "_latent_between",
}
LATENT_CALLS = {name: known for known, name in _NAMES.items()}
"""Calls in a traced program that mark a latent value, and which of its bounds are known."""


def _call(name: str) -> Any:
    def same(value: ArrayLike, *sides: ArrayLike) -> ArrayLike:  # noqa: ARG001  only marks
        return value

    same.__name__ = same.__qualname__ = name
    return jax.jit(same)


_CALLS = {known: _call(name) for known, name in _NAMES.items()}


class mark_latents(Messenger):
    """Marks each value that is drawn, with the bounds of its support.

    Args:
        fn: The kernel.
        given: Names of sites that are not drawn.
    """

    def __init__(self, fn: Any, given: Collection[str]) -> None:
        self._given = frozenset(given)
        super().__init__(fn)

    def postprocess_message(self, msg: Message) -> None:
        """Mark the value of a latent site."""
        if msg["type"] != "sample" or msg["is_observed"] or msg["name"] in self._given:
            return
        value = msg["value"]
        if not isinstance(value, jax.Array) or jax.dtypes.issubdtype(
            value.dtype, jax.dtypes.extended
        ):
            return
        sides = [_side(side, value) for side in _bounds(msg["fn"])]
        known = sides[0] is not None, sides[1] is not None
        msg["value"] = _CALLS[known](value, *(value if side is None else side for side in sides))


def with_draws(kernel: Any, draws: Mapping[str, jax.Array]) -> Any:
    """The kernel with one draw of its latent sites; computed sites are computed again."""

    def drawn(site: Message) -> jax.Array | None:
        is_latent = site["type"] == "sample" and not site["is_observed"]
        return draws.get(site["name"]) if is_latent else None

    return substitute(kernel, substitute_fn=drawn) if draws else kernel


def _bounds(distribution: Any) -> tuple[Any, Any]:
    """The least and the greatest value of a distribution's support; ``None`` if there is none."""
    support = getattr(distribution, "support", None)
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    if type(support).__name__ in ("_Boolean", "_Simplex", "_UnitInterval"):
        return 0, 1
    return getattr(support, "lower_bound", None), getattr(support, "upper_bound", None)


def _side(bound: Any, value: jax.Array) -> jax.Array | None:
    if bound is None:
        return None
    try:
        return jnp.broadcast_to(jnp.asarray(bound).astype(value.dtype), value.shape)
    except (TypeError, ValueError):
        return None
