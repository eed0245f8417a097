"""Which arguments a log density may be the density of, by the program that computes it.

A factor has no data of its own: ``numpyro.factor("m", Normal(a + b * t, 1).log_prob(m))`` is one
number that is computed from both. A covariate meets a parameter first, as ``t`` meets ``b``. Data
meet what is predicted for them, which is computed from parameters and other arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jax.extend.core import Jaxpr, JaxprEqn, Var

from aimz_lab.kernel.rows.jaxprs import inner_programs, is_call


class Origin(NamedTuple):
    """What a value is computed from.

    Attributes:
        arguments: Arguments of the kernel.
        is_random: Whether sites or parameters are among it.
    """

    arguments: frozenset[str] = frozenset()
    is_random: bool = False


_NOTHING = Origin()


def modelled_arguments(program: Jaxpr, inputs: Sequence[Origin]) -> frozenset[str]:
    """Return the arguments that some results compare with what is computed from others.

    An operation in a loop is taken as one with all that the loop is given.

    Args:
        program: A program without anything that its results do not need.
        inputs: What each of its inputs is computed from.

    Returns:
        The arguments; all of them where no parameters are among the inputs.

    Example:
        >>> import jax
        >>> density = lambda a, t, m: -((m - a * t) ** 2)
        >>> program = jax.make_jaxpr(density)(1.0, 2.0, 3.0).jaxpr
        >>> t, m = (Origin(frozenset({name})) for name in "tm")
        >>> sorted(modelled_arguments(program, [Origin(is_random=True), t, m]))
        ['m']
    """
    found: set[str] = set()
    results = _follow(program, inputs, found)
    if any(one.is_random for one in results):
        return frozenset(found)
    return frozenset().union(*(one.arguments for one in results))


def _follow(program: Jaxpr, inputs: Sequence[Origin], found: set[str]) -> list[Origin]:
    origins: dict[Any, Origin] = dict(zip(program.invars, inputs, strict=True))

    def origin(atom: Any) -> Origin:
        return origins.get(atom, _NOTHING) if isinstance(atom, Var) else _NOTHING

    for equation in program.eqns:
        operands = [*map(origin, equation.invars)]
        called = _called(equation)
        if called is None:
            found.update(*_compared(operands))
            results = [_joined(operands)] * len(equation.outvars)
        else:
            results = _follow(called, operands, found)
        origins.update(zip(equation.outvars, results, strict=True))
    return [*map(origin, program.outvars)]


def _called(equation: JaxprEqn) -> Jaxpr | None:
    programs = inner_programs(equation) if is_call(equation) else []
    fits = len(programs) == 1 and len(programs[0].jaxpr.invars) == len(equation.invars)
    return programs[0].jaxpr if fits else None


def _compared(operands: Sequence[Origin]) -> list[frozenset[str]]:
    """Return the arguments of operands that meet a parameter together with other arguments."""
    found = []
    for number, one in enumerate(operands):
        beside = _joined([*operands[:number], *operands[number + 1 :]])
        if not one.is_random and beside.is_random and beside.arguments - one.arguments:
            found.append(one.arguments)
    return found


def _joined(operands: Sequence[Origin]) -> Origin:
    arguments = frozenset().union(*(one.arguments for one in operands))
    return Origin(arguments, any(one.is_random for one in operands))
