"""Explore predictions by hand: checks, levels, columns and groups of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

import jax

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.lab.environment import require_widgets
from aimz_lab.lab.explorers.dated_explorer import DatedExplorer
from aimz_lab.lab.explorers.explorer import Explorer
from aimz_lab.lab.explorers.given_names import given_line
from aimz_lab.lab.explorers.prediction_checks import Check, PredictionChecks, prediction_checks
from aimz_lab.lab.explorers.prediction_views import NO_COLUMN, table_arguments, view_of
from aimz_lab.system.imports import late_import
from aimz_lab.trust.outcome_checks import Residual
from aimz_lab.trust.own_statistics import Statistic
from aimz_lab.types import Arguments, OutputScale

if TYPE_CHECKING:
    import xarray as xr
    from ipywidgets import Widget

_OUTDATED = (
    "These predictions are of an earlier posterior: the model has been trained since, or its "
    "draws were set. For its present posterior, call lab.explore_predictions with the model again."
)
_READ_BY = {
    "statistic": ("test statistics",),
    "level": ("density", "ECDF", "test statistics", "coverage"),
    "column": ("coverage", "residuals"),
    "residual": ("residuals",),
    "rows": ("worst rows",),
}
"""The checks that read a control; for the others it rests."""


@public
def explore_predictions(
    source: ImpactModel | xr.DataTree | PredictionChecks,
    X: Any = None,
    y: Any = None,
    *,
    columns: Any = None,
    log_likelihood: xr.DataTree | None = None,
    statistics: Mapping[str, Statistic] | None = None,
    rng_key: jax.Array | None = None,
    output_scale: OutputScale = "outcome",
    progress: bool = True,
    kernel_kwargs: Arguments | None = None,
    **kwargs: Any,
) -> Explorer:
    """Look at predictions beside what was observed: checks, calibration, residuals, worst rows.

    The predictions are computed, or read, once, as by :func:`prediction_checks`; the panel then
    works with the numbers that were kept of them. If the model is trained after that, the panel
    says that they are of an earlier posterior; call this function again for the present one.

    Args:
        source: A fitted model, a tree with predictive draws, or checks that were computed before.
        X: As in :func:`prediction_checks`; so are all arguments below.
        y: The observed output.
        columns: Further columns to sort and group rows by.
        log_likelihood: For a tree, the log-likelihood of the same rows.
        statistics: Further test statistics by name.
        rng_key: Key of a model's predictions.
        output_scale: Scale of the output of a model with a table.
        progress: Whether to show progress.
        kernel_kwargs: Kernel arguments whose names this function uses itself.
        **kwargs: Further kernel arguments.

    Returns:
        The panel, with the controls ``check``, ``outcome``, ``group``, ``statistic``, ``level``,
        ``column``, ``residual`` and ``rows``.

    Raises:
        ArgumentError: If there is nothing to compare, or an argument does not go with the source.
        DataError: If rows differ in number, order or labels, or predictions are not finite.
        DataTypeError: If the source is neither a model nor a tree.
        NotFittedError: If the model has no posterior that may be used.
        OptionalDependencyError: If ipywidgets or arviz-stats is missing.

    Example:
        >>> explorer = explore_predictions(im, X, y)
        >>> view = explorer.set(check="coverage", level=0.5)
        >>> explorer.table().columns.tolist()
        ['level', 'coverage', 'low', 'high', 'rows']
        >>> print(explorer.code())
        # im, X and y are those that prediction_checks was given.
        from aimz_lab import lab
        <BLANKLINE>
        checks = lab.prediction_checks(im, X, y)
        checks.table('coverage', outcome='y', group='all rows', level=0.5)
    """
    require_widgets()
    checks = source
    if isinstance(checks, PredictionChecks):
        given = {"X": X, "y": y, "columns": columns, "log_likelihood": log_likelihood}
        given |= {"statistics": statistics, "rng_key": rng_key, "kernel_kwargs": kernel_kwargs}
        _check_alone(given | kwargs)
    else:
        if isinstance(source, ImpactModel):
            source._moment().fitted("explore_predictions", source._running)
        checks = prediction_checks(
            source,
            X,
            y,
            columns=columns,
            log_likelihood=log_likelihood,
            statistics=statistics,
            rng_key=rng_key,
            output_scale=output_scale,
            progress=progress,
            kernel_kwargs=kernel_kwargs,
            **kwargs,
        )
    controls = _controls(checks)
    _rest_unread(controls)
    title = f"Predictions of {', '.join(map(checks.checked.called, checks.outcomes))}"
    return DatedExplorer(
        controls,
        lambda asked: view_of(checks, asked),
        lambda asked: _code(checks, asked),
        is_outdated=lambda: checks.is_outdated,
        outdated=_OUTDATED,
        title=title,
    )


def _check_alone(given: Mapping[str, Any]) -> None:
    passed = [name for name, value in given.items() if value is not None]
    if passed:
        msg = (
            f"These checks were computed before, and take no {', '.join(passed)}: pass those to "
            "prediction_checks, or the model or the tree in place of the checks."
        )
        raise ArgumentError(msg)


def _controls(checks: PredictionChecks) -> dict[str, Widget]:
    widgets = late_import("ipywidgets")

    def choice(name: str, options: Any) -> Widget:
        return widgets.Dropdown(options=list(options), description=name)

    checked = checks.checked.outcomes.values()
    statistics = {name: None for one in checked for name in one.statistics_of_draws()}
    n_rows = max(one.n_rows() for one in checked)
    return {
        "check": choice("check", get_args(Check)),
        "outcome": choice("outcome", checks.outcomes),
        "group": choice("group", checks.groups),
        "statistic": choice("statistic", statistics),
        "level": widgets.FloatSlider(
            0.9, min=0.01, max=0.99, step=0.01, description="level", readout_format=".2f"
        ),
        "column": choice("column", [NO_COLUMN, *checks.columns]),
        "residual": choice("residual", get_args(Residual)),
        "rows": widgets.IntSlider(min(10, n_rows), min=1, max=min(100, n_rows), description="rows"),
    }


def _rest_unread(controls: Mapping[str, Widget]) -> None:
    """Disable the controls that the chosen check does not read."""

    def rest(_: object = None) -> None:
        for name, checks in _READ_BY.items():
            controls[name].disabled = controls["check"].value not in checks

    controls["check"].observe(rest, "value")
    rest()


def _code(checks: PredictionChecks, asked: Mapping[str, Any]) -> str:
    options = "".join(f", {name}={value!r}" for name, value in table_arguments(asked).items())
    lines = [
        given_line(checks.source.split(", "), "prediction_checks"),
        "from aimz_lab import lab",
        "",
        f"checks = lab.prediction_checks({checks.source})",
    ]
    return "\n".join([*lines, f"checks.table({asked['check']!r}{options})"])
