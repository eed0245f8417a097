"""Watch, steer and record a run: dashboard, monitor of hand-written loops, histories, pictures.

In: the events of a run. Out: displays, requests to the run, files and pictures. Importing it loads
no widget and no plotting library; those are imported when something is shown.
"""

from __future__ import annotations

from aimz_lab.lab.cache import enable_compilation_cache
from aimz_lab.lab.callbacks import (
    CSVLogger,
    EarlyStopping,
    GradientNorm,
    History,
    LambdaCallback,
    LearningRateScheduler,
    MLflowLogger,
    ModelCheckpoint,
    ParamDrift,
    ProgressLine,
    ReduceLROnPlateau,
    TerminateOnNaN,
    compare,
)
from aimz_lab.lab.dashboard.dashboard import LiveDashboard, default_display
from aimz_lab.lab.dashboard.replay import show
from aimz_lab.lab.dashboard.running import RunningRuns, running
from aimz_lab.lab.monitor import Watch, monitor
from aimz_lab.lab.pictures.effect_plots import plot_effect
from aimz_lab.lab.pictures.figures import loss_figure
from aimz_lab.lab.pictures.posterior_plots import (
    plot_forest,
    plot_posterior,
    plot_ppc,
    plot_prior_posterior,
)
from aimz_lab.lab.pictures.shown import show_figure
from aimz_lab.lab.pictures.summary import summary_html, summary_text
from aimz_lab.lab.pictures.trust_plots import plot_trust
from aimz_lab.lab.pictures.uplift_plots import plot_uplift

__all__ = [
    "CSVLogger",
    "EarlyStopping",
    "GradientNorm",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "LiveDashboard",
    "MLflowLogger",
    "ModelCheckpoint",
    "ParamDrift",
    "ProgressLine",
    "ReduceLROnPlateau",
    "RunningRuns",
    "TerminateOnNaN",
    "Watch",
    "compare",
    "default_display",
    "enable_compilation_cache",
    "loss_figure",
    "monitor",
    "plot_effect",
    "plot_forest",
    "plot_posterior",
    "plot_ppc",
    "plot_prior_posterior",
    "plot_trust",
    "plot_uplift",
    "running",
    "show",
    "show_figure",
    "summary_html",
    "summary_text",
]
