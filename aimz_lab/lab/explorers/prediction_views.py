"""What the explorer of predictions shows of each check: charts, words and the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aimz_lab.lab.explorers.charts import (
    MOST_POINTS,
    Band,
    Bars,
    Chart,
    Handle,
    Layer,
    Line,
    Points,
    Rule,
    Steps,
    View,
)
from aimz_lab.lab.explorers.prediction_checks import PredictionChecks
from aimz_lab.lab.explorers.share_layers import Predicted, share_layers
from aimz_lab.lab.explorers.value_axis import whole_ecdf
from aimz_lab.lab.formatting import number_beside, share
from aimz_lab.trust.checked_predictions import PREDICTED
from aimz_lab.trust.histogram_grid import Grid
from aimz_lab.trust.outcome_checks import MOST_PIT, OutcomeChecks
from aimz_lab.trust.row_columns import RowColumn
from aimz_lab.trust.smoothing import trusted_k

NO_COLUMN = "none"

_PIT_BINS = 20
_WORTH_SAYING = 0.001  # of the values, beyond the ends of a picture


def view_of(checks: PredictionChecks, asked: Mapping[str, Any]) -> View:
    """Return what is shown of a check.

    Args:
        checks: The checks.
        asked: Values of the controls.

    Raises:
        ArgumentError: If the outcome has no such group.
    """
    one = checks.checked.of(asked["outcome"])
    group = checks.checked.number_of(one, asked["group"])
    table = checks.table(asked["check"], **table_arguments(asked))
    charts, sentences = _VIEWS[asked["check"]](checks, one, group, asked, table)
    left_out = len(one.sums.values) - int(one.sums.observed.sum())
    if left_out:
        are = "is" if left_out == 1 else "are"
        sentences += [f"{_count(left_out, 'row')} without an observed value {are} left out."]
    return View(charts=charts, table=table, sentences=[*sentences, *checks.notes])


def table_arguments(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``PredictionChecks.table`` that a check reads.

    Args:
        asked: Values of the controls.
    """
    check = asked["check"]
    names = ["outcome", "group"]
    if check in ("density", "ECDF", "test statistics", "coverage"):
        names.append("level")
    if check == "residuals":
        names.append("residual")
    if check in ("residuals", "coverage") and asked["column"] != NO_COLUMN:
        names.append("column")
    found = {name: asked[name] for name in names}
    return found | ({"count": asked["rows"]} if check == "worst rows" else {})


Found = tuple[list[Chart], list[str]]


