"""Facts of a run before its first step, the state of its trainer, and its best state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

import jax
from jaxtyping import PyTree
from numpyro.infer.svi import SVIState


@dataclass(frozen=True)
class RunInfo:
    """Facts of a run that are known before its first step.

    Attributes:
        model: Name of the kernel.
        method: Inference method and guide, such as ``"SVI/AutoNormal"``.
        n_obs: Rows of the data set, or ``None`` if unknown.
        batch_size: Rows of a full batch, padding excluded.
        epochs: Planned epochs.
        steps_per_epoch: Planned steps of an epoch, or ``None`` if unknown.
        row_multiple: The rows of a batch are padded to a multiple of this number.
        devices: The devices that the run computes on.
        scaled: Factor on the rows' likelihood as text, such as ``"N / B = 12.4"``.
        validation_every: Epochs between two evaluations of the held-out loss; ``None`` without one.
        is_sampling: Whether Markov chains are run instead of parameters being trained. A step is
            then an iteration of every chain, warm-up included, and all of them are one epoch. The
            loss of a step is then the mean potential energy of the chains: their negative log
            joint density on the unconstrained scale, in nats.

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

    @property
    def total_steps(self) -> int | None:
        """Planned steps of the run, or ``None`` if unknown."""
        if self.epochs is None or self.steps_per_epoch is None:
            return None
        return self.epochs * self.steps_per_epoch


class TrainerState(Protocol):
    """State of a trainer: a named tuple, a tree of arrays, with the SVI state as a field.

    Attributes:
        svi: The SVI state.
    """

    svi: SVIState

    def _replace(self, **fields: PyTree) -> Self: ...


@dataclass(frozen=True)
class Best:
    """The best state of a run so far, by one monitor.

    Attributes:
        value: The monitor's value, in nats per row.
        step: Steps done by then.
        state: The trainer's state; its arrays are shared with the run, not copied.
    """

    value: float
    step: int
    state: TrainerState
