"""Overlap: whether trained rows are like those of a scenario, and treated rows like untreated."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from aimz_lab.data.options import real_number
from aimz_lab.data.tables import is_a, is_table
from aimz_lab.effects.overlap_report import Overlap, Propensities, rows_finding
from aimz_lab.effects.propensity import area_under_curve, propensities, standardised
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.imports import late_import
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.report import of_left_out
from aimz_lab.types import shown

MOST_ROWS = 50_000
"""Most rows of a propensity regression; of more, that many at equal distances."""

_SHUFFLES = 19
"""The most of so many shuffled treatments is beaten by chance once in 20 times."""

_ROWS_OF_A_COLUMN = 100
"""Rows for each column from which on a regression finds no extremes in shuffled treatments."""

_KINDS = {"f": "numbers", "U": "texts", "M": "times", "m": "durations"}
_FILL = "Fill missing values, or leave such rows out: df.dropna()."


class Side(NamedTuple):
    """One side of a comparison.

    Attributes:
        columns: Columns by name; texts are levels of a category.
        kept: Which of the rows that were given these are; ``None`` for all.
        left_out: A phrase that says which rows were left out; empty for none.
    """

    columns: Mapping[str, np.ndarray]
    kept: Bool[np.ndarray, " row"] | None = None
    left_out: str = ""


def overlap(
    of_training: Side,
    of_scenario: Side,
    treatment: str | None,
    limits: tuple[float, float],
) -> Overlap:
    """Compare columns of trained rows with those of a scenario.

    Args:
        of_training: The trained rows.
        of_scenario: The rows of the scenario, with the same columns.
        treatment: The column with the treatment, of two values.
        limits: Propensities outside of these are extreme.

    Raises:
        ArgumentError: If the treatment is no column of two values, or limits are none.
        DataError: If columns are missing, or values are not finite.
    """
    trained, scenario = of_training.columns, of_scenario.columns
    missing = [name for name in trained if name not in scenario]
    if not trained:
        msg = "There are no columns to compare: each argument of the trained rows is one number."
        raise DataError(msg)
    if missing:
        msg = f"The scenario lacks the columns {', '.join(map(repr, missing))} of the trained rows."
        raise DataError(msg)
    for what, rows in (("trained rows", trained), ("scenario", scenario)):
        counts = {len(values) for values in rows.values()}
        if 0 in counts:
            raise DataError(f"The {what} are empty: there is nothing to compare.")
        if len(counts) != 1:
            listed = ", ".join(f"{name} {len(values):,}" for name, values in rows.items())
            raise DataError(f"The columns of the {what} have different numbers of rows: {listed}.")
    low, high = _limits(limits)
    table, outside, designs = {}, [], []
    for name, values in trained.items():
        other = scenario[name]
        row, far, design = _column(name, values, other)
        table[name] = row
        outside.append(far)
        designs.append((name, *design))
    together, alone = _far(*(np.concatenate([d[i] for d in designs], axis=1) for i in (1, 2)))
    together &= ~np.any(outside, axis=0)
    outside = np.any([*outside, together], axis=0)
    changed = tuple(name for name in trained if not _same(trained[name], scenario[name]))
    scores = _scores(trained, designs, treatment, low, high)
    frame = late_import("pandas").DataFrame.from_dict(table, orient="index")
    sides = {"trained rows": of_training, "scenario": of_scenario}
    left_out = [f"{name}: {side.left_out}" for name, side in sides.items() if side.left_out]
    alone = np.any([alone, *map(_alone, trained.values())], axis=0)
    kept = [values for name, values in trained.items() if name not in changed]
    are_others = not any(len(np.unique(values)) > 1 for values in kept)
    finding = rows_finding(frame, outside, float(together.mean()), alone if are_others else None)
    if of_scenario.kept is not None:
        everywhere = np.zeros(len(of_scenario.kept), bool)
        everywhere[of_scenario.kept] = outside
        outside = everywhere
    findings = [finding, *(one for text in left_out for one in of_left_out(text))]
    return Overlap(frame, outside, scores, changed, findings)


def columns_of(given: Any, input_name: str, used: Set[str] | None = None) -> dict[str, np.ndarray]:
    """Return the columns of rows: of a table, of an array, or of arguments by name.

    Args:
        given: A table, an array, or a mapping of arguments.
        input_name: What the kernel calls its input, for the columns of an array.
        used: The columns of a table to use; ``None`` for all.

    Raises:
        ArgumentError: If these are no rows in memory.
        DataError: If an argument has more than two axes.
    """
    if isinstance(given, Mapping) and not is_a(given, "xarray", "DataTree", "Dataset"):
        found, own = {}, given.get("kernel_kwargs")
        named = {**given, **(own if isinstance(own, Mapping) else {})}
        for name, value in named.items():
            if is_table(value) or np.ndim(value) > 0:
                found |= columns_of(value, input_name if name == "X" else name, used)
        return found
    if is_table(given):
        names = [name for name in given.columns if used is None or name in used]
        return {str(name): _values(given[name]) for name in names}
    try:
        array = np.asarray(given)
    except Exception:  # noqa: BLE001  what is no array is refused
        array = np.empty((), object)
    if array.ndim == 1 and array.dtype.kind in "biufUO":
        return {str(getattr(given, "name", None) or input_name): _values(array)}
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        msg = (
            f"overlap compares rows in memory: a data frame, an array of rows and columns, or a "
            f"mapping of such arguments; got {shown(given)}."
        )
        raise ArgumentError(msg)
    return {f"{input_name}[{i}]": column for i, column in enumerate(array.T.astype(np.float64))}


def _values(column: Any) -> np.ndarray:
    """Return numbers as floats, times as they are, and all else as texts.

    Raises:
        DataError: If a text is missing.
    """
    import pandas as pd

    if is_a(column, "polars", "Series"):
        column = column.to_numpy()
    if getattr(column, "dtype", None) is not None and pd.api.types.is_numeric_dtype(column.dtype):
        return np.asarray(column, np.float64)  # nullable numbers too
    if getattr(getattr(column, "dtype", None), "tz", None) is not None:
        column = column.dt.tz_localize(None)
    values = np.asarray(column)
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    if values.dtype.kind in "mM":
        return values
    missing = np.flatnonzero(pd.isna(values))
    if len(missing):
        name = getattr(column, "name", None)
        raise DataError(f"The column {name!r} has no value in row {missing[0]}. {_FILL}")
    return values.astype(str)


def _column(
    name: str, trained: np.ndarray, scenario: np.ndarray
) -> tuple[dict[str, Any], np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Compare one column: its row in the table, which rows are outside, and its design."""
    kinds = [_KINDS[each.dtype.kind] for each in (trained, scenario)]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"The column {name!r} holds {kinds[0]} in the trained rows, and {kinds[1]} in the "
            "scenario."
        )
    if trained.dtype.kind == "U":
        levels, counts = np.unique(trained, return_counts=True)
        far = ~np.isin(scenario, levels)
        row = {"from": f"{len(levels)} levels", "to": "", "outside": far.mean(), "shift": np.nan}
        chosen = levels[np.argsort(-counts)][1:]
        return (
            row,
            far,
            tuple((each[:, None] == chosen).astype(float) for each in (trained, scenario)),
        )
    for values in (trained, scenario):
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise DataError(f"The column {name!r} is not finite in row {bad[0]}. {_FILL}")
    ends = trained.min(), trained.max()
    if trained.dtype.kind in "mM":
        first = trained.min()
        trained, scenario = ((v - first) / np.timedelta64(1, "D") for v in (trained, scenario))
        ends = tuple(str(end.astype("M8[s]" if kinds[0] == "times" else "m8[s]")) for end in ends)
    low, high, sd = trained.min(), trained.max(), trained.std()
    far = (scenario < low) | (scenario > high)
    shift = (scenario.mean() - trained.mean()) / sd if sd > 0 else np.nan
    row = {"from": ends[0], "to": ends[1], "outside": far.mean(), "shift": shift}
    return row, far, (trained[:, None], scenario[:, None])


