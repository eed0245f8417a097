"""What a kernel observes as its output: the argument itself, or a function of it.

A site that observes ``jnp.log(y)`` draws values of ``log(y)``. They share the name of the argument,
and not its unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Shaped
from numpyro import handlers

from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.masks import mask_of
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call
from aimz_lab.kernel.spec import KernelSpec, observed_part
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Params

TRANSFORM = "output_transform"
"""Attribute of results: what the output site observes in place of its argument."""

_MOST_LETTERS = 40
"""A longer text is no name."""

_UNSEEN = 1e-3
"""Share of the middle half of the outputs that no reader sees."""

_FUNCTIONS = {"logistic": "sigmoid"} | {
    name: name for name in ("abs", "exp", "expm1", "floor", "log", "log1p", "round", "sqrt", "tanh")
}
_OPERATORS = {"add": "+", "add_any": "+", "sub": "-", "mul": "*", "div": "/"}
_SAME_VALUES = (
    "broadcast_in_dim", "convert_element_type", "copy", "expand_dims", "reshape", "squeeze",
    "stop_gradient",
)  # fmt: skip


class _Observed(NamedTuple):
    """What a site observes for some data, rows first.

    Attributes:
        values: The values; ``None`` if they depend on what the kernel draws.
        counts: Which of them count; those that a mask leaves out do not.
        text: How they are computed; empty if that has no short name.
    """

    values: Shaped[np.ndarray, "row ..."] | None
    counts: Shaped[np.ndarray, "row ..."]
    text: str


def output_transform(kernel: Callable, spec: KernelSpec, batch: KernelArguments) -> str:
    """Return what the output site observes in place of its argument.

    Args:
        kernel: A function with NumPyro primitives.
        spec: Its structure, traced with the output.
        batch: Arguments of one batch, output included.

    Returns:
        A name such as ``"log(y)"``, or ``"a function of y"``; empty if it observes the argument
        itself: all values that count are those of the argument, or some of them.
    """
    name = observed_part(spec.output) if spec.is_imputed else spec.output
    site = spec.sites[name]
    if site.kind != "observed" or site.argument == spec.output:
        return ""
    found = _observed(kernel, name, {}, batch)
    given = np.asarray(batch.rows[spec.output])
    if found.values is not None and _are_of(given, found.values, found.counts):
        return ""
    return found.text or f"a function of {spec.output}"


def observed_values(
    kernel: Callable, spec: KernelSpec, params: Params, arguments: KernelArguments
) -> Shaped[np.ndarray, "row ..."] | None:
    """Return what the output site observes for some data.

    Args:
        kernel: A function with NumPyro primitives.
        spec: Its structure, traced with the output.
        params: Values of its ``param`` sites.
        arguments: Its arguments, output included.

    Returns:
        The values, rows first; ``None`` if they depend on what the kernel draws.
    """
    name = observed_part(spec.output) if spec.is_imputed else spec.output
    values = _observed(kernel, name, params, arguments).values
    axis = spec.row_axis(spec.output)
    return values if values is None or axis is None else np.moveaxis(values, axis, 0)


def why_not_itself(output: str, transform: str) -> str:
    """Say what an output site stands for, and how it comes to stand for the output itself.

    Args:
        output: Name of the output.
        transform: What its site observes.
    """
    return (
        f"The kernel observes {transform} as site {output!r}, so that its values are not those of "
        f"{output}. Have it observe {output} itself, obs={output}, with a distribution of these "
        "values, such as LogNormal where the log is normal; or have a table transform its column: "
        f"{output}='log(sales)'."
    )


def _observed(kernel: Callable, name: str, params: Params, arguments: KernelArguments) -> _Observed:
    kernel, static = handlers.substitute(kernel, data=dict(params)), arguments.static

    def run(key: jax.Array, given: Mapping[str, Any]) -> tuple[jax.Array, jax.Array]:
        site = handlers.trace(seeded(kernel, key)).get_trace(**given, **static)[name]
        value, mask = jnp.asarray(site["value"]), mask_of(site)
        return value, jnp.ones(value.shape, bool) if mask is None else mask

    given = jax.random.key(0), {**arguments.rows, **arguments.shared}
    with tracing_lock:
        traced = jax.make_jaxpr(run)(*given)
        values, counts = map(np.asarray, jax.jit(run)(*given))
    program, used = dce_jaxpr(traced.jaxpr, [True, False])
    if used[0]:  # the key
        return _Observed(None, counts, "")
    leaves, _ = jax.tree_util.tree_flatten_with_path(given)
    names = [_called(path) for (path, _), kept in zip(leaves, used, strict=True) if kept]
    try:
        (text,) = _texts(program, names)
    except _NoShortNameError:
        text = ""
    return _Observed(values, counts, _bare(text))


def _called(path: tuple[Any, ...]) -> str:
    """Name an array among the key and the arguments, by its path."""
    return "".join([path[1].key, jax.tree_util.keystr(path[2:])]) if path[1:] else "key"


def _are_of(given: np.ndarray, observed: np.ndarray, counts: np.ndarray) -> bool:
    """Whether observed values are those of an argument; missing ones may be filled in.

    A guard, such as ``jnp.clip(y, 1e-6, 1 - 1e-6)``, moves some by what no reader would see.
    """
    if given.size == observed.size and _sizes(given) == _sizes(observed):
        given = given.reshape(observed.shape)
        known = counts & ~np.isnan(given) if given.dtype.kind == "f" else counts
        if given.dtype.kind != "f":
            return bool((given == observed)[known].all())
        known &= given != observed
        if not known.any():
            return True
        if not np.isfinite(given[known]).all():
            return False
        moved = np.abs(given.astype(np.float64) - observed)[known]
        low, high = np.quantile(given[counts & np.isfinite(given)], (0.25, 0.75))
        return bool((moved <= _UNSEEN * (high - low)).all())
    return bool(np.isin(observed[counts], given).all())


def _sizes(array: np.ndarray) -> list[int]:
    return [size for size in array.shape if size > 1]


class _NoShortNameError(Exception):
    """What is computed cannot be written in a few letters."""


def _texts(program: Jaxpr, names: list[str]) -> list[str]:
    """Write the results of a program as formulas of its inputs.

    Raises:
        _NoShortNameError: If an operation is none that formulas have, or one is long.
    """
    known: dict[Any, str] = dict(zip(program.invars, names, strict=True))

    def text(atom: Any) -> str:
        if isinstance(atom, Literal) and np.ndim(atom.val) == 0:
            return f"{float(atom.val):g}"
        if atom not in known:
            raise _NoShortNameError
        return known[atom]

    for equation in program.eqns:
        operands = [*map(text, equation.invars)]
        if is_call(equation):
            (inner,) = inner_programs(equation)
            results = _texts(inner.jaxpr, operands)
        else:
            results = [_formula(equation, operands)]
        known.update(zip(equation.outvars, results, strict=True))
    return [*map(text, program.outvars)]


def _formula(equation: JaxprEqn, operands: list[str]) -> str:
    if not operands:  # numbers that are made of nothing, such as jnp.arange(3)
        raise _NoShortNameError
    name, first = equation.primitive.name, operands[0]
    if name in _SAME_VALUES:
        return first
    if name in _FUNCTIONS:
        found = f"{_FUNCTIONS[name]}({_bare(first)})"
    elif name in _OPERATORS:
        found = f"({first} {_OPERATORS[name]} {operands[1]})"
    elif name == "neg":
        found = f"(-{first})"
    elif name == "integer_pow":
        found = f"({first} ** {equation.params['y']})"
    else:
        raise _NoShortNameError
    if len(found) > _MOST_LETTERS:
        raise _NoShortNameError
    return found


def _bare(text: str) -> str:
    """Take off the brackets around a whole formula."""
    return text[1:-1] if text.startswith("(") else text
