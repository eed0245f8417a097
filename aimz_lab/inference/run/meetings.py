"""Where the processes of a run meet: before each chunk of steps, in a pause, and at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.team import Team, consequence, is_of_lost_process

_PAUSE_S = 0.2
"""Seconds between two questions whether a pause is over."""


class Meetings:
    """What the processes of a run decide together; a process that trains alone decides by itself.

    Args:
        team: The processes.
        run: The run, as this process has it.

    Attributes:
        control: The requests to handle: those to any of the processes, at the same step in all.
        steps: The length of the next chunk that the first process has chosen; ``None`` before that,
            or alone.
        lost_others: Whether the run ended because another process has failed or is gone; a device
            may then wait for it, and compute nothing any more.
    """

    def __init__(self, team: Team, run: Run) -> None:
        self._team, self._run = team, run
        self.control = run.control if team.is_alone else Control()
        self.steps: int | None = None
        self.lost_others = False

    def agree(self, steps: Callable[[], int], *, is_held: bool = False) -> None:
        """Take the requests to all processes, and the first one's length of a chunk.

        Args:
            steps: Returns the length that this process would choose.
            is_held: Whether the run is paused.
        """
        if self._team.is_alone:
            return
        mine = {"steps": steps(), "requests": self._run.control.take_requests()}
        each = self._team.gather(mine, "trains")
        self.steps = each[0]["steps"]
        requests = joined_requests([one["requests"] for one in each], is_held=is_held)
        self.control.follow(requests)
        self._run.control.share(requests)

    def wait_while_paused(self, steps: Callable[[], int]) -> None:
        """Block until the pause is over; any one process ends it.

        Args:
            steps: As for :meth:`agree`.
        """
        if self._team.is_alone:
            self._run.control.wait_while_paused()
            return
        while self.control.paused:
            self._run.control.wait_while_paused(_PAUSE_S)
            self.agree(steps, is_held=True)
        self._run.control.resume()

    def fail(self, error: BaseException) -> None:
        """Tell the others why this process fails.

        Args:
            error: The error that ends the run here.

        Raises:
            ClusterError: Instead of the error, if that came from a process that failed or is gone.
        """
        if self._team.is_alone:
            return
        is_of_lost = is_of_lost_process(error)
        self.lost_others = is_of_lost or getattr(error, "is_consequence", False)
        self._team.tell_failure(error)
        if not is_of_lost:
            return
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # it is gone with the first process
            self._team.look()
        msg = (
            f"Process {self._team.rank} lost another one of the {self._team.size} that train "
            f"together: {error}. Start them again with resume= and the last checkpoint; their "
            "number may be another."
        )
        raise consequence(msg) from error

    def end(self) -> None:
        """Meet at the end of a run: what the first process writes then is there in all.

        Raises:
            ClusterError: If another process has failed.
        """
        if self._run.status == "interrupted" and self.control.stop_request is None:
            self._team.tell_failure(KeyboardInterrupt(self._run.reason))
        else:
            self._team.gather(None, "ends its fit")


def joined_requests(each: Sequence[dict[str, Any]], *, is_held: bool) -> dict[str, Any]:
    """Return the requests to the controls of all processes as those to one.

    Args:
        each: What :meth:`Control.take_requests` returned, by rank.
        is_held: Whether the run is paused. Then any one process ends the pause.
    """
    paused = [one["paused"] for one in each]

    def first(name: str) -> Any:
        return next((one[name] for one in each if one[name] is not None), None)

    return {
        "stop": first("stop"),
        "paused": all(paused) if is_held else any(paused),
        "checkpoint": any(one["checkpoint"] for one in each),
        "learning_rate": first("learning_rate"),
    }
