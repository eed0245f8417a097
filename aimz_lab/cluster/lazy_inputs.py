"""Find the rows of a call that workers read themselves: arrays of Zarr and Dask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aimz_lab.data.ranged_source import RangedSource, is_dask_table, is_lazy
from aimz_lab.kernel.signature import KernelSignature

if TYPE_CHECKING:
    from aimz_lab.tables.model_table import ModelTable


def with_lazy_rows(
    signature: KernelSignature,
    table: ModelTable | None,
    inputs: Any,
    kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Join arrays that are not in memory, and the output beside them, to one source of rows.

    Args:
        signature: The kernel.
        table: How tables are read; a Dask table is then left to it.
        inputs: The input of the call, or arrays by field.
        kwargs: Its further kernel arguments.
        options: Its options; ``outputs`` is the output.

    Returns:
        The three, with a :class:`~aimz_lab.data.ranged_source.RangedSource` as input where any
        array is lazy; else as they are.

    Raises:
        DataError: If the arrays differ in their number of rows.
    """
    kwargs, options = dict(kwargs), dict(options)
    if table is not None and is_dask_table(inputs):
        return inputs, kwargs, options
    fields = dict(inputs) if isinstance(inputs, Mapping) else {signature.input: inputs}
    lazy = {name: value for name, value in kwargs.items() if is_lazy(value)}
    if (outputs := options.get("outputs")) is not None:
        fields[signature.output] = outputs
    if not lazy and not any(map(is_lazy, fields.values())):
        return inputs, kwargs, options
    options.pop("outputs", None)
    for name in lazy:
        del kwargs[name]
    checked = not options.get("allow_nonfinite", False)
    source = RangedSource({**fields, **lazy}, allow_nonfinite=not checked)
    return source, kwargs, options
