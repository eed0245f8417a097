"""Rules of the proof for operations that read or write parts of an array."""

from __future__ import annotations

from aimz_lab.kernel.rows.operation import Operation


def slice_rule(operation: Operation) -> bool:
    """All rows are taken, in their order, and the same part of each."""
    [axis] = operation.into
    if axis is None:
        return False
    for equation, n_rows in zip(operation[:2], operation.lengths, strict=True):
        params = equation.params
        stride = params["strides"][axis] if params["strides"] else 1
        if (params["start_indices"][axis], params["limit_indices"][axis], stride) != (0, n_rows, 1):
            return False
    return operation.same("start_indices", "strides") and operation.same_but_for(
        "limit_indices", axis
    )


def dynamic_slice_rule(operation: Operation) -> bool:
    """All rows are taken, wherever the part of each begins."""
    axis = operation.into[0]
    if axis is None or not _takes_all(operation, axis):
        return False
    return operation.same_but_for("slice_sizes", axis)


def _takes_all(operation: Operation, axis: int) -> bool:
    sizes = (equation.params["slice_sizes"][axis] for equation in operation[:2])
    return tuple(sizes) == operation.lengths


def dynamic_update_slice_rule(operation: Operation) -> bool:
    """All rows are written, wherever the part of each begins."""
    array, update, *_ = operation.into
    return array is not None and array == update


def gather_rule(operation: Operation) -> bool:
    """Each row looks up entries of a shared table, or of its own row of a table."""
    table, wanted = operation.into
    same = operation.same("dimension_numbers", "mode", "fill_value")
    if not same or wanted == operation.ndim(1) - 1:
        return False
    if table is None:
        return operation.same("slice_sizes")
    numbers = operation.param("dimension_numbers")
    if not operation.same_but_for("slice_sizes", table):
        return False
    if table in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(table)
        return numbers.start_indices_batching_dims[place] == wanted
    taken = (*numbers.collapsed_slice_dims, *numbers.start_index_map)
    return wanted is None and table not in taken and _takes_all(operation, table)


def scatter_rule(operation: Operation) -> bool:
    """The same part of each row is written, or each row says which part of it."""
    array, wanted, updates = operation.into
    same = operation.same("dimension_numbers", "mode", "indices_are_sorted", "unique_indices")
    if not same or array is None or updates is None:
        return False
    numbers = operation.param("dimension_numbers")
    window = numbers.update_window_dims
    if array in numbers.operand_batching_dims:
        place = numbers.operand_batching_dims.index(array)
        others = [axis for axis in range(operation.ndim(2)) if axis not in window]
        return numbers.scatter_indices_batching_dims[place] == wanted and others[wanted] == updates
    removed = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    kept = [axis for axis in range(operation.ndim(0)) if axis not in removed]
    if wanted is not None or array not in kept:
        return False
    written = array in numbers.scatter_dims_to_operand_dims
    return not written and window[kept.index(array)] == updates
