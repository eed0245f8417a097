"""Refuse kernels that draw from NumPy's or Python's generators, which are read only once.

JAX runs a kernel once to compile it: what ``numpy.random`` returns then is a constant of the
program, the same in all draws.
"""

from __future__ import annotations

import dis
import itertools
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from aimz_lab.errors import KernelError
from aimz_lab.kernel.failing_line import own_code
from aimz_lab.kernel.read_code import contents_of, functions_of, is_library, names_in
from aimz_lab.types import callable_name

_MAKERS = {"default_rng", "RandomState"}
_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_MOST_FUNCTIONS = 100


class HiddenDraws:
    """The generators that a kernel may draw from, and what state they are in.

    Args:
        kernel: The kernel.
    """

    def __init__(self, kernel: Callable) -> None:
        self._kernel = kernel
        self._generators: dict[str, Any] = {}
        self._makes: str | None = None
        for function in _functions_of(kernel):
            self._look_into(function)
        self._before = self._states()

    def _look_into(self, function: types.FunctionType) -> None:
        _, imported, attributes = names_in(function.__code__)
        values = dict(_values_read(function))
        found = {name: _generator_of(value) for name, value in values.items()}
        self._generators |= {repr(name): one for name, one in found.items() if one is not None}
        is_named = "random" in {*attributes, *imported, *values}
        if is_named or any("random" in name for name in imported):
            self._generators["numpy.random"] = np.random.mtrand._rand
            self._generators["Python's random"] = random._inst
        self._makes = self._makes or _made_without_seed(function.__code__)

    def _states(self) -> dict[str, Any]:
        return {name: _state_of(one) for name, one in self._generators.items()}

    def drawn(self) -> str | None:
        """The first generator that has drawn since the last call, or is made anew; or ``None``."""
        before, self._before = self._before, self._states()
        moved = (name for name, state in self._before.items() if state != before[name])
        return self._makes or next(moved, None)

    def refuse(self, source: str) -> None:
        """Raise the error of a kernel that draws from this source.

        Raises:
            KernelError: In any case.
        """
        msg = (
            f"The kernel {callable_name(self._kernel)!r} draws from {source}. A kernel is run once "
            "and compiled, so that all draws and predictions would have one and the same value of "
            'it. Draw by numpyro.sample("name", distribution), or from jax.random with the key '
            "numpyro.prng_key(); make a fixed array outside of the kernel."
        )
        raise KernelError(msg)


def _functions_of(kernel: Callable) -> Iterator[types.FunctionType]:
    """The kernel's functions, and those of the user's that they name."""
    roots = own_code(kernel)
    own = (getattr(one, "__func__", one) for one in functions_of(kernel))
    waiting = [function for function in own if function.__code__ in roots]
    seen: set[types.CodeType] = set()
    while waiting and len(seen) < _MOST_FUNCTIONS:
        function = waiting.pop()
        if function.__code__ in seen:
            continue
        seen.add(function.__code__)
        yield function
        values = (value for _, value in _values_read(function))
        waiting += [
            value
            for value in values
            if isinstance(value, types.FunctionType) and not is_library(value.__code__.co_filename)
        ]


def _values_read(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Values of the global names and closures of a function."""
    for name in names_in(function.__code__)[0]:
        if name in function.__globals__:
            yield name, function.__globals__[name]
    enclosed = contents_of(function.__closure__ or ())
    yield from zip(function.__code__.co_freevars, enclosed, strict=True)


def _generator_of(value: Any) -> Any:
    """The generator that a value is, or is a method of; ``None`` for other values."""
    owner = getattr(value, "__self__", None) if callable(value) else value
    return owner if isinstance(owner, _GENERATORS) else None


def _state_of(generator: Any) -> Any:
    if isinstance(generator, random.Random):
        return generator.getstate()
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else None
    state = bits.state if bits is not None else generator.get_state(legacy=False)
    return repr(state)


def _made_without_seed(code: types.CodeType) -> str | None:
    """The maker of a generator that code calls without a seed, or ``None``."""
    steps = [
        step for step in dis.get_instructions(code) if step.opname not in ("PRECALL", "PUSH_NULL")
    ]
    for step, after in itertools.pairwise(steps):
        if step.argval in _MAKERS and after.opname == "CALL" and after.arg == 0:
            return f"numpy.random.{step.argval}()"
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return next(filter(None, map(_made_without_seed, inner)), None)
