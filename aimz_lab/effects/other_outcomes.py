"""Outcomes of a kernel that an effect is not on, though its scenarios draw them."""

from __future__ import annotations

import numpy as np

from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.scenario_sites import OBSERVED
from aimz_lab.system.lazy_modules import xr

OTHER_OUTCOMES = "other_outcomes"
"""Attribute of an effect: outcomes of the kernel that it is not on."""

_SET_VALUES = ("intervention", "intervention_baseline", "condition", "condition_baseline")


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
