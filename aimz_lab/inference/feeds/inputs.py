"""Turn the arguments of ``fit`` into training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import jax
import numpy as np
from numpy.typing import ArrayLike

from aimz_lab.data import (
    ArrayDataset,
    ArrayLoader,
    as_source,
    check_finite,
    check_fits,
    check_rows,
    column_names,
    first_row_labels,
    is_batches,
    shared_row_labels,
    to_host,
)
from aimz_lab.data.arrays import check_holds_rows
from aimz_lab.data.options import check_mapping
from aimz_lab.data.process_rows import all_devices
from aimz_lab.errors import ArgumentError, CallError, DataError, MissingOutputError
from aimz_lab.inference.feeds.columns import check_columns, check_order, shared_labels
from aimz_lab.inference.feeds.process_stream import shared_stream
from aimz_lab.inference.feeds.ranges import warn_if_coarse
from aimz_lab.inference.feeds.roles import check_beside_loader, resolved
from aimz_lab.inference.feeds.training_data import TrainingData, default_batch_size
from aimz_lab.inference.run.team import ALONE, Team
from aimz_lab.kernel.arguments import (
    UNKNOWN_ROLES,
    ArgumentRoles,
    check_given_once,
    split_arguments,
)
from aimz_lab.kernel.checks.preflight import check_call
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.types import Columns, Device, HostRows, RandomKey, Rows, Shared, Static


def needed_output(outputs: ArrayLike | None, name: str) -> ArrayLike:
    """Return the output, which training on raw arrays requires.

    Raises:
        MissingOutputError: If it is ``None``.
    """
    if outputs is None:
        msg = f"Training needs the output {name!r}; got None."
        raise MissingOutputError(msg)
    return outputs


def rows_and_others(
    signature: KernelSignature,
    inputs: ArrayLike,
    outputs: ArrayLike | None,
    extra: Mapping[str, object],
    *,
    allow_nonfinite: bool,
    roles: ArgumentRoles = UNKNOWN_ROLES,
) -> tuple[HostRows, Shared, Static]:
    """Convert raw arrays to host arrays: per-row, shared and static arguments.

    Args:
        signature: The kernel.
        inputs: The input.
        outputs: The output, or ``None`` if there is none.
        extra: Further kernel arguments.
        allow_nonfinite: Do not check input and output for NaN and infinite values.
        roles: Which further arguments are known to be by row or shared.

    Raises:
        DataError: If there are no rows, their numbers or labels differ between arguments, values
            are not finite, or an argument may be by row or shared and nobody said which.
        ArgumentError: If a named argument is no array.
        DataTypeError: If values are not numeric.
        CallError: If the arguments do not fit the kernel.

    Warns:
        OutputWarning: If single precision cannot tell the values of a column apart.
    """
    check_holds_rows(signature.input, inputs)
    rows = {signature.input: to_host(signature.input, inputs)}
    if outputs is not None:
        rows[signature.output] = to_host(signature.output, outputs)
    n_rows = check_rows(rows)
    passed = {signature.input: inputs, signature.output: outputs, **extra}
    named = {name: column_names(value) for name, value in passed.items()}
    columns = {name: names for name, names in named.items() if names}
    check_finite(rows, allow_nonfinite, columns=columns)
    split = resolved(signature, rows, split_arguments(extra, n_rows, roles), roles)
    rows.update(split.rows)
    shared_row_labels({name: passed[name] for name in rows})
    check_call(signature.kernel, [*rows, *split.shared, *split.static])
    for name, value in split.shared.items():
        for leaf in jax.tree.leaves(value):
            check_fits(leaf, name)
    warn_if_coarse(rows, columns)
    return rows, dict(split.shared), dict(split.static)


def table_columns(
    signature: KernelSignature, inputs: object, extra: Mapping[str, object]
) -> Columns:
    """Return the column names of each argument that is a table.

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


def labelled_columns(
    signature: KernelSignature, inputs: object, extra: Mapping[str, object], shared: Iterable[str]
) -> Columns:
    """Return the column names of tables, and the labels of shared arguments.

    Args:
        signature: The kernel.
        inputs: The input, as for :func:`table_columns`.
        extra: Further kernel arguments.
        shared: Names of the shared ones.

    Raises:
        DataError: If a shared argument has the labels of a table's columns in another order.
    """
    columns = table_columns(signature, inputs, extra)
    labels = shared_labels(extra, shared)
    for name, each in labels.items():
        check_order(f"argument {name.removesuffix('.index')!r}", each, columns)
    return {**columns, **labels}


