"""Which observed sites a kernel draws if an argument is left out, such as ``m=None``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
from jaxtyping import PyTree
from numpyro import handlers

from aimz_lab.kernel.argument_leaves import with_leaves
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.site_graph import trace_site_graph
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import site_kind, tracing_lock
from aimz_lab.types import HasShape


def sites_drawn_without(
    kernel: Callable,
    spec: KernelSpec,
    array: str,
    arguments: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
) -> frozenset[str]:
    """Return the observed sites that a kernel draws where it is not given an array.

    Args:
        kernel: The kernel.
        spec: Its structure with the array.
        array: Name of the array, as in :mod:`aimz_lab.kernel.argument_leaves`.
        arguments: Its arguments; of arrays, shapes and types are enough.
        params: Values of ``param`` sites and mutable state.

    Returns:
        The sites, such as one with ``obs=None if m is None else jnp.log(m)``; none where the kernel
        needs the array.
    """
    arrays = {**arguments.rows, **arguments.shared}
    others = {name: value for name, value in arrays.items() if name != array}
    kinds: dict[str, str | None] = {}

    def run(key: jax.Array, arrays: PyTree, params: PyTree) -> None:
        n_rows = next(iter(arguments.rows.values())).shape[0]
        pinned = pin_plates(handlers.substitute(kernel, data=params), n_rows)
        trace = handlers.trace(seeded(pinned, key)).get_trace(**arrays, **arguments.static)
        kinds.update((name, site_kind(site)) for name, site in trace.items())

    try:
        with tracing_lock:
            jax.eval_shape(run, jax.random.key(0), with_leaves(others, {array: None}), dict(params))
    except Exception:  # noqa: BLE001  it needs the array
        return frozenset()
    return frozenset(name for name in spec.of_kind("observed") if kinds.get(name) == "latent")


def is_only_observed(
    kernel: Callable, spec: KernelSpec, array: str, arguments: KernelArguments
) -> bool:
    """Whether a kernel does without an array that it observes, or a function of it, and no more.

    Args:
        kernel: The kernel.
        spec: Its structure with the array.
        array: Name of the array.
        arguments: Its arguments; of arrays, shapes and types are enough.
    """
    if not sites_drawn_without(kernel, spec, array, arguments, {}):
        return False
    graph = trace_site_graph(kernel, spec, arguments, {})
    return graph.is_proven and not any(array in its for its in graph.reads.values())