def _alone(values: np.ndarray) -> Bool[np.ndarray, " row"]:
    """Whether a trained row would be outside of the others: alone at an end, or of a level."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    is_end = values.dtype.kind == "U" or (places == 0) | (places == len(counts) - 1)
    return is_end & (counts[places] == 1)


def _far(trained: np.ndarray, scenario: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compare distances from the trained mean, after Mahalanobis.

    Returns:
        Whether each row of the scenario is farther than any trained row, and whether each trained
        row is the farthest of them.
    """
    ours, theirs = standardised(trained, trained), standardised(scenario, trained)
    spread = ours.T @ ours / len(ours)
    inverse = np.linalg.pinv(spread, rcond=1e-6, hermitian=True)
    ours, theirs = (np.einsum("ij,jk,ik->i", each, inverse, each) for each in (ours, theirs))
    most = ours.max()
    far = theirs > most * (1 + 1e-6)
    return far, ours == most


def _scores(
    trained: Mapping[str, np.ndarray], designs: list, treatment: str | None, low: float, high: float
) -> Propensities | None:
    if treatment is None:
        return None
    if not isinstance(treatment, str) or treatment not in trained:
        msg = (
            f"treatment={shown(treatment)} is no column; they are {', '.join(trained)}."
            f"{did_you_mean(str(treatment), trained)}"
        )
        raise ArgumentError(msg)
    values = np.unique(trained[treatment])
    if len(values) != 2:
        msg = f"treatment={treatment!r} has {len(values)} values in the trained rows; it needs two."
        raise ArgumentError(msg)
    step = -(-len(trained[treatment]) // MOST_ROWS)
    flags = (trained[treatment] == values[1])[::step]
    others = [design for name, design, _ in designs if name != treatment]
    design = np.concatenate([np.zeros((len(trained[treatment]), 1)), *others], axis=1)[::step]
    score = propensities(design, flags)
    extreme = _extreme(score, low, high)
    by_chance = None
    if extreme > 0 and len(design) < _ROWS_OF_A_COLUMN * design.shape[1]:
        rng = own_rng("overlap")
        by_chance = max(
            _extreme(propensities(design, rng.permutation(flags)), low, high)
            for _ in range(_SHUFFLES)
        )
    effective = tuple(
        float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
        for weights in (1 / score[flags], 1 / (1 - score[~flags]))
    )
    return Propensities(score, extreme, area_under_curve(score, flags), effective, by_chance)


def _extreme(score: np.ndarray, low: float, high: float) -> float:
    return float(((score < low) | (score > high)).mean())


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def _limits(limits: object) -> tuple[float, float]:
    try:
        low, high = map(real_number, limits)
    except (TypeError, ValueError):
        low = high = np.nan
    if not 0 < low < high < 1:
        msg = f"limits={shown(limits)} is not allowed; use two shares, such as (0.1, 0.9)."
        raise ArgumentError(msg)
    return low, high
