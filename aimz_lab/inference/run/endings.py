"""Tell how a fit ended early, and what an interrupt stops besides it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

from aimz_lab.errors import FitWarning
from aimz_lab.inference.run.run import Run
from aimz_lab.notices import tell
from aimz_lab.system.running_cell import aborts_queued_cells, end_cell
from aimz_lab.tracebacks import warn
from aimz_lab.types import OnInterrupt

_LEFT_OUT = {
    True: 'The rest of this cell and the queued cells were left out; on_interrupt="continue" lets '
    "them run.",
    False: "The rest of this cell was left out, and the queued cells run on, as the cell has the "
    'tag raises-exception; on_interrupt="continue" lets all run.',
    None: 'The rest of this cell was left out; on_interrupt="continue" lets it run.',
}
"""What an interrupt left out, by :func:`aborts_queued_cells`."""

_is_part: contextvars.ContextVar[bool] = contextvars.ContextVar("aimz_lab_is_part", default=False)
"""Whether fits are parts of another call, which ends with them."""


@contextlib.contextmanager
def ended_by_interrupt(call: str) -> Iterator[None]:
    """Let an interrupt end a call that trains copies of a model, and say so in its words.

    Args:
        call: The call, such as ``"The check"``.

    Raises:
        KeyboardInterrupt: After an interrupt, also of a fit within.
    """
    token = _is_part.set(True)
    try:
        yield
    except KeyboardInterrupt:
        msg = f"{call} was interrupted; the model is as it was."
        raise KeyboardInterrupt(msg) from None
    finally:
        _is_part.reset(token)


def tell_end(run: Run, message: str | None, on_interrupt: OnInterrupt) -> None:
    """Say how a fit ended early, once the model has its result.

    Args:
        run: The run.
        message: A sentence; ``None`` says nothing.
        on_interrupt: What an interrupt stops; see :data:`aimz_lab.types.OnInterrupt`.

    Raises:
        KeyboardInterrupt: After an interrupt, with ``on_interrupt="raise"`` or as part of a call.

    Warns:
        FitWarning: With the message, where no cell is ended.
    """
    if message is None:
        return
    if run.status == "interrupted":
        if on_interrupt == "raise" or _is_part.get():
            raise KeyboardInterrupt(message)
        if on_interrupt == "stop" and _cell_ends(message):
            return
    with contextlib.suppress(KeyboardInterrupt):
        warn(message, FitWarning)


def tell_interrupt(run: Run, on_interrupt: OnInterrupt) -> None:
    """Say that the wait for a run was interrupted, or a loop that trains; the run has ended.

    Args:
        run: The run.
        on_interrupt: What the interrupt stops; see :data:`aimz_lab.types.OnInterrupt`.

    Raises:
        KeyboardInterrupt: With ``on_interrupt="raise"``.
    """
    message = f"The run has ended: {run.reason}."
    if on_interrupt == "raise":
        raise KeyboardInterrupt(message)
    if on_interrupt == "stop":
        _cell_ends(message)


def _cell_ends(message: str) -> bool:
    """End the cell that runs and say so; return whether there is one."""
    ends = end_cell(message)
    if ends:
        tell(f"{message} {_LEFT_OUT[aborts_queued_cells()]}")
    return ends
