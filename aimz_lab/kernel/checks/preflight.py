"""Check the signature, the sites and the guide of a kernel before the first step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

from numpyro.infer.autoguide import AutoGuide

from aimz_lab.errors import CallError, GuideError, KernelError
from aimz_lab.kernel.checks.names import check_names
from aimz_lab.kernel.signature import kernel_parameters
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import callable_name, shown

_NOT_RUN = (
    inspect.isgeneratorfunction,
    inspect.iscoroutinefunction,
    inspect.isasyncgenfunction,
)


def check_signature(kernel: Callable, param_input: str, param_output: str) -> None:
    """Check that a kernel takes its input and output by keyword.

    Args:
        kernel: The kernel.
        param_input: Name of the input parameter.
        param_output: Name of the output parameter.

    Raises:
        KernelError: If the kernel is not callable, takes variable or positional-only arguments, or
            lacks one of the two parameters; if the input has a default; or if the output's default
            is not ``None``.
    """
    if not callable(kernel):
        msg = f"The kernel must be a function with NumPyro primitives; got {shown(kernel)}."
        raise KernelError(msg)
    name = callable_name(kernel)
    called = kernel if inspect.isroutine(kernel) else getattr(kernel, "__call__", kernel)  # noqa: B004
    if any(is_one(called) for is_one in _NOT_RUN):
        msg = (
            f"The kernel {name!r} has a yield or is async, so that calling it runs none of it; "
            "write a plain function, without yield, async and await."
        )
        raise KernelError(msg)
    if inspect.isclass(kernel):
        msg = f"The kernel {name!r} is a class; pass an object of it, {name}(...), or a method."
        raise KernelError(msg)
    try:
        parameters = kernel_parameters(kernel)
    except ValueError:  # some of Python's own functions have no signature
        msg = f"The kernel {shown(kernel)} does not tell its parameters; define it with def."
        raise KernelError(msg) from None
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            msg = f"The kernel {name!r} takes {parameter}; name each of its arguments instead."
            raise KernelError(msg)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            msg = f"The kernel {name!r} takes {parameter.name!r} by position only; remove the '/'."
            raise KernelError(msg)
    for needed, role in ((param_input, "input"), (param_output, "output")):
        if needed not in parameters:
            msg = (
                f"The kernel {name!r} has no parameter {needed!r} for the {role}; define it as "
                f"def {name}({param_input}, ..., {param_output}=None), or say what it is called "
                f"with param_{role}=."
            )
            raise KernelError(msg)
    empty = inspect.Parameter.empty
    if parameters[param_input].default is not empty:
        msg = f"The kernel's input {param_input!r} must not have a default; it is always given."
        raise KernelError(msg)
    if parameters[param_output].default is not None:
        msg = (
            f"The kernel's output must default to None, {param_output}=None: without data the "
            "kernel draws it."
        )
        raise KernelError(msg)


def check_sites(spec: KernelSpec) -> None:
    """Check the sites of a kernel that was traced with its data.

    Raises:
        KernelError: If the output site is missing, or a name cannot stand in results.
    """
    if spec.output not in spec.sites:
        names = ", ".join(spec.sample_sites) or "none"
        msg = (
            f"The kernel has no site {spec.output!r}; name its output site like its output "
            f"parameter, or set param_output=. Its sample sites: {names}."
        )
        raise KernelError(msg)
    check_names(spec)


def check_trainable_on_batches(
    spec: KernelSpec, guide: Callable, guide_spec: KernelSpec | None
) -> None:
    """Check that neither guide nor kernel learns a value per position in the batch.

    Args:
        spec: The kernel's spec at the nominal batch size.
        guide: The guide.
        guide_spec: The guide's spec, or ``None`` for an autoguide.

    Raises:
        GuideError: If one does; a position is a different row in every batch.
    """
    kept = kept_by_position(spec, guide, guide_spec)
    if kept:
        names = ", ".join(repr(name) for name in kept)
        msg = (
            f"The guide keeps one value per row for {names}; in minibatches, position i is another "
            "row each time, so these cannot be learned. Either train on all rows at once "
            "(fit_on_batch, or fit with batch_size >= the number of rows), or write a guide that "
            "computes them from the batch (an amortised guide)."
        )
        if spec.is_imputed:
            msg += (
                f" Missing entries of {spec.output!r} need no value of their own in training: "
                f"numpyro.handlers.mask(mask=...) around the site, in place of obs_mask=, leaves "
                "them out of the density."
            )
        raise GuideError(msg)


def kept_by_position(spec: KernelSpec, guide: Callable, guide_spec: KernelSpec | None) -> list[str]:
    """Names of the sites that keep one value per row; see :func:`check_trainable_on_batches`."""
    params = [name for name in spec.of_kind("param") if spec.sites[name].row_axes]
    if isinstance(guide, AutoGuide):
        # Also with create_plates=: its plates draw their own rows, and not those of the batch.
        latent = spec.latent_sites
        return params + [
            name
            for name in latent
            if spec.sites[name].row_axes and not spec.sites[name].is_discrete
        ]
    if guide_spec is None:
        return params
    return params + [
        name for name in guide_spec.of_kind("param") if guide_spec.sites[name].row_axes
    ]


def parameter_names(kernel: Callable) -> tuple[str, ...]:
    """Names of the kernel's parameters, in order."""
    return tuple(kernel_parameters(kernel))


def check_call(kernel: Callable, given: Iterable[str]) -> None:
    """Check that a kernel can be called with exactly these keyword arguments.

    Args:
        kernel: The kernel.
        given: Names of the arguments.

    Raises:
        CallError: If the kernel lacks such a parameter, or a required argument is missing.

    Example:
        >>> def kernel(X, groups, y=None): ...
        >>> check_call(kernel, ["X", "y"])
        Traceback (most recent call last):
        ...
        aimz_lab.errors.CallError: The kernel 'kernel' needs the argument 'groups'; ...
    """
    name = callable_name(kernel)
    parameters = kernel_parameters(kernel)
    given = list(given)
    for argument in given:
        if argument not in parameters:
            listed = ", ".join(parameters)
            msg = f"The kernel {name!r} has no argument {argument!r}; it takes {listed}."
            msg += did_you_mean(argument, parameters)
            raise CallError(msg)
    for parameter in parameters.values():
        if parameter.default is parameter.empty and parameter.name not in given:
            msg = (
                f"The kernel {name!r} needs the argument {parameter.name!r}; pass it by keyword, "
                "or as a field of the data loader."
            )
            raise CallError(msg)
