"""Refuse matrices that cannot fit into memory before they are made."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping

from aimz_lab.data.html import format_bytes
from aimz_lab.data.memory import memory_bytes
from aimz_lab.errors import DataError
from aimz_lab.tables.columns import Column
from aimz_lab.tables.expressions import SPLINES
from aimz_lab.tables.formulas import Part

_BYTES = 16
"""Bytes of an entry while a matrix is made: formulaic's column in double precision, and ours."""

_USUAL_COLUMNS = 10
"""Columns of a spline whose number follows from its knots or its default."""


def check_size(part: Part, columns: Mapping[str, Column], n_rows: int) -> None:
    """Check that the matrix of a formula can fit into memory.

    Args:
        part: The formula.
        columns: What each column of the table holds.
        n_rows: Rows of the table.

    Raises:
        DataError: If it takes more than all memory.
    """
    count = sum(
        math.prod(_columns_of(factor.expr, part, columns) for factor in term.factors)
        for term in part.formula
    )
    needed = count * n_rows * _BYTES
    if needed > memory_bytes():
        msg = (
            f"The formula {part.text!r} of {part.argument!r} makes about {count:,} columns of "
            f"{n_rows:,} rows, which take {format_bytes(needed)} of memory, and this machine has "
            f"{format_bytes(memory_bytes())}. A category of many levels goes in as index(...), "
            "with an array of effects in the kernel."
        )
        raise DataError(msg)


def _columns_of(expr: str, part: Part, columns: Mapping[str, Column]) -> int:
    """Return about how many columns a factor of a term gives."""
    column = columns.get(part.quoted.get(expr, expr))
    if column is not None:
        return len(column.levels or (0,)) if column.kind == "text" else 1
    try:
        node = ast.parse(expr, mode="eval").body
    except SyntaxError:  # an operator of formulas
        return 1
    if not isinstance(node, ast.Call) or not node.args:
        return 1
    function = ast.unparse(node.func)
    if function == "C":
        name = ast.unparse(node.args[0])
        return len(columns[part.quoted.get(name, name)].levels or (0,))
    if function not in SPLINES:
        return 1
    numbers = [
        value.value
        for value in (*node.args[1:], *(keyword.value for keyword in node.keywords))
        if isinstance(value, ast.Constant) and type(value.value) is int
    ]
    return max([_USUAL_COLUMNS, *numbers])
