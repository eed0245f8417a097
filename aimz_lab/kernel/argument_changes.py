"""Which sites a kernel makes otherwise with other arguments, by its traced programs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree
from numpyro import handlers

from aimz_lab.kernel.argument_leaves import named_leaves
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.jaxprs import inner_programs
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.traced_sites import KEY, TracedSites, trace_sites, without_addresses
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.system.random_streams import own_rng
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


def sites_computed_otherwise(
    kernel: Callable,
    spec: KernelSpec,
    one: KernelArguments,
    other: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
) -> frozenset[str] | None:
    """Return the sites that the kernel computes otherwise of the same other sites, by two runs.

    Of an array that holds data of a site beside its causes, a program does not show which differ.

    Args:
        kernel: The kernel.
        spec: Its structure with the first arguments.
        one: Arguments, with their values.
        other: Other arguments.
        params: Values of ``param`` sites and mutable state.

    Returns:
        Their names, also of sites whose distribution is not finite for the values tried; ``None``
        where the kernel cannot be run in this way.
    """
    try:
        first, second = (_computed(kernel, spec, each, params) for each in (one, other))
    except Exception:  # noqa: BLE001  the kernel may not run with its sites as inputs
        return None
    return frozenset(name for name, its in first.items() if not _are_same(its, second.get(name)))


def _computed(
    kernel: Callable,
    spec: KernelSpec,
    given: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
) -> dict[str, list[jax.Array]]:
    """Return what each site is made of where all sites have some values between 0 and 1."""
    n_rows = next(iter(given.rows.values())).shape[0]
    traced = trace_sites(kernel, spec, given, params, n_rows=n_rows)
    arrays, weights = named_leaves({**given.rows, **given.shared}), iter(jax.tree.leaves(params))
    random = own_rng("values of sites")
    values = []
    for (role, name), variable in zip(traced.inputs, traced.program.invars, strict=True):
        if role == KEY:
            value = jax.random.key(0)
        elif role == "parameter":
            value = next(weights)
        else:
            drawn = role == "site"
            value = random.uniform(0.1, 0.9, variable.aval.shape) if drawn else arrays[name]
            value = np.asarray(value).astype(variable.aval.dtype)
        values.append(value)
    run = jax.jit(jaxpr_as_fun(ClosedJaxpr(traced.program, traced.constants)))
    results = iter(run(*values))
    return {
        name: list(itertools.islice(results, len(its))) for name, its in traced.seen.made_of.items()
    }


def _are_same(one: Sequence[jax.Array], two: Sequence[jax.Array] | None) -> bool:
    return two is not None and len(one) == len(two) and all(map(_are_equal, one, two))


def _are_equal(one: jax.Array, two: jax.Array) -> bool:
    """Whether arrays are equal, with gaps in the same places; one of gaps alone tells nothing."""
    is_known = not one.size or not np.isnan(one).all()
    return is_known and np.array_equal(one, two, equal_nan=True)


def data_made_otherwise(
    kernel: Callable,
    spec: KernelSpec,
    one: KernelArguments,
    other: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
) -> frozenset[str]:
    """Return the observed sites whose data the kernel makes otherwise of the same arrays.

    Arguments without arrays are part of a program, as in :func:`sites_made_otherwise`.

    Args:
        kernel: The kernel.
        spec: Its structure with the first arguments.
        one: Arguments.
        other: Other arguments.
        params: Values of ``param`` sites and mutable state.

    Returns:
        Their names; all where the kernel cannot be traced.
    """
    names = spec.of_kind("observed")
    try:
        first, second = (_data(kernel, names, each, params) for each in (one, other))
    except Exception:  # noqa: BLE001  the kernel may refuse these arguments for any reason
        return frozenset(names)
    return frozenset(name for name in names if first.get(name) != second.get(name))


def _data(
    kernel: Callable,
    names: Sequence[str],
    given: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
) -> dict[str, object]:
    """Return how the data of each site is made of arrays."""

    def run(arrays: PyTree, params: PyTree) -> dict[str, jax.Array]:
        drawn = seeded(handlers.substitute(kernel, data=params), jax.random.key(0))
        trace = handlers.trace(drawn).get_trace(**arrays, **given.static)
        return {name: jnp.asarray(trace[name]["value"]) for name in names if name in trace}

    arguments = jax.tree.map(_abstract, {**given.rows, **given.shared}), dict(params)
    with tracing_lock:
        program, shapes = jax.make_jaxpr(run, return_shape=True)(*arguments)
    of_jax = program.jaxpr, program.consts
    return {name: _part(*of_jax, [number])[1:] for number, name in enumerate(sorted(shapes))}


def _abstract(leaf: HasShape) -> jax.ShapeDtypeStruct:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.ShapeDtypeStruct(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype))


def _made(traced: TracedSites) -> dict[str, tuple[object, ...]]:
    """Return how each site is made: its form, what it reads, and the program between them."""
    made, first = {}, 0
    for name, arrays in traced.seen.made_of.items():
        own = range(first, first := first + len(arrays))
        used, *part = _part(traced.program, traced.constants, own)
        read = [each for each, is_used in zip(traced.inputs, used, strict=True) if is_used]
        made[name] = traced.seen.forms[name], read, *part
    return made


def _part(
    program: Jaxpr, constants: Sequence[jax.Array], own: Collection[int]
) -> tuple[list[bool], str, list[object]]:
    """Return which inputs some results of a program need, its part for them, and what it holds."""
    part, used = dce_jaxpr(program, [i in own for i in range(len(program.outvars))])
    atoms = {*map(id, part.outvars)}.union(*(map(id, each.invars) for each in part.eqns))
    held = zip(program.constvars, constants, strict=True)
    needed = [(variable, value) for variable, value in held if id(variable) in atoms]
    part = part.replace(constvars=[variable for variable, _ in needed])
    found = [_bits(value) for _, value in needed]
    found += [_bits(value) for value in _inner_constants(part)]
    return used, without_addresses(str(part)), found


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
