"""Overlap: whether trained rows are like those of a scenario, and treated rows like untreated."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from aimz_lab.data.html import html_report
from aimz_lab.data.options import real_number
from aimz_lab.data.tables import is_a, is_table
from aimz_lab.effects.propensity import area_under_curve, propensities, standardised
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.progress import number
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 50_000
"""Most rows of a propensity regression; of more, that many at equal distances."""

FEW_OUTSIDE, FEW_EXTREME = 0.02, 0.1
"""Shares above which the overlap is bad: rows outside the trained ones, extreme propensities."""


@dataclass(frozen=True)
class Overlap:
    """How far a scenario goes beyond the trained rows, and treatment beyond chance.

    Attributes:
        columns: For each column the trained range, the share of the scenario's rows outside of it
            (of a category: with a level that was not trained on), and the difference of means in
            trained standard deviations.
        outside: For each row of the scenario, whether one column is outside of its range, or all
            together are farther from the trained mean than any trained row (Mahalanobis).
        propensity: Of each trained row (or of 50,000), the probability of the treatment given its
            other columns; ``None`` without a treatment.
        extreme: Share of these outside of the limits; Crump et al. (2009).
        auc: How well the other columns tell treated from untreated rows: 0.5 not at all, 1 fully.
        effective: Effective number of treated and of untreated rows, weighted by the inverse
            propensity, over their number.
        changed: The columns in which the scenario differs from the trained rows.
    """

    columns: pd.DataFrame
    outside: Bool[np.ndarray, " row"]
    propensity: Float[np.ndarray, " row"] | None
    extreme: float | None
    auc: float | None
    effective: tuple[float, float] | None
    changed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether few rows are outside, and few propensities extreme."""
        few_outside = self.outside.mean() <= FEW_OUTSIDE
        return bool(few_outside and (self.extreme or 0.0) <= FEW_EXTREME)

    @property
    def text(self) -> str:
        """What was found, in a paragraph."""
        share = self.outside.mean()
        said = [f"{share:.1%} of the scenario's rows lie outside of the trained ones"]
        worst = self.columns["outside"].idxmax()
        if self.columns.loc[worst, "outside"] > 0:
            said[0] += f", most for {worst!r} ({self.columns.loc[worst, 'outside']:.1%})"
        elif share:
            said[0] += ", though in no single column: their combination is what was not trained on"
        said[0] += "."
        if share > FEW_OUTSIDE:
            said.append("Their effects are extrapolated: the kernel's form decides, not the data.")
        if self.propensity is not None:
            treated, untreated = self.effective
            said.append(
                f"The other columns tell treated from untreated rows with an AUC of {self.auc:.2f};"
                f" {self.extreme:.1%} of the propensities are extreme. Weighted to be alike, the "
                f"treated rows count as {treated:.0%} of their number, the untreated as "
                f"{untreated:.0%}."
            )
            if self.extreme > FEW_EXTREME:
                said.append(
                    "For such rows the data has hardly a counterpart: restrict the effect to the "
                    "others (subset=), or read it as extrapolated."
                )
        return " ".join(said)

    def __repr__(self) -> str:
        return f"{self.text}\n{self.columns.to_string(float_format=_short)}"

    def _repr_html_(self) -> str:
        rows = [
            [str(name), *(v if isinstance(v, str) else _short(v) for v in row)]
            for name, *row in self.columns.itertuples()
        ]
        return html_report(self.text, ["", *self.columns.columns], rows)


def _short(value: float) -> str:
    return number(value, 3)


def overlap(
    trained: Mapping[str, np.ndarray],
    scenario: Mapping[str, np.ndarray],
    treatment: str | None,
    limits: tuple[float, float],
) -> Overlap:
    """Compare columns of trained rows with those of a scenario.

    Args:
        trained: Columns by name; texts are levels of a category.
        scenario: The same columns.
        treatment: The column with the treatment, of two values.
        limits: Propensities outside of these are extreme.

    Raises:
        ArgumentError: If the treatment is no column of two values, or limits are none.
        DataError: If columns are missing, or values are not finite.
    """
    missing = [name for name in trained if name not in scenario]
    if missing or not trained:
        msg = f"The scenario lacks the columns {', '.join(map(repr, missing))} of the trained rows."
        raise DataError(msg)
    for what, rows in (("trained rows", trained), ("scenario", scenario)):
        counts = {len(values) for values in rows.values()}
        if len(counts) != 1 or 0 in counts:
            raise DataError(
                f"The columns of the {what} have {sorted(counts)} rows; they need some."
            )
    low, high = _limits(limits)
    table, outside, designs = {}, [], []
    for name, values in trained.items():
        other = scenario[name]
        row, far, design = _column(name, values, other)
        table[name] = row
        outside.append(far)
        designs.append((name, *design))
    outside.append(_far(*(np.concatenate([d[i] for d in designs], axis=1) for i in (1, 2))))
    changed = tuple(name for name in trained if not _same(trained[name], scenario[name]))
    scores = _scores(trained, designs, treatment, low, high)
    frame = late_import("pandas").DataFrame.from_dict(table, orient="index")
    return Overlap(frame, np.any(outside, axis=0), *scores, changed)


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
        found = {}
        for name, value in given.items():
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
    """Return numbers as floats, and all else as texts."""
    if is_a(column, "polars", "Series"):
        column = column.to_numpy()
    values = np.asarray(column)
    return values.astype(np.float64) if values.dtype.kind in "biuf" else values.astype(str)


def _column(
    name: str, trained: np.ndarray, scenario: np.ndarray
) -> tuple[dict[str, Any], np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Compare one column: its row in the table, which rows are outside, and its design."""
    if trained.dtype.kind != scenario.dtype.kind:
        raise DataError(
            f"The column {name!r} holds numbers in one of the tables, and texts in the other."
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
            raise DataError(f"The column {name!r} is not finite in row {bad[0]}.")
    low, high, sd = trained.min(), trained.max(), trained.std()
    far = (scenario < low) | (scenario > high)
    shift = (scenario.mean() - trained.mean()) / sd if sd > 0 else np.nan
    row = {"from": low, "to": high, "outside": far.mean(), "shift": shift}
    return row, far, (trained[:, None], scenario[:, None])


def _far(trained: np.ndarray, scenario: np.ndarray) -> np.ndarray:
    """Whether rows are farther from the trained mean than any trained row, after Mahalanobis."""
    ours, theirs = standardised(trained, trained), standardised(scenario, trained)
    spread = ours.T @ ours / len(ours)
    inverse = np.linalg.pinv(spread, rcond=1e-6, hermitian=True)
    distances = [np.einsum("ij,jk,ik->i", each, inverse, each) for each in (ours, theirs)]
    return distances[1] > distances[0].max() * (1 + 1e-6)


def _scores(
    trained: Mapping[str, np.ndarray], designs: list, treatment: str | None, low: float, high: float
) -> tuple[Any, Any, Any, Any]:
    if treatment is None:
        return None, None, None, None
    if not isinstance(treatment, str) or treatment not in trained:
        msg = f"treatment={shown(treatment)} is no column; they are {', '.join(trained)}."
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
    extreme = float(((score < low) | (score > high)).mean())
    effective = tuple(
        float(weights.sum() ** 2 / (weights**2).sum() / len(weights))
        for weights in (1 / score[flags], 1 / (1 - score[~flags]))
    )
    return score, extreme, area_under_curve(score, flags), effective


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
