"""An operation of a program, as the proof sees it: traced at two numbers of rows."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax.extend.core import JaxprEqn


class Operation(NamedTuple):
    """An operation of a program, as it was traced at two numbers of rows.

    Attributes:
        one: Its equation in the first trace.
        other: Its equation in the second trace.
        into: Axis of rows of each operand.
        out: Axis of rows of each result.
        lengths: Number of rows in the first trace and in the second.
    """

    one: JaxprEqn
    other: JaxprEqn
    into: list[int | None]
    out: list[int | None]
    lengths: tuple[int, int]

    def param(self, name: str) -> Any:
        """A parameter in the first trace."""
        return self.one.params[name]

    def same(self, *names: str) -> bool:
        """Whether parameters are the same in both traces; without names, whether all are."""
        one, other = self.one.params, self.other.params
        return all(_equal(one.get(name), other.get(name)) for name in names or {*one, *other})

    def same_but_for(self, name: str, axis: int) -> bool:
        """Whether a parameter that has an entry for each axis is the same for all axes but one."""
        one, other = (list(equation.params[name]) for equation in (self.one, self.other))
        one[axis] = other[axis]
        return one == other

    def ndim(self, operand: int) -> int:
        """Number of axes of an operand."""
        return self.one.invars[operand].aval.ndim


def _equal(one: Any, other: Any) -> bool:
    """Whether two parameters are equal; in doubt, they are not."""
    if one is other:
        return True
    try:
        return bool(one == other) or bool(one != one and other != other)  # NaN
    except (TypeError, ValueError):
        return False
