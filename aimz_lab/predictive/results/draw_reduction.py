"""Reduce rows draw by draw, where all rows of a call are computed together."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import jax
import numpy as np

from aimz_lab.predictive.programs.parts import Span
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.reduction import Reduction


class DrawReduction:
    """Reduces some draws of all rows at a time, so that no draws are kept; a ``Sink``.

    Args:
        reducers: Reducers over rows, by name.
    """

    def __init__(self, reducers: Mapping[str, Reducer]) -> None:
        self._reducers = reducers
        self._reduce = jax.jit(Reduction(reducers).on_device)
        self._parts: dict[int, dict[str, dict[str, np.ndarray]]] = {}
        self._adding = threading.Lock()

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Reduce a part of the draws."""
        part = Reduction(self._reducers)
        part.reduce_all(values, self._reduce)
        with self._adding:
            self._parts[span.first] = part.results()
        return {}

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Do nothing: the part was reduced where it was computed."""

    def results(self) -> dict[str, dict[str, np.ndarray]]:
        """The results by site and reducer, ``(S, ...)``."""
        parts = [self._parts[first] for first in sorted(self._parts)]
        return {
            site: {name: np.concatenate([part[site][name] for part in parts]) for name in found}
            for site, found in (parts[0] if parts else {}).items()
        }
