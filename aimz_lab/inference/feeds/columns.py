"""Compare the columns of tables with those of the training data."""

from __future__ import annotations

from collections.abc import Mapping

from aimz_lab.data import same_columns
from aimz_lab.errors import DataError
from aimz_lab.types import Columns


def check_columns(trained: Columns, given: Columns, arguments: Mapping[str, object]) -> None:
    """Check that tables have the columns of the training data, in the same order.

    Args:
        trained: Column names of each table of the training data.
        given: Column names of each argument that is a table.
        arguments: The arguments.

    Raises:
        DataError: If columns differ or are reordered, since each would meet another's weight; or if
            an argument is only one row or column of such a table.
    """
    for name in trained.keys() & arguments:
        if getattr(arguments[name], "ndim", 2) == 1:
            msg = (
                f"Field {name!r} has one dimension, and the model was trained on a table with "
                f"the columns {_listed(trained[name])}. A single row is a table too: "
                f"{name}.iloc[[0]]."
            )
            raise DataError(msg)
    for name, columns in given.items():
        expected = trained.get(name, columns)
        if not same_columns(columns, expected):
            msg = (
                f"Field {name!r} has the columns {_listed(columns)}, and the model was "
                f"trained on {_listed(expected)}. Pass these in this order: "
                f"{name}[{list(expected[:_MOST])}]; or without names, {name}.to_numpy()."
            )
            raise DataError(msg)


_MOST = 20
"""Most names in a message."""


def _listed(names: tuple[str, ...]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
