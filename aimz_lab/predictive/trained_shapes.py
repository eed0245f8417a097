"""Compare the arguments of a call with those of the training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aimz_lab.errors import DataError
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.request import Request
from aimz_lab.types import shown


def check_row_axes(request: Request, rows: Rows) -> None:
    """Check that rows have as many axes as in the training: one column is no table of columns.

    A kernel may take rows of other sizes, such as longer series, and then says itself what fits.

    Raises:
        DataError: With both shapes.
    """
    if request.trained is None or request.group == "prior_predictive":
        return
    for name, row in request.trained.rows.items():
        array = rows.template.get(name)
        if array is not None and np.ndim(array) - 1 != len(row.shape):
            msg = (
                f"{name!r} has rows of shape {np.shape(array)[1:]}, and the model was trained on "
                f"rows of shape {row.shape}; pass {_as_trained(name, row.shape)}."
            )
            raise DataError(msg)


def with_trained_shapes(error: Exception, request: Request, rows: Rows) -> Exception:
    """Return the error of a kernel that was run, naming what differs from the training.

    Args:
        error: The kernel's error.
        request: The call.
        rows: Its rows.

    Returns:
        The error itself, where nothing differs.
    """
    found = list(_differences(request, rows))
    if not found:
        return error
    first = str(error).partition("\n")[0].rstrip(".")
    msg = (
        f"The kernel cannot be run with these arguments ({type(error).__name__}: {first}). They "
        f"differ from those of the training: {'; '.join(found)}."
    )
    return DataError(msg)


def _differences(request: Request, rows: Rows) -> Iterator[str]:
    if request.trained is None:
        return
    for name, row in request.trained.rows.items():
        array = rows.template.get(name)
        if array is None:
            if name in request.static:
                what = shown(request.static[name])
                yield f"{name!r} has no entry per row here, and had one in training: it is {what}"
            elif name in request.shared:
                yield f"{name!r} has no entry per row here, and had one in training"
        elif np.shape(array)[1:] != row.shape:
            here = np.shape(array)[1:]
            yield f"{name!r} has rows of shape {here} here and {row.shape} in training"
    for name, leaf in request.trained.shared.items():
        if name in request.static:
            what = shown(request.static[name])
            yield f"{name!r} is no array here, and was one in training: it is {what}"
        elif hasattr(leaf, "shape") and name in request.shared:
            here = np.shape(request.shared[name])
            if here != leaf.shape:
                yield f"{name!r} has the shape {here} here and {leaf.shape} in training"


def _as_trained(name: str, shape: tuple[int, ...]) -> str:
    if not shape:
        return f"one number per row, such as {name}[:, 0]"
    if shape == (1,):
        return f"an array with 1 column, such as {name}[:, [0]]"
    if len(shape) == 1:
        return f"an array with {shape[0]} columns"
    return f"an array of shape (row, {', '.join(map(str, shape))})"