def all_rows(
    signature: KernelSignature,
    inputs: ArrayLike,
    outputs: ArrayLike | None,
    extra: Mapping[str, object],
    *,
    allow_nonfinite: bool,
    roles: ArgumentRoles = UNKNOWN_ROLES,
) -> TrainingData:
    """Return raw arrays as training data, all rows in every step; see :func:`rows_and_others`."""
    rows, shared, static = rows_and_others(
        signature, inputs, outputs, extra, allow_nonfinite=allow_nonfinite, roles=roles
    )
    n_rows = next(iter(rows.values())).shape[0]
    return TrainingData(
        rows,
        shared,
        static,
        n_obs=n_rows,
        batch_size=n_rows,
        columns=labelled_columns(signature, inputs, {**extra, signature.output: outputs}, shared),
        row_labels=first_row_labels([inputs, outputs, *(extra[n] for n in rows if n in extra)]),
    )


def batch_data(
    signature: KernelSignature,
    inputs: ArrayLike,
    outputs: ArrayLike | None,
    extra: Mapping[str, object],
    *,
    n_obs: int | None,
    allow_nonfinite: bool = False,
    roles: ArgumentRoles = UNKNOWN_ROLES,
) -> TrainingData:
    """Return one batch of a hand-written loop as training data; see :func:`rows_and_others`.

    Args:
        signature: The kernel.
        inputs: Input of the batch.
        outputs: Output of the batch.
        extra: Further kernel arguments.
        n_obs: Rows of the whole data, or ``None`` if unknown.
        allow_nonfinite: Do not check input and output for NaN and infinite values.
        roles: Which further arguments are known to be by row or shared.
    """
    output = needed_output(outputs, signature.output)
    rows, shared, static = rows_and_others(
        signature, inputs, output, extra, allow_nonfinite=allow_nonfinite, roles=roles
    )
    size = next(iter(rows.values())).shape[0]
    columns = labelled_columns(signature, inputs, {**extra, signature.output: outputs}, shared)
    return TrainingData(rows, shared, static, n_obs=n_obs, batch_size=size, columns=columns)


def training_data(
    signature: KernelSignature,
    inputs: object,
    outputs: ArrayLike | None,
    extra: Mapping[str, object],
    *,
    key: RandomKey,
    batch_size: int | None,
    shuffle: bool | None,
    n_obs: int | None,
    allow_nonfinite: bool,
    first_epoch: int = 0,
    roles: ArgumentRoles = UNKNOWN_ROLES,
    team: Team = ALONE,
) -> tuple[TrainingData, Device | None]:
    """Return the training data of a fit.

    Args:
        signature: The kernel.
        inputs: The input array, a dataset, a loader, or any source of batches.
        outputs: The output array, if ``inputs`` is an array.
        extra: Further kernel arguments.
        key: Random key of the row order.
        batch_size: Rows of a batch; ``None`` chooses one.
        shuffle: Whether to shuffle each epoch anew; ``None`` for the default: yes for arrays, and
            as it is for a source of batches.
        n_obs: Rows of the whole data, if the source does not know.
        allow_nonfinite: Do not check for NaN and infinite values.
        first_epoch: Number of the loader's first epoch.
        roles: Which further arguments are known to be by row or shared.
        team: The processes of which each reads a share of a stream.

    Returns:
        The data, and the loader's device.

    Raises:
        CallError: If the output is missing, or given in addition to a source of batches.
        DataError: If the arrays do not belong together, or an argument may be by row or shared and
            nobody said which.
        DataTypeError: If values are not numeric.
        ArgumentError: If a named argument is no array, or cannot have its role. If a source of
            batches has another ``batch_size`` or ``shuffle``.
    """
    shuffles = shuffle is not False
    if isinstance(inputs, ArrayDataset):
        inputs = ArrayLoader(
            inputs, key, batch_size=batch_size or default_batch_size(len(inputs)), shuffle=shuffles
        )
    if not is_batches(inputs):
        check_holds_rows(signature.input, inputs)
        if outputs is None:
            msg = f"fit needs the output {signature.output!r} beside an array of inputs: fit(X, y)."
            raise MissingOutputError(msg)
        rows, shared, static = rows_and_others(
            signature, inputs, outputs, extra, allow_nonfinite=allow_nonfinite, roles=roles
        )
        data = TrainingData.of_rows(rows, shared, static, key, batch_size, shuffles, n_obs)
        columns = labelled_columns(signature, inputs, {**extra, signature.output: outputs}, shared)
        labels = first_row_labels([inputs, outputs, *(extra[n] for n in rows if n in extra)])
        return replace(data, columns=columns, row_labels=labels), None
    if outputs is not None:
        msg = f"{signature.output!r} comes with the batches of a loader; do not pass it again."
        raise CallError(msg)
    if batch_size not in (None, getattr(inputs, "batch_size", None)):
        msg = (
            f"batch_size={batch_size} is for arrays: a loader, or another source of batches, has a "
            "size of its own. Leave it out, and set the size where the batches are made."
        )
        raise ArgumentError(msg)
    if shuffle not in (None, isinstance(inputs, ArrayLoader) and bool(inputs.shuffle)):
        msg = (
            f"shuffle={shuffle} is for arrays: a loader, or another source of batches, has an "
            "order of its own. Leave it out, and shuffle where the batches are made."
        )
        raise ArgumentError(msg)
    split = split_arguments(extra, None, roles)
    names = (signature.input, signature.output)
    source = as_source(inputs, names, n_obs, allow_nonfinite=allow_nonfinite)
    if isinstance(inputs, ArrayLoader):
        check_given_once(inputs.dataset.fields, extra)
        check_beside_loader(signature, inputs.dataset, split, roles)
        data = TrainingData.of_loader(inputs, split.shared, split.static, n_obs, first_epoch)
        device = inputs.device
    elif team.is_alone:
        data, device = TrainingData.of_stream(source, split.shared, split.static), None
        check_given_once(data.rows, extra)
    else:
        data = shared_stream(source, split.shared, split.static, team, n_obs=n_obs)
        device = all_devices()
        check_given_once(data.rows, extra)
    if signature.output not in data.rows:
        msg = (
            f"The batches have no field {signature.output!r} to train on; they have "
            f"{list(data.rows)}."
        )
        raise DataError(msg)
    check_call(signature.kernel, [*data.rows, *data.shared, *data.static])
    labels = shared_labels(extra, data.shared)
    return replace(data, columns={**data.columns, **labels}), device


