"""Check that inference object and guide were made for the kernel that predicts."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from aimz_lab.errors import InferenceError
from aimz_lab.kernel.failing_line import place_of
from aimz_lab.kernel.read_code import functions_of
from aimz_lab.types import callable_name


def check_same_kernel(kernel: Callable, others: dict[str, Callable | None]) -> None:
    """Check that other objects have the kernel, or one that handlers or decorators make of it.

    A kernel that was defined again counts as the same if its code and what it encloses are.

    Args:
        kernel: The kernel of the model.
        others: Kernels of other objects, by what these are called in the message.

    Raises:
        InferenceError: If one is another kernel.

    Example:
        >>> def one(X, y=None): ...
        >>> check_same_kernel(one, {"the guide": lambda X, y=None: X})
        Traceback (most recent call last):
        ...
        aimz_lab.errors.InferenceError: The model predicts with the kernel 'one' (...), and ...
    """
    for what, other in others.items():
        if other is not None and not _is_same(kernel, other):
            msg = (
                f"The model predicts with the kernel {_described(kernel)}, and {what} was made for "
                f"another, {_described(other)}. Make all with one kernel; in a notebook, after a "
                "change of the kernel, run the cells that make guide and inference object again."
            )
            raise InferenceError(msg)


def _is_same(one: Any, other: Any, depth: int = 0) -> bool:
    if one is other:
        return True
    ones, others = list(functions_of(one)), list(functions_of(other))
    if not ones or not others:
        return True  # nothing is known of it
    return any(_is_same_function(f, g, depth) for f in ones for g in others)


def _is_same_function(one: Any, other: Any, depth: int) -> bool:
    if isinstance(one, types.MethodType) or isinstance(other, types.MethodType):
        are_methods = isinstance(one, types.MethodType) and isinstance(other, types.MethodType)
        return are_methods and one.__func__ is other.__func__ and one.__self__ is other.__self__
    if one is other:
        return True
    if one.__code__ != other.__code__ or depth > 4:
        return False
    pairs = zip(_enclosed(one), _enclosed(other), strict=True)
    return all(_is_equal(a, b, depth + 1) for a, b in pairs)


def _enclosed(function: types.FunctionType) -> list[Any]:
    cells = [_content(cell) for cell in function.__closure__ or ()]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    return [len(defaults), *cells, *defaults]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _is_equal(one: Any, other: Any, depth: int) -> bool:
    if one is other:
        return True
    if callable(one) and callable(other):
        return bool(list(functions_of(one))) and _is_same(one, other, depth)
    if isinstance(one, np.ndarray | jax.Array):
        return type(one) is type(other) and np.array_equal(one, other)
    try:
        return type(one) is type(other) and bool(one == other)
    except (TypeError, ValueError):  # such as a table
        return False


def _described(kernel: Callable) -> str:
    code = next((f.__code__ for f in functions_of(kernel) if hasattr(f, "__code__")), None)
    name = repr(callable_name(kernel))
    return name if code is None else f"{name} ({place_of(code)})"
