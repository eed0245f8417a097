"""Tables of predictive checks of one outcome, from what was kept of its draws."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from aimz_lab.errors import ArgumentError
from aimz_lab.system.lazy_modules import pd
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.outcome_sums import OutcomeSums
from aimz_lab.trust.predictive_checks import p_values
from aimz_lab.trust.row_columns import RowColumn
from aimz_lab.trust.uniformity import Uniformity, uniformity
from aimz_lab.trust.worst_rows import WorstRows

Residual = Literal["y - mean", "standardised", "quantile"]
"""The observed value less the mean of its predictions; over their sd; or the PIT as a normal."""

MOST_PIT = 2_000
"""PIT values that are compared with uniform ones; of more, a random sample is."""

_BINS = 10
_SURE = 0.95  # of intervals around shares and means
_FEW = 1e-9


class OutcomeChecks:
    """The checks of one outcome.

    Args:
        sums: What was kept of its draws, all rows read.
        worst: Leave-one-out of the rows; ``None`` if there is no log-likelihood.

    Attributes:
        name: Name of the outcome.
        pit: Where each observed value lies among its predictions, 0 to 1; NaN where none is.
    """

    def __init__(self, sums: OutcomeSums, worst: WorstRows | None = None) -> None:
        sums.finish()
        self.name, self.sums, self.worst = sums.name, sums, worst
        self.pit = _pit(sums)
        self._uniform: dict[int, Uniformity] = {}
        is_member = [sums.members(group).any() for group in range(len(sums.groups))]
        self.groups = {name: group for group, name in enumerate(sums.groups) if is_member[group]}

    def n_rows(self, group: int = 0) -> int:
        """How many observed rows a group has."""
        return int(self.sums.members(group).sum())

    def density(self, level: float, group: int = 0) -> pd.DataFrame:
        """Histogram of the observed values beside those of single draws.

        Args:
            level: Share of the draws whose histograms lie within the band, bin by bin.
            group: Number of the group of rows.

        Returns:
            Edges of the bins, and the densities: observed, the draws' mean, and the band.
        """
        grid, n_rows = self.sums.grid, self.n_rows(group)
        every = grid.every(n_rows)
        own, drawn = self._histograms(group)
        own, drawn = (_together(each[..., 1:-1], every) for each in (own, drawn))
        width = grid.widths(every) * n_rows
        low, high = np.quantile(drawn / width, _tails(level), axis=0)
        return pd.DataFrame(
            {
                "from": grid.edges[:-1:every],
                "to": grid.edges[every::every],
                "observed": own / width,
                "predicted": drawn.mean(0) / width,
                "low": low,
                "high": high,
            }
        )

    def outside(self, group: int = 0) -> tuple[float, float]:
        """Return the shares of observed and predicted values beyond the ends of the histogram.

        Args:
            group: Number of the group of rows.
        """
        own, drawn = self._histograms(group)
        beyond = (each[..., 0] + each[..., -1] for each in (own, drawn))
        return tuple(float(np.mean(each)) / self.n_rows(group) for each in beyond)

    def ecdf(self, level: float, group: int = 0) -> pd.DataFrame:
        """Shares of observed and of predicted values below points.

        Args:
            level: Share of the draws whose curves lie within the band, point by point.
            group: Number of the group of rows.
        """
        own, drawn = (
            each.cumsum(-1)[..., :-1] / self.n_rows(group) for each in self._histograms(group)
        )
        low, high = np.quantile(drawn, _tails(level), axis=0)
        columns = {"observed": own, "predicted": drawn.mean(0), "low": low, "high": high}
        return pd.DataFrame({"value": self.sums.grid.edges, **columns})

    def statistics(self, level: float, group: int = 0) -> pd.DataFrame:
        """Test statistics of the observed values beside those of the draws, with p-values.

        Args:
            level: Share of the draws between ``low`` and ``high``.
            group: Number of the group of rows.
        """
        found = self.statistics_of_draws(group)
        p = p_values(found)
        rows = {
            name: [own, float(np.median(drawn)), *np.quantile(drawn, _tails(level)), p[name][0]]
            for name, (drawn, own) in found.items()
        }
        columns = ["observed", "predicted", "low", "high", "p_value"]
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
        return table.rename_axis("statistic")

    def statistics_of_draws(
        self, group: int = 0
    ) -> dict[str, tuple[Float[np.ndarray, " draw"], float]]:
        """Return each test statistic of the draws, with that of the observed values.

        Args:
            group: Number of the group of rows.
        """
        found = self.sums.statistics(group)
        drawn, own = found["share of zeros"]
        if own == 0 and not drawn.any():
            del found["share of zeros"]
        return found

    def uniform(self, group: int = 0) -> Uniformity:
        """Compare the PIT with a uniform distribution; of many rows, of a random sample.

        Args:
            group: Number of the group of rows.
        """
        if group not in self._uniform:
            values = self.pit[self.sums.members(group)]
            if len(values) > MOST_PIT:
                values = own_rng("outcomes").choice(values, MOST_PIT, replace=False)
            self._uniform[group] = uniformity(values)
        return self._uniform[group]

    def pit_table(self, group: int = 0) -> pd.DataFrame:
        """The PIT's distribution less a uniform one, with the band that holds the whole curve.

        Args:
            group: Number of the group of rows.
        """
        found = self.uniform(group)
        columns = {"difference": found.ecdf, "low": found.lower, "high": found.upper}
        apart = {name: each - found.expected for name, each in columns.items()}
        return pd.DataFrame({"pit": found.points, **apart})

    def coverage(self, levels: Float[np.ndarray, " level"], group: int = 0) -> pd.DataFrame:
        """Share of the observed values inside of central intervals of several levels.

        Args:
            levels: The levels.
            group: Number of the group of rows.

        Returns:
            The share, with the ends of the 95% interval that it has over independent rows of a
            calibrated model.
        """
        apart = np.sort(np.abs(self.pit[self.sums.members(group)] - 0.5))
        held = np.searchsorted(apart, np.asarray(levels) / 2, side="right") / len(apart)
        low, high = _binomial(np.asarray(levels), len(apart))
        columns = {"level": levels, "coverage": held, "low": low, "high": high}
        return pd.DataFrame(columns | {"rows": len(apart)})

    def coverage_by(self, column: RowColumn, level: float, group: int = 0) -> pd.DataFrame:
        """The same at one level, for rows with like values of a column.

        Args:
            column: The column.
            level: The level.
            group: Number of the group of rows.
        """
        members = self.sums.members(group)
        codes, names, _ = column.places()
        inside = (np.abs(self.pit - 0.5) <= level / 2)[members]
        count, held = _sums(codes[members], len(names), inside)
        low, high = _binomial(np.full(len(names), level), np.maximum(count, 1))
        columns = {"rows": count, "coverage": held / np.maximum(count, 1), "low": low, "high": high}
        table = pd.DataFrame(columns, index=pd.Index(names, name=column.name))
        return table[table["rows"] > 0]

    def calibration(self, group: int = 0) -> pd.DataFrame:
        """Mean of the observed values of rows with like predictions.

        Args:
            group: Number of the group of rows.

        Returns:
            For ten sets of rows the mean of their predictions, and of their observed values with a
            95% interval.
        """
        members = self.sums.members(group)
        predicted, own = self.sums.mean[members], self.sums.values[members]
        cuts = np.unique(np.quantile(predicted, np.linspace(0, 1, _BINS + 1)[1:-1]))
        codes = np.searchsorted(cuts, predicted, side="right")
        centre = own.mean()  # the squares of large values have no digits left for their spread
        apart = own - centre
        count, expected, mean, square = _sums(codes, len(cuts) + 1, predicted, apart, apart**2)
        kept = count > 0
        count, expected, mean, square = (each[kept] for each in (count, expected, mean, square))
        mean, error = _mean_and_error(count, mean, square)
        mean = mean + centre
        columns = {"rows": count, "predicted": expected / count, "observed": mean}
        return pd.DataFrame(columns | {"low": mean - error, "high": mean + error})

    def residuals(self, kind: Residual) -> Float[np.ndarray, " row"]:
        """Return the residual of each row; NaN where nothing was observed.

        Args:
            kind: Which one.

        Raises:
            ArgumentError: If there is no such kind.
        """
        apart = self.sums.values - self.sums.mean
        if kind == "y - mean":
            return apart
        if kind == "standardised":
            is_sure = self.sums.observed & (self.sums.equal == self.sums.n_draws)  # and right
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.where(self.sums.sd > 0, apart / self.sums.sd, np.nan)
            return np.where(is_sure, 0.0, found)
        if kind == "quantile":
            from scipy.special import ndtri  # it takes long to import, and a fit has no use for it

            return ndtri(np.clip(self.pit, _FEW, 1 - _FEW))
        raise ArgumentError(f"residual={kind!r} is not known: y - mean, standardised, quantile.")

    def residuals_by(self, column: RowColumn, kind: Residual, group: int = 0) -> pd.DataFrame:
        """Residuals of rows with like values of a column.

        Args:
            column: The column.
            kind: Which residuals.
            group: Number of the group of rows.

        Returns:
            For each set of rows the mean of the residuals with its 95% interval, their standard
            deviation, and the mean of the column.
        """
        found = self.residuals(kind)
        codes, names, at = column.places()
        members = self.sums.members(group) & ~np.isnan(found) & (codes >= 0)
        count, mean, square = _sums(
            codes[members], len(names), found[members], np.square(found[members])
        )
        kept = count > 0
        count, mean, square = count[kept], mean[kept], square[kept]
        mean, error = _mean_and_error(count, mean, square)
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = error * np.sqrt(count) / _t(count)
        columns = {"at": at[kept], "rows": count, "mean": mean}
        columns |= {"low": mean - error, "high": mean + error, "sd": sd}
        names = [name for name, one in zip(names, kept, strict=True) if one]
        return pd.DataFrame(columns, index=pd.Index(names, name=column.name))

    def worst_rows(self, count: int, group: int = 0) -> pd.DataFrame:
        """The rows that are predicted worst, worst first.

        By leave-one-out where the log-likelihood is known, else by how far in the tails of its
        predictions a row's observed value lies, in sds.

        Args:
            count: How many.
            group: Number of the group of rows.
        """
        members = self.sums.members(group)
        rows, scores = self._ranked(members, count)
        columns = {
            "observed": self.sums.values[rows],
            "predicted": self.sums.mean[rows],
            "sd": self.sums.sd[rows],
            "pit": self.pit[rows],
        }
        columns |= scores
        columns |= {one.name: one.texts(rows) for one in self.sums.table.columns.values()}
        names = self.sums.table.row_names(rows)
        return pd.DataFrame(columns, index=pd.Index(names, name="row"))

    def _ranked(
        self, members: np.ndarray, count: int
    ) -> tuple[Int[np.ndarray, " few"], dict[str, np.ndarray]]:
        if self.worst is None:
            apart = np.where(members, np.abs(self.residuals("standardised")), -1.0)
            apart = np.where(np.isnan(apart), np.inf, apart)
            order = np.argsort(-apart, kind="stable")
            rows = order[members[order]][:count]
            return rows, {"sds_off": self.residuals("standardised")[rows]}
        at = np.flatnonzero(members[self.worst.rows])[:count]
        worst = self.worst
        scores = {"elpd_loo": worst.elpd[at], "p_loo": worst.p[at], "k_hat": worst.k[at]}
        return worst.rows[at], scores

    def _histograms(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts of the observed values, and of each kept draw."""
        grid = self.sums.grid
        own = grid.bins(self.sums.values[self.sums.members(group)])
        return np.bincount(own, minlength=grid.n_bins + 2), self.sums.counts[group]


