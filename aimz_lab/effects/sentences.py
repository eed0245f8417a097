"""An effect in plain English: its size, its direction, whether it matters, and the caveats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from aimz_lab.effects.asked import Asked
from aimz_lab.effects.measures import AVERAGE, NO_EFFECT
from aimz_lab.number_text import number, number_beside, percentage
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.system.lazy_modules import xr

FEW_DRAWS = 400
"""Below so many draws the ends of an interval move noticeably from run to run."""

FIT_STEP = "fit_step"
"""Attribute of a result that was computed while a fit went on."""

INTERVAL_OF = "single outcomes", "effect"
"""What the draws of an entry are of, and so its interval and probabilities."""

_MOST_NAMED = 4
_FEW_VALUES = 10
"""An average over rows takes more values than these; that of a few flags or counts fewer."""

_ROUNDED = 1e-3

_INSTEAD = (
    "estimate_effect(..., by=...) of two scenarios averages what is expected of the rows of each "
    "group, or with by=np.arange(n) of each row."
)
OF_SINGLE_OUTCOMES = (
    "The draws have few or whole values, as of single outcomes (0 or 1, or counts): their interval "
    "would not be one of the effect, so none is given."
)
SOME_OF_SINGLE_OUTCOMES = (
    "Where no interval is given, the draws have few or whole values, as of single outcomes: it "
    "would not be one of the effect."
)
_OF_ROWS = (
    "The interval of a row is one of a drawn outcome, with the same noise in both scenarios, which "
    "cancels in a difference where it is added; estimate_effect(..., by=np.arange(n)) gives one of "
    "its expected effect, if NumPyro knows the mean of its distribution, and nothing else that is "
    "drawn for the row moves it."
)
OF_RUNNING_FIT = "from the guide after step {:,} of a fit that went on"
OF_LEVELS = "of_levels"
"""Attribute of a summary: the site's values are the numbers of levels, so that it has no mean."""

OF_DRAWN = "of_drawn"
"""Attribute of summaries that hold the noise of drawn outcomes."""

DRAWN_OUTCOMES = "of drawn outcomes"
"""What tables and pictures say of them."""

DRAWN_HERE = "Outcomes are drawn here, or values that they are computed from"
WITHOUT_NOISE = (
    "A site that the kernel computes from its parameters alone has no such noise: "
    "numpyro.deterministic('expected', ...)"
)
_OF_DRAWN = (
    f"{DRAWN_HERE}: intervals of few rows hold the noise of single rows, unless it is added and "
    f"cancels in a difference. {WITHOUT_NOISE}, with return_sites=['expected']."
)
_UNITS = {"percent": "%", "ratio": " times", "odds_ratio": " times"}
_WHAT = {
    "difference": "changes {site} by {mean}",
    "percent": "changes {site} by {mean}",
    "ratio": "makes {site} {mean} that of the baseline",
    AVERAGE: "leaves {site} at {mean}",
    "odds_ratio": "makes the odds of {site} {mean} those of the baseline",
}
_EFFECTS = {AVERAGE: "average of", "odds_ratio": "effect on the odds of"}


def verdict_of(summary: xr.DataArray, asked: Asked) -> xr.DataArray:
    """Compare the interval with the region of practical equivalence; Kruschke (2018).

    Args:
        summary: The summary of a site.
        asked: What was asked, with a region.
    """
    low, high = (summary.sel(summary=f"hdi_{end}", drop=True) for end in ("low", "high"))
    no_interval = ~_holds_its_mean(summary)
    inside = (low >= asked.rope[0]) & (high <= asked.rope[1])
    outside = (high < asked.rope[0]) | (low > asked.rope[1])
    found = xr.where(outside, "relevant", xr.where(inside, "negligible", "undecided"))
    found = xr.where(no_interval, "unknown", found)
    return found.astype(str).drop_attrs()


