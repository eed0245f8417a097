"""Which sites a kernel makes otherwise with other arguments, by its traced programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
from jax.extend.core import Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.rows.jaxprs import inner_programs
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.traced_sites import TracedSites, trace_sites, without_addresses
from aimz_lab.types import HasShape


def sites_made_otherwise(
    kernel: Callable,
    spec: KernelSpec,
    one: KernelArguments,
    other: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
    *,
    n_rows: int | None = None,
) -> frozenset[str] | None:
    """Return the sites that the kernel makes otherwise of the same other sites.

    Arguments without arrays, such as flags, options and sizes, are part of a program: what they
    change is seen where the programs of a site differ.

    Args:
        kernel: The kernel.
        spec: Its structure with the first arguments.
        one: Arguments; of arrays, shapes and types are enough.
        other: Other arguments.
        params: Values of ``param`` sites and mutable state.
        n_rows: Number of rows of the other arguments, for a kernel that has to know it; ``None`` if
            it is not known. The programs of sites with rows differ by it.

    Returns:
        Their names, also of sites that it has with the first arguments alone; ``None`` where it
        cannot be traced with the other ones.
    """
    try:
        found = _made(trace_sites(kernel, spec, one, params, n_rows=spec.n_rows))
    except Exception:  # noqa: BLE001  the kernel may refuse these arguments for any reason
        return None
    for count in (spec.n_rows, n_rows):
        try:
            others = _made(trace_sites(kernel, spec, other, params, n_rows=count))
        except Exception:  # noqa: BLE001  so may it with the other ones
            continue
        return frozenset(name for name, made in found.items() if others.get(name) != made)
    return None


def _made(traced: TracedSites) -> dict[str, tuple[object, ...]]:
    """Return how each site is made: its form, what it reads, and the program between them."""
    program, seen = traced.program, traced.seen
    made, first = {}, 0
    for name, arrays in seen.made_of.items():
        own = range(first, first := first + len(arrays))
        part, used = dce_jaxpr(program, [i in own for i in range(len(program.outvars))])
        read = [each for each, is_used in zip(traced.inputs, used, strict=True) if is_used]
        atoms = {*map(id, part.outvars)}.union(*(map(id, each.invars) for each in part.eqns))
        held = zip(program.constvars, traced.constants, strict=True)
        needed = [(variable, value) for variable, value in held if id(variable) in atoms]
        part = part.replace(constvars=[variable for variable, _ in needed])
        constants = [_bits(value) for _, value in needed]
        constants += [_bits(value) for value in _inner_constants(part)]
        made[name] = seen.forms[name], read, without_addresses(str(part)), constants
    return made


def _inner_constants(program: Jaxpr) -> Iterator[jax.Array]:
    """Yield the arrays that the programs within a program hold, such as compiled functions."""
    for equation in program.eqns:
        for each in inner_programs(equation):
            yield from each.consts
            yield from _inner_constants(each.jaxpr)


def _bits(constant: jax.Array) -> tuple[tuple[int, ...], bytes]:
    if jax.dtypes.issubdtype(constant.dtype, jax.dtypes.prng_key):
        constant = jax.random.key_data(constant)
    return constant.shape, np.asarray(constant).tobytes()
