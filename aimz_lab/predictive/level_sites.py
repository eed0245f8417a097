"""Sites whose values are the numbers of levels in no order: their means say nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.group_means import GroupMeans
from aimz_lab.predictive.reducers.moments import AverageEffect
from aimz_lab.predictive.reducers.row_means import RowMeans, RowTotals

_CATEGORICAL, _N_CATEGORIES = "categorical", "n_categories"
_MOST_NAMED = 10


def category_attrs(spec: KernelSpec, sites: Iterable[str]) -> dict[str, list]:
    """Return the attributes of a result that say which sites are categories, and of how many.

    Args:
        spec: The structure of the kernel.
        sites: Names of the sites in the result.
    """
    found = {n: spec.sites[n].n_categories for n in sites if (spec.sites[n].n_categories or 0) > 2}
    names = [*map(variable_name, found)]
    return {_CATEGORICAL: names, _N_CATEGORIES: [*found.values()]} if found else {}


def levels_of(attrs: Mapping[str, Any], site: str) -> list[str]:
    """Return the levels that the values of a site are the numbers of; none of any other site.

    Args:
        attrs: Attributes of a result.
        site: The site.

    Example:
        >>> levels_of({"output": "y", "output_levels": ["no", "yes"]}, "y"), levels_of({}, "y")
        (['no', 'yes'], [])
    """
    if site == attrs.get("output") and "output_levels" in attrs:
        return [*map(str, np.atleast_1d(attrs["output_levels"]))]
    names, counts = (np.atleast_1d(attrs.get(n, [])) for n in (_CATEGORICAL, _N_CATEGORIES))
    known = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return [*map(str, range(known.get(site, 0)))]


def of_levels(name: str, levels: Sequence[str]) -> str:
    """Return the paragraph about an outcome whose values are the numbers of its levels.

    Args:
        name: The site, or its column.
        levels: More than two levels.
    """
    listed = ", ".join(levels[:_MOST_NAMED]) + ", ..." * (len(levels) > _MOST_NAMED)
    return (
        f"{name} is the number of one of {len(levels)} levels ({listed}), so that its mean, and an "
        "effect on it, say nothing. Have the kernel compute the probability of each level as a "
        "site, numpyro.deterministic('p', probs), and pass return_sites=['p']."
    )


def check_means(
    reducers: Iterable[Reducer], attrs: Mapping[str, Any], spec: KernelSpec, sites: Iterable[str]
) -> None:
    """Refuse means over rows of the numbers of levels.

    Args:
        reducers: What is computed of the sites.
        attrs: Attributes of the result, of a table.
        spec: The structure of the kernel.
        sites: Names of the sites.

    Raises:
        ArgumentError: If a site has more than two levels, and its mean over rows is asked for.
    """
    means = (RowMeans, GroupMeans, AverageEffect)
    if not any(isinstance(one, means) and not isinstance(one, RowTotals) for one in reducers):
        return
    known = {"output": spec.output, **attrs, **category_attrs(spec, sites)}
    for site in sites:
        levels = levels_of(known, variable_name(site))
        if len(levels) > 2:
            column = attrs.get("output_column") if site == spec.output else None
            raise ArgumentError(of_levels(str(column or site), levels))
