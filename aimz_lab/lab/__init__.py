"""Watch, steer and keep a training run: dashboard, monitor of your own loops, histories.

Importing it loads no widget and no plotting library; those come when something is shown.
"""

from __future__ import annotations

from aimz_lab.lab.callbacks import CSVLogger, History, LambdaCallback, ProgressLine, compare
from aimz_lab.lab.dashboard import LiveDashboard, default_display
from aimz_lab.lab.figures import loss_figure
from aimz_lab.lab.monitor import Watch, monitor
from aimz_lab.lab.replay import show
from aimz_lab.lab.summary import summary_html, summary_text

__all__ = [
    "CSVLogger",
    "History",
    "LambdaCallback",
    "LiveDashboard",
    "ProgressLine",
    "Watch",
    "compare",
    "default_display",
    "loss_figure",
    "monitor",
    "show",
    "summary_html",
    "summary_text",
]
