"""Patches of NumPyro: a fixed order of sites, and set-up in one compilation.

Each says why it is there, in which version it was seen, and what it gains. A test of each, in
``tests/inference/test_numpyro_patches.py``, fails once NumPyro does without: delete the patch then.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
from jax.core import Tracer
from numpyro.infer import SVI, elbo
from numpyro.infer.svi import SVIState

from aimz_lab.inference.autoguides import autoguides_in
from aimz_lab.inference.compiling import QUICKEST, compiler_options
from aimz_lab.inference.rollback import restorer, rollback_always, rollback_on_error
from aimz_lab.inference.shared_programs import SharedJit
from aimz_lab.inference.untrainable_sites import untrainable_sites
from aimz_lab.kernel.tracing import tracing_lock

_NEVER_ENTERED = (type, types.ModuleType, jax.Array, jax.sharding.Sharding)


class _SortedSet(set):
    """A set of names that iterates in sorted order."""

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=str))

    def union(self, *others: Iterable[Any]) -> _SortedSet:
        # self may be a plain set: NumPyro also calls set.union(one, other).
        return _SortedSet(set(self).union(*others))


@contextlib.contextmanager
def sites_in_order() -> Iterator[None]:
    """Let NumPyro's ELBO add up sites in the order of their names; hold the tracing lock.

    Reason: ``Trace_ELBO`` iterates over a set of names, whose order differs from one Python process
    to the next. Losses then differ in their last bits, so that a run resumed from a checkpoint is
    not quite the one that was cut short, and JAX's compilation cache never finds a program again.

    Seen in: NumPyro 0.22.0.

    Gain: the same bits in every process, which fits promise. It saves no time.
    """
    elbo.set = _SortedSet
    try:
        yield
    finally:
        vars(elbo).pop("set", None)


def initial_state(
    svi: SVI,
    key: jax.Array,
    arguments: Mapping[str, Any],
    static: Mapping[str, Any],
) -> SVIState:
    """Initialise guide and optimizer in one compilation; the result is that of ``svi.init``.

    Reason: ``SVI.init`` runs model and guide operation by operation, and each operation compiles:
    well over a hundred small compilations. Under ``jax.jit`` it is one, but an autoguide keeps what
    it sees (its prototype, initial values, transforms), and keeps tracers then. So the traced
    function returns every tracer that the guide kept, and the compiled values replace them.
    Whatever this fails for is set up by ``svi.init``.

    Seen in: NumPyro 0.22.0.

    Gain: of a cold fit and prediction of 1,000 rows, 2.7 s of CPU time with three latent sites (6.5
    without it; JAX 0.10.2 and 0.12.0), 8 s with nine (18 without it).

    Args:
        svi: The inference object; its guide sets itself up for the shapes of ``arguments``.
        key: A typed random key.
        arguments: Array arguments of model and guide: one batch at its nominal size.
        static: Arguments that are not arrays.

    Raises:
        GuideError: If the guide needs latent sites, and the kernel has none.
        KernelError: If a discrete latent site has no finite set of values.
        RuntimeError: From NumPyro, if no valid initial parameters are found.
    """
    holders = [svi, *(autoguides_in(svi.guide) or [svi.guide])]
    try:
        with rollback_on_error(*holders):
            state = _compiled(svi, key, arguments, static, holders)
            jax.block_until_ready(state)
    except Exception:  # noqa: BLE001  whatever failed, svi.init decides whether it is an error
        with tracing_lock, untrainable_sites():
            state = svi.init(key, **arguments, **static)
    return state


def _compiled(
    svi: SVI,
    key: jax.Array,
    arguments: Mapping[str, Any],
    static: Mapping[str, Any],
    holders: Iterable[Any],
) -> SVIState:
    holders = [one for one in holders if hasattr(one, "__dict__")]
    before = _TracerSwap(lambda tracer: tracer)
    kept: dict[int, Tracer] = {}

    def keep(tracer: Tracer) -> Tracer:
        kept.setdefault(id(tracer), tracer)
        return tracer

    def set_up(key: jax.Array, arguments: dict[str, Any]) -> tuple[SVIState, list[Tracer]]:
        kept.clear()
        state = svi.init(key, **arguments, **static)
        swap = _TracerSwap(keep, skip=before)
        for holder in holders:
            swap.attributes(holder)
        return state, list(kept.values())

    compiled = SharedJit(set_up, options=compiler_options(QUICKEST))
    with tracing_lock, rollback_always(*holders):
        for holder in holders:
            before.attributes(holder)
        compiled.trace(key, dict(arguments))
        traced = restorer(*holders)
    # Without the lock, so that other runs go on meanwhile. A model that shares the guide finds it
    # as it was, without tracers.
    state, values = compiled(key, dict(arguments))
    value_of = dict(zip(kept, values, strict=True))
    swap = _TracerSwap(lambda tracer: value_of[id(tracer)], skip=before)
    with tracing_lock:
        traced()
        for holder in holders:
            swap.attributes(holder)
    return state


class _TracerSwap:
    """Replaces the tracers inside objects, in place; tuples are made anew.

    Args:
        replace: Returns what takes a tracer's place.
        skip: An earlier walk whose objects are passed over: what was there before the set-up, such
            as the kernel, does not belong to the guide.
    """

    def __init__(self, replace: Callable[[Tracer], Any], skip: _TracerSwap | None = None) -> None:
        self._replace = replace
        self._skip = skip.seen if skip else {}
        self.seen: dict[int, Any] = {}  # by id; it holds the objects, so that no id is used again

    def attributes(self, holder: Any) -> None:
        """Replace tracers in the attributes of an object, also of one that is passed over."""
        for name, value in list(vars(holder).items()):
            vars(holder)[name] = self.visit(value)

    def visit(self, value: Any) -> Any:
        """Return the value with its tracers replaced."""
        if isinstance(value, Tracer):
            return self._replace(value)
        if isinstance(value, tuple):
            return self._tuple(value)
        if isinstance(value, _NEVER_ENTERED) or id(value) in self._skip or id(value) in self.seen:
            return value
        self.seen[id(value)] = value
        if isinstance(value, dict):
            for name, part in list(value.items()):
                value[name] = self.visit(part)
        elif isinstance(value, list):
            value[:] = [self.visit(part) for part in value]
        elif isinstance(value, partial):
            function, args, keywords = map(self.visit, (value.func, value.args, value.keywords))
            value.__setstate__((function, args, keywords, vars(value)))
        elif isinstance(value, types.MethodType):
            self.visit(value.__self__)
            self.visit(value.__func__)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif hasattr(value, "__dict__"):
            self.attributes(value)
        return value

    def _tuple(self, value: tuple[Any, ...]) -> tuple[Any, ...]:
        parts = [self.visit(part) for part in value]
        if all(new is old for new, old in zip(parts, value, strict=True)):
            return value
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)

    def _function(self, function: types.FunctionType) -> None:
        function.__defaults__ = self.visit(function.__defaults__)
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # a variable that was never set
                cell.cell_contents = self.visit(cell.cell_contents)
