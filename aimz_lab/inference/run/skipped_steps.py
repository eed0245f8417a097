"""Steps that were left out as they were not finite, and whether they are too many."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Int

from aimz_lab.inference.run.smoothing import following_steps
from aimz_lab.number_text import count

_LEAST_TAKEN = 0.1
"""Share of the steps; a training that took fewer has not trained."""


def are_too_many(done: int, skipped: int, last: int, steps_per_epoch: int | None) -> bool:
    """Whether hardly any step was taken, or none of the last ones, as many as judge a state.

    Args:
        done: Steps, with those that were skipped.
        skipped: Steps that were skipped.
        last: The last ones of them in a row, up to the end.
        steps_per_epoch: Steps of an epoch; ``None`` if unknown.

    Example:
        >>> are_too_many(300, 299, 20, 20), are_too_many(300, 10, 0, 20)
        (True, False)
    """
    return last >= following_steps(steps_per_epoch) or done - skipped < _LEAST_TAKEN * done


@dataclass(frozen=True)
class StepsByHand:
    """Counts of the steps of a hand-written loop, which nobody has to wait for.

    Attributes:
        done: Steps, with those that were skipped.
        skipped: Steps that were skipped.
        last: The last ones of them in a row.
    """

    done: int = 0
    skipped: Int[jax.Array, ""] | int = 0
    last: Int[jax.Array, ""] | int = 0

    def then(self, ok: jax.Array | None) -> StepsByHand:
        """Count one more step.

        Args:
            ok: Whether it was taken, on the device; ``None`` if that is known.
        """
        if ok is None:
            return StepsByHand(self.done + 1, self.skipped)
        return StepsByHand(self.done + 1, *_counted(self.skipped, self.last, ok))

    @property
    def ending(self) -> str:
        """How they ended, if their state is not to be used; else empty. Waits for them."""
        skipped, last = int(self.skipped), int(self.last)
        if not are_too_many(self.done, skipped, last, None):
            return ""
        return (
            f"skipped {count(skipped)} of {count(self.done)} steps, as their loss or parameters "
            "were not finite"
        )


@jax.jit
def _counted(skipped: jax.Array, last: jax.Array, ok: jax.Array) -> tuple[jax.Array, jax.Array]:
    return skipped + ~ok, jnp.where(ok, 0, last + 1)
