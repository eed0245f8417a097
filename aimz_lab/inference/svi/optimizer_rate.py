"""The learning rate of a run's optimizer: read it, set it, or say why it cannot be set.

It is found in the optimizer's state, where Optax's ``inject_hyperparams`` and ``settable_rate``
keep it; or in the optimizers of ``numpyro.optim``, whose schedule a copy can replace. While nobody
sets the rate, these run as they are. A schedule keeps its shape and is scaled.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from numpyro.infer.svi import SVIState
from numpyro.optim import Minimize, _NumPyroOptim

from aimz_lab.errors import FitWarning, InferenceError
from aimz_lab.inference.compiling import QUICKEST, compiler_options, named, on_host
from aimz_lab.inference.run.rates import learning_rate, set_learning_rate
from aimz_lab.number_text import number
from aimz_lab.tracebacks import warn

Schedule = Callable[[Any], Any]
"""A function from the number of the update, from 0, to the learning rate."""

_HOME = "jax.example_libraries.optimizers"
_NAME = "step_size"
_AT_ONCE = 1024
_ABSURD = 1e3
"""Parameters that move by so much a step are far outside of what the data speak of."""

_HOW = (
    "To set one during a run, train with an optimizer of numpyro.optim, as "
    "numpyro.optim.Adam(0.01), or with optax.inject_hyperparams(optax.adam)(learning_rate=0.01)."
)


class RatedState(Protocol):
    """A state of the trainer; see :class:`aimz_lab.inference.svi.step.TrainState`.

    Attributes:
        svi: The SVI state.
        rate: The learning rate that was set, or the factor of a schedule; or ``None``.
    """

    svi: SVIState
    rate: jax.Array | None

    def _replace(self, **fields: PyTree) -> Self: ...


State = TypeVar("State", bound=RatedState)


class OptimizerRate:
    """The learning rate of an optimizer.

    Args:
        optimizer: The optimizer of an SVI object; it is read, never changed.
    """

    def __init__(self, optimizer: _NumPyroOptim | None) -> None:
        self._optimizer = optimizer
        self._schedule = _schedule_in(getattr(optimizer, "update_fn", None))

    def check(self) -> None:
        """Refuse a rate that no step can use, and doubt one that is 0 or that few steps survive.

        Raises:
            InferenceError: If it is the same for all steps, and no number, negative, or not finite.

        Warns:
            FitWarning: If it is the same for all steps, and 0 or absurdly high.
        """
        rate = self._schedule(0) if self._is_constant else 0.0
        if isinstance(rate, str) or not 0 <= rate < np.inf:
            msg = (
                f"The learning rate of the optimizer is {rate!r}; give it a positive number, as in "
                "numpyro.optim.Adam(0.01)."
            )
            raise InferenceError(msg)
        if rate == 0 and self._is_constant:
            msg = (
                "The learning rate of the optimizer is 0: the steps compute losses and train "
                "nothing. Give it a positive number, as in numpyro.optim.Adam(0.01)."
            )
            warn(msg, FitWarning)
        if rate >= _ABSURD:
            msg = (
                f"The learning rate of the optimizer is {number(float(rate))}: at such a rate the "
                "first steps usually end in NaN. Usual rates are 0.0001 to 0.1, as in "
                "numpyro.optim.Adam(0.01)."
            )
            warn(msg, FitWarning)

    def is_settable(self, state: RatedState) -> bool:
        """Whether the rate can be set during a run."""
        return self._schedule is not None or learning_rate(state.svi.optim_state) is not None

    def why_fixed(self, state: RatedState) -> str:
        """Return the error message for a rate that cannot be set."""
        if isinstance(self._optimizer, Minimize):
            return f"Minimize has no learning rate: a step of it searches for the minimum. {_HOW}"
        if getattr(self._optimizer, "update_with_value", False):
            if _has_optax_schedule(state.svi.optim_state):
                return (
                    "A schedule in the Optax optimizer sets the learning rate. It is compiled into "
                    f"the steps: the rate is not known here, and cannot be set. {_HOW}"
                )
            return (
                "Optax has compiled the learning rate of this optimizer into its steps: it is not "
                f"known here, and cannot be set. {_HOW}"
            )
        return f"The learning rate of this optimizer is not known, and cannot be set. {_HOW}"

    @property
    def has_schedule(self) -> bool:
        """Whether the rate may differ from step to step, as far as is known."""
        return self._schedule is not None and not self._is_constant

    @cached_property
    def _is_constant(self) -> bool:
        """Whether the rate is the same for all steps, as far as is known."""
        schedule = self._schedule
        home, name = getattr(schedule, "__module__", ""), getattr(schedule, "__qualname__", "")
        return home == _HOME and name.startswith("constant.")

    @cached_property
    def _constant(self) -> float | None:
        """The rate, if it is the same for all steps."""
        return float(self._schedule(0)) if self._is_constant else None

    @cached_property
    def _many(self) -> Callable[[jax.Array], jax.Array]:
        def rate(i: jax.Array) -> jax.Array:
            return jnp.asarray(self._schedule(i), jnp.result_type(float))

        options = compiler_options(QUICKEST)
        return jax.jit(named("learning_rates", jax.vmap(rate)), compiler_options=options)

    def of_next_step(self, state: RatedState) -> float | None:
        """Return the rate of the step after a state; ``None`` if it is not known."""
        return self._at(state, ahead=0)

    def of_last_step(self, state: RatedState) -> float | None:
        """Return the rate of the step before a state; ``None`` if it is not known."""
        return self._at(state, ahead=-1)

    def _at(self, state: RatedState, *, ahead: int) -> float | None:
        if self._schedule is None:
            return learning_rate(state.svi.optim_state)
        if self._constant is not None:
            return self._constant if state.rate is None else float(state.rate)
        return float(self._scheduled(state, max(int(state.svi.optim_state[0]) + ahead, 0), 1)[0])

    def of_steps(
        self, before: RatedState, after: RatedState, count: int
    ) -> Float[np.ndarray, " step"] | None:
        """Return the rate of each step between two states; ``None`` if it is one rate for all.

        Args:
            before: The state before the first.
            after: The state after the last, with the same factor of the schedule.
            count: Number of the steps.
        """
        if self._schedule is None or self._constant is not None:
            return None
        first, end = (int(state.svi.optim_state[0]) for state in (before, after))
        # With fewer updates than steps, nobody knows which steps made one.
        return self._scheduled(after, first, count) if end - first == count else None

    def _scheduled(self, state: RatedState, first: int, count: int) -> np.ndarray:
        # One shape, so that it compiles once.
        starts = range(first, first + count, _AT_ONCE)
        with on_host():
            blocks = [np.asarray(self._many(start + np.arange(_AT_ONCE))) for start in starts]
        rates = np.concatenate(blocks)[:count]
        return rates if state.rate is None else rates * np.asarray(state.rate)

    def set(self, state: State, rate: float) -> State:
        """Return the state with another rate of the next step; that of a schedule scales it.

        Args:
            state: The state of the trainer; the rate of its next step is not 0.
            rate: The rate; positive.

        Raises:
            ArgumentError: If the rate cannot be set.
        """
        svi, value = state.svi, rate
        if self._schedule is None:
            optim_state = set_learning_rate(svi.optim_state, rate)
            return state._replace(svi=svi._replace(optim_state=optim_state))
        if self._constant is None:
            value = rate / self.of_next_step(state._replace(rate=None))
        return state._replace(rate=jnp.asarray(value, jnp.result_type(float)))

    def optimizer(self, set_rate: jax.Array | None) -> _NumPyroOptim | None:
        """Return the optimizer of a step; ``None`` if there is none.

        Args:
            set_rate: ``rate`` of the trainer's state; ``None`` if nobody has set one.
        """
        if set_rate is None:
            return self._optimizer
        schedule, is_constant = self._schedule, self._constant is not None
        changed = copy.copy(self._optimizer)
        changed.update_fn = _with_schedule(
            changed.update_fn, lambda i: set_rate if is_constant else schedule(i) * set_rate
        )
        return changed


def _has_optax_schedule(optim_state: PyTree) -> bool:
    """Return whether an update of Optax goes by a schedule: of its rate or, rarely, of another."""
    if isinstance(optim_state, dict):
        return any(map(_has_optax_schedule, optim_state.values()))
    if not isinstance(optim_state, tuple | list):
        return False
    name = type(optim_state).__name__
    return name == "ScaleByScheduleState" or any(map(_has_optax_schedule, optim_state))


def _schedule_in(function: object) -> Schedule | None:
    """Return the schedule in the closure of an update of JAX's optimizers."""
    return next((cell.cell_contents for name, cell in _cells(function) if name == _NAME), None) or (
        next(filter(None, (_schedule_in(cell.cell_contents) for _, cell in _cells(function))), None)
    )


def _with_schedule(function: types.FunctionType, schedule: Schedule) -> types.FunctionType:
    """Return a copy of such an update with another schedule."""
    cells = []
    for name, cell in _cells(function):
        content = cell.cell_contents
        if name == _NAME:
            cell = types.CellType(schedule)
        elif _schedule_in(content) is not None:
            cell = types.CellType(_with_schedule(content, schedule))
        cells.append(cell)
    return types.FunctionType(
        function.__code__, function.__globals__, function.__name__, None, tuple(cells)
    )


def _cells(function: object) -> list[tuple[str, types.CellType]]:
    """Return the closure of a function of JAX's optimizers by name; empty of anything else."""
    is_one = isinstance(function, types.FunctionType) and function.__globals__["__name__"] == _HOME
    if not is_one or not function.__closure__:
        return []
    return list(zip(function.__code__.co_freevars, function.__closure__, strict=True))
