"""Effects: contrasts of two scenarios, their summaries, and what to make of them.

In: predictive draws of a baseline and of an intervention. Out: the effect by draw, summaries in
numbers and words, decisions, and how much a confounder left out could change.
"""

from __future__ import annotations

from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS, estimate_effect
from aimz_lab.effects.omitted_variables import adjusted_for, partial_r2, robustness_value
from aimz_lab.effects.sensitivity import EValue, e_value, tipping_points
from aimz_lab.effects.summaries import hdi, summarize_effect
from aimz_lab.effects.uplift import Uplift, uplift

__all__ = [
    "PREDICTIVE_GROUPS",
    "EValue",
    "Uplift",
    "adjusted_for",
    "e_value",
    "estimate_effect",
    "hdi",
    "partial_r2",
    "robustness_value",
    "summarize_effect",
    "tipping_points",
    "uplift",
]
