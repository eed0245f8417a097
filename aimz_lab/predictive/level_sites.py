"""Sites whose values are the numbers of levels: means of levels in no order say nothing.

The mean of the numbers of levels in an order, such as grades, is a convention: it counts the steps
from one level to the next alike. It is computed, and results say which number is which level.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.group_means import GroupMeans
from aimz_lab.predictive.reducers.moments import AverageEffect
from aimz_lab.predictive.reducers.row_means import RowMeans, RowTotals

_CATEGORICAL, _N_CATEGORIES = "categorical", "n_categories"
_ORDINAL = "ordinal"
LEVEL_ATTRS = ("output_levels", "output_level_order", _ORDINAL)
"""Attributes of a result that say of which levels its output is, and what their order is from."""

_MOST_NAMED = 10


def category_attrs(spec: KernelSpec, sites: Iterable[str]) -> dict[str, list]:
    """Return the attributes of a result that say which sites are categories, and how many.

    Args:
        spec: The structure of the kernel.
        sites: Names of the sites in the result.
    """
    sites = list(sites)
    known = {name: spec.sites[name].n_categories or 0 for name in sites}
    found = {n: k for n, k in known.items() if k > 2 and not spec.sites[n].is_ordinal}
    names = [*map(variable_name, found)]
    ordinal = [variable_name(name) for name in sites if spec.sites[name].is_ordinal]
    unordered = {_CATEGORICAL: names, _N_CATEGORIES: [*found.values()]} if found else {}
    return unordered | ({_ORDINAL: ordinal} if ordinal else {})


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


def level_numbers(attrs: Mapping[str, Any], site: str) -> str:
    """Return which numbers stand for the levels of a site, if these have an order; else nothing.

    An ordered category has one. Numbers have theirs as well, and count as such only where the
    kernel draws from categories in an order: numbers of shops are levels too.

    Args:
        attrs: Attributes of a result.
        site: The site.

    Example:
        >>> attrs = {"output": "y", "output_levels": ["bad", "fair", "good"]}
        >>> level_numbers({**attrs, "output_level_order": "category"}, "y")
        "levels 0 = 'bad' to 2 = 'good'"
    """
    levels = levels_of(attrs, site)
    if len(levels) < 3 or site != attrs.get("output"):
        return ""
    order, ordinal = attrs.get("output_level_order"), np.atleast_1d(attrs.get(_ORDINAL, []))
    if order == "category" or (order == "numbers" and site in ordinal):
        return f"levels 0 = {levels[0]!r} to {len(levels) - 1} = {levels[-1]!r}"
    return ""


def why_no_mean(attrs: Mapping[str, Any], site: str, name: str = "") -> str:
    """Return the paragraph about a site whose values are the numbers of levels in no order.

    Args:
        attrs: Attributes of a result.
        site: The site.
        name: What it is called; its own name by default.

    Returns:
        Why its mean says nothing, and what to do; empty if the site has a mean.
    """
    levels = levels_of(attrs, site)
    if len(levels) < 3 or level_numbers(attrs, site):
        return ""
    listed = ", ".join(levels[:_MOST_NAMED]) + ", ..." * (len(levels) > _MOST_NAMED)
    said = (
        f"{name or site} is the number of one of {len(levels)} levels ({listed}), so that its "
        "mean, and an effect on it, say nothing. Have the kernel compute the probability of each "
        "level as a site, numpyro.deterministic('p', probs), and pass return_sites=['p']."
    )
    if site == attrs.get("output") and "output_levels" in attrs:
        said += (
            " If the levels have an order, train on a column that says it, lowest level first: "
            "pd.Categorical(values, [...], ordered=True)."
        )
    return said


def check_means(
    reducers: Iterable[Reducer], attrs: Mapping[str, Any], spec: KernelSpec, sites: Iterable[str]
) -> None:
    """Refuse means over rows of the numbers of levels in no order.

    Args:
        reducers: What is computed of the sites.
        attrs: Attributes of the result, of a table.
        spec: The structure of the kernel.
        sites: Names of the sites.

    Raises:
        ArgumentError: If a site has more than two such levels, and its mean over rows is asked for.
    """
    means = (RowMeans, GroupMeans, AverageEffect)
    if not any(isinstance(one, means) and not isinstance(one, RowTotals) for one in reducers):
        return
    known = {"output": spec.output, **attrs, **category_attrs(spec, sites)}
    for site in sites:
        column = attrs.get("output_column") if site == spec.output else None
        if why := why_no_mean(known, variable_name(site), str(column or site)):
            raise ArgumentError(why)
