"""Setting up guide and optimizer in one compilation.

``SVI.init`` runs model and guide operation by operation, and each operation compiles: well over a
hundred small compilations, some seconds, before the first step. Run under ``jax.jit`` it is one;
but an autoguide keeps what it sees (its prototype, initial values, transforms), which then are
tracers. So the traced run returns every tracer that the guide kept, and the compiled values take
their places. Whatever that does not work for is set up in the usual way.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.inference.compiling import QUICKEST, compile_in_background, compiler_options
from aimz_lab.inference.rollback import rollback_on_error
from aimz_lab.kernel.tracing import tracing_lock

_ATOMS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type,
    types.ModuleType,
    types.BuiltinFunctionType,
    np.ndarray,
    np.generic,
    jax.sharding.Sharding,
)


def initial_state(
    svi: SVI,
    key: jax.Array,
    arguments: Mapping[str, Any],
    static: Mapping[str, Any],
    meanwhile: Callable[[SVIState], object] = lambda _: None,
) -> SVIState:
    """Initialise guide and optimizer, as ``svi.init`` does.

    Args:
        svi: The inference object; its guide sets itself up for the shapes of ``arguments``.
        key: A typed random key.
        arguments: Array arguments of model and guide: one batch at its nominal size.
        static: Arguments that are not arrays.
        meanwhile: Called with the shapes and types of the state while its values are compiled; by
            then, what the guide keeps has no values yet.

    Raises:
        RuntimeError: From NumPyro, if no valid initial parameters are found.
    """
    holders = [holder for holder in (svi, svi.guide) if hasattr(holder, "__dict__")]
    with tracing_lock:
        try:
            with rollback_on_error(*holders):
                state = _compiled(svi, key, arguments, static, holders, meanwhile)
                jax.block_until_ready(state)
        except Exception:  # noqa: BLE001  whatever it was, the usual way decides whether it is an error
            state = svi.init(key, **arguments, **static)
    return state


def _compiled(
    svi: SVI,
    key: jax.Array,
    arguments: Mapping[str, Any],
    static: Mapping[str, Any],
    holders: list[Any],
    meanwhile: Callable[[SVIState], object],
) -> SVIState:
    known = _Walk(lambda tracer: tracer)
    for holder in holders:
        known.visit(vars(holder))
    kept: dict[int, Tracer] = {}

    def remember(tracer: Tracer) -> Tracer:
        kept.setdefault(id(tracer), tracer)
        return tracer

    def set_up(key: jax.Array, arguments: dict[str, Any]) -> tuple[SVIState, list[Tracer]]:
        kept.clear()
        state = svi.init(key, **arguments, **static)
        walk = _Walk(remember, known)
        for holder in holders:
            walk.attributes(holder)
        return state, list(kept.values())

    options = compiler_options(QUICKEST)
    traced = jax.jit(set_up, compiler_options=options).trace(key, dict(arguments))
    compiling = compile_in_background(traced.lower())
    meanwhile(traced.out_info[0])
    [compiled] = compiling.result()
    state, values = compiled(key, dict(arguments))
    by_tracer = dict(zip(kept, values, strict=True))
    walk = _Walk(lambda tracer: by_tracer[id(tracer)], known)
    for holder in holders:
        walk.attributes(holder)
    return state


class _Walk:
    """Goes through objects, in place, and replaces the tracers that they hold.

    Args:
        replace: What a tracer becomes.
        known: A walk whose objects are passed over: what was there before, such as the kernel, does
            not belong to the guide.
    """

    def __init__(self, replace: Callable[[Tracer], Any], known: _Walk | None = None) -> None:
        self._replace = replace
        self._skip = known.seen if known else {}
        self.seen: dict[int, Any] = {}

    def attributes(self, holder: Any) -> None:
        """Go through the attributes of an object, whether it was known or not."""
        for name, value in list(vars(holder).items()):
            vars(holder)[name] = self.visit(value)

    def visit(self, value: Any) -> Any:
        """Return the value with its tracers replaced; mutable objects are changed in place."""
        if isinstance(value, Tracer):
            return self._replace(value)
        if isinstance(value, (*_ATOMS, jax.Array)) or id(value) in self._skip:
            return value
        if isinstance(value, tuple):
            return self._tuple(value)
        if id(value) in self.seen:
            return value
        self.seen[id(value)] = value
        if isinstance(value, partial):
            return self._partial(value)
        self._inside(value)
        return value

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        parts = [self.visit(part) for part in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)

    def _partial(self, value: partial) -> partial:
        function, args = self.visit(value.func), self.visit(value.args)
        keywords = {name: self.visit(part) for name, part in value.keywords.items()}
        return partial(function, *args, **keywords)

    def _inside(self, value: Any) -> None:
        if isinstance(value, dict):
            for name, part in list(value.items()):
                value[name] = self.visit(part)
        elif isinstance(value, list):
            value[:] = [self.visit(part) for part in value]
        elif isinstance(value, types.FunctionType):
            for cell in value.__closure__ or ():
                self._cell(cell)
            value.__defaults__ = self.visit(value.__defaults__)
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__)
            self.visit(value.__func__)
        elif hasattr(value, "__dict__"):
            self.attributes(value)

    def _cell(self, cell: types.CellType) -> None:
        try:
            content = cell.cell_contents
        except ValueError:  # a variable that was never set
            return
        new = self.visit(content)
        if new is not content:
            cell.cell_contents = new
