"""Callbacks that record, stop, steer, save and measure a run; none needs a screen.

In: the events of a run. Out: requests to the run, files, and the table of a :class:`History`.
"""

from __future__ import annotations

from aimz_lab.lab.callbacks.checkpoints import ModelCheckpoint
from aimz_lab.lab.callbacks.compared_runs import compare, compare_runs
from aimz_lab.lab.callbacks.csv_logger import CSVLogger
from aimz_lab.lab.callbacks.history import History
from aimz_lab.lab.callbacks.lambda_callback import LambdaCallback
from aimz_lab.lab.callbacks.learning_rates import LearningRateScheduler, ReduceLROnPlateau
from aimz_lab.lab.callbacks.metrics import GradientNorm, ParamDrift
from aimz_lab.lab.callbacks.mlflow_logger import MLflowLogger
from aimz_lab.lab.callbacks.progress_line import ProgressLine
from aimz_lab.lab.callbacks.stopping import EarlyStopping, TerminateOnNaN

__all__ = [
    "CSVLogger",
    "EarlyStopping",
    "GradientNorm",
    "History",
    "LambdaCallback",
    "LearningRateScheduler",
    "MLflowLogger",
    "ModelCheckpoint",
    "ParamDrift",
    "ProgressLine",
    "ReduceLROnPlateau",
    "TerminateOnNaN",
    "compare",
    "compare_runs",
]
