"""Interactive Bayesian modelling with NumPyro: train while you watch, then ask what if."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimz_lab import errors
from aimz_lab.data import ArrayDataset, ArrayLoader
from aimz_lab.effects import summarize_effect
from aimz_lab.errors import (
    AimzWarning,
    FitWarning,
    KernelValidationError,
    NotFittedError,
    OutputWarning,
    PerformanceWarning,
)
from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.run.events import Callback, Control, Run, RunInfo, StepInfo, Steps
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.run.rates import settable_rate
from aimz_lab.predictive import Exceeds, Hdi, Loo, Mean, Quantiles, open_results
from aimz_lab.tables.table_call import tables_module
from aimz_lab.version import __version__ as __version__

if TYPE_CHECKING:
    from aimz_lab.tables.table_spec import TableSpec

__all__ = [
    "AimzWarning",
    "ArrayDataset",
    "ArrayLoader",
    "Callback",
    "Control",
    "Exceeds",
    "FitWarning",
    "Hdi",
    "ImpactModel",
    "KernelValidationError",
    "Loo",
    "Mean",
    "NotFittedError",
    "OutputWarning",
    "PerformanceWarning",
    "Quantiles",
    "Run",
    "RunHandle",
    "RunInfo",
    "StepInfo",
    "Steps",
    "TableSpec",
    "errors",
    "open_results",
    "settable_rate",
    "summarize_effect",
]


def __getattr__(name: str) -> object:
    """Import the description of tables when it is used: formulaic takes a moment to load."""
    if name == "TableSpec":
        return tables_module("table_spec").TableSpec
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
