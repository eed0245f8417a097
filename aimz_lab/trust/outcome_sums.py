"""Read the predictions of an outcome piece by piece: what its checks need, and no array of draws.

Kept are a few numbers for each row, and for each draw sums and a histogram over the rows of each
group. So every check is exact, whatever the size of the pieces, and none needs the draws again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, Shaped

from aimz_lab.errors import DataError
from aimz_lab.predictive.reducers.contract import Draws, OverDraws, RowMask, RowValues
from aimz_lab.trust.histogram_grid import Grid, choose_grid
from aimz_lab.trust.own_statistics import Statistic, own_statistics
from aimz_lab.trust.row_columns import RowTable

MOST_CURVES = 100
"""Draws of which histograms are kept, evenly spaced; sums are of all draws."""

_AT_ONCE = 1 << 18  # values of which double-precision copies are made together
_GRID_ROWS = 256  # rows whose predictions choose the grid, whatever the size of a piece


class OutcomeSums:
    """What is kept of the predictions of one outcome.

    Args:
        name: Its name.
        values: The observed values; NaN where one is missing. Such rows take no part in anything.
        table: The rows' columns.
        statistics: Further test statistics by name, each the mean of a function over the rows.

    Attributes:
        observed: Whether each row has a value.
        groups: Names of the groups of rows, ``("all rows", ...)``.
        mean: Mean of each row's draws.
        sd: Their standard deviation.
        below: How many draws are below the observed value.
        equal: How many are equal to it.
        grid: Edges of the histograms.
        counts: Histograms by group and draw; the first and the last bin are outside of the grid.
    """

    def __init__(
        self,
        name: str,
        values: Float[np.ndarray, " row"],
        table: RowTable,
        statistics: Mapping[str, Statistic] | None = None,
    ) -> None:
        self.name, self.values, self.table = name, np.asarray(values, np.float64), table
        self.observed = ~np.isnan(self.values)
        if not self.observed.any():
            raise DataError(f"The outcome {name!r} has no observed value to compare with.")
        seen = self.values[self.observed]
        if not np.isfinite(seen).all():
            raise DataError(f"The outcome {name!r} has infinite observed values.")
        self.groupings = table.groupings()
        self._own = own_statistics(statistics)
        for one in self._own:
            one.check_alone(seen)
        # Sums of whole numbers around a whole number are exact, so that ties are seen as such.
        is_whole = bool((seen == np.round(seen)).all())
        self._centre = float(np.round(seen.mean()) if is_whole else seen.mean())
        self._labels = [(one, i) for one in self.groupings for i in range(len(one.labels))]
        names = (f"{one.name}: {one.labels[number]}" for one, number in self._labels)
        self.groups = ("all rows", *names)
        self.reset(0)

    def reset(self, n_draws: int) -> None:
        """Begin anew, with a number of draws."""
        n_rows, n_groups = len(self.values), len(self.groups)
        self.n_draws = n_draws
        self._drawn_type = np.dtype(np.float64)
        self.mean, self.sd = np.full(n_rows, np.nan), np.full(n_rows, np.nan)
        self.below, self.equal = np.zeros(n_rows, np.int32), np.zeros(n_rows, np.int32)
        self.grid: Grid | None = None
        self.counts: Int[np.ndarray, "group curve bin"] = np.zeros((n_groups, 0, 0), np.int64)
        self._bad = np.zeros(n_rows, bool)
        self._seen = np.zeros(n_rows, bool)
        self._sums = np.zeros((3 + len(self._own), n_draws, n_groups))
        ends = np.array([np.inf, -np.inf])
        self._ends = np.broadcast_to(ends[:, None, None], (2, n_draws, n_groups)).copy()

    def members(self, group: int) -> Shaped[np.ndarray, " row"]:
        """Return which rows with an observed value are in a group.

        Args:
            group: Number of the group.
        """
        if group == 0:
            return self.observed
        grouping, number = self._labels[group - 1]
        return self.observed & (grouping.codes == number)

    def take(self, draws: Shaped[np.ndarray, "draw some"], rows: Int[np.ndarray, " some"]) -> None:
        """Take all draws of some rows.

        Args:
            draws: The draws.
            rows: Positions of the rows.
        """
        self._seen[rows] = True
        kept = self.observed[rows]
        finite = np.isfinite(draws).all(0)
        self._bad[rows] = kept & ~finite
        kept = kept & finite
        size = max(1, _AT_ONCE // max(len(draws), 1))
        draws, rows = draws[:, kept], rows[kept]
        for start in range(0, len(rows), size):
            self._take(draws[:, start : start + size], rows[start : start + size])

    def _take(self, draws: np.ndarray, rows: np.ndarray) -> None:
        # As single precision rounds the observed values, or a draw that is one would not equal it.
        if draws.dtype.kind == "f":
            self._drawn_type = draws.dtype
        own = self.values[rows].astype(self._drawn_type)
        self.below[rows], self.equal[rows] = (draws < own).sum(0), (draws == own).sum(0)
        values = draws.astype(np.float64)
        if self.grid is None:
            self._choose_grid(values[:, :_GRID_ROWS])
        self.mean[rows] = values.mean(0)
        self.sd[rows] = values.std(0)
        n_curves, n_bins = self.counts.shape[1:]
        bins = self.grid.bins(values[self._curves]) + n_bins * np.arange(n_curves)[:, None]
        self._add_by_group(rows, np.ascontiguousarray(values.T), np.ascontiguousarray(bins.T))

    def _choose_grid(self, drawn: np.ndarray) -> None:
        self.grid = choose_grid(self.values[self.observed], drawn)
        n_curves = min(self.n_draws, MOST_CURVES)
        self._curves = np.linspace(0, self.n_draws - 1, n_curves).astype(int)
        self.counts = np.zeros((len(self.groups), n_curves, self.grid.n_bins + 2), np.int64)

    def _add_by_group(self, rows: np.ndarray, draws: np.ndarray, bins: np.ndarray) -> None:
        """Add sums, histograms and ends, rows first, group by group."""
        self._add(0, draws, bins)
        first = 1
        for one in self.groupings:
            codes = one.codes[rows]
            order = np.argsort(codes, kind="stable")
            ends = np.searchsorted(codes[order], np.arange(len(one.labels) + 1))
            for number, (start, stop) in enumerate(pairwise(ends)):
                if stop > start:
                    self._add(first + number, draws[order[start:stop]], bins[order[start:stop]])
            first += len(one.labels)

    def _add(self, group: int, draws: np.ndarray, bins: np.ndarray) -> None:
        shape = self.counts.shape[1:]
        found = np.bincount(bins.ravel(), minlength=shape[0] * shape[1])
        self.counts[group] += found.reshape(shape)
        centred = draws - self._centre
        parts = [centred, centred**2, draws == 0, *(one(draws) for one in self._own)]
        for total, part in zip(self._sums, parts, strict=True):
            total[:, group] += np.asarray(part).sum(0, dtype=np.float64)
        low, high = self._ends[:, :, group]
        self._ends[0, :, group] = np.minimum(low, draws.min(0))
        self._ends[1, :, group] = np.maximum(high, draws.max(0))

    def finish(self) -> None:
        """Check that all rows were read, and that their draws are predictions.

        Raises:
            DataError: If there were fewer rows, draws are not finite, or they are the data itself.
        """
        if not self._seen.any():
            msg = (
                f"{self.name!r} has {len(self._seen):,} observed rows, and its draws have none: "
                "its value is not one for each row. Name sites that are in the plate of the rows."
            )
            raise DataError(msg)
        if not self._seen.all():
            msg = (
                f"{self.name!r} has {len(self._seen):,} observed rows, and there are predictions "
                f"of {self._seen.sum():,}; pass the output of the predicted rows."
            )
            raise DataError(msg)
        if self._bad.any():
            first = int(np.argmax(self._bad))
            msg = (
                f"Predictions of {self.name!r} are infinite or not a number in "
                f"{self._bad.sum():,} of {len(self._bad):,} rows, first in row "
                f"{self.table.row_names(np.array([first]))[0]}: nothing can be checked against "
                "them. Look at what the kernel computes there."
            )
            raise DataError(msg)
        if self.n_draws > 1 and (self.equal[self.observed] == self.n_draws).all():
            msg = (
                f"All draws of {self.name!r} equal the observed value in every row: it was "
                "observed or held in the call that made them, so that they are no predictions. "
                "Leave its data out of that call."
            )
            raise DataError(msg)

    def statistics(self, group: int = 0) -> dict[str, tuple[Float[np.ndarray, " draw"], float]]:
        """Return each test statistic of the draws, with that of the observed values.

        Args:
            group: Number of the group of rows.
        """
        own = self.values[self.members(group)].astype(self._drawn_type).astype(np.float64)
        count = len(own)
        total, squares, zeros, *further = self._sums[:, :, group] / count
        # By the same formula as of the draws, or what ties would differ in its last digits.
        centred = own - self._centre
        its_total, its_squares = centred.sum() / count, (centred**2).sum() / count
        found = {
            "mean": (total + self._centre, float(its_total + self._centre)),
            "sd": (_root(squares - total**2), float(_root(its_squares - its_total**2))),
            "minimum": (self._ends[0, :, group], float(own.min())),
            "maximum": (self._ends[1, :, group], float(own.max())),
            "share of zeros": (zeros, float((own == 0).mean())),
        }
        for one, drawn in zip(self._own, further, strict=True):
            found[one.name] = drawn, float(one(own).sum() / count)
        return found


def _root(variance: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(variance, 0))


class OutcomeReader(OverDraws):
    """A reducer that hands the draws of a site, piece by piece, to the sums of its outcomes.

    Args:
        outcomes: Sums for each entry of a row.
    """

    on_host = True

    def __init__(self, outcomes: Sequence[OutcomeSums]) -> None:
        super().__init__("checked")
        self.by_row = np.arange(len(outcomes[0].values), dtype=np.int64)
        self._outcomes = tuple(outcomes)

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> np.ndarray:
        """Take the draws; return the number of draws of each row."""
        del valid
        rows, values = np.asarray(by_row), np.asarray(values)
        if values.dtype.kind not in "fiub":
            msg = f"Draws of {self._outcomes[0].name!r} are numbers; got {values.dtype}."
            raise DataError(msg)
        flat = values.reshape(*values.shape[:2], -1)
        if flat.shape[2] != len(self._outcomes):
            msg = (
                f"A row of {self._outcomes[0].name!r} has {len(self._outcomes)} observed values "
                f"and {flat.shape[2]} predicted ones; pass outputs of the site's shape."
            )
            raise DataError(msg)
        for entry, one in enumerate(self._outcomes):
            if rows[0] == 0:  # a prediction that crosses rows begins again
                one.reset(len(values))
            one.take(flat[:, :, entry], rows)
        return np.full(values.shape[1:], len(values), np.int32)
