"""A model's runs: one at a time, here or on a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import jax

from aimz_lab.errors import BusyError
from aimz_lab.inference.base import KernelModel
from aimz_lab.inference.run.displays import all_callbacks
from aimz_lab.inference.run.events import Callback, Run
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.run.loop import RunLoop
from aimz_lab.types import Progress


@dataclass(frozen=True)
class RunCall:
    """What a call asks of its run, whatever it is that runs.

    Attributes:
        callbacks: The user's listeners.
        progress: What to display.
        rng_key: Key of the call; ``None`` for the model's.
        blocking: Whether to run here and now.
    """

    callbacks: Iterable[Callback]
    progress: Progress
    rng_key: jax.Array | None
    blocking: bool

    def listeners(self) -> list[Callback]:
        """Return all that listen to the run; see :func:`all_callbacks`."""
        return all_callbacks(self.callbacks, self.progress)


class RunningModel(KernelModel):
    """A model that runs one thing at a time; see :class:`aimz_lab.ImpactModel`."""

    def _check_idle(self, method: str) -> None:
        if self._handle is not None and not self._handle.done:
            msg = (
                f"{method} has to wait while a run of this model is under way; wait() for its "
                "handle, or stop() it first."
            )
            raise BusyError(msg)

    def _carry_out(
        self,
        run: Run,
        loop: RunLoop,
        work: Callable[[], None],
        warn: Callable[[Run], None],
        *,
        blocking: bool,
    ) -> Self | RunHandle:
        """Run to the end here and warn of how it ended, or leave that to a thread."""
        if not blocking:
            return self._in_background(run, loop, work)
        work()
        warn(run)
        return self

    def _in_background(self, run: Run, loop: RunLoop, work: Callable[[], None]) -> RunHandle:
        """Begin here, where what listeners display has its place; train on a thread."""
        try:
            loop.begin()
        except BaseException as error:
            loop.fail(error)
            raise
        self._handle = RunHandle(self, run, work)
        return self._handle
