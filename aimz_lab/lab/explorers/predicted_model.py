"""Check the predictions of a model as they are computed, so that no array of draws is held."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpyro.infer import SVI

from aimz_lab.data.labels import AxisLabels
from aimz_lab.data.tables import is_table, native_table
from aimz_lab.errors import AimzLabError, ArgumentError, DataError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.predictive.request import Request
from aimz_lab.tables.columns import rows_of as rows_of_table
from aimz_lab.trust.checked_predictions import CheckedPredictions
from aimz_lab.trust.outcome_checks import OutcomeChecks
from aimz_lab.trust.outcome_sums import OutcomeReader
from aimz_lab.trust.output_entries import observed_output, output_entries
from aimz_lab.trust.own_statistics import Statistic
from aimz_lab.trust.predicted_tree import (
    TOO_FEW,
    notes_of,
    of_one_event,
    r_eff_of,
    row_dim,
    smoothed_if_possible,
)
from aimz_lab.trust.row_columns import RowTable, row_columns
from aimz_lab.trust.rows_beside import check_rows, has_values, read_columns, sums_of
from aimz_lab.trust.rows_to_examine import examined_rows, rows_of
from aimz_lab.trust.worst_rows import WorstRows
from aimz_lab.types import Arguments, OutputScale

if TYPE_CHECKING:
    import xarray as xr


class PredictedModel:
    """The calls that compute the predictions of a model on some rows, and their log-likelihood.

    Args:
        model: The model.
        X: Its input.
        y: Observed values of the output, or of several sites by name.
        key: Key of the predictions.
        output_scale: Scale of the outputs of a table.
        progress: Whether to show progress.
        kernel_kwargs: Further arguments of the kernel.

    Raises:
        NotFittedError: If the model has no posterior that may be used.
        ArgumentError: If ``y`` names the output of no model.
        DataError: If the data does not fit together, or comes in another order each time.
    """

    def __init__(
        self,
        model: ImpactModel,
        X: Any,
        y: Any,
        *,
        key: jax.Array,
        output_scale: OutputScale,
        progress: bool,
        kernel_kwargs: Arguments,
    ) -> None:
        if X is None:
            msg = "A model's predictions are computed from its rows: pass X and y, or a tree."
            raise ArgumentError(msg)
        self._model, self._key, self._progress = model, key, progress
        self._scale: OutputScale = output_scale
        self.output = model.param_output
        given = dict(y) if isinstance(y, Mapping) else {self.output: y}
        self._output, self._kwargs = given.pop(self.output, None), dict(kernel_kwargs)
        self._others = given
        # Rows without an observed value are left out; predictions check the inputs all the same.
        self._has_missing = _has_missing(self._output)
        self._X = native_table(rows_of(X))
        request = self._request("log_likelihood")
        self._kept = request.kept_rows
        if self._kept is not None:  # rows that the table has complete: the same for both calls
            self._X = rows_of_table(self._X, self._kept)
            request = self._request("log_likelihood")
        self.rows = examined_rows(request, None, self.output)
        if self.rows.source is not None:
            again = examined_rows(request, None, self.output)
            _check_same_order(self.rows.outputs, again.outputs)
        trained = model._moment().trained.spec
        self.transform = "" if trained is None else trained.output_transform
        self.rows = self.rows.as_observed(request.kernel, trained, request.params)
        entries = output_entries(request.kernel, self.output, request.params, self.rows)
        self._sides = entries.censored
        seen = observed_output(self.rows.outputs, self.output, entries.counted)
        self.outputs = self._on_scale(np.asarray(seen))
        coord = request.row_coord
        self._labels = None if coord is None else AxisLabels((), coord.labels)
        self.names = None if coord is None else coord.labels

    def observed(self) -> dict[str, np.ndarray]:
        """Return the observed values of each site, the output first.

        Raises:
            DataError: If those of another site are of other rows.
        """
        found = {self.output: self.outputs}
        for site, values in self._others.items():
            check_rows(site, native_table(values), self.rows.n_rows, self._labels)
            found[site] = np.asarray(values)
        return found

    @property
    def of_censored(self) -> list[str]:
        """What censored values of the output do to its checks, as a note; none without them."""
        if self._sides is None:
            return []
        rows = (self._sides != 0).reshape(len(self._sides), -1).any(1)
        return [
            f"In {int(rows.sum()):,} of {len(rows):,} rows {self.output} is a bound of what was "
            "not seen, and predictions are not censored: statistics, PIT, coverage and residuals "
            "differ for a right model too. diagnose judges its calibration with the bounds."
        ]

    def columns(self, further: Any) -> Mapping[str, Any]:
        """Return the columns of the rows: those of the table or the arrays, and further ones.

        Args:
            further: A table, an array or arrays by name.
        """
        n_rows = self.rows.n_rows
        sources: list[Any] = [further]
        if is_table(self._X):
            sources.append(self._X)
        elif self.rows.source is None:
            rows = self.rows.data.rows
            sources.append({name: one for name, one in rows.items() if name != self.output})
        return row_columns(read_columns(sources, n_rows, self._labels), n_rows)

    def predict(self, site: str, reader: OutcomeReader) -> xr.DataTree:
        """Compute the draws of a site, and hand them to a reducer.

        Args:
            site: The site.
            reader: The reducer.
        """
        return self._model.predict(
            self._X,
            return_sites=[site],
            reduce={"checked": reader},
            rng_key=self._key,
            output_scale=self._scale,
            progress=self._progress,
            kernel_kwargs=self._kwargs,
        )

    def likelihood(self) -> tuple[WorstRows | None, str]:
        """Compute leave-one-out; or return why there is none."""
        tree = self._model.posterior_tree
        of_svi = isinstance(self._model.inference, SVI) and tree["posterior"].sizes["chain"] == 1
        worst = WorstRows(has_values(self.outputs), r_eff_of(tree), of_svi=of_svi)
        try:
            self._model.log_likelihood(
                self._X,
                self._output,
                reduce={"elpd_waic": worst},
                allow_nonfinite=self._has_missing,
                progress=self._progress,
                kernel_kwargs=self._kwargs,
            )
        except AimzLabError as error:
            return None, f"Rows are ranked by their standardised residuals, not by LOO: {error}"
        if not worst.n_seen:
            return None, of_one_event(self.output)
        return (worst, "") if smoothed_if_possible(worst) else (None, TOO_FEW)

    def _request(self, group: str, **options: Any) -> Request:
        model = self._model
        moment = model._moment()
        moment.fitted("prediction_checks", model._running)
        own = {"outputs": self._output} if group == "log_likelihood" else {}
        return model._request(
            self._X,
            {},
            self._kwargs,
            key=self._key,
            moment=moment,
            group=group,
            allow_nonfinite=group == "log_likelihood" and self._has_missing,
            **own,
            **options,
        )

    def _on_scale(self, outputs: np.ndarray) -> np.ndarray:
        """Return outputs on the scale of the predictions."""
        request = self._request("posterior_predictive", output_scale=self._scale)
        scale = request.output_scale
        return outputs if scale is None else np.asarray(scale(outputs))


def checked_model(
    model: ImpactModel,
    X: Any,
    y: Any,
    *,
    columns: Any,
    statistics: Mapping[str, Statistic] | None,
    rng_key: jax.Array | None,
    output_scale: OutputScale,
    progress: bool,
    kernel_kwargs: Arguments,
) -> CheckedPredictions:
    """Check the predictions of a model against what was observed, in one pass for each site.

    Args:
        model: The model.
        X: Its input, as in ``predict``.
        y: Observed values of the output, or of several sites by name.
        columns: Further columns of the rows.
        statistics: Further test statistics.
        rng_key: Key of the predictions; ``jax.random.key(0)`` by default, so that they come again.
        output_scale: Scale of the outputs of a table.
        progress: Whether to show progress.
        kernel_kwargs: Further arguments of the kernel.
    """
    call = PredictedModel(
        model,
        X,
        y,
        key=jax.random.key(0) if rng_key is None else rng_key,
        output_scale=output_scale,
        progress=progress,
        kernel_kwargs=kernel_kwargs,
    )
    observed = call.observed()
    table = RowTable(call.rows.n_rows, call.names, call.columns(columns))
    worst, why_not = call.likelihood()
    outcomes: dict[str, OutcomeChecks] = {}
    notes: list[str] = []
    for site, values in observed.items():
        sums = sums_of(site, values, table, statistics)
        tree = call.predict(site, OutcomeReader(sums))
        for one in sums:
            outcomes[one.name] = OutcomeChecks(one, worst if site == call.output else None)
        notes += _notes(tree, site)
    notes += [*call.of_censored, *([why_not] if why_not else [])]
    told = tuple(dict.fromkeys(notes))
    if call.transform:
        name = {call.output: call.transform}
        return CheckedPredictions(outcomes, table, told, name, name)
    if model._table is None or call.output not in outcomes:
        return CheckedPredictions(outcomes, table, told)
    labels = {call.output: model._table.output_label(output_scale)}
    of_columns = {call.output: model._table.output_column(output_scale)}
    levels = {call.output: model._table.output_attrs().get("output_levels", ())}
    return CheckedPredictions(outcomes, table, told, labels, of_columns, levels)


def _has_missing(values: Any) -> bool:
    """Whether observed values are numbers of which some are NaN, and none is infinite."""
    array = np.asarray(values)
    return array.dtype.kind == "f" and bool(np.isnan(array).any() and not np.isinf(array).any())


def _check_same_order(once: np.ndarray, again: np.ndarray) -> None:
    """Refuse a source whose rows come in another order each time: predictions would be of others.

    Raises:
        DataError: If its outputs differ between two readings.
    """
    if once.shape == again.shape and np.array_equal(once, again, equal_nan=once.dtype.kind == "f"):
        return
    msg = (
        "The source gives other rows, or in another order, each time it is read, and the checks "
        "read it several times: pass one that does not shuffle."
    )
    raise DataError(msg)


def _notes(tree: xr.DataTree, site: str) -> list[str]:
    group = next(name for name in ("posterior_predictive", "predictions") if name in tree)
    draws = tree[group].to_dataset()
    dim = row_dim(draws, f"{site}_checked")
    return notes_of(tree, draws, dim, "posterior_predictive")
