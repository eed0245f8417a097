"""A callback made of plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from aimz_lab.calls import public
from aimz_lab.data.options import check_callable
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.run.events import Callback


@public
class LambdaCallback(Callback):
    """Calls plain functions on the events of a run.

    Args:
        **functions: Functions by the name of their event; they take the arguments of the event:
            ``on_epoch_end=lambda run, epoch: ...``.

    Raises:
        ArgumentError: If there is no event of such a name, or what is called is no function.

    Example:
        >>> LambdaCallback(on_fit_end=lambda run: print(run.status)).kind
        'user'
    """

    def __new__(cls, **functions: Callable[..., None]) -> Self:
        """Make a class that overrides these events alone, so that no other one is called."""
        _check_events(functions)
        for event, function in functions.items():
            check_callable(event, function, "of the event's arguments")
        events = {name: _ignoring_self(function) for name, function in functions.items()}
        return super().__new__(type(cls.__name__, (cls,), {"__module__": __name__, **events}))

    def __init__(self, **functions: Callable[..., None]) -> None:
        self.functions = functions


def _ignoring_self(function: Callable[..., None]) -> Callable[..., None]:
    def event(self: Callback, *args: Any) -> None:  # noqa: ARG001
        function(*args)

    return event


def _check_events(names: Iterable[str]) -> None:
    known = [name for name in vars(Callback) if name.startswith("on_")]
    if unknown := sorted(set(names) - set(known)):
        msg = f"There is no event {unknown[0]!r}; use one of {', '.join(known)}."
        raise ArgumentError(msg)
