"""How the data of a call differs from that of the training, as far as that is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import default_arguments
from aimz_lab.predictive.call_labels import RowsDiffer
from aimz_lab.predictive.fitted_kernel import FittedKernel
from aimz_lab.predictive.inputs import PredictiveData
from aimz_lab.predictive.results.observed_data import ObservedData, find_observed_data
from aimz_lab.tables.table_call import Observed


def known_data(
    fitted: FittedKernel, inputs: Any, data: PredictiveData, observed: Observed | None
) -> ObservedData:
    """Return data to keep beside the results: the observed output and the inputs.

    Args:
        fitted: The kernel and its draws.
        inputs: The inputs as the user passed them.
        data: The data of the call.
        observed: The output that a table has for these rows; ``None`` if it has no such column.
    """
    signature = fitted.signature
    arguments = parameter_names(signature.kernel)
    # Another value for all rows makes others of them: what was observed belongs to the first.
    trained = None if _changed_shared(fitted, data) else fitted.fingerprint
    unchanged = None
    if fitted.fingerprint is not None and isinstance(data.rows, Mapping):
        rows = {name: each for name, each in data.rows.items() if name != signature.output}
        unchanged = fitted.fingerprint.unchanged(rows)
    known = find_observed_data(
        inputs, data.rows, signature.output, arguments, trained, data.row_labels, unchanged
    )
    if observed is None:
        return known
    return known.beside(observed, data.rows, signature.output, trained)


def changed_arguments(
    fitted: FittedKernel, data: PredictiveData, known: ObservedData, differ: RowsDiffer | None
) -> frozenset[str]:
    """Return the arguments with other values than in training; those by row for other rows, too.

    Args:
        fitted: The kernel and its draws.
        data: The data of the call.
        known: What is known of its rows.
        differ: How these differ.
    """
    return _changed_shared(fitted, data) | _changed_by_row(fitted, data, known, differ)


def _changed_shared(fitted: FittedKernel, data: PredictiveData) -> frozenset[str]:
    """Return the arguments for all rows that have other values than in training."""
    if fitted.schema is None:
        return frozenset()
    defaults = default_arguments(fitted.signature.kernel)
    return fitted.schema.changed({**data.shared, **data.static}, defaults)


def _changed_by_row(
    fitted: FittedKernel, data: PredictiveData, known: ObservedData, differ: RowsDiffer | None
) -> frozenset[str]:
    """Return the arguments by row that have other values than in training; all for other rows."""
    trained, output, here = fitted.fingerprint, fitted.signature.output, data.rows
    if fitted.schema is None:
        return frozenset()
    if not isinstance(here, Mapping):  # which rows a source has is not known
        return frozenset(data.fields or fitted.schema.rows) - {output}
    if differ == "moved":
        return frozenset()
    rows = {name: each for name, each in here.items() if name != output}
    given = {output, *rows, *data.shared, *data.static}
    left_out = frozenset(fitted.schema.rows).difference(given)
    if known.are_trained or trained is None:
        return left_out
    if trained.is_of(rows, output, unchanged=known.unchanged):
        return left_out
    return left_out | (frozenset(rows) if trained.column_sums is None else trained.changed(rows))


def how_rows_differ(
    fitted: FittedKernel, data: PredictiveData, known: ObservedData
) -> RowsDiffer | None:
    """Return how rows differ from those of the training, where the model has values by row.

    Args:
        fitted: The kernel and its draws.
        data: The data of the call.
        known: What is known of its rows.
    """
    trained, output = fitted.fingerprint, fitted.signature.output
    if trained is None or not _may_have_values_by_row(fitted, trained.n_rows):
        return None
    if known.are_trained:
        return None if known.are_in_order else "moved"
    if not isinstance(data.rows, Mapping):
        return None
    if trained.is_of(data.rows, output, unchanged=known.unchanged):
        return None
    if output in data.rows and trained.likeness(data.rows).are_trained:
        return "moved"
    outputs = {} if known.observed is None else {output: np.asarray(known.observed)}
    return None if trained.is_of_changed({**data.rows, **outputs}) else "others"


def other_rows(fitted: FittedKernel, data: PredictiveData, known: ObservedData) -> frozenset[str]:
    """Return the per-row arguments that are not known to be those of all rows of the training.

    Args:
        fitted: The kernel and its draws.
        data: The data of the call.
        known: What is known of its rows.
    """
    trained, output = fitted.fingerprint, fitted.signature.output
    if not isinstance(data.rows, Mapping):  # rows of a source are computed apart
        return frozenset()
    names = frozenset(data.rows) - {output}
    if trained is None:
        return names
    rows = {name: data.rows[name] for name in names}
    outputs = data.rows.get(output, known.observed)
    is_same = trained.is_of(rows, output, unchanged=known.unchanged)
    if output in data.rows:
        is_same = is_same and trained.has_outputs(np.asarray(outputs))
    if not is_same and outputs is not None:
        is_same = trained.has_all_rows({**rows, output: np.asarray(outputs)})
    return frozenset() if is_same else names - known.unchanged


def _may_have_values_by_row(fitted: FittedKernel, n_rows: int) -> bool:
    draws = fitted.posterior.draws if fitted.posterior else {}
    shapes = [np.shape(values)[1:] for values in draws.values()]
    shapes += [np.shape(values) for values in jax.tree.leaves(fitted.params)]
    return any(n_rows in shape for shape in shapes)
