"""The processes of a run that trains on several at once, and what they have to agree on.

All processes run the same compiled steps, in the same order. What depends on a clock or on a user,
such as the length of a chunk or a stop, is decided by the first process, and the others follow.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import PyTree

from aimz_lab.errors import ClusterError
from aimz_lab.types import Array

_WAIT_MS = 10_000
"""Slices in which a process waits for the first one, which may be paused for hours."""

_SHOWN = 40
"""Most characters of two values that a message shows."""

_numbers = itertools.count()
"""Decisions so far, of all runs: each has a name of its own."""


@dataclass(frozen=True)
class Team:
    """The processes of a run.

    Attributes:
        size: Number of processes.
        rank: Number of this process, from 0.
    """

    size: int = 1
    rank: int = 0

    @classmethod
    def of_all(cls) -> Team:
        """Return the team of all processes that JAX knows of."""
        return cls(jax.process_count(), jax.process_index())

    @property
    def is_alone(self) -> bool:
        """Whether there is one process only."""
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which decides, reports and writes."""
        return self.rank == 0

    def check_alike(self, **facts: Any) -> None:
        """Check that all processes are about to train the same.

        Args:
            **facts: What has to agree, by name, of JSON's types.

        Raises:
            ClusterError: In a process that differs from the first one; it says in what.
        """
        mine = json.loads(json.dumps(facts))
        first = self.agree(mine)
        others = [name for name in first | mine if mine.get(name) != first.get(name)]
        if others:
            told = [_difference(name, mine.get(name), first.get(name)) for name in others]
            msg = (
                f"Process {self.rank} differs from the first one in its {' and '.join(told)}. "
                "All processes run the same script on the same data; each brings its share of each "
                "batch by itself."
            )
            raise ClusterError(msg)

    def agree(self, decision: Any) -> Any:
        """Return the first process's decision on all processes.

        Args:
            decision: This process's decision, of JSON's types.

        Raises:
            ClusterError: If the first process is gone.
        """
        if self.is_alone:
            return decision
        # The collectives of JAX would have to stand in one order with the steps under way.
        store = _store()
        name = f"aimz_lab/{next(_numbers)}"
        if self.leads:
            store.key_value_set(name, json.dumps(decision))
            return decision
        while True:
            try:
                return json.loads(store.blocking_key_value_get(name, _WAIT_MS))
            except Exception as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    msg = f"The first process of the run is gone: {error}"
                    raise ClusterError(msg) from error


ALONE = Team()
"""This process, which agrees with nobody."""


def _difference(name: str, mine: Any, first: Any) -> str:
    """Name what differs, with both values if they say something."""
    short = len(f"{mine}{first}") <= _SHOWN and not isinstance(mine, list | dict)
    return f"{name} ({mine} here, {first} there)" if short else name


def local(tree: PyTree[Array]) -> PyTree[Array]:
    """Return arrays that each process has whole as arrays of this process alone."""

    def one(leaf: Array) -> Array:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)


def _store() -> Any:
    # JAX has no public way to its coordination service, which costs 0.2 ms a decision.
    from jax._src.distributed import global_state

    return global_state.client