def _holds_its_mean(summary: xr.DataArray) -> xr.DataArray:
    """Whether the interval is known, and holds the mean up to rounding."""
    mean, low, high = (
        summary.sel(summary=label, drop=True) for label in ("mean", "hdi_low", "hdi_high")
    )
    slack = 1e-6 * np.maximum(np.abs(low), np.abs(high))
    return (low - slack <= mean) & (mean <= high + slack)


def paragraph(
    name: str,
    summary: xr.DataArray,
    asked: Asked,
    single: Bool[np.ndarray, ...],
    n_draws: int,
    *,
    of_rows: bool = False,
    of_drawn: bool = False,
) -> str:
    """Return the paragraph about one site.

    Args:
        name: The site.
        summary: Its summary.
        asked: What was asked.
        single: Which entries are known by their draws to be of single outcomes.
        n_draws: The number of draws.
        of_rows: Whether the entries are drawn outcomes of rows.
        of_drawn: Whether they hold the noise of drawn outcomes otherwise, as averages of them do.
    """
    said = (
        [_one(name, summary, asked, is_single=bool(single))]
        if summary.ndim == 1
        else _several(name, summary, asked, single)
    )
    if of_drawn:
        said.append(_OF_DRAWN)
    elif single.any():
        said.append(_INSTEAD)
    if of_rows and not single.all():
        said.append(_OF_ROWS)
    if FIT_STEP in summary.attrs:
        said.append(f"Its draws are {OF_RUNNING_FIT.format(summary.attrs[FIT_STEP])}.")
    return " ".join([*said, *_of_no_difference(summary, asked), *_caveats(summary, asked, n_draws)])


def noted_as_drawn(site: str, attrs: Mapping[str, Any]) -> str:
    """Return what stands behind the name of an effect that holds the noise of drawn outcomes.

    Args:
        site: The site.
        attrs: Attributes of the result.

    Example:
        >>> noted_as_drawn("y", {"drawn": ["y"]}), noted_as_drawn("mean", {"drawn": ["y"]})
        (' (of drawn outcomes)', '')
    """
    return f" ({DRAWN_OUTCOMES})" if site in named_as_drawn(attrs) else ""


def interval_of(name: object) -> str:
    """Return the name of the coordinate that says what the intervals of a site are of."""
    return f"{name}_interval_of"


def _of_no_difference(summary: xr.DataArray, asked: Asked) -> list[str]:
    """Say so if no draw of either scenario differs from the other's."""
    none = NO_EFFECT.get(asked.contrast)
    ends = summary.sel(summary=["mean", "hdi_low", "hdi_high"]).values
    if none is None or not ends.size or (ends != none).any():
        return []
    return [
        "Both scenarios have the same outcome in each draw: either they are equal, or the model "
        "does not use what they differ in."
    ]


