"""What the explorer of priors works on: arguments, the observed output and its bounds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import canonical
from aimz_lab.data.options import real_number
from aimz_lab.data.tables import is_table, native_table
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.output_transform import observed_values, output_transform
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.lab.explorers.prior_program import PriorProgram
from aimz_lab.types import shown

_MOST_VALUES = 20_000_000


def read_arguments(
    im: ImpactModel,
    inputs: Any,
    kwargs: Mapping[str, Any],
    kernel_kwargs: Mapping[str, Any] | None,
    draws: int,
) -> tuple[KernelArguments, Mapping[str, Any]]:
    """Return the arguments of the kernel for these rows, and the values of its parameters."""
    request = im._trial_request(
        inputs, None, kwargs, kernel_kwargs, "prior_predictive", allow_nonfinite=False
    )
    if not isinstance(request.rows, Mapping):
        raise ArgumentError("explore_prior takes arrays: pass a few rows, not a loader.")
    rows = {name: array for name, array in request.rows.items() if name != im.param_output}
    arguments = KernelArguments(rows, request.shared, request.static)
    if arguments.n_rows * draws > _MOST_VALUES:
        most = _MOST_VALUES // draws
        msg = (
            f"{arguments.n_rows:,} rows and {draws} draws are too many to follow a hand; of a "
            f"kernel that treats rows alike, pass up to {most:,} rows, such as X[:1000] and "
            "y[:1000], or fewer draws by num_samples=."
        )
        raise ArgumentError(msg)
    return arguments, request.params


class ColumnNames(NamedTuple):
    """What the columns of the arguments are called.

    Attributes:
        columns: Names of the columns by argument, of those that are tables or made of one.
        vectors: What a table's vectors are, by argument: a formula, or the column of an index.
        levels: Names of the levels by argument, of each index of a category, and of the output.
    """

    columns: Mapping[str, tuple[str, ...]]
    vectors: Mapping[str, str]
    levels: Mapping[str, tuple[str, ...]]


def column_names(
    im: ImpactModel,
    inputs: Any,
    kwargs: Mapping[str, Any],
    kernel_kwargs: Mapping[str, Any] | None,
) -> ColumnNames:
    """Return what the columns of the arguments are called."""
    vectors, levels = {}, {}
    given = {**kwargs, **(kernel_kwargs or {})}
    if im._table is not None:
        call = im._table.call(inputs, None, kwargs, kernel_kwargs, (), with_output=False)
        inputs, given = call.inputs, {**given, **(call.kernel_kwargs or {})}
        for name, part in im._table.spec.parts.items() if call.encoder else ():
            if part.kind == "index":
                vectors[name] = part.columns[0]
                levels[name] = tuple(map(str, call.encoder.names[part.columns[0]]))
            elif part.kind == "formula" and not part.is_matrix:
                vectors[name] = part.text
        if call.encoder and (found := call.encoder.levels_of(im.param_output)):
            levels[im.param_output] = tuple(map(str, found))
    tables = {im.param_input: native_table(inputs), **given}
    columns = {
        name: tuple(map(str, table.columns)) for name, table in tables.items() if is_table(table)
    }
    return ColumnNames(columns, vectors, levels)


def outcome_of_table(
    im: ImpactModel,
    table: Any,
    y: Any,
    kwargs: Mapping[str, Any],
    kernel_kwargs: Mapping[str, Any] | None,
) -> Any:
    """Return the outcome that a table has, on the scale of its formula, as the kernel knows it."""
    call = im._table.call(table, y, kwargs, kernel_kwargs, (), with_output=False)
    return call.outputs if call.observed is None else call.observed.values


def as_observed(
    kernel: Callable,
    output: str,
    arguments: KernelArguments,
    params: Mapping[str, Any],
    data: np.ndarray,
) -> np.ndarray:
    """Return an output as the kernel observes it: such as its logs.

    Args:
        kernel: The kernel.
        output: Name of its output.
        arguments: Its arguments, without the output.
        params: Values of its parameters.
        data: The output.

    Raises:
        DataError: If what it observes depends on what it draws.
    """
    rows = {**arguments.rows, output: canonical(data, output)}
    batch = KernelArguments(rows, arguments.shared, arguments.static)
    try:
        spec = trace_spec(
            kernel, rows=rows, shared=batch.shared, static=batch.static, output=output
        )
        if not output_transform(kernel, spec, batch):
            return data
    except Exception:  # noqa: BLE001  it does not take this output, as a fit will say
        return data
    found = observed_values(kernel, spec, params, batch)
    if found is None:
        msg = (
            f"What site {output!r} observes depends on what the kernel draws, so that its draws "
            "cannot be compared with y; leave y out."
        )
        raise DataError(msg)
    return np.where(np.isfinite(found), found, np.nan).astype(float)


def observed_data(y: ArrayLike | None, n_rows: int) -> np.ndarray | None:
    """Return the observed output as floats, with NaN for what is not finite.

    Raises:
        DataError: If these are no numbers, not one row for each of ``n_rows``, or none is finite.
    """
    if y is None:
        return None
    data = np.asarray(y)
    if data.dtype.kind not in "biuf":
        raise DataError(f"y= holds numbers, not {data.dtype}.")
    if data.shape[:1] != (n_rows,):
        msg = f"y has {data.shape[0] if data.ndim else 1} rows and X has {n_rows}; pass as many."
        raise DataError(msg)
    if not np.isfinite(data).any():
        raise DataError("y= has no finite number to compare with; leave it out.")
    return np.where(np.isfinite(data), data, np.nan).astype(float)


def check_shape(data: np.ndarray | None, program: PriorProgram, output: str) -> None:
    """Check that the data has as many values for each row as the kernel's output."""
    drawn = program.shapes().get(output)
    if data is not None and drawn is not None and drawn.size and data.shape != drawn.shape:
        msg = (
            f"y has shape {data.shape}, and the kernel's {output!r} has {drawn.shape}; pass y in "
            "the shape that the kernel gives."
        )
        raise DataError(msg)


def possible_limits(
    possible: tuple[float, float] | None, data: np.ndarray | None, *, of_shares: bool
) -> tuple[float, float]:
    """Return the bounds of possible values: those of the user; else 0 if no value is negative.

    Args:
        possible: Those of the user, or ``None``.
        data: The observed output, or ``None``.
        of_shares: Whether the distribution of the output has values from 0 to 1 alone, which are
            its bounds then.

    Raises:
        ArgumentError: If these are no lowest and highest value.
    """
    if possible is None and of_shares:
        return 0.0, 1.0
    if possible is None:
        known = data is not None and data.size and np.nanmin(data) >= 0
        return (0.0 if known else -math.inf), math.inf
    try:
        low, high = (real_number(one) for one in possible)
    except Exception:  # noqa: BLE001 - whatever is wrong with it
        low, high = math.nan, math.nan
    if not low < high:
        msg = f"possible= is the lowest and the highest value, low < high; got {shown(possible)}."
        raise ArgumentError(msg)
    return low, high
