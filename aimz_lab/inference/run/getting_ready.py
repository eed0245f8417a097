"""Displays that are told what a call does before its first report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import ClassVar

from aimz_lab.inference.run.events import Callback, CallbackKind
from aimz_lab.preparing import Preparation, Preparing


class Display(Callback):
    """Base class of displays: callbacks that are told of a call before it has a run."""

    kind: ClassVar[CallbackKind] = "display"

    @property
    def shows_facts(self) -> bool:
        """Whether what it leaves in a notebook has the facts of the run, as the handle has."""
        return False

    def on_call_begin(self) -> None:
        """Called when the call begins, before it traces or compiles anything."""

    def on_preparing(self, preparing: Preparing) -> None:
        """Called while a call gets ready: what it does, and for how long so far.

        Twice a second, from 0.3 s on until the first steps are reported, on a thread of its own: a
        first call traces and compiles for seconds, before and after :meth:`on_fit_begin`. So does
        the first change of the learning rate during a run.
        """

    def on_refused(self) -> None:
        """Called if a call that got ready is refused: there will be no run."""


def preparation_for(name: str, callbacks: Iterable[Callback]) -> Preparation:
    """Return a preparation that tells the displays what a call does before its first report.

    Args:
        name: Name of the kernel.
        callbacks: The callbacks of the call.
    """
    displays = [callback for callback in callbacks if isinstance(callback, Display)]

    def tell(preparing: Preparing) -> None:
        for display in displays:
            display.on_preparing(preparing)

    return Preparation(name, tell if displays else None)


@contextlib.contextmanager
def getting_ready(name: str, callbacks: Iterable[Callback]) -> Iterator[None]:
    """Let displays tell what a fit does before its first report, from here on.

    The run of the fit ends that. If the fit is refused, displays take back what they showed.

    Args:
        name: Name of the kernel.
        callbacks: The callbacks of the fit.
    """
    displays = [callback for callback in callbacks if isinstance(callback, Display)]
    try:
        for display in displays:
            display.on_call_begin()
        preparation = preparation_for(name, displays)
        outcome = ", before the first step; the model is as it was"
        with preparation.under_way(), preparation.interrupted_in_words(outcome):
            yield
    except BaseException:
        take_back(displays)
        raise


def take_back(callbacks: Iterable[Callback]) -> None:
    """Let the displays among callbacks take back what they showed of a refused fit."""
    for callback in callbacks:
        if isinstance(callback, Display):
            callback.on_refused()
