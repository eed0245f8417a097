"""Compiled programs of this process, by what they compute: equal ones are compiled once.

A kernel that is defined again, as when its cell of a notebook runs again, and a second model of one
kernel are traced again. Where that gives the same program, with the same constants in it, compiling
it once more would only take time. What is compared is the program itself and not the code that
it came from, so that a program never has a value of before.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

import jax

from aimz_lab.inference.compiling import compile_on_thread, compiling
from aimz_lab.kernel.cache_keys import ById
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.preparing import doing

_KEPT = 128
"""Programs to keep. Each takes some hundred kilobytes."""

_LONGEST = 2**22
"""Longest text of a program to compare; one with larger constants belongs to its model alone."""

_DEBUGGING = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")
"""Settings under which ``jax.jit`` runs the operations one by one, some only after an error."""

_ADDRESS = re.compile(r"\b0x[0-9a-f]+\b")

_programs: OrderedDict[Hashable, jax.stages.Compiled] = OrderedDict()
_lock = threading.Lock()


def shared_key(
    trace: jax.stages.Traced, lowered: jax.stages.Lowered, *others: Hashable
) -> Hashable | None:
    """Return a key that equal programs have; ``None`` for one that may not be shared.

    Args:
        trace: The traced program.
        lowered: The same, lowered. Its text holds all constants, but not the arguments that it does
            not use, nor the functions of the host that it calls back.
        *others: What else tells programs apart, such as the compiler's options.
    """
    if getattr(jax.config, "jax_use_simplified_jaxpr_constants", False):
        return None  # constants are arguments then
    if sum(getattr(const, "nbytes", 0) for const in trace.jaxpr.consts) > _LONGEST:
        return None
    # This alone tells which arguments are used. It names functions by their place in memory.
    equations, text = _ADDRESS.sub("", str(trace.jaxpr)), lowered.as_text()
    if len(text) > _LONGEST or "callback" in text or "callback" in equations:
        return None
    digests = [hashlib.sha256(each.encode()).digest() for each in (equations, text)]
    # No text tells a weak type, which the result of a program passes on.
    types = *trace.jaxpr.in_avals, *trace.jaxpr.out_avals
    return *digests, types, lowered.in_tree, lowered.out_tree, *others


def compiled_once(
    key: Hashable | None, compiler: Callable[[], jax.stages.Compiled]
) -> jax.stages.Compiled:
    """Return the program of a key, compiled before or now.

    Args:
        key: From :func:`shared_key`.
        compiler: Compiles the program.
    """
    if key is None:
        return compiler()
    with _lock:
        if key in _programs:
            _programs.move_to_end(key)
            return _programs[key]
    program = compiler()
    with _lock:
        _programs[key] = program
        while len(_programs) > _KEPT:
            _programs.popitem(last=False)
    return program


class SharedJit:
    """A function that runs compiled, as by ``jax.jit``; equal programs are compiled once.

    It takes arrays as positional arguments and static ones as keywords. A call takes 0.2 ms more
    than one of ``jax.jit``: JAX looks up the trace, which also tells whether one of its settings
    has changed since.

    Args:
        function: The function.
        static: Names of its static arguments.
        options: Options of the compiler.

    Example:
        >>> double = SharedJit(lambda x: 2 * x)
        >>> float(double(jax.numpy.float32(3)))
        6.0
    """

    def __init__(
        self,
        function: Callable,
        *,
        static: Iterable[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._function, self._options = function, dict(options or {})
        self._jit = jax.jit(function, static_argnames=tuple(static), compiler_options=self._options)
        self._compiled: dict[Hashable, jax.stages.Compiled] = {}

    def __call__(self, *arrays: Any, **static: Any) -> Any:
        """Run the function; it compiles for arguments of other shapes, types and places."""
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arrays)):
            return self._function(*arrays, **static)  # within another trace
        if _is_debugging():
            with tracing_lock:
                return self._jit(*arrays, **static)
        return self._program(arrays, self.trace(*arrays, **static))(*arrays)

    def compile(self, what: str, *arrays: Any, **static: Any) -> None:
        """Compile what a call will run; raise what the function raises.

        Args:
            what: What it computes, for the line that says what is done.
            *arrays: The arguments of the call.
            **static: Its static arguments.
        """
        doing(f"tracing {what}")
        trace = self.trace(*arrays, **static)
        if not _is_debugging():
            self._program(arrays, trace, lambda: doing(compiling(what)))

    def _program(
        self,
        arrays: tuple[Any, ...],
        trace: jax.stages.Traced,
        tell: Callable[[], None] = lambda: None,
    ) -> jax.stages.Compiled:
        """Return the program of a trace, compiled before or now, of which ``tell`` is called first.

        It does not hold the tracing lock: other runs go on while this one compiles.
        """
        places = *map(_place_of, jax.tree.leaves(arrays)), jax.config.jax_default_device
        at = ById(trace.jaxpr), places
        if at not in self._compiled:
            self._compiled[at] = self._compiler(trace, places, tell)()
        return self._compiled[at]

    def compile_ahead(self, like: jax.Array, *arrays: Any, **static: Any) -> Future:
        """Compile on a thread what a call will run, of whose arrays some are shapes and types yet.

        Args:
            like: An array that lies where those arrays will lie.
            *arrays: The arguments of the call.
            **static: Its static arguments.

        Returns:
            What has a result once the program is compiled.
        """
        place = _place_of(like)
        sharding = like.sharding if like.committed else None

        def there(leaf: Any) -> Any:
            if not isinstance(leaf, jax.ShapeDtypeStruct):
                return leaf
            return jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding, weak_type=leaf.weak_type
            )

        trace = self.trace(*jax.tree.map(there, arrays), **static)
        places = [
            place if isinstance(leaf, jax.ShapeDtypeStruct) else _place_of(leaf)
            for leaf in jax.tree.leaves(arrays)
        ]
        return compile_on_thread(self._compiler(trace, (*places, jax.config.jax_default_device)))

    def _compiler(
        self,
        trace: jax.stages.Traced,
        places: tuple[Hashable, ...],
        tell: Callable[[], None] = lambda: None,
    ) -> Callable[[], jax.stages.Compiled]:
        """Lower a trace, and return what compiles it, once it has called ``tell``."""
        lowered = trace.lower()
        key = shared_key(trace, lowered, places, tuple(sorted(self._options.items())))

        def compiler() -> jax.stages.Compiled:
            tell()
            return lowered.compile()

        return lambda: compiled_once(key, compiler)

    def trace(self, *arrays: Any, **static: Any) -> jax.stages.Traced:
        """Trace the function, or look up its trace; raise what the function raises."""
        with tracing_lock:
            return self._jit.trace(*arrays, **static)


def _is_debugging() -> bool:
    return any(getattr(jax.config, name) for name in _DEBUGGING)


def _place_of(leaf: Any) -> Hashable:
    """Where an argument is, and whether it has to stay there; ``None`` for one of the host."""
    return (leaf.sharding, leaf.committed) if isinstance(leaf, jax.Array) else None
