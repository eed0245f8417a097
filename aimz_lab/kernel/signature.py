"""What the user wrote: the kernel's function, and the names of its input and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aimz_lab.errors import CallError


@dataclass(frozen=True)
class KernelSignature:
    """The kernel, and what its input and its output are called.

    Attributes:
        kernel: The NumPyro model.
        input: Name of the parameter for the input.
        output: Name of the parameter, and of the site, for the output.
    """

    kernel: Callable
    input: str = "X"
    output: str = "y"


def merge_arguments(
    signature: KernelSignature, kwargs: Mapping[str, Any], kernel_kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Put both ways of passing further kernel arguments together.

    Args:
        signature: The kernel.
        kwargs: Arguments that were passed by keyword.
        kernel_kwargs: Arguments whose names collide with a method's own.

    Raises:
        CallError: If a name appears in both, or is that of the input or the output.
    """
    extra = {**kwargs, **(kernel_kwargs or {})}
    twice = set(kwargs) & set(kernel_kwargs or {})
    if twice:
        msg = f"{sorted(twice)[0]!r} is passed both by keyword and in kernel_kwargs; pass it once."
        raise CallError(msg)
    for name, where in ((signature.input, "first"), (signature.output, "second")):
        if name in extra:
            msg = (
                f"The kernel's {name!r} is the {where} argument of the method; pass it there only."
            )
            raise CallError(msg)
    return extra
