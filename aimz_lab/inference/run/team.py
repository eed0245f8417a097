"""The processes of a run that trains on several at once, and what they have to agree on.

All processes run the same compiled steps, in the same order. Whatever else decides what they do,
such as a clock, a user or the end of a stream, they tell each other before each chunk of steps.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import PyTree

from aimz_lab.errors import ClusterError
from aimz_lab.inference.run.roll_call import RollCall, lost_sentence
from aimz_lab.types import Array

_WAIT_MS = 1_000
"""Slices in which a process waits for others; between two it looks whether one has failed."""

_LOOK_S = 0.0002
"""Seconds between two looks at steps under way."""

_SHOWN = 40
"""Most characters of two values that a message shows."""

_GROUP = 64
"""What was told is forgotten in groups of this many rounds, since the service keeps it all."""

_LEAVE_S = 5.0
"""Seconds for which the first process waits for the others after a failure."""

_ROOT, _FAILED = "aimz_lab/rounds", "aimz_lab/failed"

_OF_LOST = ("gloo", "nccl", "connection closed", "connection reset", "socket closed", "unavailable")
"""What errors of collectives and of the coordination service say once a process is gone."""

_rounds = itertools.count()
"""Rounds of telling so far, of all runs: each has a name of its own."""

_roll_calls: list[RollCall] = []
"""Who asks which processes are there: one, or none if this process is alone."""

_failures: list[str] = []
"""What has failed, here or elsewhere, so that the processes cannot train together any more."""


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
        """Whether this is the first process, which reports and writes."""
        return self.rank == 0

    def check_alike(self, **facts: Any) -> None:
        """Check that all processes are about to train the same.

        Args:
            **facts: What has to agree, by name, of JSON's types.

        Raises:
            ClusterError: In all processes, if one differs from the first; it says which, in what.
        """
        first, *others = self.gather(facts, "compares what it is about to do")
        for rank, mine in enumerate(others, 1):
            names = [name for name in first | mine if mine.get(name) != first.get(name)]
            if not names:
                continue
            told = [_difference(name, mine.get(name), first.get(name)) for name in names]
            msg = (
                f"Process {rank} differs from the first one in its {' and '.join(told)}. "
                "All processes run the same script, with the same packages and arguments; each "
                "brings its share of each batch by itself."
            )
            raise ClusterError(msg)

    def gather(self, told: Any, doing: str) -> list[Any]:
        """Tell all processes something, and return what each of them tells, by rank.

        It costs about a millisecond, and returns once all processes have called it.

        Args:
            told: What this process tells, of JSON's types.
            doing: What it does, as a phrase; the others have to do the same.

        Raises:
            ClusterError: If another process has failed, is gone, or does something else.
        """
        if self.is_alone:
            return [json.loads(json.dumps(told))]
        each = self._round({"doing": doing, "told": told})
        for rank, one in enumerate(each):
            if one["doing"] != each[0]["doing"]:
                self.look()  # an error that the script has caught there says more
                msg = (
                    f"Process {rank} {one['doing']}, while the first one {each[0]['doing']}. All "
                    "processes call the same fits in the same order; one that catches an error "
                    "which the others do not have gets ahead of them."
                )
                raise consequence(msg)
        return [one["told"] for one in each]

    def _round(self, told: Any) -> list[Any]:
        # The collectives of JAX would have to stand in one order with the steps under way.
        store, number = _store(), next(_rounds)
        group = f"{_ROOT}/{number // _GROUP}"
        name, heard = f"{group}/{number}", f"{group}/{number}.all"
        with _refusing_the_lost():
            store.key_value_set(f"{name}/{self.rank}", json.dumps(told))
            if not self.leads:
                return json.loads(self._awaited(heard))
            for rank in range(1, self.size):
                self._awaited(f"{name}/{rank}")
            by_rank = {int(key.rpartition("/")[2]): v for key, v in store.key_value_dir_get(name)}
            each = [json.loads(by_rank[rank]) for rank in range(self.size)]
            store.key_value_set(heard, json.dumps(each))
            if number % _GROUP == _GROUP - 1 and number > _GROUP:  # nobody still reads it
                store.key_value_delete(f"{_ROOT}/{number // _GROUP - 1}")
            return each

    def wait(self, arrays: PyTree[jax.Array]) -> PyTree[jax.Array]:
        """Wait for arrays that all processes compute together.

        Raises:
            ClusterError: If another process has failed, and does not compute them.
        """
        if self.is_alone:
            return jax.block_until_ready(arrays)
        leaves, looked = jax.tree.leaves(arrays), time.monotonic()
        while not all(leaf.is_ready() for leaf in leaves):
            time.sleep(_LOOK_S)
            if time.monotonic() - looked > _WAIT_MS / 1000:
                self.look()
                looked = time.monotonic()
        return jax.block_until_ready(arrays)

    def tell_failure(self, error: BaseException) -> None:
        """Tell the others that this process fails, so that they end with a reason.

        Args:
            error: Why; what came from another process is not told again.
        """
        if self.is_alone or getattr(error, "is_consequence", False) or is_of_lost_process(error):
            return
        what = f"{type(error).__name__}: {error}"
        _failures.append(what)
        with contextlib.suppress(Exception):  # the others may be gone, and this one ends anyway
            _store().key_value_set(f"{_FAILED}/{self.rank}", what, allow_overwrite=True)

    def call_roll(self) -> None:
        """Begin to ask which processes are there; once, when they have joined."""
        if not self.is_alone:
            _roll_calls.append(RollCall(_store(), self.size, self.rank))

    @property
    def lost(self) -> frozenset[int]:
        """Processes that are gone, or do not answer any more."""
        return frozenset().union(*(roll.lost for roll in _roll_calls))

    def sentence_of_lost(self) -> str:
        """Say which process is lost, and what to do."""
        return lost_sentence(self.lost, self.size)

    def look(self) -> None:
        """Look whether another process has failed, or is gone.

        Raises:
            ClusterError: If one has; it says which one, and why.
        """
        failed = _store().key_value_dir_get(_FAILED)
        others = {int(key.rpartition("/")[2]): what for key, what in failed}
        others.pop(self.rank, None)
        if others:
            rank = min(others)
            msg = f"Process {rank} of {self.size} failed, and this one ends with it: {others[rank]}"
            raise consequence(msg)
        if self.lost:
            raise consequence(self.sentence_of_lost())

    def leave(self) -> None:
        """Say that this process ends; the first one waits for the others.

        What they tell each other lies in the first process. Without it, JAX ends the others at
        once, before they have said why. After a failure it waits for seconds only.
        """
        with contextlib.suppress(Exception):  # the others may be gone, and this one ends anyway
            for roll in _roll_calls:
                roll.leave(within_s=_LEAVE_S if has_failed() else None)

    def _awaited(self, name: str) -> str:
        """Return a value once it is there; the others may be paused for hours."""
        while True:
            try:
                return _store().blocking_key_value_get(name, _WAIT_MS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
                self.look()


def has_failed() -> bool:
    """Whether a process of the team has failed; JAX would then wait for it at the end."""
    return bool(_failures)


def consequence(message: str) -> ClusterError:
    """Return the error of a process that ends because another one has failed."""
    _failures.append(message)
    error = ClusterError(message)
    error.is_consequence = True
    return error


ALONE = Team()
"""This process, which agrees with nobody."""


@contextlib.contextmanager
def telling_failure(team: Team) -> Iterator[None]:
    """Tell the other processes of an error within the block: they wait for this one."""
    try:
        yield
    except BaseException as error:
        team.tell_failure(error)
        raise


@contextlib.contextmanager
def _refusing_the_lost() -> Iterator[None]:
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        msg = f"Another process of the run is gone: {error}"
        raise consequence(msg) from error


def is_of_lost_process(error: BaseException) -> bool:
    """Whether an error comes from a collective whose other side is gone."""
    said = str(error).lower()
    is_told = any(word in said for word in _OF_LOST)
    return isinstance(error, jax.errors.JaxRuntimeError | ValueError) and is_told


def _difference(name: str, mine: Any, first: Any) -> str:
    """Name what differs, with both values if they say something."""
    short = len(f"{mine}{first}") <= _SHOWN and not isinstance(mine, list | dict)
    return f"{name} ({mine} there, {first} in the first)" if short else name


def local(tree: PyTree[Array]) -> PyTree[Array]:
    """Return arrays that each process has whole as arrays of this process alone."""

    def one(leaf: Array) -> Array:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        return leaf.addressable_data(0)

    return jax.tree.map(one, tree)


def _store() -> Any:
    # JAX has no public way to its coordination service, which costs 0.2 ms a call.
    from jax._src.distributed import global_state

    return global_state.client
