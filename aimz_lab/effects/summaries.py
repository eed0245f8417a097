"""Summaries of an effect over its draws: mean, standard deviation and interval."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data import to_host
from aimz_lab.data.checks import is_integer
from aimz_lab.data.options import check_flag, real_number
from aimz_lab.effects.asked import Asked, Direction
from aimz_lab.effects.averages import PIECE_VALUES
from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.effects.outcome_names import (
    called,
    check_has_mean,
    column_of,
    reference_of,
    site_called,
    without_reference,
)
from aimz_lab.effects.sentences import (
    FIT_STEP,
    INTERVAL_OF,
    OF_DRAWN,
    OF_LEVELS,
    interval_of,
    of_single_outcomes,
    paragraph,
    verdict_of,
)
from aimz_lab.errors import ArgumentError
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.predictive.level_sites import why_no_mean
from aimz_lab.predictive.reducers.intervals import narrowest_interval
from aimz_lab.progress import CallProgress
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS, shown


@public
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
    prob = checked_prob(prob)
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


def checked_prob(prob: float) -> float:
    """Return the share of an interval.

    Raises:
        ArgumentError: If it is not in (0, 1).
    """
    if not 0 < real_number(prob) < 1:
        msg = f"prob must lie in (0, 1), got prob={shown(prob)}."
        raise ArgumentError(msg)
    return real_number(prob)


@public
def summarize_effect(
    effect: xr.DataTree | xr.Dataset,
    prob: float = 0.94,
    *,
    direction: Direction | None = None,
    delta: float | None = None,
    rope: float | tuple[float, float] | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Summarise an effect over its draws, in numbers and in a paragraph.

    The standard deviation has ``S - 1`` in its denominator. The paragraph is the attribute ``text``
    of each site. An outcome of a table is called by its column in all that is printed.

    The interval is that of the draws. If these are outcomes drawn for single rows, they contain the
    noise of the outcome, and their interval is not that of the effect. The paragraph says for each
    site whether it contains this noise, and leaves the interval out if the drawn outcomes are whole
    numbers.

    The mean of numbers of levels in no order says nothing: of such an outcome of more than two
    levels all is NaN, and the paragraph says what to do. Of levels in an order, as of an ordered
    category of a table, it is that of their numbers from 0, as tables and paragraphs say.

    Args:
        effect: Result of :func:`estimate_effect`, or a dataset with chain and draw.
        prob: Share of the draws in the interval.
        direction: ``"greater"`` adds ``p_greater``, the share of draws above ``delta``; ``"less"``
            adds ``p_less``, the share below it.
        delta: The value to compare the effect with; by default no effect, which is 0, or 1 for a
            ratio and an odds ratio.
        rope: The region of practical equivalence (Kruschke, 2018): its two ends, or half of its
            width around no effect. It adds ``p_rope``, the share of draws within, and a coordinate
            ``{site}_verdict``: ``"relevant"`` if the interval lies outside, ``"negligible"`` if it
            lies inside, else ``"undecided"``; ``"unknown"`` if a draw is NaN, or the interval
            leaves out the mean.
        progress: Whether a line counts the rows that are summarised, if that takes long.

    Returns:
        For each site its ``mean``, ``sd`` and ends of the highest-density interval, and what was
        asked for, along a dimension ``summary``. For a site with draws of single outcomes, a
        coordinate ``{site}_interval_of`` says for each entry whether its interval is that of the
        ``"effect"`` or of ``"single outcomes"``. It prints as a table; ``.table()`` is a data
        frame.

    Raises:
        ArgumentError: If this is no tree and no dataset, or holds predictions; if there is no
            predictive group, a site has no draws, or draws that are no real numbers, ``prob`` is
            not in (0, 1), or another value is not allowed.

    Example:
        >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
        >>> average = effect.posterior_predictive.to_dataset().mean("obs")
        >>> bool(1 < summarize_effect(average).y.sel(summary="mean") < 3)
        True
        >>> float(summarize_effect(average, direction="greater").y.sel(summary="p_greater"))
        1.0
    """
    effect = draws_of(effect)
    contrast = str(effect.attrs.get("contrast", "difference"))
    asked = Asked.checked(checked_prob(prob), contrast, direction, delta, rope)
    progress = check_flag("progress", progress)
    found, singles = {}, {}
    for name, site in effect.data_vars.items():
        found[name], singles[name] = _summarize(site, asked, effect.attrs, progress=progress)
    for name, site in found.items():
        outcome, column = called(effect, str(name)), column_of(effect, str(name))
        site.attrs |= {} if outcome == name else {"column": outcome}
        site.attrs |= {} if column == outcome else {"of_column": column}
        site.attrs |= {FIT_STEP: effect.attrs[FIT_STEP]} if FIT_STEP in effect.attrs else {}
        rows = _row_dims(effect.attrs)
        is_drawn = name in named_as_drawn(effect.attrs)
        of_rows = is_drawn and not rows.isdisjoint(site.dims)
        of_drawn = is_drawn and not of_rows
        if reference := reference_of(effect.attrs):
            site.attrs["reference"] = reference
        if is_drawn:
            site.attrs[OF_DRAWN] = True
        single = _single_outcomes(singles[name], site, effect.attrs)
        n_draws = _n_draws(effect[name])
        told, marked = (without_reference(each, effect.attrs) for each in (site, single))
        text = paragraph(
            called(effect, str(name), has_odds=contrast == "odds_ratio"),
            told,
            asked,
            marked.values,
            n_draws,
            of_rows=of_rows,
            of_drawn=of_drawn,
        )
        if single.any():
            kinds = np.where(single.values, *INTERVAL_OF)
            found[name] = site.assign_coords({interval_of(name): (site.dims[1:], kinds)})
        if why := why_no_mean(effect.attrs, str(name), outcome):
            found[name] = xr.full_like(found[name], np.nan).assign_attrs({OF_LEVELS: True})
            text = why
        found[name].attrs["text"] = text
    # Its base is xarray's, which is not imported before a result.
    from aimz_lab.effects.effect_summary import EffectSummary

    summary = EffectSummary(found)
    if asked.rope is None:
        return summary
    verdicts = {f"{name}_verdict": verdict_of(site, asked) for name, site in found.items()}
    return summary.assign_coords(verdicts)


