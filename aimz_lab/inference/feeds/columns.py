"""Compare the columns of tables with those of the training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aimz_lab.data import row_labels, same_columns
from aimz_lab.errors import DataError
from aimz_lab.types import Columns


def check_columns(trained: Columns, given: Columns, arguments: Mapping[str, object]) -> None:
    """Check that tables have the columns of the training data, in the same order.

    Args:
        trained: Column names of each table of the training data.
        given: Column names of each argument that is a table, and labels of shared arguments.
        arguments: The arguments.

    Raises:
        DataError: If columns differ or are reordered, since each would meet a wrong weight; or if
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
        if name.endswith(".index"):
            check_order(f"argument {name.removesuffix('.index')!r}", columns, {name: expected})
        elif not same_columns(columns, expected):
            msg = (
                f"Field {name!r} has the columns {_listed(columns)}, and the model was "
                f"trained on {_listed(expected)}. Pass these in this order: "
                f"{name}[{list(expected[:_MOST])}]; rename those that are the same by another name."
            )
            raise DataError(msg)


def shared_labels(arguments: Mapping[str, object], shared: Iterable[str]) -> Columns:
    """Return the labels along the leading axes of shared arguments, such as lookup tables.

    Args:
        arguments: The arguments as the user passed them.
        shared: Names of the shared ones.

    Returns:
        Labels as text, by ``"name.index"``; none of an argument with very many.
    """
    found = {name: row_labels(arguments[name]) for name in shared if name in arguments}
    return {
        f"{name}.index": tuple(map(str, axis.labels))
        for name, axis in found.items()
        if axis is not None and axis.labels is not None and len(axis.labels) <= _LONGEST
    }


def check_order(what: str, labels: tuple[str, ...], known: Columns) -> None:
    """Refuse labels that are known in another order: each would meet the value of another.

    Args:
        what: What is labelled, for the message.
        labels: Its labels.
        known: Columns of tables, and labels of other things, by name.

    Raises:
        DataError: With both orders.
    """
    for name, others in known.items():
        if labels != others and len(labels) == len(others) and sorted(labels) == sorted(others):
            msg = (
                f"The labels of the {what} are {_listed(labels)}, and {name!r} has these in "
                f"another order: {_listed(others)}. Put them in that order (.loc, .reindex)."
            )
            raise DataError(msg)


_LONGEST = 10_000
"""A shared argument with more labels than this keeps none."""

_MOST = 20
"""A message lists at most this many names."""


def _listed(names: tuple[str, ...]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
