"""Callbacks that measure the gradient of each step and the drift of the parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.inference.run.events import Callback, Run

if TYPE_CHECKING:
    import pandas as pd


LEAST_KEPT = 10_000
"""Measurements of the drift that are kept at least; twice as many at most."""


@public
class GradientNorm(Callback):
    """Records the norm of each step's gradient: ``run.column("grad_norm")``.

    It is the Euclidean norm over all unconstrained parameters, of the loss in nats.

    Example:
        >>> _ = im.fit(X, y, epochs=5, progress=False, callbacks=[GradientNorm()])
        >>> im.last_run.column("grad_norm").shape
        (5,)
    """

    needs_loss = True
    kind = "metric"
    every_epoch = False
    metrics = ("grad_norm",)


@public
class ParamDrift(Callback):
    """Measures how far each parameter moves in an epoch, in units of the guide's scale.

    A location with a scale (``auto_loc`` and ``auto_scale``, ``beta_loc`` and ``beta_scale``, a
    ``scale_tril``) moves in standard deviations, and a scale in factors of e. Any other parameter
    moves in its own unit. Each number is the root mean square over the parameter's entries. A guide
    that has settled drifts by much less than 1 an epoch.

    It keeps at least the newest 10,000 measurements; in a long run, measure every few epochs.

    Args:
        every: Epochs from one measurement to the next.

    Attributes:
        epochs: Epochs that were measured.
        drifts: For each of them, the drift of each parameter since the previous one.

    Raises:
        ArgumentError: If ``every`` is not a positive int.

    Example:
        >>> drift = ParamDrift(every=2)
        >>> _ = im.fit(X, y, epochs=4, progress=False, callbacks=[drift])
        >>> drift.to_frame().shape
        (2, 2)
    """

    needs_loss = True
    kind = "metric"

    def __init__(self, every: int = 1) -> None:
        self._every = check_positive_int("every", every)
        self.epochs: list[int] = []
        self.drifts: list[dict[str, float]] = []
        self._before: dict[str, np.ndarray] = {}

    def on_fit_begin(self, run: Run) -> None:
        """Keep the parameters."""
        self.epochs, self.drifts = [], []
        self._before = _on_host(run.params)

    def on_epoch_end(self, run: Run, epoch: int) -> None:
        """Measure."""
        if epoch % self._every:
            return
        now = _on_host(run.params)
        self.epochs.append(epoch)
        self.drifts.append(drift(self._before, now))
        if len(self.epochs) == 2 * LEAST_KEPT:
            del self.epochs[:LEAST_KEPT], self.drifts[:LEAST_KEPT]
        self._before = now

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a row for each measured epoch and a column for each parameter."""
        import pandas as pd

        return pd.DataFrame(self.drifts, index=pd.Index(self.epochs, name="epoch"))


def drift(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, float]:
    """Return how far each parameter moved: the root mean square over its entries.

    Args:
        before: Constrained parameters by name.
        now: The same parameters later; their scales are the unit.

    Example:
        >>> drift({"b_loc": [1.0], "b_scale": [0.5]}, {"b_loc": [2.0], "b_scale": [0.5]})
        {'b_loc': 2.0, 'b_scale': 0.0}
    """
    before, now = _on_host(before), _on_host(now)
    return {name: _rms(_moved(name, before, now)) for name in now}


def _moved(name: str, before: Mapping[str, np.ndarray], now: Mapping[str, np.ndarray]) -> Any:
    scale = _scale_of(name, now)
    if scale is not None:
        return (now[name] - before[name]) / scale
    if name.endswith("scale") and (before[name] > 0).all() and (now[name] > 0).all():
        return np.log(now[name] / before[name])
    return now[name] - before[name]


def _scale_of(name: str, params: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """The standard deviations of a location, by the names of NumPyro's guides."""
    if not name.endswith("loc"):
        return None
    stem = name.removesuffix("loc")
    shape = params[name].shape
    if (scale := params.get(f"{stem}scale")) is not None and scale.shape == shape:
        factor = params.get(f"{stem}cov_factor")
        # AutoLowRankMultivariateNormal: scale**2 (1 + rows of the factor squared).
        return scale if factor is None else scale * np.sqrt(1 + (factor**2).sum(axis=-1))
    tril = params.get(f"{stem}scale_tril")
    if tril is not None and tril.shape[:-1] == shape:
        return np.sqrt((tril**2).sum(axis=-1))
    return None


def _on_host(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float64) for name, value in params.items()}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if np.size(values) else 0.0
