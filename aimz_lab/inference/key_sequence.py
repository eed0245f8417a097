"""The random keys of a model's calls, each derived from the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from aimz_lab.data import as_typed_key, derive_key


class CallKeys:
    """The keys of one call, which no other call gets.

    Args:
        sequence: The sequence that they are from.
        before: Its key before the call.
        after: Its key after the call; the same one for a call with a key of its own.
        keys: The keys.

    Attributes:
        keys: The keys.
    """

    def __init__(
        self,
        sequence: KeySequence,
        before: jax.Array,
        after: jax.Array,
        keys: tuple[jax.Array, ...],
    ) -> None:
        self.keys = keys
        self._sequence, self._before, self._after = sequence, before, after
        self._are_used_up = False

    def use_up(self) -> None:
        """Keep them from other calls, even if the call raises."""
        self._are_used_up = True

    def give_back(self, *, used: bool = False) -> None:
        """Let the next call have them, unless another call got later ones.

        Args:
            used: Even if they are used up.
        """
        if used or not self._are_used_up:
            self._sequence.step_back(self._after, self._before)


class KeySequence:
    """Gives each call keys of its own, on any thread; a refused call uses up none.

    Args:
        rng_key: The key from which the first call derives its own.
    """

    def __init__(self, rng_key: jax.Array) -> None:
        self.key: jax.Array = as_typed_key(rng_key)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[KeySequence], tuple[jax.Array]]:
        return KeySequence, (self.key,)

    @contextmanager
    def for_call(self, given: jax.Array | None, count: int = 1) -> Iterator[CallKeys]:
        """Provide keys for one call, derived from its own ``given`` key or from the sequence.

        If the block raises, they are given back.
        """
        taken = self._take(given, count)
        try:
            yield taken
        except BaseException:
            taken.give_back()
            raise

    @contextmanager
    def one(self, given: jax.Array | None) -> Iterator[jax.Array]:
        """Provide the key of one call: the ``given`` key itself, or one as of :meth:`for_call`."""
        if given is not None:
            yield as_typed_key(given)
            return
        with self.for_call(None) as taken:
            yield taken.keys[0]

    @contextmanager
    def on_demand(self) -> Iterator[Callable[[], jax.Array]]:
        """Provide a function that returns a new key; if the block raises, all are given back."""
        taken: list[CallKeys] = []

        def take() -> jax.Array:
            taken.append(self._take(None, 1))
            return taken[-1].keys[0]

        try:
            yield take
        except BaseException:
            for each in reversed(taken):
                each.give_back()
            raise

    def _take(self, given: jax.Array | None, count: int) -> CallKeys:
        with self._lock:
            before = self.key
            if given is None:
                self.key = derive_key(before, 1)
            after = self.key
        base = before if given is None else as_typed_key(given)
        return CallKeys(self, before, after, tuple(derive_key(base, 0, i) for i in range(count)))

    def step_back(self, after: jax.Array, before: jax.Array) -> None:
        """Return to the key ``before``, if the sequence is still at ``after``."""
        with self._lock:
            if self.key is after:
                self.key = before
