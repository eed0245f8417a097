"""Observed and constant data of a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import ArrayDataset, ArrayLoader, AxisLabels, BatchSource
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.training_data import loader_order
from aimz_lab.tables.table_call import Observed
from aimz_lab.types import Arrays, Rows

LARGEST = 128 << 20
"""Largest size of inputs kept with a result, in bytes; a store holds a second copy."""


class ObservedData(NamedTuple):
    """The in-memory data of a call.

    Attributes:
        observed: The observed output, or ``None``.
        constant: The kernel's per-row inputs by name; empty for a stream, and for large inputs.
        are_trained: Whether these are training rows.
        are_in_order: Whether they are all of them, in their order.
        n_alike: Of rows that are not, how many look like training rows.
        unchanged: Per-row arguments with the values of the training, row by row; ``None`` for a
            source, and before a training.
    """

    observed: ArrayLike | None
    constant: Arrays
    are_trained: bool = False
    are_in_order: bool = False
    n_alike: int = 0
    unchanged: frozenset[str] | None = None

    def beside(
        self,
        outputs: Observed,
        rows: Rows | BatchSource,
        output: str,
        trained: TrainingFingerprint | None,
    ) -> ObservedData:
        """Return the same with the outputs that the user's table has.

        Rows with other outputs than in training are others. With their outputs, some of the
        training rows are recognised too, and all of them in another order.

        Args:
            outputs: The outputs that are there.
            rows: The kernel's per-row arrays, or a source of them.
            output: Name of the output.
            trained: Recognises the training rows; ``None`` before a training.
        """
        values = outputs.values
        found = self._replace(observed=values, are_trained=False, are_in_order=False)
        if trained is None:
            return found
        if self.are_trained and values is not None and trained.has_outputs(values):
            return found._replace(are_trained=True, are_in_order=True)
        if not isinstance(rows, Mapping) or (values is None and outputs.some is None):
            return found
        if outputs.some is not None:
            at, values = outputs.some
            rows = {name: array[at] for name, array in rows.items()}
        likeness = trained.likeness({**rows, output: values})
        if outputs.some is None and likeness.are_trained:
            return found._replace(are_trained=True)
        return found._replace(n_alike=likeness.count)

    def why_predictions(self, n_rows: int) -> str:
        """Say why rows are predictions of which most look like training rows; empty for others.

        Args:
            n_rows: The number of rows.
        """
        if self.are_trained or 2 * self.n_alike < n_rows:
            return ""
        if self.n_alike == n_rows:
            why = f"All {n_rows:,} rows look like training rows, but new ones may too"
        else:
            why = f"{self.n_alike:,} of {n_rows:,} rows look like training rows"
        return (
            f"{why}, so that the result is in predictions; in_sample=True puts it in "
            "posterior_predictive."
        )


def find_observed_data(
    inputs: object,
    rows: Rows | BatchSource,
    output: str,
    arguments: tuple[str, ...],
    trained: TrainingFingerprint | None,
    labels: AxisLabels | None = None,
    unchanged: frozenset[str] | None = None,
) -> ObservedData:
    """Find the observed output and the per-row inputs of a call.

    Args:
        inputs: The input as the user passed it.
        rows: The kernel's per-row arrays, or a source of them.
        output: Name of the output.
        arguments: Names of the kernel's arguments.
        trained: Recognises the training rows; ``None`` before a training.
        labels: Labels of the rows, if a field has some.
        unchanged: Those with the values of the training, if the rows are no source.

    Returns:
        The inputs, and the output of a dataset, a loader or a log-likelihood. Inputs alone get the
        output of the training if they are its rows.
    """
    order = None
    if isinstance(inputs, ArrayDataset):
        fields: Arrays = inputs.arrays
    elif isinstance(inputs, ArrayLoader):
        fields = inputs.dataset.arrays
        order = loader_order(inputs)(0) if inputs.shuffle else None
    elif isinstance(rows, Mapping):
        fields = rows
    else:
        return ObservedData(None, {})
    constant = {n: array for n, array in fields.items() if n in arguments and n != output}
    observed, are_trained = fields.get(output), False
    if observed is None and trained is not None and order is None:
        are_trained = trained.is_of(constant, output, labels, unchanged=unchanged)
        observed = trained.outputs if are_trained else None
    if sum(array.nbytes for array in constant.values()) > LARGEST:
        constant = {}
    if order is not None:
        constant = {name: np.asarray(array)[order] for name, array in constant.items()}
        observed = None if observed is None else np.asarray(observed)[order]
    return ObservedData(observed, constant, are_trained, are_trained, unchanged=unchanged)
