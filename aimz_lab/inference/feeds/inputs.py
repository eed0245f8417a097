"""From what a user passes to ``fit`` to what is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from aimz_lab.data import (
    ArrayDataset,
    ArrayLoader,
    as_source,
    check_finite,
    check_rows,
    column_names,
    is_batches,
    shared_row_coord,
    to_host,
)
from aimz_lab.errors import CallError, DataError
from aimz_lab.inference.feeds.training_data import TrainingData, default_batch_size
from aimz_lab.kernel.arguments import split_arguments
from aimz_lab.kernel.check import check_call
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.types import Device


def needed_output(outputs: Any, name: str) -> Any:
    """Return the output, which training on raw arrays needs.

    Raises:
        CallError: If it is ``None``.
    """
    if outputs is None:
        msg = f"Training needs the output {name!r}; got None."
        raise CallError(msg)
    return outputs


def rows_and_others(
    signature: KernelSignature,
    inputs: Any,
    outputs: Any,
    extra: Mapping[str, Any],
    *,
    allow_nonfinite: bool,
) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Turn raw arrays into host arrays: per row, whole, and static arguments.

    Args:
        signature: The kernel.
        inputs: The input array.
        outputs: The output array, or ``None`` where there is none.
        extra: Further kernel arguments.
        allow_nonfinite: Do not check input and output for NaN and infinite values.

    Raises:
        DataError: If rows do not match, by their number or by the labels of two tables, there are
            none, or values are not finite.
        DataTypeError: If values are not numeric.
        CallError: If the arguments do not fit the kernel.
    """
    rows = {signature.input: to_host(signature.input, inputs)}
    if outputs is not None:
        rows[signature.output] = to_host(signature.output, outputs)
    n_rows = check_rows(rows)
    check_finite(rows, allow_nonfinite)
    split = split_arguments(extra, n_rows)
    rows.update(split.rows)
    passed = {signature.input: inputs, signature.output: outputs, **extra}
    shared_row_coord({name: passed[name] for name in rows})
    check_call(signature.kernel, [*rows, *split.shared, *split.static])
    return rows, dict(split.shared), dict(split.static)


