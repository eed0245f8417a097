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
    compare_runs,
)
from aimz_lab.lab.dashboard.dashboard import LiveDashboard, default_display
from aimz_lab.lab.dashboard.replay import show
from aimz_lab.lab.dashboard.running import RunningRuns, running
from aimz_lab.lab.explorers.effect_explorer import explore_effect
from aimz_lab.lab.explorers.explorer import Explorer
from aimz_lab.lab.explorers.loader_explorer import explore_loader
from aimz_lab.lab.explorers.model_explorer import explore_model
from aimz_lab.lab.explorers.prediction_checks import PredictionChecks, prediction_checks
from aimz_lab.lab.explorers.predictions import explore_predictions
from aimz_lab.lab.explorers.prior import explore_prior
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
    "Explorer",
    "GradientNorm",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "LiveDashboard",
    "MLflowLogger",
    "ModelCheckpoint",
    "ParamDrift",
    "PredictionChecks",
    "ProgressLine",
    "ReduceLROnPlateau",
    "RunningRuns",
    "TerminateOnNaN",
    "Watch",
    "compare",
    "compare_runs",
    "default_display",
    "enable_compilation_cache",
    "explore_effect",
    "explore_loader",
    "explore_model",
    "explore_predictions",
    "explore_prior",
    "loss_figure",
    "monitor",
    "plot_effect",
    "plot_forest",
    "plot_posterior",
    "plot_ppc",
    "plot_prior_posterior",
    "plot_trust",
    "plot_uplift",
    "prediction_checks",
    "running",
    "show",
    "show_figure",
    "summary_html",
    "summary_text",
]
