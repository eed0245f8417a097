"""The examples of methods go on from that of :class:`aimz_lab.ImpactModel`, with its names."""

from __future__ import annotations

import doctest
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

import aimz_lab


@cache
def _fitted() -> Mapping[str, Any]:
    """What the example of the model class defines: its kernel, its data, and the fitted model."""
    names: dict[str, Any] = dict(vars(aimz_lab))
    for example in doctest.DocTestParser().get_examples(aimz_lab.ImpactModel.__doc__):
        exec(compile(example.source, "the example of ImpactModel", "single"), names)
    return {name: names[name] for name in ("jax", "np", "kernel", "svi", "X", "y", "im")}


@pytest.fixture(autouse=True)
def _names_of_the_model(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Put them where an example reads the model without having made one."""
    sources = [example.source for example in request.node.dtest.examples]
    reads_it = any("im." in source or "(im" in source for source in sources)
    if reads_it and not any("im = " in source for source in sources):
        doctest_namespace.update(_fitted())