def _pit(sums: OutcomeSums) -> np.ndarray:
    """Return the rank of each observed value among itself and its draws, ties broken at random.

    Exactly uniform if value and draws are of one distribution, for any number of draws and for
    discrete outcomes; Czado, Gneiting and Held (2009). A row's random number is that of its place.
    """
    random = own_rng("outcomes").uniform(size=len(sums.values))
    pit = (sums.below + random * (sums.equal + 1)) / (sums.n_draws + 1)
    return np.where(sums.observed, pit, np.nan)


def _tails(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]


def _together(counts: np.ndarray, every: int) -> np.ndarray:
    return counts.reshape(*counts.shape[:-1], -1, every).sum(-1)


def _sums(codes: np.ndarray, n_sets: int, *values: np.ndarray) -> list[np.ndarray]:
    """Count the rows of each set, and sum values over them."""
    known = codes >= 0
    count = np.bincount(codes[known], minlength=n_sets)
    rest = [np.bincount(codes[known], weights=one[known], minlength=n_sets) for one in values]
    return [count, *rest]


def _mean_and_error(
    count: np.ndarray, total: np.ndarray, squares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return means, and half the width of their 95% intervals; NaN of a single row."""
    mean = total / count
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(squares / count - mean**2, 0) * count / (count - 1)
        return mean, np.where(count > 1, _t(count) * np.sqrt(variance / count), np.nan)


def _t(count: np.ndarray) -> np.ndarray:
    """Return the quantile of Student's t that makes a standard error of some rows an interval."""
    from scipy.special import stdtrit

    return stdtrit(np.maximum(count - 1, 1), (1 + _SURE) / 2)


def _binomial(share: np.ndarray, count: object) -> np.ndarray:
    """Return the shares between which a calibrated model's is with 95% probability."""
    from scipy.stats import binom

    return np.stack([binom.ppf(tail, count, share) / count for tail in _tails(_SURE)])
