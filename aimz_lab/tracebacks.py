"""Tracebacks and warnings that show the user's own lines, without those of this package between."""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
import types
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextvars import ContextVar

from aimz_lab.notices import show_as_notices

FULL = "AIMZ_LAB_FULL_TRACEBACKS"
"""Environment variable that keeps tracebacks whole, for those who look inside this package."""

_INSIDE = {
    *("aimz_lab", "jax", "jaxlib", "numpyro"),
    *("concurrent", "contextlib", "functools", "threading"),
}
_BETWEEN = _INSIDE | {
    *("arviz_base", "arviz_plots", "arviz_stats", "asyncio", "dask", "formulaic", "fsspec"),
    *("interface_meta", "numpy", "pandas", "traitlets", "xarray", "zarr"),
    *("csv", "json", "os", "pathlib", "shutil", "tempfile", "zipfile"),
}
"""What else may stand between a user's line and an error of this package."""

_INSTALLED = tuple(
    {sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
"""Folders of code that is no user's."""

_given: ContextVar[set[tuple[str, type[Warning]]] | None] = ContextVar("given", default=None)

_NOTE_OF_JAX = "JAX has removed its internal frames"


def shorten(
    error: BaseException, handled: BaseException | None, own: type | tuple[type, ...]
) -> None:
    """Leave the user's lines in a traceback that begins in this package.

    Of an error of this package, and of an interrupt, all other lines go, for its sentence says what
    they would. Of an error that the user's code raises, such as a callback or a kernel, those
    between go. A traceback without a line of the user's stays as it is: it is a defect, to be
    reported whole.

    Args:
        error: The error. What it was raised from is shortened as well; if that has no line of the
            user's, it is no longer shown, and stays reachable as ``__context__``.
        handled: The error that the caller was handling, which stays as it is.
        own: Base classes of this package's errors.
    """
    if os.environ.get(FULL):
        return
    _shorten_one(error, is_spoken=isinstance(error, (own, KeyboardInterrupt)))
    seen = {id(error), id(handled)}
    while (below := _shown_below(error)) is not None and id(below) not in seen:
        seen.add(id(below))
        if not _of(_steps(below.__traceback__), _BETWEEN):
            error.__cause__, error.__suppress_context__ = None, True
            return
        _shorten_one(below, is_spoken=True)
        error = below


def structured(error: BaseException) -> list[str]:
    """Return what IPython shows of an error, without the lines between the user's and its end.

    Args:
        error: An error of this package, wherever it was raised, such as in a tree's store.
    """
    if not os.environ.get(FULL):
        steps = list(_steps(error.__traceback__))
        first = next((at for at, step in enumerate(steps) if not _is_shells(step)), len(steps))
        error.__traceback__ = _joined([*steps[:first], *_of(steps[first:], _BETWEEN)])
    shell = sys.modules["IPython"].get_ipython()
    return shell.InteractiveTB.structured_traceback(
        type(error), error, error.__traceback__, tb_offset=shell.InteractiveTB.tb_offset
    )


@contextlib.contextmanager
def warning_once() -> Iterator[None]:
    """Let each warning of this package be given once within, however many steps have cause to."""
    token = _given.set(set())
    try:
        yield
    finally:
        _given.reset(token)


def is_warning_once() -> bool:
    """Whether a call around this one sees to it that a warning is given once."""
    return _given.get() is not None


def warn(message: str, category: type[Warning]) -> None:
    """Warn, with the user's line that called this package as the warning's place.

    A public call gives the same warning once: see :func:`warning_once`.

    Args:
        message: The warning.
        category: Its class.
    """
    given = _given.get()
    if given is not None:
        if (message, category) in given:
            return
        given.add((message, category))
    show_as_notices()
    frame, level = sys._getframe(1), 2
    while frame is not None and _module(frame) in _INSIDE:
        frame, level = frame.f_back, level + 1
    # On a thread of ours there is none of the user's.
    warnings.warn(message, category, stacklevel=2 if frame is None else level)


def _shorten_one(error: BaseException, *, is_spoken: bool) -> None:
    steps = list(_steps(error.__traceback__))
    users = _of(steps, _BETWEEN if is_spoken else _INSIDE)
    if isinstance(error, KeyboardInterrupt):  # it comes at any line, also of other libraries
        users = [step for step in users if not _is_installed(step.tb_frame)]
    if not users and not is_spoken:
        return
    rest = [] if is_spoken else steps[steps.index(users[-1]) + 1 :]
    error.__traceback__ = _joined([*users, *rest])
    notes = getattr(error, "__notes__", ())
    if any(_NOTE_OF_JAX in note for note in notes):
        error.__notes__ = [note for note in notes if _NOTE_OF_JAX not in note]


def _shown_below(error: BaseException) -> BaseException | None:
    """The error that Python shows above this one."""
    if error.__cause__ is not None or error.__suppress_context__:
        return error.__cause__
    return error.__context__


def _steps(step: types.TracebackType | None) -> Iterator[types.TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _joined(steps: Iterable[types.TracebackType]) -> types.TracebackType | None:
    joined = None
    for step in reversed(list(steps)):
        joined = types.TracebackType(joined, step.tb_frame, step.tb_lasti, step.tb_lineno)
    return joined


def _module(frame: types.FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def _is_installed(frame: types.FrameType) -> bool:
    """Whether code is of Python or of an installed package."""
    return frame.f_code.co_filename.startswith(("<frozen", *_INSTALLED))


def _of(
    steps: Iterable[types.TracebackType], without: Collection[str]
) -> list[types.TracebackType]:
    """The steps that are not in these packages."""
    return [step for step in steps if _module(step.tb_frame) not in without]


def _is_shells(step: types.TracebackType) -> bool:
    return _module(step.tb_frame) in ("IPython", "ipykernel")
