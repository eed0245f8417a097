"""Which sites the arguments of a kernel reach, by the traced program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from numpyro import handlers

from aimz_lab.kernel.argument_leaves import leaf_name
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.jaxprs import dependent_results
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import HasShape


class Dependent(NamedTuple):
    """Names of the sites that may depend on what was asked about.

    Attributes:
        values: Those whose value may.
        densities: Observed sites and factors whose log density may.
    """

    values: frozenset[str]
    densities: frozenset[str]


def sites_by_array(
    kernel: Callable,
    spec: KernelSpec,
    arguments: KernelArguments,
) -> dict[str, Dependent]:
    """Return the sites that may depend on each array in a kernel's arguments.

    Args:
        kernel: A function with NumPyro primitives.
        spec: Its structure.
        arguments: Its arguments; of arrays, shapes and types are enough.

    Returns:
        The sites by array, named as in :mod:`aimz_lab.kernel.argument_leaves`; a site that is not
        among them provably does not depend on the array.

    Raises:
        Exception: What the kernel raises.
    """

    def run(arrays: Mapping[str, Any], key: jax.Array) -> dict[str, list[Any]]:
        trace = handlers.trace(seeded(kernel, key)).get_trace(**arrays, **arguments.static)
        return {name: _value_and_density(trace[name]) for name in spec.sites if name in trace}

    abstract = jax.tree.map(_abstract, {**arguments.rows, **arguments.shared})
    with tracing_lock:
        program, shapes = jax.make_jaxpr(run, return_shape=True)(abstract, jax.random.key(0))
    structure = jax.tree.structure(shapes)
    paths = [path for path, _ in jax.tree.leaves_with_path(abstract)]
    found = {}
    for (first, *others), variable in zip(paths, program.jaxpr.invars, strict=False):
        depends = dependent_results(program.jaxpr, frozenset({variable}))
        by_site = jax.tree.unflatten(structure, depends)
        found[leaf_name(first.key, tuple(others))] = _dependent(by_site)
    return found


def _dependent(by_site: Mapping[str, list[Any]]) -> Dependent:
    return Dependent(
        frozenset(name for name, (value, _) in by_site.items() if any(jax.tree.leaves(value))),
        frozenset(name for name, (_, density) in by_site.items() if any(jax.tree.leaves(density))),
    )


def depends_on(function: Callable, first: PyTree[HasShape], *others: PyTree[HasShape]) -> bool:
    """Whether any result of a function may depend on its first argument.

    Args:
        function: A function of trees of arrays.
        first: Its first argument; shapes and types are enough.
        *others: Its other arguments.

    Raises:
        Exception: What the function raises.
    """
    abstract = jax.tree.map(_abstract, (first, others))
    with tracing_lock:
        program = jax.make_jaxpr(lambda one, more: function(one, *more))(*abstract)
    sources = program.jaxpr.invars[: len(jax.tree.leaves(first))]
    return any(dependent_results(program.jaxpr, frozenset(sources)))


def _value_and_density(site: Mapping[str, Any]) -> list[Any]:
    """What the value of a site consists of, and what its log density is computed from."""
    value = [leaf for leaf in jax.tree.leaves(site["value"]) if jnp.size(leaf)]
    if site["type"] != "sample" or not site["is_observed"]:
        return [value, []]
    parameters = [leaf for leaf in jax.tree.leaves(site["fn"]) if hasattr(leaf, "dtype")]
    return [value, [*value, *parameters]]


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jax.dtypes.canonicalize_dtype(leaf.dtype))
