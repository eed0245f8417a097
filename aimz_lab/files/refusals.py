"""Refusals of files, and the one place that turns them into errors of the package."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from aimz_lab.errors import AimzLabError


class Malformed(ValueError):
    """What was read is not what it should be; the message is a clause that names the field."""


@contextlib.contextmanager
def refusing(what: str | os.PathLike[str], error: type[AimzLabError], hint: str = "") -> Iterator:
    """Raise ``error`` for what a block finds malformed or cannot read.

    It catches refusals and failures of reading alone, so that a mistake in the code stays visible.

    Args:
        what: The file, as the subject of the sentence; the refusal follows after a colon.
        error: The error to raise.
        hint: A sentence that says what to do.
    """
    try:
        yield
    except (Malformed, OSError, MemoryError) as cause:
        found = str(cause) if isinstance(cause, Malformed) else f"{type(cause).__name__}: {cause}"
        msg = f"{what}: {found}.{' ' if hint else ''}{hint}"
        raise error(msg) from cause
