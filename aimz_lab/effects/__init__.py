"""Effects: contrasts of two scenarios, and their summaries.

In: predictive draws of a baseline and of an intervention. Out: the effect by draw, or a summary.
"""

from __future__ import annotations

from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS, estimate_effect
from aimz_lab.effects.summaries import hdi, summarize_effect

__all__ = ["PREDICTIVE_GROUPS", "estimate_effect", "hdi", "summarize_effect"]