def table_columns(
    signature: KernelSignature, inputs: Any, extra: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the names of the columns of each argument that is a data frame.

    Args:
        signature: The kernel.
        inputs: The input: a table, arrays by field, a dataset, a loader, or anything else.
        extra: Further kernel arguments.
    """
    if isinstance(inputs, ArrayLoader):
        inputs = inputs.dataset
    if isinstance(inputs, ArrayDataset):
        return dict(inputs.columns)
    fields = inputs if isinstance(inputs, Mapping) else {signature.input: inputs}
    named = {name: column_names(value) for name, value in {**fields, **extra}.items()}
    return {name: names for name, names in named.items() if names is not None}


def all_rows(
    signature: KernelSignature,
    inputs: Any,
    outputs: Any,
    extra: Mapping[str, Any],
    *,
    allow_nonfinite: bool,
) -> TrainingData:
    """Make training data of raw arrays, all rows in every step; see :func:`rows_and_others`."""
    rows, shared, static = rows_and_others(
        signature, inputs, outputs, extra, allow_nonfinite=allow_nonfinite
    )
    n_rows = next(iter(rows.values())).shape[0]
    columns = table_columns(signature, inputs, extra)
    return TrainingData(rows, shared, static, n_obs=n_rows, batch_size=n_rows, columns=columns)


def batch_data(
    signature: KernelSignature,
    inputs: Any,
    outputs: Any,
    extra: Mapping[str, Any],
    *,
    n_obs: int | None,
) -> TrainingData:
    """Make training data of one batch, for loops written by hand; see :func:`rows_and_others`.

    Args:
        signature: The kernel.
        inputs: Input of the batch.
        outputs: Output of the batch.
        extra: Further kernel arguments.
        n_obs: Rows of the whole data, or ``None`` where nobody knows.
    """
    output = needed_output(outputs, signature.output)
    rows, shared, static = rows_and_others(signature, inputs, output, extra, allow_nonfinite=True)
    size = next(iter(rows.values())).shape[0]
    return TrainingData(rows, shared, static, n_obs=n_obs, batch_size=size)


def training_data(
    signature: KernelSignature,
    inputs: Any,
    outputs: Any,
    extra: Mapping[str, Any],
    *,
    key: jax.Array,
    batch_size: int | None,
    shuffle: bool,
    n_obs: int | None,
    allow_nonfinite: bool,
    first_epoch: int = 0,
) -> tuple[TrainingData, Device | None]:
    """Make the training data of a fit.

    Args:
        signature: The kernel.
        inputs: The input array, a dataset, a loader, or any source of batches.
        outputs: The output array, if ``inputs`` is an array.
        extra: Further kernel arguments.
        key: For the order of the rows.
        batch_size: Rows of a batch; ``None`` chooses.
        shuffle: Whether each epoch has another order.
        n_obs: Rows of the whole data, if the source does not know.
        allow_nonfinite: Do not check for NaN and infinite values.
        first_epoch: Number of the loader's epoch to begin with.

    Returns:
        The data, and the loader's device.

    Raises:
        CallError: If output and source are both given, or the output is missing.
        DataError: If the data does not fit together.
        DataTypeError: If values are not numeric.
    """
    if isinstance(inputs, ArrayDataset):
        inputs = ArrayLoader(
            inputs, key, batch_size=batch_size or default_batch_size(len(inputs)), shuffle=shuffle
        )
    if not is_batches(inputs):
        if outputs is None:
            msg = f"fit needs the output {signature.output!r} beside an array of inputs: fit(X, y)."
            raise CallError(msg)
        rows, shared, static = rows_and_others(
            signature, inputs, outputs, extra, allow_nonfinite=allow_nonfinite
        )
        data = TrainingData.of_rows(rows, shared, static, key, batch_size, shuffle, n_obs)
        return replace(data, columns=table_columns(signature, inputs, extra)), None
    if outputs is not None:
        msg = f"{signature.output!r} comes with the batches of a loader; do not pass it again."
        raise CallError(msg)
    split = split_arguments(extra, None)
    names = (signature.input, signature.output)
    source = as_source(inputs, names, n_obs, allow_nonfinite=allow_nonfinite)
    if isinstance(inputs, ArrayLoader):
        data = TrainingData.of_loader(inputs, split.shared, split.static, n_obs, first_epoch)
        device = inputs.device
    else:
        data, device = TrainingData.of_stream(source, split.shared, split.static), None
    if signature.output not in data.rows:
        msg = (
            f"The batches have no field {signature.output!r} to train on; they have "
            f"{list(data.rows)}."
        )
        raise DataError(msg)
    check_call(signature.kernel, [*data.rows, *data.shared, *data.static])
    return data, device


def held_out_rows(
    signature: KernelSignature, held_out: Any, extra: Mapping[str, Any], *, allow_nonfinite: bool
) -> dict[str, Any]:
    """Read the rows to validate on, all at once.

    Args:
        signature: The kernel.
        held_out: A pair of input and output, arrays by field, a dataset, a loader, or any source of
            batches.
        extra: Whole and static kernel arguments of the training.
        allow_nonfinite: Do not check for NaN and infinite values.

    Raises:
        CallError: If it is none of these, or lacks the output.
        DataError: If the data does not fit together.
    """
    if isinstance(held_out, tuple) and len(held_out) == 2 and not isinstance(held_out[0], Mapping):
        try:
            rows, _, _ = rows_and_others(
                signature, *held_out, extra, allow_nonfinite=allow_nonfinite
            )
        except CallError as error:
            msg = (
                f"{error} Held-out arrays beside input and output go by their names: "
                f"validation={{{signature.input!r}: ..., {signature.output!r}: ..., ...}}, or as "
                "an ArrayDataset."
            )
            raise CallError(msg) from error
        return rows
    if isinstance(held_out, Mapping):
        held_out = ArrayDataset(**held_out)
    if isinstance(held_out, ArrayDataset):
        rows = dict(held_out.arrays)
        named = {name: rows[name] for name in (signature.input, signature.output) if name in rows}
        check_finite(named, allow_nonfinite)
    elif is_batches(held_out):
        names = (signature.input, signature.output)
        batches = list(as_source(held_out, names, allow_nonfinite=allow_nonfinite).epoch(0))
        rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    else:
        msg = (
            "validation= takes a pair of held-out arrays, validation=(X_val, y_val), all of them "
            'by name, {"X": X_val, "y": y_val, ...}, or a source of batches; got '
            f"{type(held_out).__name__}."
        )
        raise CallError(msg)
    if signature.output not in rows:
        msg = f"The held-out data has no field {signature.output!r}; it has {', '.join(rows)}."
        raise CallError(msg)
    check_call(signature.kernel, [*rows, *extra])
    return rows
