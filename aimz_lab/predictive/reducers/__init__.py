"""Summaries computed while a result streams by, so that its draws are never kept.

A reducer over draws sees all draws of a piece of rows and gives values for each of these rows. A
reducer over rows gives sums for each draw, which add up over the pieces. Both are exact.
"""

from __future__ import annotations

from aimz_lab.predictive.reducers.by_name import as_reducers
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.intervals import Hdi, Quantiles
from aimz_lab.predictive.reducers.moments import Exceeds, Mean
from aimz_lab.predictive.reducers.scores import Loo

__all__ = ["Exceeds", "Hdi", "Loo", "Mean", "Quantiles", "Reducer", "as_reducers"]
