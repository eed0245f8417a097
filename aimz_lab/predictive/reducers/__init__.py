"""Reducers: summaries computed piece by piece, without keeping the draws.

A reducer over draws gets all draws of a piece of rows and returns values for each of these rows. A
reducer over rows returns sums for each draw, which add up over the pieces. Both are exact.

In: draws of pieces of rows. Out: summaries by site and reducer.
"""

from __future__ import annotations

from aimz_lab.data.groups import GroupBy
from aimz_lab.predictive.reducers.by_name import ReduceSpec, as_reducers
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.group_means import (
    GroupMeans,
    check_alone,
    check_tree_for_groups,
    means_of_groups,
)
from aimz_lab.predictive.reducers.intervals import Hdi, Quantiles
from aimz_lab.predictive.reducers.moments import Exceeds, Mean
from aimz_lab.predictive.reducers.scores import Loo

__all__ = [
    "Exceeds",
    "GroupBy",
    "GroupMeans",
    "Hdi",
    "Loo",
    "Mean",
    "Quantiles",
    "ReduceSpec",
    "Reducer",
    "as_reducers",
    "check_alone",
    "check_tree_for_groups",
    "means_of_groups",
]