def of_single_outcomes(draws: Float[np.ndarray, "sample ..."]) -> Bool[np.ndarray, ...]:
    """Return which entries have draws of single outcomes: few or whole values, more than one.

    An average over many rows may have whole values, so that of one entry alone few ones count.
    Values that differ by a thousandth of their size or less are one value, with rounding.

    Args:
        draws: Draws of each entry.
    """
    most = min(_FEW_VALUES, len(draws) // 4)
    entries = draws.reshape(len(draws), -1)
    with np.errstate(invalid="ignore"):
        is_whole = (np.isfinite(entries) & (entries == np.rint(entries))).all(0)
        varies = np.ptp(entries, axis=0) > _ROUNDED * np.abs(entries).max(0)
    found = varies & is_whole & (draws.ndim > 1)
    # Of entries with many values, the first draws tell.
    few = varies & ~found & (_n_distinct(entries[: 4 * _FEW_VALUES + 4]) <= most)
    found[few] = _n_distinct(entries[:, few]) <= most
    return found.reshape(draws.shape[1:])


def _n_distinct(values: Float[np.ndarray, "sample entry"]) -> Int[np.ndarray, " entry"]:
    ordered = np.sort(values, axis=0)
    return 1 + (ordered[1:] != ordered[:-1]).sum(0)


def _one(name: str, summary: xr.DataArray, asked: Asked, *, is_single: bool) -> str:
    form = _WHAT.get(asked.contrast, f"gives {{mean}} as the {asked.contrast} of {{site}}")
    effect = form.format(site=name, mean=_written(summary, "mean", asked))
    if is_single:
        return f"The intervention {effect} on average. {OF_SINGLE_OUTCOMES}"
    kind = "an odds ratio; " * (asked.contrast == "odds_ratio")
    text = f"The intervention {effect} on average ({kind}{_interval(summary, asked)})."
    return " ".join([text, *_chances(summary, asked)])


def _several(
    name: str, summary: xr.DataArray, asked: Asked, single: Bool[np.ndarray, ...]
) -> list[str]:
    """Describe an effect with several entries: of groups, or of rows."""
    dims = [dim for dim in summary.dims if dim != "summary"]
    ordered = summary.transpose(*dims, "summary")
    means = ordered.sel(summary="mean").values.ravel()
    what = _EFFECTS.get(asked.contrast, "effect on")
    along = " and ".join(map(str, dims))
    against = f" against {summary.attrs['reference']}" if "reference" in summary.attrs else ""
    text = f"The {what} {name}{against} is given for each {along} ({means.size:,} in all)"
    if not means.size:
        return [f"{text}."]
    order = np.argsort(means)
    chosen = range(means.size) if means.size <= _MOST_NAMED else (order[0], order[-1])
    named = []
    for place in chosen:
        at = dict(
            zip(dims, map(int, np.unravel_index(int(place), ordered.shape[:-1])), strict=True)
        )
        entry = ordered.isel(at)
        value = _written(entry, "mean", asked)
        known = ", ".join([_interval(entry, asked), *_side(entry, asked)])
        label = ", ".join(_label(ordered, dim, i) for dim, i in at.items())
        named.append((label, value + f" ({known})" * (not single[tuple(at.values())])))
    listed = "; ".join(f"{label}: {value}" for label, value in named)
    if means.size <= _MOST_NAMED:
        text += f": {listed}."
    elif _are_written_alike(ordered):
        text += f", and is {named[0][1]} in each."
    else:
        text += f", of which the smallest and the largest are {listed}."
    more = []
    if single.any():
        more += [OF_SINGLE_OUTCOMES if single.all() else SOME_OF_SINGLE_OUTCOMES]
    elif asked.contrast != AVERAGE:
        more += [_share(ordered, asked)]
    if not single.any():
        more += _verdicts(ordered, asked)
    return [text, *more]


def _are_written_alike(summary: xr.DataArray) -> bool:
    """Whether the numbers of all entries are known and the same, as they are written."""
    told = summary.drop_sel(summary="sd").values
    if np.isnan(told).any():
        return False
    by_entry = told.reshape(-1, told.shape[-1])
    spread = float(np.nanmin(summary.sel(summary="sd").values))
    ends = zip(by_entry.min(0), by_entry.max(0), strict=True)
    return all(
        number_beside(low, spread, 3) == number_beside(high, spread, 3) for low, high in ends
    )


def _label(summary: xr.DataArray, dim: str, place: int) -> str:
    labels = summary.indexes[dim] if dim in summary.indexes else range(summary.sizes[dim])
    return f"{dim} {labels[place]}"


def _share(summary: xr.DataArray, asked: Asked) -> str:
    """Say of how many entries the interval leaves out what they are compared with."""
    low, high = (summary.sel(summary=f"hdi_{end}").values for end in ("low", "high"))
    above, below = int((low > asked.delta).sum()), int((high < asked.delta).sum())
    return (
        f"The {asked.prob:.0%} interval lies above {_given(asked.delta, asked)} for {above:,} of "
        f"{low.size:,}, and below it for {below:,}."
    )


def _verdicts(summary: xr.DataArray, asked: Asked) -> list[str]:
    """Say how many effects would matter."""
    if asked.rope is None:
        return []
    verdicts = verdict_of(summary, asked).values.ravel().tolist()
    names = ("relevant", "negligible", "undecided", "unknown")
    counts = [f"{name} for {n:,}" for name in names if (n := verdicts.count(name))]
    low, high = (_given(end, asked) for end in asked.rope)
    return [
        f"Between {low} and {high} an effect would be negligible; by its interval it is "
        f"{', '.join(counts)} of {len(verdicts):,}."
    ]


def _side(summary: xr.DataArray, asked: Asked) -> list[str]:
    """Say how likely an entry lies on the side that is asked for."""
    if asked.direction is None:
        return []
    side = "above" if asked.direction == "greater" else "below"
    chance = _chance(_value(summary, f"p_{asked.direction}"))
    return [f"{side} {_given(asked.delta, asked)} with probability {chance}"]


def _interval(summary: xr.DataArray, asked: Asked) -> str:
    low, high = (_written(summary, f"hdi_{end}", asked) for end in ("low", "high"))
    if "nan" not in (low[:3], high[:3]) and not _holds_its_mean(summary):
        return f"no {asked.prob:.0%} interval: that of the draws leaves out their mean"
    return f"{asked.prob:.0%} interval {low} to {high}"


def _chances(summary: xr.DataArray, asked: Asked) -> list[str]:
    said = []
    if asked.direction is not None:
        chance = _chance(_value(summary, f"p_{asked.direction}"))
        side = "above" if asked.direction == "greater" else "below"
        at = _given(asked.delta, asked)
        said.append(f"The probability that it is {side} {at} is {chance}.")
    if asked.rope is not None:
        verdict = str(verdict_of(summary, asked).values)
        low, high = (_given(end, asked) for end in asked.rope)
        meaning = {
            "relevant": "the interval lies outside of what would be negligible",
            "negligible": "the interval lies inside of what would be negligible",
            "undecided": "the interval is partly inside and partly outside; more data would tell",
            "unknown": "some draws are not finite, or their interval leaves out their mean",
        }[verdict]
        chance = _chance(_value(summary, "p_rope"))
        said.append(
            f"Between {low} and {high} the effect would be negligible, with "
            f"probability {chance}: {verdict}, as {meaning}."
        )
    return said


def _caveats(summary: xr.DataArray, asked: Asked, n_draws: int) -> list[str]:
    said = []
    if not np.isfinite(summary.values).all() and n_draws > 1:
        said.append(
            "Some draws are not finite, so that some of these numbers are unknown. A distribution "
            "may have no mean, as a StudentT of one degree of freedom has none: then compare its "
            "location."
        )
    if n_draws == 1:
        said.append("There is only one draw, which says nothing of how sure this is.")
    elif n_draws < FEW_DRAWS:
        said.append(f"There are only {n_draws} draws: read no more than one digit of the ends.")
    what, both = "It is an effect of the intervention", "treatment and outcome"
    if asked.contrast == AVERAGE:  # of a sweep without a reference
        what, both = "Their difference is an effect of the swept input", "it and the outcome"
    said.append(f"{what} if the model holds, and no cause of both {both} was left out.")
    return said


def _value(summary: xr.DataArray, label: str) -> float:
    return float(summary.sel(summary=label))


def _written(summary: xr.DataArray, label: str, asked: Asked) -> str:
    text = number_beside(_value(summary, label), _value(summary, "sd"), 3)
    return f"{text}{_UNITS.get(asked.contrast, '')}"


def _given(value: float, asked: Asked) -> str:
    """Write a value that was asked about, as it was given."""
    return f"{number(value)}{'%' if asked.contrast == 'percent' else ''}"


def _chance(value: float) -> str:
    if np.isnan(value):
        return "unknown"
    return percentage(value) + {0: " (no draw)", 1: " (every draw)"}.get(value, "")
