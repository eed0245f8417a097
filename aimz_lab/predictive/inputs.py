"""Read the rows and arguments of a predictive call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jax.typing import ArrayLike

from aimz_lab.data import (
    ArrayDataset,
    AxisLabels,
    BatchSource,
    LoaderSource,
    as_source,
    check_finite,
    first_row_labels,
    is_batches,
    shared_row_labels,
)
from aimz_lab.data.arrays import check_holds_rows
from aimz_lab.data.options import check_mapping
from aimz_lab.errors import CallError, MissingOutputError
from aimz_lab.inference.feeds.inputs import rows_and_others
from aimz_lab.inference.feeds.roles import check_beside_loader, check_fields, resolved
from aimz_lab.inference.feeds.training_data import loader_order
from aimz_lab.kernel.arguments import (
    UNKNOWN_ROLES,
    ArgumentRoles,
    check_given_once,
    split_arguments,
)
from aimz_lab.kernel.checks.preflight import check_call, parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.types import Arguments, Rows, Shared, Static


@dataclass(frozen=True)
class PredictiveData:
    """Data of a predictive call.

    Attributes:
        rows: The kernel's per-row arrays, or a source of them.
        fields: Fields of a source that are kernel arguments; ``None`` for all.
        shared: The kernel's shared arguments.
        static: Kernel arguments that are not arrays.
        row_labels: Labels of the rows, if a field has some.
        shuffled: Whether the rows come from a loader that shuffles.
    """

    rows: Rows | BatchSource
    fields: tuple[str, ...] | None = None
    shared: Shared = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    row_labels: AxisLabels | None = None
    shuffled: bool = False


def predictive_data(
    signature: KernelSignature,
    inputs: Any,
    outputs: ArrayLike | None,
    extra: Arguments,
    *,
    with_output: bool,
    allow_nonfinite: bool,
    roles: ArgumentRoles = UNKNOWN_ROLES,
) -> PredictiveData:
    """Read the arguments of a predictive method.

    Args:
        signature: The kernel.
        inputs: The input array, arrays by field, a dataset, a loader, or any source of batches.
        outputs: The output array, for a log-likelihood of arrays.
        extra: Further kernel arguments.
        with_output: Whether the call needs the observed output. If not, the output of a loader is
            left out, so that one loader serves fit and predict.
        allow_nonfinite: Do not check for NaN and infinite values.
        roles: Which further arguments are known to be by row or shared.

    Raises:
        CallError: If the output is missing or given twice, or the arguments do not fit the kernel.
        DataError: If the data does not fit together, or an argument may be by row or shared and
            nobody said which.
        ArgumentError: If a named argument is no array, or cannot have its role.
        DataTypeError: If values are not numeric.
    """
    if isinstance(inputs, Mapping):
        inputs = ArrayDataset(**check_mapping(signature.input, inputs, "arrays by field"))
    if isinstance(inputs, ArrayDataset):
        return _of_dataset(signature, inputs, outputs, extra, with_output, allow_nonfinite, roles)
    if not is_batches(inputs):
        check_holds_rows(signature.input, inputs)
        if with_output and outputs is None:
            msg = f"The output {signature.output!r} is needed beside an array of inputs."
            raise MissingOutputError(msg)
        rows, shared, static = rows_and_others(
            signature, inputs, outputs, extra, allow_nonfinite=allow_nonfinite, roles=roles
        )
        passed = {signature.input: inputs, signature.output: outputs, **extra}
        labels = first_row_labels(passed[name] for name in rows)
        return PredictiveData(rows, None, shared, static, labels)
    if outputs is not None:
        msg = f"{signature.output!r} comes with the batches of a loader; do not pass it again."
        raise CallError(msg)
    names = (signature.input, signature.output) if with_output else (signature.input,)
    source = as_source(inputs, (signature.input, signature.output), allow_nonfinite=allow_nonfinite)
    split = split_arguments(extra, None, roles)
    fields = _fields(signature, source.fields, with_output)
    check_given_once(source.fields or (), extra)
    if not isinstance(source, LoaderSource):
        return PredictiveData(source, fields, split.shared, split.static)
    check_beside_loader(signature, source.loader.dataset, split, roles)
    check_call(signature.kernel, [*(fields or names), *split.shared, *split.static])
    labels, shuffled = source.loader.dataset.row_labels, bool(source.loader.shuffle)
    if labels is not None and shuffled:
        ordered = labels.in_order(loader_order(source.loader)(0))
        labels = None if labels.counts else ordered
    return PredictiveData(source, fields, split.shared, split.static, labels, shuffled)


def _of_dataset(
    signature: KernelSignature,
    dataset: ArrayDataset,
    outputs: ArrayLike | None,
    extra: Arguments,
    with_output: bool,
    allow_nonfinite: bool,
    roles: ArgumentRoles,
) -> PredictiveData:
    if outputs is not None:
        msg = f"{signature.output!r} is a field of the dataset; do not pass it again."
        raise CallError(msg)
    check_fields(dataset, roles)
    check_given_once(dataset.fields, extra)
    fields = _fields(signature, dataset.fields, with_output)
    rows = {name: dataset.arrays[name] for name in fields or ()}
    checked = {n: rows[n] for n in (signature.input, signature.output) if n in rows}
    check_finite(checked, allow_nonfinite, columns=dataset.columns)
    split = resolved(signature, rows, split_arguments(extra, len(dataset), roles), roles)
    rows.update(split.rows)
    labelled = {signature.input: dataset.row_labels, **{name: extra[name] for name in split.rows}}
    labels = shared_row_labels(labelled)
    check_call(signature.kernel, [*rows, *split.shared, *split.static])
    return PredictiveData(rows, None, split.shared, split.static, labels)


def _fields(
    signature: KernelSignature, fields: tuple[str, ...] | None, with_output: bool
) -> tuple[str, ...] | None:
    """Return the fields that are kernel arguments, with or without the output."""
    wanted = [n for n in parameter_names(signature.kernel) if with_output or n != signature.output]
    if fields is None:
        return tuple(wanted)
    if with_output and signature.output not in fields:
        msg = f"The batches have no field {signature.output!r}; they have {', '.join(fields)}."
        raise MissingOutputError(msg)
    return tuple(name for name in fields if name in wanted)
