"""The random keys of a model's calls, each derived from the one before."""

from __future__ import annotations

import jax

from aimz_lab.data import as_typed_key, derive_key


class KeySequence:
    """Gives each call a key of its own; a refused call uses up none.

    Args:
        rng_key: The key from which the first call derives its own.
    """

    def __init__(self, rng_key: jax.Array) -> None:
        self.key: jax.Array = as_typed_key(rng_key)

    def split(self, given: jax.Array | None, count: int) -> tuple[jax.Array, ...]:
        """Return ``count`` keys for one call, from its own ``given`` key or from the sequence."""
        key = derive_key(self.key if given is None else as_typed_key(given), 0)
        return tuple(derive_key(key, number) for number in range(count))

    def one(self, given: jax.Array | None) -> jax.Array:
        """Return the ``given`` key itself, or one from the sequence."""
        return self.split(None, 1)[0] if given is None else as_typed_key(given)

    def advance(self, given: jax.Array | None) -> None:
        """Move on, after a call without a ``given`` key has passed its checks."""
        if given is None:
            self.key = derive_key(self.key, 1)

    def take(self) -> jax.Array:
        """Return one key and move on."""
        key = self.split(None, 1)[0]
        self.advance(None)
        return key
