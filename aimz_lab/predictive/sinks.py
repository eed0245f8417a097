"""Where results are put together in host memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aimz_lab.predictive.engine import Span


class MemorySink:
    """Puts the parts of a result together in host memory.

    Args:
        n_draws: Number of draws.
        n_rows: Number of rows; ``None`` if only the end will tell. Then the parts are kept and
            joined, which takes their memory twice for a moment.
    """

    def __init__(self, n_draws: int, n_rows: int | None) -> None:
        self._shape = n_draws, n_rows
        self._whole: dict[str, np.ndarray] = {}
        self._parts: dict[str, list[np.ndarray]] = {}

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Copy a part to its place."""
        where = (slice(None),) * span.axis + (slice(span.first, span.first + span.count),)
        for name, value in values.items():
            if self._shape[1] is None:
                self._parts.setdefault(name, []).append(value.copy())
                continue
            if name not in self._whole:
                self._whole[name] = np.empty((*self._shape, *value.shape[2:]), value.dtype)
            self._whole[name][where] = value

    def arrays(self) -> dict[str, np.ndarray]:
        """The results, with draws and rows leading."""
        while self._parts:
            name, parts = self._parts.popitem()
            self._whole[name] = np.concatenate(parts, axis=1)
        return self._whole
