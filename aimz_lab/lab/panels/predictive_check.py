"""A live posterior predictive check: densities of observed and of replicated data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from aimz_lab.errors import DataError
from aimz_lab.inference.run.events import Run
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.traces import float32

N_BINS = 48

Replicate = Callable[[Run], tuple[ArrayLike, ArrayLike]]
"""Returns observed values, shape ``(row,)``, and replicated ones, shape ``(draw, row)``."""


class CheckPanel(Panel):
    """Densities of observed and replicated data, as of the last refresh.

    Args:
        replicate: Called with the run; returns the observed values, shape ``(row,)``, and the
            replicated ones, shape ``(draw, row)``.
    """

    name = "check"
    interval_s = 0.5

    def __init__(self, replicate: Replicate) -> None:
        self._replicate = replicate
        self._frame: Frame = {}

    def begin(self, run: Run) -> None:  # noqa: ARG002
        """Forget the last check."""
        self._frame = {}

    def refresh(self, run: Run) -> None:
        """Draw replicated data with the parameters as they are now."""
        observed, replicated = self._replicate(run)
        self._frame = {"epoch": run.epoch, "step": run.step, **densities(observed, replicated)}

    def frame(self, run: Run) -> Frame:  # noqa: ARG002
        """Describe the last check; empty before the first."""
        return self._frame


def densities(observed: ArrayLike, replicated: ArrayLike) -> Frame:
    """Histogram densities on common bins, and the share of replicated means below the observed.

    Args:
        observed: Shape ``(row,)``, or any that ``replicated`` has after its first axis.
        replicated: Shape ``(draw, row)``.

    Raises:
        DataError: If nothing is observed, or the draws are not an axis in front.
    """
    y = np.asarray(observed, np.float64).reshape(-1)
    replicates = np.asarray(replicated, np.float64)
    if y.size == 0 or replicates.ndim < 2:
        msg = (
            "A predictive check needs observed values, shape (row,), and replicated ones, shape "
            f"(draw, row); got shapes {np.shape(observed)} and {np.shape(replicated)}."
        )
        raise DataError(msg)
    replicates = replicates.reshape(len(replicates), -1)
    # All but the rarest values, which would squeeze the picture.
    ends = [np.nanquantile(values, [0.002, 0.998]) for values in (y, replicates)]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    edges = np.linspace(low, high if high > low else low + 1.0, N_BINS + 1)
    by_draw = np.stack([_density(row, edges) for row in replicates])
    return {
        "low": float(edges[0]),
        "high": float(edges[-1]),
        "observed": float32(_density(y, edges)),
        "replicated": float32(by_draw.mean(axis=0)),
        "band": [float32(np.quantile(by_draw, q, axis=0)) for q in (0.05, 0.95)],
        "n_draws": len(replicates),
        "mean_below": float(np.mean(replicates.mean(axis=1) < y.mean())),
    }


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts, _ = np.histogram(values, edges)
    return counts / (max(values.size, 1) * (edges[1] - edges[0]))