def held_out_rows(
    signature: KernelSignature,
    held_out: object,
    extra: Mapping[str, object],
    *,
    columns: Columns,
    allow_nonfinite: bool,
) -> Rows:
    """Read all validation rows.

    Args:
        signature: The kernel.
        held_out: A pair of input and output, arrays by field, a dataset, a loader, or any source of
            batches.
        extra: Shared and static kernel arguments of the training.
        columns: Column names of each table of the training data.
        allow_nonfinite: Do not check for NaN and infinite values.

    Raises:
        CallError: If ``held_out`` is none of these, or lacks the output.
        DataError: If the arrays do not belong together, or columns are not those of the training.
    """
    if isinstance(held_out, tuple) and len(held_out) == 2 and not isinstance(held_out[0], Mapping):
        try:
            trained = UNKNOWN_ROLES.after_training((), extra)
            rows, _, _ = rows_and_others(
                signature,
                held_out[0],
                needed_output(held_out[1], signature.output),
                extra,
                allow_nonfinite=allow_nonfinite,
                roles=trained,
            )
            outputs = {signature.output: held_out[1]}
            check_columns(columns, table_columns(signature, held_out[0], outputs), {})
        except CallError as error:
            msg = (
                f"{error} Held-out arrays beside input and output go by their names: "
                f"validation={{{signature.input!r}: ..., {signature.output!r}: ..., ...}}, or as "
                "an ArrayDataset."
            )
            raise CallError(msg) from error
        return rows
    if isinstance(held_out, Mapping):
        held_out = ArrayDataset(**check_mapping("validation", held_out, "arrays by field"))
    if isinstance(held_out, ArrayDataset):
        check_columns(columns, held_out.columns, {})
        rows = dict(held_out.arrays)
        named = {name: rows[name] for name in (signature.input, signature.output) if name in rows}
        check_finite(named, allow_nonfinite, "Held-out data", held_out.columns)
    elif is_batches(held_out):
        names = (signature.input, signature.output)
        source = as_source(held_out, names, allow_nonfinite=allow_nonfinite)
        batches = list(source.epoch(0))
        check_columns(columns, source.columns, {})
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
    check_given_once(rows, extra)
    check_call(signature.kernel, [*rows, *extra])
    return rows
