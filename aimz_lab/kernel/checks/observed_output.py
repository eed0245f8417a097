"""Check that the output of a kernel is observed: that training sees its data."""

from __future__ import annotations

from collections.abc import Callable

from aimz_lab.errors import KernelError
from aimz_lab.kernel.argument_reach import sites_by_array
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.spec import KernelSpec


def check_output_observed(kernel: Callable, spec: KernelSpec, batch: KernelArguments) -> None:
    """Check that the log density of a kernel depends on its output argument.

    The output site is observed, with a value that follows from the argument, or it is a factor that
    depends on the argument. Or it only records the argument, ``deterministic("y", y)``, and a
    factor or another observed site depends on it.

    Args:
        kernel: A function with NumPyro primitives.
        spec: Its structure, traced with the output.
        batch: Arguments of one batch, output included.

    Raises:
        KernelError: If nothing that the kernel observes depends on the output.
    """
    name = spec.output
    site = spec.sites[name]
    if site.kind == "observed" and site.argument == name:
        return
    advice = f"pass it: numpyro.sample({name!r}, ..., obs={name})."
    if site.kind == "latent":
        msg = (
            f"The kernel draws its output site {name!r} although {name} is given, so training "
            f"would not see the data; {advice}"
        )
        raise KernelError(msg)
    dependent = sites_by_array(kernel, spec, batch)[name]
    if site.kind == "observed" and name not in dependent.values:
        msg = (
            f"The output site {name!r} is observed, but what it observes does not follow from the "
            f"argument {name}, so training would not see the data; {advice}"
        )
        raise KernelError(msg)
    if site.kind == "observed":
        return
    if site.kind == "factor" and name in dependent.densities:
        return
    if name not in dependent.values:
        msg = (
            f"The output site {name!r} is computed ({site.kind}) and not observed, so training "
            f"would not see the data. Give the computed value another name, and {advice}"
        )
        raise KernelError(msg)
    if not dependent.densities:
        msg = (
            f"The output site {name!r} records {name}, but no observed site and no factor of the "
            f"kernel depends on it, so training would not see the data; {advice}"
        )
        raise KernelError(msg)
