"""Say in words what is wrong with a kernel's code: wrap what runs kernels."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpyro.distributions import Distribution

from aimz_lab.errors import AimzLabError, GuideError, KernelError
from aimz_lab.kernel.failing_line import FailingLine, find_failing_line, own_code
from aimz_lab.kernel.failure_reasons import LEFT_BEHIND, LIBRARIES, first_line, reason_of
from aimz_lab.kernel.read_code import package_of
from aimz_lab.types import callable_name


@contextmanager
def explained(
    kernel: Callable, guide: Callable | None = None, *, output: str = "y"
) -> Iterator[None]:
    """Turn errors of a kernel's code into a sentence with its line and the way out.

    Errors that do not pass the kernel's own code stay as they are, and so do those of this package.
    An error that the user's code raises itself keeps its type, and gets a note with the line.

    Args:
        kernel: The kernel.
        guide: The guide, if the user wrote it.
        output: Name of the kernel's output.

    Raises:
        KernelError: If JAX, NumPyro or NumPy refuse what a line of the kernel does.
        GuideError: Likewise for the guide.
    """
    try:
        yield
    except AimzLabError:
        raise
    except Exception as error:
        for role, function in (("kernel", kernel), ("guide", guide)):
            _explain(error, role, function, output)
        if "Computation compiled for" in str(error):  # JAX, of a tracer among the constants
            msg = f"The kernel {_name(kernel)!r} fails. {LEFT_BEHIND}"
            raise KernelError(msg) from error
        density = _failing_density(error)
        if density is not None:
            msg = f"The kernel {_name(kernel)!r} runs, but {density}"
            raise KernelError(msg) from error
        raise


def _explain(error: Exception, role: str, function: Callable | None, output: str) -> None:
    """Raise the explained error if it passed the code of a function."""
    package = package_of(function) if function is not None else None
    package = None if package in {*LIBRARIES, "aimz_lab"} else package
    line = find_failing_line(error, own_code(function), package)
    if line is not None:
        _raise_explained(error, line, role, _name(function), output)


def _name(function: Callable) -> str:
    while isinstance(function, partial):
        function = function.func
    return callable_name(function)


def _raise_explained(
    error: Exception, line: FailingLine, role: str, name: str, output: str
) -> None:
    """Raise the refusal of a line, or put a note on the error."""
    where = f"The {role} {name!r} fails in {line.described}."
    reason = reason_of(error, line, output)
    if reason is None:
        if where not in getattr(error, "__notes__", ()):
            error.add_note(where)
        return
    refusal = KernelError if role == "kernel" else GuideError
    raise refusal(f"{where} {reason}") from error


def _failing_density(error: Exception) -> str | None:
    """Name the distribution of NumPyro's that cannot compute a density."""
    if not isinstance(error, (TypeError, ValueError)):
        return None
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get("self")
        is_density = frame.f_code.co_name == "log_prob" and isinstance(owner, Distribution)
        if is_density and type(owner).__module__.startswith("numpyro."):
            found = frame
    if found is None:
        return None
    owner, value = found.f_locals["self"], found.f_locals.get("value")
    of = f" of shape {np.shape(value)}, {value.dtype}" if hasattr(value, "dtype") else ""
    return (
        f"the density of its {type(owner).__name__} distribution cannot be computed for a value"
        f"{of}: {first_line(error)} Check the type of the data, and what the distribution is given."
    )
