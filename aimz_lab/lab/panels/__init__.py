"""The panels of the dashboard, and the set of them that describes a run.

In: a run, as it is when a frame is due. Out: frames, plain values that a view can show.
"""

from __future__ import annotations

from aimz_lab.lab.panels.base import Panel
from aimz_lab.lab.panels.chains import ConvergencePanel, SamplingPanel, TracePanel
from aimz_lab.lab.panels.devices import DevicesPanel
from aimz_lab.lab.panels.loss import LossPanel
from aimz_lab.lab.panels.padding import PaddingPanel
from aimz_lab.lab.panels.parameters import ParametersPanel
from aimz_lab.lab.panels.predictive_check import CheckPanel
from aimz_lab.lab.panels.progress import ProgressPanel

__all__ = [
    "CheckPanel",
    "ConvergencePanel",
    "DevicesPanel",
    "LossPanel",
    "PaddingPanel",
    "Panel",
    "ParametersPanel",
    "ProgressPanel",
    "SamplingPanel",
    "TracePanel",
]
