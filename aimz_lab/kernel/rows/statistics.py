"""Which statistics over rows enter the results of a traced program, and of what.

A mean, a maximum, sorted rows or a matrix product over rows belongs to the rows of one call: among
other rows, a row gets other results. What goes along rows, as a scan, a cumulative sum or a
convolution, is no statistic. Other ways to compute one, as the end of a scan, a fixed row, or
attention from row to row, do not show in single operations: see the module ``influence``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call

LAGS = 16
"""An axis that is by so many entries shorter or longer than the rows is one of rows too."""

_REDUCTIONS = frozenset(
    {"argmax", "argmin", *(f"reduce_{how}" for how in ("sum", "prod", "max", "min"))}
    | {f"reduce_{how}" for how in ("and", "or", "xor")}
)

_DECOMPOSITIONS = frozenset({"cholesky", "eigh", "geqrf", "householder_product", "lu", "qr", "svd"})


class _Flow(NamedTuple):
    """What a value is computed from.

    Attributes:
        names: Inputs.
        statistics: Those with a statistic of rows.
        order: If it is an order of the rows, that of these inputs.
    """

    names: frozenset[str] = frozenset()
    statistics: frozenset[str] = frozenset()
    order: frozenset[str] = frozenset()

    @classmethod
    def joined(cls, flows: Sequence[_Flow]) -> _Flow:
        return cls(*(frozenset().union(*each) for each in zip(cls(), *flows, strict=True)))


_NONE = _Flow()


def statistics_of(
    program: Jaxpr, inputs: Sequence[str | None], n_rows: int
) -> list[frozenset[str]]:
    """Return the inputs whose statistics over rows enter each result of a program.

    Args:
        program: The program, traced at a number of rows that no other axis has.
        inputs: Names of its inputs, ``None`` for one that is not asked about.
        n_rows: That number.
    """
    flows = [_NONE if name is None else _Flow(frozenset({name})) for name in inputs]
    return [flow.statistics for flow in _Reader(n_rows).results(program, flows)]


class _Reader:
    """Follows inputs through a program.

    Args:
        n_rows: Number of rows.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows

    def results(self, program: Jaxpr, inputs: Sequence[_Flow]) -> list[_Flow]:
        found: dict[Any, _Flow] = dict(zip(program.invars, inputs, strict=True))

        def look_up(atom: Any) -> _Flow:
            return _NONE if isinstance(atom, Literal) else found.get(atom, _NONE)

        for equation in program.eqns:
            into = [look_up(atom) for atom in equation.invars]
            if any(flow.names for flow in into):
                found.update(zip(equation.outvars, self._of(equation, into), strict=True))
        return [look_up(atom) for atom in program.outvars]

    def _of(self, equation: JaxprEqn, into: list[_Flow]) -> list[_Flow]:
        programs = [each.jaxpr for each in inner_programs(equation)]
        if is_call(equation):
            return self.results(programs[0], into)
        if equation.primitive.name == "scan":
            return self._of_scan(equation, programs[0], into)
        if equation.primitive.name == "while":
            return self._of_iterations(equation, programs[1], into)
        if equation.primitive.name == "cond":
            branches = [self.results(branch, into[1:]) for branch in programs]
            return [_Flow.joined([into[0], *each]) for each in zip(*branches, strict=True)]
        if equation.primitive.name in ("sort", "top_k"):
            return self._of_sorted(equation, into)
        return [self._of_operation(equation, into)] * len(equation.outvars)

    def _of_scan(self, equation: JaxprEqn, body: Jaxpr, into: list[_Flow]) -> list[_Flow]:
        outside = zip(equation.invars, body.invars, strict=True)
        n_scanned = sum(outer.aval.ndim > inner.aval.ndim for outer, inner in outside)
        results = zip(equation.outvars, body.outvars, strict=True)
        n_carry = sum(outer.aval.ndim == inner.aval.ndim for outer, inner in results)
        return self._repeated(body, into, len(into) - n_carry - n_scanned, n_carry)

    def _of_iterations(self, equation: JaxprEqn, body: Jaxpr, into: list[_Flow]) -> list[_Flow]:
        """The results of a solver or sampler, whose errors of all rows say how far it goes.

        What these errors change is below its tolerance. So they are no statistic: neither in the
        test of the loop, nor within, nor in a first state without rows, such as a step size.
        """
        given, n_fixed = into[equation.params["cond_nconsts"] :], equation.params["body_nconsts"]
        for at in range(n_fixed, len(given)):
            if not self._row_axes(body.invars[at]):
                given[at] = given[at]._replace(statistics=frozenset())
        known = _Flow.joined(given)
        return [
            flow._replace(statistics=flow.statistics & known.statistics)
            for flow in self._repeated(body, given, n_fixed, len(given) - n_fixed)
        ]

    def _repeated(self, body: Jaxpr, into: list[_Flow], n_fixed: int, n_carry: int) -> list[_Flow]:
        """The results of a loop: its state depends on itself."""
        while True:
            results = self.results(body, into)
            state = [_Flow.joined([into[n_fixed + i], results[i]]) for i in range(n_carry)]
            if state == into[n_fixed : n_fixed + n_carry]:
                return [*state, *results[n_carry:]]
            into = [*into[:n_fixed], *state, *into[n_fixed + n_carry :]]

    def _of_operation(self, equation: JaxprEqn, into: list[_Flow]) -> _Flow:
        result, name = _Flow.joined(into), equation.primitive.name
        rows = [self._row_axes(atom) for atom in equation.invars]
        if not any(rows):
            return result
        keeps_rows = any(map(self._row_axes, equation.outvars))
        if name == "gather" and rows[0]:  # rows in another order, which are the same rows
            table, index = into[:2]
            if index.order:
                return table._replace(statistics=table.statistics | (table.names & index.order))
            return _Flow.joined([table, index._replace(statistics=frozenset())])
        if (name in _REDUCTIONS or name == "dot_general") and not keeps_rows:
            return result._replace(statistics=result.statistics | result.names)
        if name.startswith("scatter-") and not keeps_rows:
            return result._replace(statistics=result.statistics | into[2].names)
        if name in _DECOMPOSITIONS and len(rows[0]) == 1:
            is_of_rows = rows[0][0] >= equation.invars[0].aval.ndim - 2
            return result._replace(
                statistics=result.statistics | (result.names if is_of_rows else set())
            )
        return result

    def _of_sorted(self, equation: JaxprEqn, into: list[_Flow]) -> list[_Flow]:
        """Sorted rows are a statistic, and so are their ranks; their order alone is none."""
        result, first = _Flow.joined(into), equation.invars[0]
        along = equation.params.get("dimension", first.aval.ndim - 1)
        if self._row_axes(first) != [along]:
            return [result] * len(equation.outvars)
        n_keys = equation.params.get("num_keys", 1)
        keys = _Flow.joined(into[:n_keys])
        values = result._replace(statistics=result.statistics | keys.names)
        order = result._replace(statistics=result.statistics | keys.order, order=keys.names)
        return [values if i < n_keys else order for i in range(len(equation.outvars))]

    def _row_axes(self, atom: Any) -> list[int]:
        shape = np.shape(atom.val) if isinstance(atom, Literal) else getattr(atom.aval, "shape", ())
        return [axis for axis, size in enumerate(shape) if self._are_rows(size)]

    def _are_rows(self, size: int) -> bool:
        is_near = self._n_rows > 4 * LAGS and abs(size - self._n_rows) <= LAGS
        return is_near or (size > 0 and size % self._n_rows == 0)
