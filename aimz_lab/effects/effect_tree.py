"""Let the draws of an effect print as an effect, and predictions as their summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.effects.outcome_names import OTHER_OUTCOMES
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.scenario_sites import OBSERVED
from aimz_lab.system.lazy_modules import xr

if TYPE_CHECKING:
    from aimz_lab.effects.printed_tree import EffectTree, GroupTree, RowTree

_SET_VALUES = ("intervention", "intervention_baseline", "condition", "condition_baseline")


def as_effect(tree: xr.DataTree) -> EffectTree:
    """Let a tree print as an effect; it stays the object that it is, with all that it keeps open.

    Args:
        tree: A tree that nobody else has.
    """
    # Its base is xarray's, which is not imported before a result.
    from aimz_lab.effects.printed_tree import EffectTree

    return _printed_as(tree, EffectTree)


def tell_other_outcomes(tree: xr.DataTree, spec: KernelSpec) -> None:
    """Note which outcomes of the kernel an effect is not on, though it draws them.

    Args:
        tree: The effect.
        spec: The kernel's structure.
    """
    group = next(name for name in PREDICTIVE_GROUPS if name in tree.children)
    draws = tree[group].to_dataset()
    given = (draws.attrs.get(name, ()) for name in (OBSERVED, *_SET_VALUES))
    known = {*map(str, draws.data_vars)}.union(*(map(str, np.atleast_1d(one)) for one in given))
    others = [name for name in spec.of_kind("observed") if name not in known]
    if others := [name for name in others if spec.sites[name].row_axes]:
        tree[group].attrs[OTHER_OUTCOMES] = others


def as_group_means(tree: xr.DataTree) -> GroupTree:
    """Let the result of a prediction with ``by=`` print as its groups; likewise.

    Args:
        tree: A tree that nobody else has.
    """
    from aimz_lab.effects.printed_tree import GroupTree

    return _printed_as(tree, GroupTree)


def as_rows(tree: xr.DataTree) -> RowTree:
    """Let the result of a prediction print its first rows; likewise.

    Args:
        tree: A tree that nobody else has.
    """
    from aimz_lab.effects.printed_tree import RowTree

    return _printed_as(tree, RowTree)


def _printed_as(tree: xr.DataTree, kind: type) -> xr.DataTree:
    for node in tree.subtree:
        node.__class__ = kind
    return tree
