"""Owners of temporary directories, which go with their last reader."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path
from typing import ClassVar

from aimz_lab.system.interrupts import hold_interrupts, in_finalizer
from aimz_lab.system.leftovers import make_folder, remove_folder, remove_leftovers

_PREFIX = "aimz_lab-"


class Owner:
    """Owns a new temporary directory, removed when nothing refers to the owner any more.

    It also removes those of processes that were killed.

    Attributes:
        path: The directory.

    Raises:
        OSError: If it cannot be made.
    """

    alive: ClassVar[weakref.WeakSet[Owner]] = weakref.WeakSet()
    """The owners of all temporary directories of this process."""

    def __init__(self) -> None:
        parent = Path(tempfile.gettempdir())
        remove_leftovers(parent, _PREFIX)
        with hold_interrupts():
            self.path = make_folder(parent, _PREFIX, visible=False)
            self._finalizer = weakref.finalize(
                self, in_finalizer, _remove_own, self.path, os.getpid()
            )
            Owner.alive.add(self)

    def remove(self) -> None:
        """Remove the directory now; a later read from it raises :class:`ArtifactGoneError`."""
        with hold_interrupts():
            if self._finalizer.detach():
                _remove_own(self.path, os.getpid())
            Owner.alive.discard(self)


def _remove_own(path: Path, pid: int) -> None:
    """Remove a directory of this process; a forked one leaves it to its parent."""
    if pid == os.getpid():
        remove_folder(path)
