"""Let the draws of an effect print as an effect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimz_lab.system.lazy_modules import xr

if TYPE_CHECKING:
    from aimz_lab.effects.printed_tree import EffectTree


def as_effect(tree: xr.DataTree) -> EffectTree:
    """Let a tree print as an effect; it stays the object that it is, with all that it keeps open.

    Args:
        tree: A tree that nobody else has.
    """
    # Its base is xarray's, which is not imported before a result.
    from aimz_lab.effects.printed_tree import EffectTree

    for node in tree.subtree:
        node.__class__ = EffectTree
    return tree
