"""Facts of a run before its first step, the state of its trainer, and its best state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self, overload

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree
from numpyro.infer.svi import SVIState

from aimz_lab.inference.run.buckets import Column

HELD_OUT, TRAINING = "validation", "loss"
"""Names of what the best state of a run is judged by."""

BY_HAND = "hand-written loop"
"""How the method of a hand-written loop ends."""


@dataclass(frozen=True)
class RunInfo:
    """Facts of a run that are known before its first step.

    Attributes:
        model: Name of the kernel.
        method: Inference method and guide, such as ``"SVI/AutoNormal"``.
        n_obs: Rows of the data set, or ``None`` if unknown.
        batch_size: Rows of a full batch, padding excluded.
        epochs: Planned epochs. Steps on all rows, as of ``fit_on_batch``, are one epoch together.
        steps_per_epoch: Planned steps of an epoch, or ``None`` if unknown. Of a stream, the steps
            of its first epoch once that has ended.
        row_multiple: The rows of a batch are padded to a multiple of this number.
        devices: The devices that the run computes on.
        scaled: How the rows of a batch are weighed, in words: ``"each row weighs 3"``.
        validation_every: Epochs between two evaluations of the held-out loss; ``None`` without one.
        is_sampling: Whether Markov chains are run instead of parameters being trained. A step is
            then an iteration of every chain, warm-up included, and all of them are one epoch. The
            loss of a step is then the mean potential energy of the chains: their negative log
            joint density on the unconstrained scale, in nats.
        outcome: The table's formula that makes the outcome, if it changes the column; the losses
            are then log densities of the formula's values. Otherwise empty.

    Example:
        >>> RunInfo("kernel", "SVI/AutoNormal", epochs=20, steps_per_epoch=5).total_steps
        100
    """

    model: str
    method: str
    n_obs: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    steps_per_epoch: int | None = None
    row_multiple: int = 1
    devices: tuple[jax.Device, ...] = ()
    scaled: str = ""
    validation_every: int | None = None
    is_sampling: bool = False
    outcome: str = ""

    @property
    def total_steps(self) -> int | None:
        """Steps of all epochs as planned, or ``None`` if unknown.

        For a run that goes on, see ``run.planned_steps``.
        """
        if self.epochs is None or self.steps_per_epoch is None:
            return None
        return self.epochs * self.steps_per_epoch

    @property
    def is_by_hand(self) -> bool:
        """Whether it is a hand-written loop, of which no state is kept."""
        return self.method.endswith(BY_HAND)

    @property
    def has_all_rows_each_step(self) -> bool:
        """Whether each of several steps of an epoch is on all rows, so that epochs tell nothing."""
        is_batch_of_all = self.n_obs is not None and self.batch_size == self.n_obs
        return is_batch_of_all and not self.is_sampling and self.steps_per_epoch not in (None, 1)

    @property
    def averaged_epoch(self) -> int | None:
        """Steps whose loss sees every row once, or ``None`` if unknown; 1 for chains."""
        return 1 if self.is_sampling else self.steps_per_epoch


class ConstantLoss(NamedTuple):
    """The loss of one distribution for all rows.

    Attributes:
        value: Its mean negative log density of the observed output, in nats per row.
        distribution: Its name.
        least_excess: How far above it a loss is noteworthy, in nats per row.
        is_of_family: Whether it is of the output's own family, whose parameters are learned.
    """

    value: float
    distribution: str
    least_excess: float
    is_of_family: bool = False


class Place(NamedTuple):
    """How far a run has come; all of one moment.

    Attributes:
        epoch: The epoch at hand, from 1.
        step: Steps done.
        planned_steps: Steps of the whole run, as far as they are known by now, or ``None``.
        eta_s: Expected wall time to the planned end, or ``None`` if not known yet.
    """

    epoch: int
    step: int
    planned_steps: int | None
    eta_s: float | None


class TrainerState(Protocol):
    """State of a trainer: a named tuple, a tree of arrays, with the SVI state as a field.

    Attributes:
        svi: The SVI state.
        rate: The learning rate that was set, if it is not part of the optimizer's state.
    """

    svi: SVIState
    rate: jax.Array | None

    def _replace(self, **fields: PyTree) -> Self: ...


@dataclass(frozen=True)
class Best:
    """The best state of a run so far, by one monitor.

    Attributes:
        value: The monitor's value, in nats per row.
        step: Steps done by then.
        state: The trainer's state; its arrays are shared with the run, not copied. ``None`` where
            nobody has it: in a hand-written loop, and in a run read from a file.
        monitor: ``"validation"`` for the held-out loss, ``"loss"`` for the loss of the run as it
            is shown, or ``"loss over 640 steps"`` for the mean over the window of a callback.
        lower: The lowest one of those that were the best before, without its state, if its value is
            lower: a mean over fewer steps, whose noise is larger; else ``None``.
    """

    value: float
    step: int
    state: TrainerState | None = field(repr=False)  # arrays, by the page
    monitor: str
    lower: Best | None = field(default=None, repr=False, compare=False)

    @property
    def is_held_out(self) -> bool:
        """Whether the value is a held-out loss, and no loss of training steps."""
        return self.monitor == HELD_OUT


@dataclass(frozen=True)
class RateChange:
    """A change of the learning rate during a run, on request.

    Attributes:
        step: Steps done by then.
        before: The rate of these; ``None`` if it is not known.
        after: The rate of the next step.
    """

    step: int
    before: float | None
    after: float


class ValidationLosses(Sequence[tuple[int, float]]):
    """Pairs of a step and the held-out loss after it, in nats per row; 16 bytes each.

    Args:
        pairs: The first of them.

    Example:
        >>> losses = ValidationLosses([(10, 2.5), (20, 2.0)])
        >>> losses.append((30, 1.5))
        >>> losses[-1], losses[:2] == [(10, 2.5), (20, 2.0)], losses.losses
        ((30, 1.5), True, array([2.5, 2. , 1.5]))
    """

    __hash__ = None

    def __init__(self, pairs: Iterable[tuple[int, float]] = ()) -> None:
        self._steps = Column(np.int64)
        self._losses = Column(np.float64)
        for pair in pairs:
            self.append(pair)

    def append(self, pair: tuple[int, float]) -> None:
        """Add a pair of step and loss."""
        step, loss = pair
        self._steps.extend([step])
        self._losses.extend([loss])

    @property
    def steps(self) -> Int[np.ndarray, " validation"]:
        """Steps done before each evaluation; read-only."""
        return self._steps.values

    @property
    def losses(self) -> Float[np.ndarray, " validation"]:
        """Held-out losses in nats per row; read-only."""
        return self._losses.values

    def __len__(self) -> int:
        return len(self._losses)

    @overload
    def __getitem__(self, at: int) -> tuple[int, float]: ...

    @overload
    def __getitem__(self, at: slice) -> list[tuple[int, float]]: ...

    def __getitem__(self, at: int | slice) -> tuple[int, float] | list[tuple[int, float]]:
        if isinstance(at, slice):
            return list(zip(self.steps[at].tolist(), self.losses[at].tolist(), strict=True))
        return int(self.steps[at]), float(self.losses[at])

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return iter(self[:])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self[:] == list(other)

    def __repr__(self) -> str:
        return repr(self[:])
