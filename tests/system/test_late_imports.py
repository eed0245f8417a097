"""Modules that are imported when they are first used, or on a thread."""

from __future__ import annotations

import pickle
import sys
import threading

import pytest

from aimz_lab.system.imports import import_in_background, late_import
from aimz_lab.system.lazy_modules import LazyModule


def test_a_lazy_module_is_imported_by_its_first_attribute(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    lazy = pickle.loads(pickle.dumps(LazyModule("colorsys")))
    assert "colorsys" not in sys.modules
    assert lazy.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert lazy.rgb_to_hsv is sys.modules["colorsys"].rgb_to_hsv
    with pytest.raises(AttributeError, match="'colorsys' has no attribute 'nothing'"):
        _ = lazy.nothing


def test_a_thread_imports_what_is_there_and_leaves_the_rest_to_those_who_need_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    import_in_background("colorsys", "no_such_module")
    for thread in threading.enumerate():
        if thread.name == "aimz_lab-importing":
            thread.join()
    assert late_import("colorsys") is sys.modules["colorsys"]
    with pytest.raises(ImportError):
        late_import("no_such_module")
