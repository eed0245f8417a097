"""Import heavy packages where they are first needed, whole or not at all."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from types import ModuleType

from aimz_lab.system.interrupts import hold_interrupts


def late_import(name: str) -> ModuleType:
    """Import a module that takes a while; Ctrl-C waits until it is there.

    An import that is cut off leaves some of a package's modules behind, and the next one then
    fails for as long as the process lives.

    Args:
        name: Its full name.

    Raises:
        ImportError: If it is not installed.

    Example:
        >>> late_import("json.decoder").JSONDecoder.__name__
        'JSONDecoder'
    """
    if name in sys.modules:
        return importlib.import_module(name)
    with hold_interrupts():
        return importlib.import_module(name)


def import_in_background(*names: str) -> None:
    """Import modules on a thread, while this one waits for a compiler or a device.

    :func:`late_import` of one of them then waits for the rest of it. A module that is not there is
    left to those who need it.

    Args:
        *names: Their full names, in order.
    """
    if all(name in sys.modules for name in names):
        return

    def import_all() -> None:
        with contextlib.suppress(ImportError):
            for name in names:
                importlib.import_module(name)

    threading.Thread(target=import_all, name="aimz_lab-importing", daemon=True).start()
