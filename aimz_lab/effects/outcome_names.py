"""What an outcome is called: by its column, where a table has one, else by its site.

The mean of an outcome of two levels is a probability, and is called by the level that it is of.
That of more levels in an order is of their numbers, and says which they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from aimz_lab.effects.measures import Contrast
from aimz_lab.errors import ArgumentError, OutputWarning
from aimz_lab.kernel.output_transform import TRANSFORM, why_not_itself
from aimz_lab.number_text import number
from aimz_lab.predictive.level_sites import level_numbers, why_no_mean
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn

_SUFFIXES = ("_mean", "_ate")  # of averages that reducers made


def column_of(draws: xr.Dataset, site: str) -> str:
    """Return the column that a site stands for, if it is the output of a table; else its name.

    An output of which the kernel observes a function is called by that.

    Args:
        draws: The group of an effect or a prediction.
        site: The site, or an average of it that a reducer made.
    """
    kind, _, column = str(draws.attrs.get("output_scale", "")).partition(" ")
    if kind != "column":
        column = str(draws.attrs.get("output_column", ""))
    output, transform = draws.attrs.get("output"), str(draws.attrs.get(TRANSFORM, ""))
    if not (transform or column) or not isinstance(output, str):
        return site
    return _named(site, output, transform or column)


def called(draws: xr.Dataset, site: str, *, has_odds: bool = False) -> str:
    """Return what the mean of a site is called, and an effect on it.

    Args:
        draws: As in :func:`column_of`.
        site: Likewise.
        has_odds: Whether the name is of what has the odds, which is the event itself.

    Example:
        >>> draws = xr.Dataset(attrs={"output": "y", "output_event": "bought = yes"})
        >>> called(draws, "y"), called(draws, "p")
        ('P(bought = yes)', 'p')
        >>> levels = {"output_levels": ["C", "B", "A"], "output_level_order": "category"}
        >>> called(xr.Dataset(attrs={"output": "y", "output_column": "grade", **levels}), "y")
        "grade (levels 0 = 'C' to 2 = 'A')"
    """
    event, output = draws.attrs.get("output_event"), draws.attrs.get("output")
    if not isinstance(output, str):
        return site
    if event:
        return _named(site, output, event if has_odds else f"P({event})")
    numbers = level_numbers(draws.attrs, output)
    return (
        _named(site, output, f"{column_of(draws, output)} ({numbers})")
        if numbers
        else column_of(draws, site)
    )


def site_called(draws: xr.Dataset, name: object, sites: Iterable[str]) -> object:
    """Return the site that a name is of: its own, or that of its column, if no site has the name.

    Args:
        draws: As in :func:`column_of`.
        name: What the user calls it.
        sites: The sites to look among.

    Returns:
        The site; or the name as it is, if it is none of these.

    Example:
        >>> draws = xr.Dataset(attrs={"output": "y", "output_column": "pay"})
        >>> site_called(draws, "pay", ["mu", "y"]), site_called(draws, "age", ["mu", "y"])
        ('y', 'age')
    """
    sites = list(sites)
    names = {each: site for site in sites for each in (column_of(draws, site), called(draws, site))}
    return name if name in sites or not isinstance(name, str) else names.get(name, name)


def check_has_mean(draws: xr.Dataset, site: str) -> None:
    """Refuse the mean of a site whose values are the numbers of levels in no order.

    Args:
        draws: As in :func:`column_of`.
        site: The site.

    Raises:
        ArgumentError: If they are, of more than two levels.
    """
    if why := why_no_mean(draws.attrs, site, column_of(draws, site)):
        raise ArgumentError(why)


def check_has_ratio(draws: xr.Dataset, site: str, contrast: object) -> None:
    """Refuse ratios of numbers of levels, which begin at 0 by convention.

    Args:
        draws: As in :func:`column_of`.
        site: The site.
        contrast: The measure of the effect.

    Raises:
        ArgumentError: If the effect is a ratio or a percentage of them.
    """
    if contrast in ("ratio", "percent") and level_numbers(draws.attrs, site):
        msg = (
            f"contrast={contrast!r} of {called(draws, site)} would be another one if the levels "
            "were numbered from 1. Use contrast='difference'."
        )
        raise ArgumentError(msg)


def check_measured(attrs: Mapping[str, Any], sites: Iterable[object], contrast: Contrast) -> None:
    """Refuse a ratio, or the like, of values that are not those of the output itself.

    Args:
        attrs: Attributes of the draws.
        sites: The sites that are contrasted.
        contrast: The measure.

    Raises:
        ArgumentError: If the kernel observes a function of the output, which is among the sites.
    """
    output, transform = attrs.get("output"), attrs.get(TRANSFORM)
    if not transform or output not in list(sites) or callable(contrast) or contrast == "difference":
        return
    msg = (
        f"contrast={contrast!r} would be that of {transform}, and not of {output}. "
        f"{why_not_itself(str(output), str(transform))} contrast='difference' is in units of "
        f"{transform}."
    )
    raise ArgumentError(msg)


def warn_of_transform(attrs: Mapping[str, Any], site: object, argument: str) -> None:
    """Warn that an argument has to be in units of what the kernel observes.

    Args:
        attrs: Attributes of the draws.
        site: Their site.
        argument: The argument, for the message.

    Warns:
        OutputWarning: If the site is the output, of which the kernel observes a function.
    """
    if site == attrs.get("output") and (transform := attrs.get(TRANSFORM)):
        msg = (
            f"The effect is one on {transform}, as the kernel observes it, and not on {site}: "
            f"{argument} has to be that of {transform}."
        )
        warn(msg, OutputWarning)


def reference_of(attrs: Mapping[str, Any]) -> str:
    """Return what a sweep compares with, as ``"dose = 0"``; empty where it compares with nothing.

    Args:
        attrs: Attributes of the draws of a sweep, or of an effect.

    Example:
        >>> reference_of({"swept": "dose", "reference": 0.5}), reference_of({})
        ('dose = 0.5', '')
    """
    if "reference" not in attrs:
        return ""
    value = attrs["reference"]
    is_real = isinstance(value, float | np.floating)
    return f"{attrs['swept']} = {number(float(value)) if is_real else value}"


def without_reference(site: xr.DataArray, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Return the entries of a sweep but that of its reference, which is no effect by definition.

    Args:
        site: Draws of a site, or their summary.
        attrs: Attributes of the draws.
    """
    dim = attrs.get("swept")
    if "reference" not in attrs or dim not in site.dims:
        return site
    others = np.flatnonzero(site[dim].values != attrs["reference"])
    return site.isel({dim: others}) if len(others) else site


def _named(site: str, output: str, name: str) -> str:
    known = {output: name, **{output + end: name + end for end in _SUFFIXES}}
    return known.get(site, site)
