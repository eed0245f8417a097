"""The arguments of a call, made from its table if it has one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from aimz_lab.data.checks import check_numeric
from aimz_lab.data.sources import is_batches
from aimz_lab.data.tables import is_a, is_table, native_table, read_table
from aimz_lab.errors import CallError, DataError, DataTypeError, OptionalDependencyError
from aimz_lab.system.imports import late_import
from aimz_lab.types import Arguments

if TYPE_CHECKING:
    from aimz_lab.tables.encoder import TableEncoder
    from aimz_lab.tables.table_spec import TableSpec


def tables_module(name: str) -> Any:
    """Import a module of this room that needs formulaic.

    Args:
        name: Its name.

    Raises:
        OptionalDependencyError: If formulaic is missing.
    """
    try:
        return late_import(f"aimz_lab.tables.{name}")
    except ImportError as error:
        if str(error.name).split(".")[0] != "formulaic":
            raise
        msg = "Tables need formulaic: pip install 'aimz_lab[tables]'"
        raise OptionalDependencyError(msg) from error


def refuse_no_table(inputs: Any, spec: TableSpec, columns: Sequence[str]) -> None:
    """Refuse columns of a table that are no data frame, such as ``df.to_numpy()`` with text.

    Arrays of numbers are fine: they are what the formulas make.

    Args:
        inputs: The input of a call that is no table.
        spec: How the model makes its arguments from a table.
        columns: The columns that the call needs.

    Raises:
        DataTypeError: If it is an array with other values than numbers, or columns by name.
    """
    if isinstance(inputs, Mapping):
        are_columns = any(name in inputs and name not in spec.parts for name in columns)
        what = "a mapping of columns" if are_columns else ""
    else:
        what = _of_no_numbers(inputs)
    if what:
        msg = (
            f"The model makes its arguments from a data frame, as its TableSpec says, and got "
            f"{what}. Pass a pandas or polars data frame with the columns "
            f"{', '.join(map(repr, columns))}."
        )
        raise DataTypeError(msg)


def _of_no_numbers(values: Any) -> str:
    """Say what an array of other values than numbers is; empty if it is none."""
    is_column = is_a(values, "pandas", "Series", "Index") or is_a(values, "polars", "Series")
    is_list = isinstance(values, (list, tuple)) and not is_batches(values)
    if not (is_column or is_list or isinstance(values, np.ndarray)):
        return ""
    if is_list and any(map(is_table, values)):
        return "a list of them; join them first, as by pandas.concat"
    try:
        array = read_table("", values) if is_column else np.asarray(values)
        check_numeric("", array.dtype)
    except DataTypeError:
        return "values that are not numbers"
    except ValueError:  # rows of several lengths
        return ""
    return ""


class Observed(NamedTuple):
    """The output that a table has for the rows of a prediction.

    Attributes:
        values: One for each row, encoded; ``None`` if they are not all there.
        some: If only some are there, their positions among the rows, and they; else ``None``.
    """

    values: Shaped[np.ndarray, "row ..."] | None
    some: tuple[Int[np.ndarray, " some"], Shaped[np.ndarray, "some ..."]] | None = None


class TableCall(NamedTuple):
    """The arguments of a call.

    Attributes:
        inputs: The kernel's input.
        outputs: Its output, or ``None``.
        kernel_kwargs: Further arguments of the kernel.
        by_row: Names of those with one entry per row.
        encoder: What made them; ``None`` if the call has no table.
        kept: Positions of the table's rows that are used; ``None`` for all.
        observed: The output that the table has beside a prediction, or ``None``.
    """

    inputs: Any
    outputs: Any
    kernel_kwargs: Arguments | None
    by_row: Iterable[str]
    encoder: TableEncoder | None = None
    kept: Shaped[np.ndarray, " kept"] | None = None
    observed: Observed | None = None

    def validation(self, held_out: Any) -> Any:
        """Return held-out data; a table is encoded as the training table.

        Args:
            held_out: A table, or anything else, which is returned as it is.

        Raises:
            CallError: If it has a table and arrays beside it.
            DataError: If the table cannot be encoded.
            DataTypeError: If a column holds something else than in training.
        """
        held_out = native_table(held_out)
        if self.encoder is None:
            return held_out
        if not is_table(held_out):
            _refuse_parts(held_out)
            parts = held_out if isinstance(held_out, tuple) else (held_out,)
            spec = self.encoder.spec
            refuse_no_table(next(iter(parts), None), spec, spec.columns)
            return held_out
        try:
            made: Mapping[str, Any] = self.encoder.encode(held_out).arguments
        except (DataError, DataTypeError) as error:
            raise type(error)(f"In the held-out table: {error}") from error
        return {name: value for name, value in made.items() if not isinstance(value, int)}


def _refuse_parts(held_out: Any) -> None:
    parts = held_out.values() if isinstance(held_out, Mapping) else held_out
    if isinstance(held_out, (tuple, list, Mapping)) and any(map(is_table, parts)):
        msg = (
            "validation= takes the held-out table alone, with the columns of the training table: "
            "the output is one of them."
        )
        raise CallError(msg)
