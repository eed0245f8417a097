"""The kernel's function, and the names of its input and output."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from numpyro.primitives import Messenger

from aimz_lab.data.options import check_mapping
from aimz_lab.errors import CallError

T = TypeVar("T")

_KEPT = 64
"""Facts to remember of a kernel; the oldest makes room."""


@dataclass(frozen=True)
class KernelSignature:
    """The kernel, and the names of its input and output.

    Attributes:
        kernel: The NumPyro function.
        input: Name of the input parameter.
        output: Name of the output parameter and of the output site.
        remembered: What was found out about the kernel, for arguments of some shapes.
    """

    kernel: Callable
    input: str = "X"
    output: str = "y"
    remembered: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[type[KernelSignature], tuple[Callable, str, str]]:
        return KernelSignature, (self.kernel, self.input, self.output)

    def remember(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return what was found out under a key, now or before.

        Args:
            key: All that it depends on, the kernel's code included.
            find: Finds it out.

        Raises:
            Exception: Any error of ``find``; nothing is remembered then.
        """
        if (found := self.remembered.get(key)) is None:
            found = find()
            if len(self.remembered) >= _KEPT:
                self.remembered.pop(next(iter(self.remembered)), None)
            self.remembered[key] = found
        return found


def merge_arguments(
    signature: KernelSignature,
    kwargs: Mapping[str, object],
    kernel_kwargs: Mapping[str, object] | None,
) -> dict[str, object]:
    """Merge the two ways of passing further kernel arguments.

    Args:
        signature: The kernel.
        kwargs: Arguments passed by keyword.
        kernel_kwargs: Arguments whose names collide with the method's own.

    Raises:
        CallError: If a name appears in both, or names the input or the output; or if
            ``kernel_kwargs`` is no mapping.
    """
    others = check_mapping("kernel_kwargs", kernel_kwargs, "kernel arguments by name")
    extra = {**kwargs, **others}
    twice = set(kwargs) & set(others)
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


def kernel_parameters(kernel: Callable) -> Mapping[str, inspect.Parameter]:
    """The parameters of a kernel; those of the function under NumPyro's handlers."""
    return inspect.signature(_without_handlers(kernel)).parameters


def default_arguments(kernel: Callable) -> dict[str, object]:
    """Return the defaults of a kernel's parameters."""
    parameters = kernel_parameters(kernel).values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _without_handlers(kernel: Callable) -> Callable:
    if isinstance(kernel, Messenger) and kernel.fn is not None:
        return _without_handlers(kernel.fn)
    if isinstance(kernel, partial):
        return partial(_without_handlers(kernel.func), *kernel.args, **kernel.keywords)
    return kernel
