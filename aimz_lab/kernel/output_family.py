"""Of which family the distribution of an output is, and which of its parameters are learned."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import jax
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import Distribution, ExpandedDistribution, Independent

from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import HasShape


class OutputFamily(NamedTuple):
    """The family of an output's distribution.

    Attributes:
        name: Name of its class in NumPyro, such as ``"Normal"`` or ``"BernoulliLogits"``; empty if
            it is none that was asked for.
        learned: Those of its parameters that are computed from latent or ``param`` sites.
    """

    name: str = ""
    learned: frozenset[str] = frozenset()


def output_family(
    kernel: Callable,
    spec: KernelSpec,
    arguments: KernelArguments,
    params: Mapping[str, PyTree[HasShape]],
    parameters: Mapping[str, Collection[str]],
) -> OutputFamily:
    """Trace of which family the output is, and which parameters are learned.

    Args:
        kernel: The kernel.
        spec: Its structure for these arguments.
        arguments: Its arguments; of arrays, only types and shapes matter.
        params: Values of ``param`` sites.
        parameters: The parameters to look at, by family.

    Returns:
        The family; one without a name if it is none of these, or the kernel cannot be traced in
        this way.
    """
    latents = {
        name: jax.ShapeDtypeStruct(spec.sites[name].shape, spec.sites[name].dtype)
        for name in spec.latent_sites
    }
    found: list[str] = []

    def run(learned: PyTree, given: PyTree) -> list[jax.Array]:
        values, params = learned
        rows, shared = given
        pinned = pin_plates(handlers.substitute(kernel, data={**params, **values}), spec.n_rows)
        trace = handlers.trace(handlers.seed(pinned, jax.random.key(0)))
        fn = _base(trace.get_trace(**rows, **shared, **arguments.static)[spec.output]["fn"])
        found[:] = [type(fn).__name__ if _is_of_numpyro(fn) else ""]
        return [getattr(fn, name) for name in parameters.get(found[0], ())]

    learned, arrays = (latents, dict(params)), (dict(arguments.rows), dict(arguments.shared))
    try:
        with tracing_lock:
            program = jax.make_jaxpr(run)(learned, arrays).jaxpr
    except Exception:  # noqa: BLE001  the kernel runs, but not with its sites as inputs
        return OutputFamily()
    (name,) = found
    if name not in parameters:
        return OutputFamily()
    count = len(jax.tree.leaves(learned))

    def is_learned(at: int) -> bool:
        _, used = dce_jaxpr(program, [i == at for i in range(len(program.outvars))])
        return any(used[:count])

    names = parameters[name]
    return OutputFamily(name, frozenset(one for at, one in enumerate(names) if is_learned(at)))


def _is_of_numpyro(fn: Distribution) -> bool:
    return type(fn).__module__.startswith("numpyro.distributions.")


def _base(fn: Distribution) -> Distribution:
    """Return a distribution without its plates and events."""
    while isinstance(fn, (ExpandedDistribution, Independent)):
        fn = fn.base_dist
    return fn
