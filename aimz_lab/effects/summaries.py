"""Summaries of an effect over its draws: mean, standard deviation and interval."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data import to_host
from aimz_lab.data.checks import is_integer
from aimz_lab.data.options import real_number
from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.effects.effect_summary import EffectSummary
from aimz_lab.errors import ArgumentError
from aimz_lab.predictive.reducers.intervals import narrowest_interval
from aimz_lab.types import SAMPLE_DIMS, shown


def hdi(draws: ArrayLike, prob: float = 0.94, axis: int = 0) -> np.ndarray:
    """Highest-density interval, as ``arviz_stats.hdi`` defines it by default.

    It is the narrowest interval between two of the sorted draws that lie ``floor(prob * S)`` places
    apart; NaN if a draw is NaN.

    Args:
        draws: Draws along ``axis``, of a quantity with one mode.
        prob: Share of the draws, in (0, 1).
        axis: Axis of the draws.

    Returns:
        Lower and upper end, on a new last axis.

    Raises:
        ArgumentError: If ``prob`` is not in (0, 1), there is no such axis, or there are no draws.
        DataTypeError: If the draws are not numeric.

    Example:
        >>> hdi(np.array([0.0, 1.0, 1.1, 1.2, 9.0]), prob=0.5)
        array([1. , 1.2])
    """
    prob = _checked_prob(prob)
    draws = to_host("draws", draws)
    if draws.dtype.kind == "c":
        msg = "draws= holds complex numbers, which have no order; take their real part first."
        raise ArgumentError(msg)
    if draws.ndim == 0:
        msg = "An interval needs an array of draws; draws= is a single number."
        raise ArgumentError(msg)
    if not is_integer(axis) or not -draws.ndim <= axis < draws.ndim:
        msg = f"axis={shown(axis)} is not allowed; the draws have {draws.ndim} axes, from 0."
        raise ArgumentError(msg)
    if draws.shape[axis] == 0:
        msg = "An interval needs at least one draw; there are none."
        raise ArgumentError(msg)
    ordered = np.sort(np.moveaxis(draws, int(axis), -1), axis=-1)
    return np.moveaxis(narrowest_interval(ordered, prob), 0, -1)


def _checked_prob(prob: float) -> float:
    if not 0 < real_number(prob) < 1:
        msg = f"prob must lie in (0, 1), got prob={shown(prob)}."
        raise ArgumentError(msg)
    return real_number(prob)


@public
def summarize_effect(effect: xr.DataTree | xr.Dataset, prob: float = 0.94) -> EffectSummary:
    """Summarise an effect over its draws.

    The standard deviation has ``S - 1`` in its denominator.

    Args:
        effect: Result of :func:`estimate_effect`, or a dataset with chain and draw.
        prob: Share of the draws in the interval.

    Returns:
        A dataset with, for each site, its ``mean``, ``sd`` and ends of the highest-density
        interval, along a dimension ``summary``. It prints as a table; ``.table()`` is a data frame.

    Raises:
        ArgumentError: If this is no tree and no dataset, there is no predictive group, a site has
            no draws, or ``prob`` is not in (0, 1).

    Example:
        >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
        >>> average = effect.posterior_predictive.to_dataset().mean("obs")
        >>> bool(1 < summarize_effect(average).y.sel(summary="mean") < 3)
        True
    """
    if isinstance(effect, xr.DataTree):
        group = next((name for name in PREDICTIVE_GROUPS if name in effect), None)
        if group is None:
            msg = (
                "effect= must be the whole tree that im.estimate_effect(...) returns, or a "
                f"dataset: this tree has none of the groups {', '.join(PREDICTIVE_GROUPS)}; it has "
                f"{', '.join(effect.children) or 'no groups'}. A group alone goes as a dataset, "
                "by .to_dataset()."
            )
            raise ArgumentError(msg)
        effect = effect[group].to_dataset()
    elif not isinstance(effect, xr.Dataset):
        msg = (
            f"effect={shown(effect)} is not allowed; use the tree that im.estimate_effect(...) "
            "returns, or a dataset with the dimensions chain and draw."
        )
        raise ArgumentError(msg)
    prob = _checked_prob(prob)
    sites = effect.data_vars.items()
    return EffectSummary({name: _summarize(site, prob) for name, site in sites})


def _summarize(site: xr.DataArray, prob: float) -> xr.DataArray:
    if not set(SAMPLE_DIMS) <= set(site.dims):
        msg = (
            f"{site.name!r} has no draws to summarise: its dimensions are {site.dims}, without "
            f"{' and '.join(SAMPLE_DIMS)}. Compute the effect without reduce=."
        )
        raise ArgumentError(msg)
    draws = site.stack(sample=SAMPLE_DIMS).transpose("sample", ...)
    values = np.asarray(draws.values, dtype=np.float64)
    parts = np.stack(
        [values.mean(0), values.std(0, ddof=1), *np.moveaxis(hdi(values, prob), -1, 0)]
    )
    dims = ("summary", *draws.dims[1:])
    coords = {dim: site.coords[dim] for dim in draws.dims[1:] if dim in site.coords}
    labels = ["mean", "sd", "hdi_low", "hdi_high"]
    return xr.DataArray(
        parts, dims=dims, coords={**coords, "summary": labels}, attrs={"prob": prob}
    )