def _density(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    grid = one.sums.grid
    label = f"{asked['level']:.0%} of {one.sums.counts.shape[1]} draws"
    if grid.is_whole:
        layers = _whole_layers(grid, table, label, checks.checked.levels.get(one.name, ()))
    else:
        layers = _smooth_layers(grid, table, label)
    y_label = "density of its log" if grid.scale == "log" else "density"
    if grid.is_whole and grid.edges[1] - grid.edges[0] == 1:
        y_label = "share of the rows"
    chart = Chart(
        layers,
        _title(checks, one, asked),
        _label(checks, one),
        y_label,
        x_scale=grid.scale,
        y_range=_from_zero(table),
    )
    return [chart], [_rows(one, group), *_outside(one, group)]


def _smooth_layers(grid: Grid, table: Any, label: str) -> list[Layer]:
    edges = np.append(table["from"], table["to"].iloc[-1])
    is_log = grid.scale == "log"
    middle = np.sqrt(edges[:-1] * edges[1:]) if is_log else (edges[:-1] + edges[1:]) / 2
    return [
        Steps(edges, table["observed"], label="observed", role="data"),
        Band(middle, table["low"], table["high"], label=label),
        Line(middle, table["predicted"], label="predicted"),
    ]


def _whole_layers(grid: Grid, table: Any, label: str, levels: Sequence[str]) -> list[Layer]:
    heights = (table[name].to_numpy() for name in ("predicted", "low", "high"))
    observed = "observed", table["observed"].to_numpy()
    predicted = Predicted("predicted", label, *heights)
    return share_layers(grid.edges, predicted, observed, levels=levels)


def _ecdf(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    label = f"{asked['level']:.0%} of {one.sums.counts.shape[1]} draws"
    names = ("value", "predicted", "observed", "low", "high")
    x, predicted, observed, low, high = (table[name].to_numpy() for name in names)
    if one.sums.grid.is_whole:
        steps = [whole_ecdf(x, each) for each in (predicted, observed, low, high)]
        x, (predicted, observed, low, high) = steps[0][0], (heights for _, heights in steps)
    layers = [
        Band(x, low, high, label=label),
        Line(x, predicted, label="predicted"),
        Line(x, observed, label="observed", role="data"),
    ]
    chart = Chart(
        layers,
        _title(checks, one, asked),
        _label(checks, one),
        "cumulative share",
        x_scale=one.sums.grid.scale,
    )
    return [chart], [_rows(one, group), *_outside(one, group)]


def _statistics(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    name = asked["statistic"]
    if name not in table.index:
        return [], [f"Neither y nor its predictions have a {name} other than 0."]
    drawn, own = one.statistics_of_draws(group)[name]
    row = table.loc[name]
    heights, edges = np.histogram(drawn, bins=min(40, max(10, len(drawn) // 20)))
    layers: list[Layer] = [
        Steps(edges, heights, label="draws"),
        Rule(own, label="observed"),
        Rule(row["low"], label=f"{asked['level']:.0%} of the draws", role="quiet"),
        Rule(row["high"], role="quiet"),
    ]
    what = f"{name} of {checks.checked.called(one.name)}"
    spread = row["high"] - row["low"]
    seen, low, high = (number_beside(one, spread) for one in (own, row["low"], row["high"]))
    words = (
        f"The {what} is {seen}; {asked['level']:.0%} of {one.sums.n_draws:,} draws are "
        f"between {low} and {high}; p = {row['p_value']:.3f}."
    )
    label = f"{name} of {_label(checks, one)}"
    return [Chart(layers, _title(checks, one, asked), label, "draws")], [words, _rows(one, group)]


def _pit(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    values = one.pit[one.sums.members(group)]
    heights, edges = np.histogram(values, bins=_PIT_BINS, range=(0, 1))
    apart = [
        Band(table["pit"], table["low"], table["high"], label="calibrated, 95%", role="quiet"),
        Line(table["pit"], table["difference"], label="observed"),
    ]
    shares = [Steps(edges, heights / heights.mean()), Rule(1.0, axis="y", role="quiet")]
    found = one.uniform(group)
    inside = "stays within" if found.is_inside else "leaves"
    of = f" (a random sample of {MOST_PIT:,})" if len(values) > MOST_PIT else ""
    words = f"The curve {inside} the band of a calibrated model{of}; p = {found.p_value:.2g}."
    charts = [
        Chart(apart, _title(checks, one, asked), "PIT", "ECDF less uniform"),
        Chart(shares, "Histogram of the PIT", "PIT", "density"),
    ]
    return charts, [words, _rows(one, group)]


def _coverage(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    level = asked["level"]
    levels = np.unique([*np.arange(1, 100) / 100, level])
    curve = one.coverage(levels, group)
    row = curve[curve["level"] == level].iloc[0]
    layers = [
        Line([0, 1], [0, 1], role="quiet", dashed=True),
        Band(levels, curve["low"], curve["high"], label="calibrated, 95%", role="quiet"),
        Line(levels, curve["coverage"], label="observed"),
        Rule(level, role="pinned"),
    ]
    handle = Handle("level", level, lambda at: float(np.clip(round(at, 2), 0.01, 0.99)))
    charts = [
        Chart(
            layers, _title(checks, one, asked), "level of the interval", "share inside",
            handles=[handle], x_range=(0, 1), y_range=(0, 1.02),
        )
    ]  # fmt: skip
    words = (
        f"Central {level:.0%} intervals hold {row['coverage']:.1%} of "
        f"{_count(int(row['rows']), 'observed value')}; of a calibrated model, "
        f"{row['low']:.1%} to {row['high']:.1%}."
    )
    if asked["column"] != NO_COLUMN:
        names, own = list(table.index), table["coverage"]
        bars = [
            Bars(names, np.full(len(names), level), table["low"], table["high"],
                 label="calibrated, 95%", role="quiet"),
            Bars(names, own, own, own, label="observed"),
        ]  # fmt: skip
        charts.append(Chart(bars, f"By {asked['column']}", asked["column"], "share inside"))
    return charts, [words]


def _calibration(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    x = table["predicted"]
    ends = [x.min(), x.max()]
    layers = [
        Line(ends, ends, role="quiet", dashed=True, label="calibrated"),
        Band(x, table["low"], table["high"], label="95% interval"),
        Line(x, table["observed"], label="mean observed"),
        Points(x, table["observed"]),
    ]
    chart = Chart(
        layers,
        _title(checks, one, asked),
        f"predicted mean of {_label(checks, one)}",
        "mean observed",
    )
    inside = ((table["low"] <= x) & (x <= table["high"])).sum()
    words = f"The predicted mean is within the interval in {inside} of {_sets(table)}."
    return [chart], [words, *_without_interval(table), _rows(one, group)]


def _residuals(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    column = checks.checked.column(one, _chosen(asked))
    y_label = {
        "y - mean": f"{_label(checks, one)} less its prediction",
        "standardised": "residual, in sds",
        "quantile": "quantile residual",
    }[asked["residual"]]
    zero = Rule(0.0, axis="y", role="quiet")
    if column.kind == "number":
        layers = [zero, *_residual_layers(one, group, asked, column, table)]
    else:
        names = list(table.index)
        layers = [zero, Bars(names, table["mean"], table["low"], table["high"], label="mean, 95%")]
    chart = Chart(layers, _title(checks, one, asked), column.name, y_label)
    off = ((table["low"] > 0) | (table["high"] < 0)).sum()
    words = (
        f"The 95% interval of the mean residual leaves out 0 in {off} of {_sets(table)} "
        f"by {column.name}."
    )
    return [chart], [words, *_without_interval(table), _rows(one, group)]


def _residual_layers(
    one: OutcomeChecks, group: int, asked: Mapping[str, Any], column: RowColumn, table: Any
) -> list[Layer]:
    found = one.residuals(asked["residual"])
    rows = np.flatnonzero(one.sums.members(group) & np.isfinite(found) & ~np.isnan(column.values))
    at, mean, sd = table["at"], table["mean"], table["sd"]
    means: list[Layer] = [
        Band(at, table["low"], table["high"], label="95% of the mean"),
        Line(at, mean, label="mean"),
    ]
    if len(rows) <= MOST_POINTS:
        names = one.sums.table.row_names(rows)
        return [Points(column.values[rows], found[rows], names=names, role="quiet"), *means]
    return [Band(at, mean - sd, mean + sd, label="mean ± sd", role="quiet"), *means]


def _worst(
    checks: PredictionChecks, one: OutcomeChecks, group: int, asked: Mapping[str, Any], table: Any
) -> Found:
    worst = one.worst
    if worst is None:
        words = f"Rows are ranked by how many sds they are off.{_no_loo(checks)}"
        x, y, y_label = table["predicted"], table["sds_off"], "sds off"
        layers: list[Layer] = [Points(x, y, names=list(table.index), role="bad", label="worst")]
        chart = Chart(layers, _title(checks, one, asked), "predicted mean", y_label)
        return [chart], [words, _rows(one, group)]
    at = np.flatnonzero(one.sums.members(group)[worst.rows])[:MOST_POINTS]
    rows, few = worst.rows[at], at[: len(table)]
    x, names = one.sums.mean, one.sums.table.row_names
    limit = trusted_k(worst.n_draws)
    charts = [
        Chart(
            [
                Points(x[rows], values[at], role="quiet", names=names(rows)),
                Points(x[worst.rows[few]], values[few], role="bad", label="worst",
                       names=names(worst.rows[few])),
                *further,
            ],
            title, "predicted mean", y_label,
        )
        for values, title, y_label, further in (
            (worst.elpd, _title(checks, one, asked), "elpd of the row, nats", []),
            (worst.k, "Can the row's value be trusted?", "k-hat",
             [Rule(limit, axis="y", role="data", label=f"{limit:.2f}")]),
        )
    ]  # fmt: skip
    words = [_of_trust(int((worst.k[at] > limit).sum()), limit)]
    if worst.is_all:
        own = worst.elpd[at]
        se = np.sqrt(len(own) * own.var())
        words.insert(0, f"elpd_loo of {_count(len(own), 'row')}: {own.sum():,.1f} ± {se:,.1f}.")
    else:
        kept = f"Leave-one-out is computed for the {len(worst.rows):,} rows that WAIC ranks worst."
        words.insert(0, kept)
    if worst.of_svi:
        words.append(
            "Leave-one-out takes the draws for those of the posterior, which a guide's are not "
            "quite; im.diagnose(X, y) corrects it for them, or says that it cannot."
        )
    return charts, words


def _of_trust(n_bad: int, limit: float) -> str:
    if not n_bad:
        return f"k-hat is at most {limit:.2f} in all rows: their values can be trusted."
    which = "its value" if n_bad == 1 else "their values"
    return f"In {_count(n_bad, 'row')} k-hat is above {limit:.2f}: do not trust {which}."


def _no_loo(checks: PredictionChecks) -> str:
    """Say how leave-one-out is had, where a note does not say why there is none."""
    known = [name for name, each in checks.checked.outcomes.items() if each.worst is not None]
    if known:
        return f" Leave-one-out is of {', '.join(known)} alone."
    if any("Leave-one-out" in note or "LOO" in note for note in checks.notes):
        return ""
    return (
        " Leave-one-out needs a log-likelihood: pass the model in place of the tree, or "
        "log_likelihood=im.log_likelihood(X, y)."
    )


def _sets(table: Any) -> str:
    """Count the sets of rows whose mean has an interval."""
    return f"{_count(int(table['low'].notna().sum()), 'set')} of rows"


def _without_interval(table: Any) -> list[str]:
    count = int(table["low"].isna().sum())
    if not count:
        return []
    have = "has" if count == 1 else "have"
    return [f"{_count(count, 'further set')} {have} a single row, whose mean has no interval."]


def _chosen(asked: Mapping[str, Any]) -> str:
    return PREDICTED if asked["column"] == NO_COLUMN else asked["column"]


def _title(checks: PredictionChecks, one: OutcomeChecks, asked: Mapping[str, Any]) -> str:
    of = "" if asked["group"] == "all rows" else f", {asked['group']}"
    check, called = asked["check"], checks.checked.called(one.name)
    if check == "density":  # as the vertical axis says
        return f"Observed and predicted {called}{of}"
    return f"{check[0].upper()}{check[1:]} of {called}{of}"


def _label(checks: PredictionChecks, one: OutcomeChecks) -> str:
    """Return the outcome's name with what its values are."""
    checked = checks.checked
    return checked.labels.get(one.name, checked.of_columns.get(one.name, one.name))


def _rows(one: OutcomeChecks, group: int) -> str:
    return f"{_count(one.n_rows(group), 'row')}, {_count(one.sums.n_draws, 'draw')}."


def _count(number_: int, what: str) -> str:
    return f"{number_:,} {what}{'' if number_ == 1 else 's'}"


def _outside(one: OutcomeChecks, group: int) -> list[str]:
    own, drawn = one.outside(group)
    if max(own, drawn) < _WORTH_SAYING:
        return []
    return [f"Beyond the picture: {share(own)} observed and {share(drawn)} predicted values."]


def _from_zero(table: Any) -> tuple[float, float]:
    top = float(table[["observed", "high", "predicted"]].to_numpy().max())
    return 0.0, 1.05 * top or 1.0


_VIEWS: Mapping[str, Callable[..., Found]] = {
    "density": _density,
    "ECDF": _ecdf,
    "test statistics": _statistics,
    "PIT": _pit,
    "coverage": _coverage,
    "calibration": _calibration,
    "residuals": _residuals,
    "worst rows": _worst,
}
