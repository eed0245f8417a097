"""Import heavy packages where they are first needed, whole or not at all."""

from __future__ import annotations

import importlib
import sys
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
