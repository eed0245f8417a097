"""A proof, from the traced program alone, that each row is computed from that row.

The program is traced at two numbers of rows. An axis whose length changes is an axis of rows, and
an array has at most one. Each operation that the results need must then keep rows apart: it
computes each entry along that axis from the same entry of its operands, and all entries alike. Sums
over rows, sorted rows, row numbers and the number of rows do not. Of an operation without a rule
nothing is known; then there is no proof, which does not mean that rows depend on one another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from aimz_lab.kernel.rows.jaxprs import inner_programs, needed_for
from aimz_lab.kernel.rows.operation import Operation
from aimz_lab.kernel.rows.rules import keeps_rows_apart


def rows_are_independent(function: Callable, few: tuple, many: tuple) -> bool:
    """Return whether a function provably computes each row from that row alone.

    Args:
        function: A function of trees of arrays.
        few: Its arguments at some number of rows; shapes and types are enough.
        many: Likewise, at another.

    Returns:
        Whether each entry along an axis of rows of each result depends only on that entry of the
        arguments and on arguments without rows, and neither on its place nor on their number.

    Raises:
        Exception: What the function raises.

    Example:
        >>> few, many = (jax.ShapeDtypeStruct((n, 3), "float32") for n in (8, 16))
        >>> rows_are_independent(lambda X: X - X.mean(axis=0, keepdims=True), (few,), (many,))
        False
        >>> rows_are_independent(lambda X: X - X.mean(axis=1, keepdims=True), (few,), (many,))
        True
    """
    lengths = _lengths(few, many)
    if lengths is None:
        return False
    one, other = (jax.make_jaxpr(function)(*arguments) for arguments in (few, many))
    return _is_proven(lengths, one, other, one.jaxpr.outvars, other.jaxpr.outvars)


def unproven_results(
    function: Callable[..., Mapping[str, Any]], few: tuple, many: tuple
) -> tuple[str, ...]:
    """Return the names of the results that :func:`rows_are_independent` does not hold of.

    Args:
        function: A function of trees of arrays that returns trees of arrays by name.
        few: Its arguments at some number of rows; shapes and types are enough.
        many: Likewise, at another.

    Raises:
        Exception: What the function raises.

    Example:
        >>> import jax.numpy as jnp
        >>> few, many = (jax.ShapeDtypeStruct((n,), "float32") for n in (8, 16))
        >>> unproven_results(lambda x: {"sine": jnp.sin(x), "sum": jnp.cumsum(x)}, (few,), (many,))
        ('sum',)
    """
    lengths = _lengths(few, many)
    traced = [jax.make_jaxpr(function, return_shape=True)(*given) for given in (few, many)]
    (one, _), (other, _) = traced
    results = [_by_name(shapes, program.jaxpr.outvars) for program, shapes in traced]
    return tuple(
        name
        for name in dict.fromkeys((*results[0], *results[1]))
        if lengths is None
        or any(name not in found for found in results)
        or not _is_proven(lengths, one, other, *[found[name] for found in results])
    )


def results_that_use(function: Callable[..., Mapping[str, Any]], *arguments: Any) -> set[str]:
    """Return the names of the results into which values of the first argument enter.

    Args:
        function: A function of trees of arrays that returns trees of arrays by name.
        *arguments: Its arguments; shapes and types are enough.

    Raises:
        Exception: What the function raises.

    Example:
        >>> rows, other = (jax.ShapeDtypeStruct((n,), "float32") for n in (8, 2))
        >>> results_that_use(lambda x, y: {"size": y * len(x), "sum": y * x.sum()}, rows, other)
        {'sum'}
    """
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    first = {*program.jaxpr.invars[: len(jax.tree.leaves(arguments[0]))]}
    by_name = _by_name(shapes, program.jaxpr.outvars)
    return {name for name, results in by_name.items() if first & needed_for(program.jaxpr, results)}


def _lengths(few: tuple, many: tuple) -> tuple[int, int] | None:
    """The two numbers of rows, if that is all in which the arguments differ."""
    shapes = zip(jax.tree.leaves(few), jax.tree.leaves(many), strict=True)
    pairs = {pair for one, other in shapes for pair in zip(one.shape, other.shape, strict=True)}
    lengths = [(one, other) for one, other in pairs if one != other]
    return lengths[0] if len(lengths) == 1 else None


def _by_name(shapes: Mapping[str, Any], results: Sequence[Any]) -> dict[str, list[Any]]:
    """Divide the results of a program among the entries of a dictionary; JAX sorts them."""
    remaining = iter(results)
    return {
        name: list(itertools.islice(remaining, len(jax.tree.leaves(shapes[name]))))
        for name in sorted(shapes)
    }


def _is_proven(
    lengths: tuple[int, int],
    one: ClosedJaxpr,
    other: ClosedJaxpr,
    ones: Sequence[Any],
    others: Sequence[Any],
) -> bool:
    """Whether some results of two traces provably keep rows apart."""
    try:
        _Proof(lengths).of_programs(one, other, ones, others)
    except _UnprovenError:
        return False
    return True


class _UnprovenError(Exception):
    """Something may compute across rows."""


def _need(condition: bool) -> None:
    if not condition:
        raise _UnprovenError


class _Proof:
    """Compares two traces of a program; raises where it cannot prove that rows stay apart.

    Args:
        lengths: Number of rows in the first trace and in the second.
    """

    def __init__(self, lengths: tuple[int, int]) -> None:
        self._lengths = lengths

    def of_programs(
        self, one: ClosedJaxpr, other: ClosedJaxpr, ones: Sequence[Any], others: Sequence[Any]
    ) -> None:
        """Prove that all operations that some of the results need keep rows apart."""
        _need(len(one.consts) == len(other.consts))
        _need(all(map(_is_same_constant, one.consts, other.consts)))
        one, other = one.jaxpr, other.jaxpr
        counterpart: dict[Var, Var] = {}

        def pair_up(ones: Sequence[Var], others: Sequence[Var]) -> list[int | None]:
            _need(len(ones) == len(others))
            counterpart.update(zip(ones, others, strict=True))
            return list(map(self._row_axis, ones, others))

        def look_up(ones: Sequence[Var | Literal], others: Sequence[Any]) -> list[int | None]:
            _need(len(ones) == len(others))
            for atom, its in zip(ones, others, strict=True):
                if isinstance(atom, Literal):
                    _need(isinstance(its, Literal) and _is_same_constant(atom.val, its.val))
                else:
                    _need(counterpart.get(atom) is its)
            return list(map(self._row_axis, ones, others))

        pair_up([*one.constvars, *one.invars], [*other.constvars, *other.invars])
        needed = _needed(one, ones), _needed(other, others)
        _need(len(needed[0]) == len(needed[1]))
        for equation, its in zip(*needed, strict=True):
            _need(equation.primitive is its.primitive and not equation.effects)
            into = look_up(equation.invars, its.invars)
            out = pair_up(equation.outvars, its.outvars)
            operation = Operation(equation, its, into, out, self._lengths)
            programs = inner_programs(equation), inner_programs(its)
            if any(programs):
                self._of_parts(operation, *programs)
            else:
                _need(keeps_rows_apart(operation))
        look_up(ones, others)

    def _of_parts(
        self, operation: Operation, ones: list[ClosedJaxpr], others: list[ClosedJaxpr]
    ) -> None:
        """Prove it of a call, a branch or a loop, by the programs that it runs."""
        name = operation.one.primitive.name
        _need(len(ones) == len(others))
        if name == "scan":
            _need(operation.same("reverse", *_PARTS_OF_SCAN))
            [body] = ones
            scanned, whole = _sorted_axes(operation.one.invars, body.jaxpr.invars, operation.into)
            stacked, state = _sorted_axes(operation.one.outvars, body.jaxpr.outvars, operation.out)
            if 0 in (*scanned, *stacked):  # row by row, as lax.map does, with nothing handed on
                _need({*scanned, *stacked} == {0} and not state and {*whole} <= {None})
            else:
                _need(operation.same("length"))
        if name == "while":
            _need(operation.same("cond_nconsts", "body_nconsts"))
        for one, other in zip(ones, others, strict=True):
            self.of_programs(one, other, one.jaxpr.outvars, other.jaxpr.outvars)

    def _row_axis(self, one: Any, other: Any) -> int | None:
        """The axis of rows of an array, or ``None`` if it has none."""
        _need(one.aval.dtype == other.aval.dtype)
        _need(one.aval.ndim == other.aval.ndim)
        sizes = list(zip(one.aval.shape, other.aval.shape, strict=True))
        axes = [axis for axis, (few, many) in enumerate(sizes) if few != many]
        _need(len(axes) <= 1 and all(sizes[axis] == self._lengths for axis in axes))
        return axes[0] if axes else None


_PARTS_OF_SCAN = ("num_consts", "num_carry", "ft_in", "ft_out")
"""The parameters that say which operands of a scan are constants, state, or scanned."""


def _sorted_axes(
    outside: Sequence[Any], inside: Sequence[Any], axes: Sequence[int | None]
) -> tuple[list[int | None], list[int | None]]:
    """Axes of rows of the arrays that a scan goes through, which have an axis more, and others."""
    scanned, others = [], []
    for array, step, axis in zip(outside, inside, axes, strict=True):
        (scanned if array.aval.ndim > step.aval.ndim else others).append(axis)
    return scanned, others


def _needed(jaxpr: Jaxpr, results: Sequence[Any]) -> list[JaxprEqn]:
    """The equations that some results depend on, in their order."""
    wanted = needed_for(jaxpr, results)
    return [equation for equation in jaxpr.eqns if not wanted.isdisjoint(equation.outvars)]


def _is_same_constant(one: Any, other: Any) -> bool:
    """Whether two constants are equal; in doubt, they are not."""
    if one is other:
        return True
    try:
        values = np.asarray(one), np.asarray(other)
        return values[0].dtype == values[1].dtype and np.array_equal(*values, equal_nan=True)
    except TypeError:
        return False
