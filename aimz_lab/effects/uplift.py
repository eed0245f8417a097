"""Uplift: do individual effects rank and size the rows rightly? Qini curves and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from aimz_lab.calls import public
from aimz_lab.data import labels_of_index
from aimz_lab.data.checks import check_int_from
from aimz_lab.data.html import html_report
from aimz_lab.effects.averages import PIECE_VALUES, row_dim
from aimz_lab.effects.outcome_names import warn_of_transform
from aimz_lab.effects.row_groups import agreeing_labels, numbers_by_row
from aimz_lab.effects.sentences import DRAWN_HERE, WITHOUT_NOISE
from aimz_lab.effects.summaries import draws_of, hdi, site_of
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.number_text import number_beside, numbers_of_row
from aimz_lab.predictive.drawn_sites import named_as_drawn
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.system.random_streams import own_rng
from aimz_lab.types import SAMPLE_DIMS

if TYPE_CHECKING:
    import pandas as pd

_FRACTIONS = np.linspace(0, 1, 51)
_RESAMPLES = 200
_BEYOND = 1.645  # standard errors that chance exceeds once in 20
_ROUNDING = 1e-12  # of the outcomes, which an area of nothing may keep
_LEAST_ROWS = 5  # of each arm; fewer outcomes have no standard error to speak of


@dataclass(frozen=True)
class Uplift:
    """How well individual effects target the rows.

    Attributes:
        curve: Along ``fraction``, the rows with the largest effects first: the outcome gained per
            row of all by treating that fraction, ``gain``, ranked by the mean effects, with the
            ends of the band of rankings by each draw; and ``random``, that of no ranking.
        qini: The area between gain and random, of the ranking by mean effects (Radcliffe, 2007).
        qini_draws: The same for the ranking by each draw.
        qini_se: Standard error of the area over other rows, by 200 bootstrap samples of the rows;
            NaN with fewer than 5 treated or untreated rows.
        auuc: The area below the gain.
        calibration: For each bin of rows by mean effect, the effect that was predicted, with its
            interval, and the one observed, with its standard error.
        prob: Share of the draws in bands and intervals.
    """

    curve: xr.Dataset
    qini: float
    qini_draws: Float[np.ndarray, " draw"]
    qini_se: float
    auuc: float
    calibration: pd.DataFrame
    prob: float
    _of_drawn: bool = field(repr=False)

    @property
    def text(self) -> str:
        """What was found, in a paragraph."""
        ends = hdi(self.qini_draws, self.prob)
        spread = float(ends[1] - ends[0])
        mean, low, high = (number_beside(float(one), spread, 3) for one in (self.qini, *ends))
        table = self.calibration
        off = (table["observed"] - table["predicted"]).abs() > 2 * table["observed_se"]
        judged = int(table["observed_se"].notna().sum())
        few = len(table) - judged
        left = f" ({few} others have too few treated or untreated rows to tell)" if few else ""
        is_better = self.qini > _BEYOND * self.qini_se
        said = "the ranking is better than chance" if is_better else "it may be chance"
        error = f"Over other rows its standard error is {number_beside(self.qini_se, spread, 3)}"
        if np.isnan(self.qini_se):
            error, said = f"An arm has fewer than {_LEAST_ROWS} rows", "too few to tell from chance"
        return (
            f"Rows ranked by their mean effect gain {mean} more per row than at "
            f"random (the Qini area; {self.prob:.0%} of the draws' own rankings: "
            f"{low} to {high}). {error}: {said}. "
            f"In {int(off.sum())} of "
            f"{judged} bins the observed effect is more than two standard errors from the "
            f"predicted one{left}. Observed "
            "effects are "
            "differences between treated and untreated rows: they mean something if the treatment "
            "was randomised, or weights= make up for its choice."
            f"{self._of_noise}"
        )

    @property
    def _of_noise(self) -> str:
        if not self._of_drawn:
            return ""
        return (
            f" {DRAWN_HERE}: bands, intervals and rankings by draw hold the noise of single rows, "
            f"unless it is added and cancels in a difference. {WITHOUT_NOISE}."
        )

    def __repr__(self) -> str:
        pd = late_import("pandas")
        table = self.calibration
        cells = pd.DataFrame(self._cells(), table.index, table.columns)
        return f"{self.text}\n{cells.to_string()}"

    def _repr_html_(self) -> str:
        table = self.calibration
        cells = [[str(bin_), *row] for bin_, row in zip(table.index, self._cells(), strict=True)]
        return html_report(self.text, ["bin", *table.columns], cells)

    def _cells(self) -> list[list[str]]:
        return [numbers_of_row(row) for row in self.calibration.to_dict("records")]


@public
def uplift(
    effect: xr.DataTree | xr.Dataset,
    outcome: ArrayLike,
    treated: ArrayLike,
    *,
    site: str | None = None,
    weights: ArrayLike | None = None,
    bins: int = 10,
    prob: float = 0.94,
) -> Uplift:
    """Compare individual effects with what happened to treated and untreated rows.

    The gain of a fraction is that fraction times the difference between the mean outcomes of its
    treated and its untreated rows (Gutierrez and Gerardy, 2017). Rows with equal effects have no
    order: the gain between them is a straight line. Draws are read some at a time. Whether
    the ranking is better than chance is a test at 5%, with the standard error of the bootstrap over
    rows.

    Args:
        effect: Draws of the effect on each row, as :meth:`~aimz_lab.ImpactModel.estimate_effect`
            returns them; best of rows that the model was not trained on.
        outcome: The outcome that was observed, one per row.
        treated: Whether the row was treated.
        site: The site of the effect; by default the only one.
        weights: One weight per row, such as the inverse probability of the treatment it got.
        bins: Number of bins of the calibration.
        prob: Share of the draws in bands and intervals.

    Raises:
        ArgumentError: If there are no draws by row, they are no differences, or a value is not
            allowed.
        DataError: If values are not one per row or not finite, or there are no treated or no
            untreated rows.

    Warns:
        OutputWarning: If the kernel observes a function of the outcome, which ``outcome`` has to
            hold then.
    """
    draws, rows, of_drawn = _by_row(effect, site)
    n_rows = draws.sizes[rows]
    known = labels_of_index(draws.indexes[rows], named=False) if rows in draws.indexes else None
    agreeing_labels({"outcome": [outcome], "treated": [treated], "weights": [weights]}, known)
    y, flags = (numbers_by_row(n, v, ()) for n, v in (("outcome", outcome), ("treated", treated)))
    weight = np.ones(n_rows) if weights is None else numbers_by_row("weights", weights, ())
    _check_rows(n_rows, y, flags, weight)
    bins = check_int_from(1, "bins", bins)
    if bins > n_rows:
        raise ArgumentError(f"bins={bins} is more than the {n_rows:,} rows; use fewer.")
    mean = draws.mean(SAMPLE_DIMS, dtype=np.float64, skipna=False).values
    if not np.isfinite(mean).all():
        row = np.flatnonzero(~np.isfinite(mean))[0]
        raise DataError(f"The effect has draws that are not finite, first of row {row}.")
    data = y, flags.astype(bool), weight
    codes = _bins(mean, bins)
    gains, predicted = [], []
    for values in _some_draws(draws, rows):
        gains += [_gain(one, *data) for one in values]
        predicted.append(_bin_means(values, codes))
    gain, each = _gain(mean, *data), np.stack(gains)
    line = _FRACTIONS * gain[-1]
    low, high = hdi(each, prob).T
    curve = xr.Dataset(
        {
            name: ("fraction", v)
            for name, v in {"gain": gain, "low": low, "high": high, "random": line}.items()
        },
        {"fraction": _FRACTIONS},
    )
    table = _calibration(np.concatenate(predicted), codes, data, prob)
    qini, by_draw = _area(gain - line), _area(each - line)
    if abs(qini) < _ROUNDING * np.abs(y).max():
        qini = 0.0
    return Uplift(curve, qini, by_draw, _error(mean, *data), _area(gain), table, prob, of_drawn)


def _by_row(effect: xr.DataTree | xr.Dataset, site: str | None) -> tuple[xr.DataArray, str, bool]:
    """Return the draws of a site, its dimension of rows, and whether outcomes are drawn."""
    found = draws_of(effect)
    draws = site_of(found, site)
    rows = row_dim(draws, found, None)
    if rows is None or draws.ndim != 3:
        dims = ", ".join(map(str, draws.dims))
        msg = (
            f"{draws.name!r} has the dimensions {dims}; uplift needs draws of the effect on each "
            "row: im.estimate_effect(...) without by= and reduce=."
        )
        raise ArgumentError(msg)
    kind = found.attrs.get("contrast", "difference")
    if kind != "difference":
        msg = (
            f"The effect on {draws.name!r} has the contrast {kind!r}, and what is observed of "
            "treated and untreated rows is a difference; pass an effect without contrast=."
        )
        raise ArgumentError(msg)
    warn_of_transform(found.attrs, draws.name, "outcome=")
    return draws, rows, draws.name in named_as_drawn(found.attrs)


def _check_rows(n_rows: int, y: np.ndarray, flags: np.ndarray, weight: np.ndarray) -> None:
    for name, values in (("outcome", y), ("treated", flags), ("weights", weight)):
        if len(values) != n_rows:
            raise DataError(f"{name}= has {len(values):,} values; the effect has {n_rows:,} rows.")
        if not np.isfinite(values).all():
            raise DataError(f"{name}= has values that are not finite.")
    if not np.isin(flags, (0, 1)).all() or len(np.unique(flags)) < 2:
        raise DataError("treated= takes a flag for each row, some True and some False.")
    if (weight <= 0).any():
        raise DataError("weights= must be above 0.")


def _some_draws(draws: xr.DataArray, rows: str) -> Iterator[np.ndarray]:
    """Yield draws ``(s, N)`` in double precision, some at a time."""
    step = max(1, PIECE_VALUES // max(draws.sizes[rows], 1))
    for chain in range(draws.sizes["chain"]):
        for first in range(0, draws.sizes["draw"], step):
            part = draws.isel(chain=chain, draw=slice(first, first + step))
            yield np.asarray(part.transpose("draw", rows).values, dtype=np.float64)


def _gain(effect: np.ndarray, y: np.ndarray, flags: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Gain per row of treating each fraction of the rows, those with the largest effect first."""
    order = np.argsort(-effect, kind="stable")
    ranked = effect[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # of rows with equal effects
    sums = []
    for arm in (flags, ~flags):
        w = np.where(arm, weight, 0.0)[order]
        sums += [np.cumsum(w)[ends], np.cumsum(w * y[order])[ends]]
    n_treated, y_treated, n_control, y_control = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        lift = y_treated / n_treated - y_control / n_control
    share = (ends + 1) / len(ranked)
    known = np.isfinite(lift)  # both arms are among the first rows
    gain = lift[known] * share[known]
    return np.interp(_FRACTIONS, np.append(0.0, share[known]), np.append(0.0, gain))


def _error(effect: np.ndarray, *data: np.ndarray) -> float:
    """Standard error of the Qini area of a ranking, by the bootstrap over rows."""
    flags = data[1]
    if min(flags.sum(), (~flags).sum()) < _LEAST_ROWS:
        return np.nan
    rng, areas = own_rng("uplift"), []
    for _ in range(_RESAMPLES):
        rows = rng.integers(len(effect), size=len(effect))
        gain = _gain(effect[rows], *(values[rows] for values in data))
        areas.append(_area(gain - _FRACTIONS * gain[-1]))
    return float(np.std(areas, ddof=1))


def _area(gain: np.ndarray) -> np.ndarray:
    return np.trapezoid(gain, _FRACTIONS, axis=-1)


def _bins(mean: np.ndarray, n_bins: int) -> np.ndarray:
    """Number of each row's bin by mean effect; equal effects share one."""
    edges = np.unique(np.quantile(mean, np.linspace(0, 1, n_bins + 1)[1:-1]))
    codes = np.searchsorted(edges, mean, side="right")
    return np.unique(codes, return_inverse=True)[1]


def _bin_means(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    counts = np.bincount(codes)
    return np.stack([np.bincount(codes, weights=one) / counts for one in values])


def _calibration(
    predicted: np.ndarray, codes: np.ndarray, data: tuple[np.ndarray, ...], prob: float
) -> pd.DataFrame:
    pd = late_import("pandas")
    y, flags, weight = data
    arms = [_arm(y, weight * arm, codes) for arm in (flags, ~flags)]
    low, high = hdi(predicted, prob).T
    table = {
        "predicted": predicted.mean(0),
        "hdi_low": low,
        "hdi_high": high,
        "observed": arms[0][0] - arms[1][0],
        "observed_se": np.sqrt(arms[0][1] + arms[1][1]),
        "treated": np.bincount(codes, weights=flags).astype(int),
        "untreated": np.bincount(codes, weights=~flags).astype(int),
    }
    return pd.DataFrame(table, index=pd.RangeIndex(len(low), name="bin"))


def _arm(y: np.ndarray, weight: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of an arm in each bin, and the variance of that mean."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.bincount(codes, weights=weight)
        mean = np.bincount(codes, weights=weight * y) / total
        n = np.bincount(codes, weights=weight > 0)
        squares = np.bincount(codes, weights=(weight * (y - mean[codes])) ** 2)
        return mean, np.where(n > 1, squares / total**2 * n / (n - 1), np.nan)
