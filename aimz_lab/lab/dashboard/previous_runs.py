"""Loss curves of the previous runs of a kernel in this process, for comparison."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any
from weakref import WeakSet

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.live_runs import number_of
from aimz_lab.lab.record import loss_trace

_KEPT_RUNS = 4
_KEPT_MODELS = 32


_lock = threading.Lock()
_by_model: dict[tuple[str, str], deque[dict[str, Any]]] = {}
_remembered: WeakSet[Run] = WeakSet()


def remember(run: Run) -> None:
    """Keep the curve of a finished run once, however many display it; drop the oldest ones."""
    if run.step < 2 or run.info.is_sampling or run in _remembered:
        return
    _remembered.add(run)
    shown = described(run, f"run {number_of(run)}, {time.strftime('%H:%M')}")
    name = run.info.model, run.info.outcome
    with _lock:
        kept = _by_model.pop(name, None) or deque(maxlen=_KEPT_RUNS)
        kept.append(shown)
        _by_model[name] = kept  # the latest model comes last
        while len(_by_model) > _KEPT_MODELS:
            _by_model.pop(next(iter(_by_model)))


def frame(run: Run) -> dict[str, Any]:
    """Describe the previous runs of this run's kernel and outcome, oldest first.

    Losses of another outcome, such as ``log(y)`` instead of ``y``, do not compare with its own.
    """
    if run.info.is_sampling:
        return {"runs": []}
    with _lock:
        kept = list(_by_model.get((run.info.model, run.info.outcome), ()))
    return {"runs": kept}


def described(run: Run, label: str) -> dict[str, Any]:
    """Describe the loss of a run for the page of another one.

    Args:
        run: The run.
        label: Its name in the legend.
    """
    return {
        "label": label,
        "n_obs": run.info.n_obs,
        "averaged_epoch": run.info.averaged_epoch,
        "trace": loss_trace(run).frame(),
    }


def forget() -> None:
    """Drop every curve that was kept."""
    with _lock:
        _by_model.clear()
