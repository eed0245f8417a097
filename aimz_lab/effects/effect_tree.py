"""Let the draws of an effect print as an effect, and predictions as their summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimz_lab.system.lazy_modules import xr

if TYPE_CHECKING:
    from aimz_lab.effects.printed_tree import EffectTree, GroupTree, RowTree, SweepTree


def as_effect(tree: xr.DataTree) -> EffectTree:
    """Let a tree print as an effect; it stays the object that it is, with all that it keeps open.

    Args:
        tree: A tree that nobody else has.
    """
    # Its base is xarray's, which is not imported before a result.
    from aimz_lab.effects.printed_tree import EffectTree

    return _printed_as(tree, EffectTree)


def as_sweep(tree: xr.DataTree) -> SweepTree:
    """Let the averages of a sweep print as a table; likewise.

    Args:
        tree: A tree that nobody else has.
    """
    from aimz_lab.effects.printed_tree import SweepTree

    return _printed_as(tree, SweepTree)


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
