"""The numbers of predictive checks, as tables: of a model, or of a tree of predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import jax
import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import real_number
from aimz_lab.effects.outcome_names import column_of
from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.running_fit import one_moment
from aimz_lab.lab.explorers.predicted_model import checked_model
from aimz_lab.lab.explorers.used_state import UsedState
from aimz_lab.predictive.level_sites import levels_of
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.checked_predictions import PREDICTED, CheckedPredictions
from aimz_lab.trust.outcome_checks import Residual
from aimz_lab.trust.own_statistics import Statistic
from aimz_lab.trust.predicted_tree import GROUPS, checked_tree
from aimz_lab.types import Arguments, OutputScale, check_choice, shown

if TYPE_CHECKING:
    import pandas as pd

Check = Literal[
    "density",
    "ECDF",
    "test statistics",
    "PIT",
    "coverage",
    "calibration",
    "residuals",
    "worst rows",
]
"""A predictive check."""

ALL_ROWS = "all rows"

_LEVELS = np.round(np.arange(1, 20) * 0.05, 2)


@public
class PredictionChecks:
    """Predictive checks of one or more outcomes, kept as numbers, without the draws.

    Made by :func:`prediction_checks`.

    Args:
        checked: What was kept of the predictions.
        source: The arguments that they were made of, as text.
        used: The posterior that a model's predictions are of.

    Attributes:
        checked: What was kept of the predictions.
        outcomes: Names of the outcomes: a site, or each entry of its rows, such as ``"y[0]"``.
        notes: What you should know besides the numbers, in sentences.
        source: The arguments that the checks were made of, as text.

    Example:
        >>> checks = prediction_checks(im, X, y)
        >>> checks.outcomes, checks.columns, checks.groups[0]
        (('y',), ('predicted mean', 'row order', 'X'), 'all rows')
    """

    def __init__(
        self,
        checked: CheckedPredictions,
        source: str = "tree",
        used: UsedState | None = None,
    ) -> None:
        self.checked = checked
        self.outcomes = tuple(checked.outcomes)
        self.notes = checked.notes
        self.source = source
        self._used = used

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_used": None}  # where it is read there is no such model

    @property
    def is_outdated(self) -> bool:
        """Whether the model has been trained since, or its draws were set."""
        return self._used is not None and self._used.has_other_posterior

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that rows can be sorted by: those of the rows, the predictions, and the order."""
        return tuple(self.checked.columns_of(self.outcomes[0]))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups of rows that have observed values, the first one of all rows."""
        found = [name for one in self.checked.outcomes.values() for name in one.groups]
        return tuple(dict.fromkeys(found))

    def table(
        self,
        check: Check,
        *,
        outcome: str | None = None,
        level: float = 0.9,
        group: str = ALL_ROWS,
        column: str | None = None,
        residual: Residual = "y - mean",
        count: int = 10,
    ) -> pd.DataFrame:
        """Return the numbers of a check.

        - ``"density"``, ``"ECDF"``: of the observed values, and of the predictions of single draws:
          their mean, and the ends between which ``level`` of the draws are.
        - ``"test statistics"``: of the observed values and of the draws, with the posterior
          predictive p-value ``P(T(y_rep) >= T(y))``, ties halved (Gelman, Meng and Stern 1996).
        - ``"PIT"``: the distribution of each value's rank among its predictions, minus a uniform
          one, with the band that contains the whole curve of a calibrated model with 95%
          probability (Säilynoja, Bürkner and Vehtari 2022).
        - ``"coverage"``: the share of the values within central intervals, by level; with
          ``column`` at one ``level``, for rows with like values. The share of a calibrated model
          lies between ``low`` and ``high`` with 95% probability.
        - ``"calibration"``: mean observed value of rows with like predictions.
        - ``"residuals"``: of rows with like values of ``column``.
        - ``"worst rows"``: by leave-one-out, with k-hat, where the log-likelihood is known.

        Values that tie with draws, as counts do, are ranked among them at random.

        Args:
            check: The check.
            outcome: The outcome; by default the first one.
            level: Share between 0 and 1.
            group: Group of rows, one of :attr:`groups`.
            column: A column, one of :attr:`columns`.
            residual: The observed value less the mean of its predictions, ``"y - mean"``;
                ``"standardised"`` by their sd; or ``"quantile"``, the PIT as a normal value.
            count: Number of the worst rows.

        Returns:
            The numbers, a row for each bin, point, statistic, level or set of rows.

        Raises:
            ArgumentError: If there is no such check, outcome, group or column, or a number is out
                of range.

        Example:
            >>> checks = prediction_checks(im, X, y)
            >>> checks.table("coverage").columns.tolist()
            ['level', 'coverage', 'low', 'high', 'rows']
        """
        check_choice("check", check, Check)
        check_choice("residual", residual, Residual)
        checked = self.checked
        one = checked.of(outcome)
        level, at = _share(level), checked.number_of(one, group)
        if check == "density":
            return one.density(level, at)
        if check == "ECDF":
            return one.ecdf(level, at)
        if check == "test statistics":
            return one.statistics(level, at)
        if check == "PIT":
            return one.pit_table(at)
        if check == "coverage":
            if column is None:
                return one.coverage(np.unique([*_LEVELS, level]), at)
            return one.coverage_by(checked.column(one, column), level, at)
        if check == "calibration":
            return one.calibration(at)
        if check == "residuals":
            return one.residuals_by(checked.column(one, column or PREDICTED), residual, at)
        return one.worst_rows(check_positive_int("count", count), at)

    def __repr__(self) -> str:
        one = self.checked.of()
        lines = [f"Predictive checks of {', '.join(self.outcomes)}; rows: {one.n_rows():,}."]
        return "\n".join([*lines, *self.notes, one.statistics(0.9).to_string()])


@public
def prediction_checks(
    source: ImpactModel | xr.DataTree,
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
) -> PredictionChecks:
    """Compute predictive checks in one pass over the rows, without an array of all draws.

    For a model, predictions are computed as by ``predict(X)`` and summarised piece by piece, and so
    is the log-likelihood, for leave-one-out. For a tree, the draws are read from memory or from its
    store, some rows at a time. What is kept is a few numbers for each row, and sums and histograms
    for each draw and group of rows. Leave-one-out treats draws of a guide as draws of the
    posterior, as ``arviz.loo`` does; :meth:`~aimz_lab.ImpactModel.diagnose` says whether that is
    justified.

    Rows whose observed value is NaN take no part. Of a table, rows with a missing value are left
    out as by ``TableSpec(missing="drop")``.

    Args:
        source: A fitted model, or a tree with predictive draws.
        X: For a model, its input: array, table, dataset, loader or stream. For a tree, columns of
            its rows.
        y: The observed output; or several sites by name. A tree needs it only if it has no
            ``observed_data``, which it must equal otherwise. A table, a dataset, a loader or a
            stream has it already.
        columns: Further columns to sort and group rows by: a table, or arrays by name.
        log_likelihood: For a tree, the result of ``log_likelihood`` on the same rows, for
            leave-one-out.
        statistics: Further test statistics by name: functions of values whose means over the rows
            are compared, such as ``{"above 10": lambda y: y > 10}``.
        rng_key: Key of a model's predictions; ``jax.random.key(0)`` by default, so that each call
            gives the same numbers.
        output_scale: Scale of the output of a model with a table.
        progress: Whether to show progress.
        kernel_kwargs: Kernel arguments whose names this function uses itself.
        **kwargs: Further kernel arguments, as in ``predict``.

    Returns:
        The checks, whose ``table`` gives the numbers.

    Raises:
        ArgumentError: If there is nothing to compare, or an argument does not go with the source.
        DataError: If rows differ in number, order or labels, or predictions are not finite.
        DataTypeError: If this is neither a model nor a tree.
        NotFittedError: If the model has no posterior that may be used.
        OptionalDependencyError: If arviz-stats is missing.

    Example:
        >>> checks = prediction_checks(im, X, y)
        >>> checks.table("test statistics").index.tolist()
        ['mean', 'sd', 'minimum', 'maximum']
    """
    arguments = {**kwargs, **(kernel_kwargs or {})}
    used = None
    if isinstance(source, ImpactModel):
        if log_likelihood is not None:
            msg = "log_likelihood= goes with a tree; a model computes its own."
            raise ArgumentError(msg)
        # Predictions and likelihoods are of one state, also while a fit goes on.
        moment = source._moment()
        with one_moment(source, moment):
            checked = checked_model(
                source,
                X,
                y,
                columns=columns,
                statistics=statistics,
                rng_key=rng_key,
                output_scale=output_scale,
                progress=progress,
                kernel_kwargs=arguments,
            )
        used = UsedState(source, moment.trained)
        given = ["im", "X", *(["y"] if y is not None else [])]
        given += [f"{name}={name}" for name in kwargs]
        given += ["kernel_kwargs=kernel_kwargs"] if kernel_kwargs else []
        given += ["rng_key=rng_key"] if rng_key is not None else []
        given += [f"output_scale={output_scale!r}"] if output_scale != "outcome" else []
    elif isinstance(source, xr.DataTree):
        if arguments:
            msg = f"A tree takes no kernel arguments; got {', '.join(map(repr, arguments))}."
            raise ArgumentError(msg)
        checked = checked_tree(
            source, X, y, columns=columns, log_likelihood=log_likelihood, statistics=statistics
        )
        draws = next(source[name].to_dataset() for name in GROUPS if name in source)
        checked = replace(
            checked,
            of_columns={name: column_of(draws, name) for name in checked.outcomes},
            levels={name: levels_of(draws.attrs, name) for name in checked.outcomes},
        )
        given = ["tree", *(["X"] if X is not None else []), *(["y=y"] if y is not None else [])]
    else:
        msg = f"This takes a fitted ImpactModel or a tree of predictions; got {shown(source)}."
        raise DataTypeError(msg)
    named = {"columns": columns, "log_likelihood": log_likelihood, "statistics": statistics}
    given += [f"{name}={name}" for name, value in named.items() if value is not None]
    return PredictionChecks(checked, ", ".join(given), used)


def _share(level: float) -> float:
    number = real_number(level)
    if not 0 < number < 1:
        raise ArgumentError(f"level= is a share between 0 and 1; got {shown(level)}.")
    return number
