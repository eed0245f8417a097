"""The arguments of a model's kernel: of its last training, or those that are passed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import jax

from aimz_lab.data import is_batches
from aimz_lab.data.arrays import canonical
from aimz_lab.errors import AimzLabError, NotFittedError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.feeds.inputs import rows_and_others, training_data
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.kernel.signature import KernelSignature, merge_arguments
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.lab.explorers.model_graph import KernelCall
from aimz_lab.trust.before_fit import check_readable_again
from aimz_lab.trust.rows_to_examine import rows_of
from aimz_lab.types import Arguments


def kernel_call(
    im: ImpactModel,
    inputs: Any,
    outputs: Any,
    *,
    by_row: Iterable[str] = (),
    shared: Iterable[str] = (),
    kernel_kwargs: Arguments | None = None,
    kwargs: Arguments | None = None,
) -> tuple[KernelCall, AxisLabels]:
    """Return a model's kernel with its arguments, and the labels along the axes of its sites.

    Args:
        im: The model.
        inputs: The input, as in ``fit``; ``None`` for shapes as in the last training.
        outputs: The output.
        by_row: Further arguments with one entry per row.
        shared: Further arguments that are passed whole.
        kernel_kwargs: Arguments whose names the method uses itself.
        kwargs: Further kernel arguments.

    Raises:
        NotFittedError: If there are neither arguments nor a training.
        DataTypeError: If the rows come from a generator, which can be read only once.
    """
    signature = KernelSignature(im.kernel, im.param_input, im.param_output)
    if inputs is None:
        return _as_trained(im)
    check_readable_again(inputs)
    given = {**(kwargs or {})}
    table, made = im._table, None
    if table is not None:
        made = table.call(rows_of(inputs), outputs, given, kernel_kwargs, by_row, with_output=True)
        inputs, outputs = made.inputs, made.outputs
        kernel_kwargs, by_row = made.kernel_kwargs, made.by_row
        table = table if made.encoder is None else table.learned(made.encoder)
    extra = merge_arguments(signature, given, kernel_kwargs)
    data = _data(im, signature, inputs, outputs, extra, by_row, shared)
    rows = {name: canonical(array, name) for name, array in data.rows.items()}
    others = jax.tree.map(canonical, dict(data.shared))
    call = KernelCall(im.kernel, im.param_output, rows, others, data.static, im._trained.params)
    return call, _labels(im, im.input_schema or InputSchema.of(data), table)


def _as_trained(im: ImpactModel) -> tuple[KernelCall, AxisLabels]:
    """Return the kernel with shapes as in the last training."""
    schema = im.input_schema
    if schema is None:
        msg = (
            "The model has not seen any rows yet; pass those that it will be trained on: "
            "explore_model(im, X, y)."
        )
        raise NotFittedError(msg)
    n_rows = schema.n_obs or schema.batch_size
    rows = {
        name: jax.ShapeDtypeStruct((n_rows, *row.shape), row.dtype)
        for name, row in schema.rows.items()
    }
    call = KernelCall(
        im.kernel,
        im.param_output,
        rows,
        dict(schema.shared),
        schema.static,
        im._trained.params,
        has_values=False,
        is_any_size=schema.n_obs is None,
    )
    return call, _labels(im, schema, im._table)


def _data(
    im: ImpactModel,
    signature: KernelSignature,
    inputs: Any,
    outputs: Any,
    extra: Arguments,
    by_row: Iterable[str],
    shared: Iterable[str],
) -> TrainingData:
    """Return passed arguments; of a source of batches, those of its first batch."""
    roles = im._roles(by_row, shared)
    inputs = rows_of(inputs)
    if outputs is None and not is_batches(inputs) and not hasattr(inputs, "arrays"):
        rows, whole, static = rows_and_others(
            signature, inputs, None, extra, allow_nonfinite=True, roles=roles
        )
        n_rows = len(next(iter(rows.values())))
        return TrainingData(rows, whole, static, n_rows, n_rows)
    shuffle = None if is_batches(inputs) else False
    options = {"batch_size": None, "shuffle": shuffle, "n_obs": None, "allow_nonfinite": True}
    data, _ = training_data(
        signature, inputs, outputs, extra, key=jax.random.key(0), roles=roles, **options
    )
    return replace(data, batch_size=data.n_rows) if data.in_memory else data


def _labels(im: ImpactModel, schema: InputSchema, table: Any) -> AxisLabels:
    """Return the labels along the axes of sites that a table or a frame gives them."""
    if not schema.columns if table is None else table.encoder is None:
        return {}
    spec = im._trained.spec or trace_spec(
        im.kernel,
        rows=schema.batch,
        shared=schema.shared,
        static=schema.static,
        output=im.param_output,
    )
    try:
        return (im._frame_columns if table is None else table).axis_labels(spec, schema)
    except AimzLabError:  # names of a TableSpec that do not fit are told elsewhere
        return {}
