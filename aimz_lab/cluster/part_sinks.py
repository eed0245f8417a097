"""Sinks of a worker: draws that it sends back, and draws that it writes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aimz_lab.predictive.programs.parts import Span
from aimz_lab.predictive.results.regions import RegionWriter, StoreRegions


class Written:
    """Writes each compiled call to the store as it comes; a ``Sink`` of the engine."""

    def __init__(self, regions: StoreRegions) -> None:
        self._writer = RegionWriter(regions)

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leave all to :meth:`write`, which this thread does while others compute."""
        del span
        return values

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Write to regions of this part's own: chunks end where compiled calls do."""
        self._writer.write(span.first, values)


class Collected:
    """Keeps the parts of a result in order; a ``Sink`` of the engine."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {}

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copy a part, whose arrays are not valid afterwards."""
        del span
        return {name: value.copy() for name, value in values.items()}

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Keep a part."""
        del span
        for name, value in values.items():
            self._parts.setdefault(name, []).append(value)

    def arrays(self, axis: int) -> dict[str, np.ndarray]:
        """The sites, joined along ``axis``."""
        return {name: np.concatenate(parts, axis) for name, parts in self._parts.items()}
