"""The panels of a dashboard, by the kind of run, and the facts in its header."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.live_runs import number_of
from aimz_lab.inference.run.run_words import method_words
from aimz_lab.lab.panels import (
    ConvergencePanel,
    LossPanel,
    PaddingPanel,
    Panel,
    ParametersPanel,
    ProgressPanel,
    SamplingPanel,
    TracePanel,
)


def panels_of(run: Run, display_s: Callable[[], float] = lambda: 0.0) -> list[Panel]:
    """Return the panels that show a run of this kind.

    Args:
        run: The run.
        display_s: Returns the seconds that the display itself took so far.
    """
    if run.info.is_sampling:
        own = [TracePanel(), SamplingPanel(), ConvergencePanel()]
    else:
        own = [LossPanel(), PaddingPanel(), ParametersPanel()]
    return [ProgressPanel(display_s), *own]


def meta(run: Run) -> dict[str, Any]:
    """Describe what is known of a run before its first step."""
    info = run.info
    return {
        "model": info.model,
        "number": run.number if run.finished else number_of(run),
        "method": method_words(info.method),
        "n_obs": info.n_obs,
        "batch_size": info.batch_size,
        "epochs": info.epochs,
        "has_all_rows_each_step": info.has_all_rows_each_step,
        "scaled": info.scaled,
        "is_sampling": info.is_sampling,
    }