def check_is_effect(attrs: Mapping[str, Any]) -> None:
    """Refuse predictions, whose averages would be called effects.

    Args:
        attrs: Attributes of draws; those of a difference by hand may be an effect.

    Raises:
        ArgumentError: If they are of predictions.
    """
    # xarray drops or mixes attributes in a difference by hand: times of two predictions differ.
    are_of_one_call = {"output", "created_at"} <= attrs.keys()
    if are_of_one_call and "contrast" not in attrs:
        msg = (
            "effect= holds predictions, which compare nothing. "
            "im.estimate_effect(args_baseline=..., args_intervention=...) returns an effect, and "
            "so does im.estimate_effect(output_baseline=..., output_intervention=...) of two "
            "trees; for averages of predictions, im.predict(..., by=...) prints a table."
        )
        raise ArgumentError(msg)


def draws_of(effect: object) -> xr.Dataset:
    """Return the dataset of an effect.

    Raises:
        ArgumentError: If there is none, or one of predictions.
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
    if isinstance(effect, xr.Dataset):
        check_is_effect(effect.attrs)
        return effect
    msg = (
        f"effect={shown(effect)} is not allowed; use the tree that im.estimate_effect(...) "
        "returns, or a dataset with the dimensions chain and draw."
    )
    raise ArgumentError(msg)


def _summarize(
    site: xr.DataArray, asked: Asked, attrs: Mapping[str, Any], *, progress: bool
) -> tuple[xr.DataArray, np.ndarray]:
    """Return the summary of a site, and which of its entries have draws of single outcomes."""
    if not set(SAMPLE_DIMS) <= set(site.dims):
        msg = (
            f"{site.name!r} has no draws to summarise: its dimensions are {site.dims}, without "
            f"{' and '.join(SAMPLE_DIMS)}. Compute the effect without reduce=."
        )
        raise ArgumentError(msg)
    if site.dtype.kind not in "biuf":
        msg = f"{site.name!r} holds {site.dtype}, and a summary needs real numbers."
        raise ArgumentError(msg)
    rest = [dim for dim in site.dims if dim not in SAMPLE_DIMS]
    parts, single = [], []
    unit = "row" if rest and rest[0] in _row_dims(attrs) else "value"
    total = site.sizes[rest[0]] if rest else 1
    with CallProgress(unit, total, enabled=progress) as line:
        for values in _pieces(site, rest):
            parts.append(_of_draws(values, asked))
            single.append(of_single_outcomes(values))
            line.advance(values.shape[1] if rest else 1)
    coords = {dim: site.coords[dim] for dim in rest if dim in site.coords}
    summary = xr.DataArray(
        np.concatenate(parts, axis=1) if rest else parts[0],
        dims=("summary", *rest),
        coords={**coords, "summary": asked.labels},
        attrs=asked.attrs,
    )
    return summary, np.concatenate(single) if rest else single[0]


def _single_outcomes(
    single: np.ndarray, summary: xr.DataArray, attrs: Mapping[str, Any]
) -> xr.DataArray:
    """Return which entries are of single outcomes, by their draws and by those beside them."""
    found = summary.isel(summary=0, drop=True).copy(data=single)
    if "reference" in attrs and attrs["swept"] in found.dims:  # it is compared with itself
        found &= found[attrs["swept"]] != attrs["reference"]
    if found.any():  # beside them, draws that are all equal are rare outcomes
        found |= summary.sel(summary="sd", drop=True) == 0
    return found


def _row_dims(attrs: Mapping[str, Any]) -> set[str]:
    return set(map(str, np.atleast_1d(attrs.get("row_dims", []))))


def _n_draws(site: xr.DataArray) -> int:
    return int(np.prod([site.sizes[dim] for dim in SAMPLE_DIMS]))


def _pieces(site: xr.DataArray, rest: Sequence[Hashable]) -> Iterator[np.ndarray]:
    """Yield draws ``(S, ...)``, some entries of the first of the other dimensions at a time."""
    n_draws = _n_draws(site)
    first = site.sizes[rest[0]] if rest else 1
    step = max(1, PIECE_VALUES * first // max(site.size, 1))
    if rest and (chunk := max(site.chunksizes.get(rest[0], (0,)))) and step > chunk:
        step -= step % chunk  # a chunk across two pieces would be read twice
    for start in range(0, first or 1, step):
        part = site.isel({rest[0]: slice(start, start + step)}) if rest else site
        values = np.asarray(part.transpose(*SAMPLE_DIMS, *rest).values, dtype=np.float64)
        yield values.reshape(n_draws, *values.shape[2:])


def _of_draws(values: np.ndarray, asked: Asked) -> np.ndarray:
    low, high = np.moveaxis(hdi(values, asked.prob), -1, 0)
    with np.errstate(invalid="ignore"):  # infinite draws have no deviation
        sd = values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
        parts = [values.mean(0), sd, low, high]
    unknown = np.isnan(values).any(0)
    if asked.direction is not None:
        side = values > asked.delta if asked.direction == "greater" else values < asked.delta
        parts.append(np.where(unknown, np.nan, side.mean(0)))
    if asked.rope is not None:
        inside = (values >= asked.rope[0]) & (values <= asked.rope[1])
        parts.append(np.where(unknown, np.nan, inside.mean(0)))
    return np.stack(parts)


def site_of(effect: xr.Dataset, site: object) -> xr.DataArray:
    """Return the draws of one site.

    Args:
        effect: The effect.
        site: Its site, or the column that it is of; ``None`` for the only one with draws.

    Raises:
        ArgumentError: If there is no such site, or there are several and none is named; or if its
            values are the numbers of levels.
    """
    names = [str(n) for n, v in effect.data_vars.items() if set(SAMPLE_DIMS) <= set(v.dims)]
    if site is None and len(names) == 1:
        site = names[0]
    if site is None and names:
        msg = f"The effect has several sites with draws, {', '.join(names)}; pass one as site=."
        raise ArgumentError(msg)
    site = site_called(effect, site, names)
    if not isinstance(site, str) or site not in names:
        msg = f"site={shown(site)} is not among the sites with draws: {', '.join(names) or 'none'}."
        raise ArgumentError(msg)
    check_has_mean(effect, site)
    return effect[site]
