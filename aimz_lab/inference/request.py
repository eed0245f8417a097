"""Requests and results of training and sampling, and the ``Learner`` protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.data import AxisLabels
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import check_flag, check_progress
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.checkpoint.checkpoint import Checkpoint
from aimz_lab.inference.checkpoint.provenance import Origin
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.run.events import Callback, Run, check_callbacks
from aimz_lab.inference.run.loop import RunLoop
from aimz_lab.inference.training_call import TrainingCall
from aimz_lab.kernel.arguments import UNKNOWN_ROLES, ArgumentRoles
from aimz_lab.kernel.scaling import Scale, check_scale
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import (
    Arguments,
    Device,
    OnInterrupt,
    OnNonFinite,
    Params,
    Progress,
    RowDependence,
    check_choice,
    shown,
)

_COUNTS = ("num_samples", "epochs", "validation_every")
_OPTIONAL_COUNTS = ("num_steps", "batch_size", "n_obs")


@dataclass(frozen=True)
class StepOptions:
    """Options of a step: weights, accumulation and metrics.

    Attributes:
        scale: Weight of the rows: ``"auto"`` for N / B, ``"none"``, or a number.
        accumulate: Batches whose gradients are averaged into one update.
        metrics: Names of further values of each step, such as ``grad_norm``.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    scale: Scale = "auto"
    accumulate: int = 1
    metrics: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", check_scale(self.scale))
        object.__setattr__(self, "accumulate", check_positive_int("accumulate", self.accumulate))


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """One call of ``fit`` or ``fit_on_batch``, its values checked.

    Attributes:
        inputs: The input array, a dataset, a loader, or any source of batches.
        outputs: The output array, or ``None`` where it comes with the batches.
        arguments: Further kernel arguments by name.
        roles: Which of them are known to be by row or shared.
        origin: Random keys and first epoch.
        num_samples: Posterior draws to make by SVI.
        epochs: Passes over the data.
        num_steps: Steps on all rows at once, in place of epochs of batches; or ``None``.
        batch_size: Rows of a batch; ``None`` chooses.
        shuffle: Whether each epoch has another order of rows; ``None`` for the default: yes for
            arrays, and as it is for a source of batches.
        n_obs: Rows of the data set, for a stream of unknown length.
        validation: Held-out data, or ``None``.
        validation_every: Epochs between two evaluations of the held-out loss.
        row_dependence: ``"independent"`` if the user says that rows may be cut into batches.
        step: How a step weights its rows.
        steps_per_call: Steps compiled into one call; ``"auto"`` adapts.
        on_nonfinite: ``"stop"``, ``"skip"`` or ``"raise"`` at a step that is not finite.
        allow_nonfinite: Accept NaN and infinite values in the data.
        callbacks: The user's callbacks.
        progress: The display to show.
        checkpoint: The checkpoint to resume, or ``None`` for a new run.
        on_interrupt: What an interrupt stops besides the fit.
        device: The model's device or sharding; ``None`` leaves the choice to the loader.
        in_background: Whether the caller goes on meanwhile, and may change its arrays.
        earlier: Recognises the rows of the trainings that this one goes on from, or ``None``.
        rate_before: Learning rate at the end of the run before, if it was set there; or ``None``.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    inputs: Any
    outputs: ArrayLike | None
    arguments: Arguments
    origin: Origin
    roles: ArgumentRoles = UNKNOWN_ROLES
    num_samples: int = 1000
    epochs: int = 1
    num_steps: int | None = None
    batch_size: int | None = None
    shuffle: bool | None = None
    n_obs: int | None = None
    validation: Any = None
    validation_every: int = 1
    row_dependence: RowDependence = "auto"
    step: StepOptions = field(default_factory=StepOptions)
    steps_per_call: int | Literal["auto"] = "auto"
    on_nonfinite: OnNonFinite = "stop"
    allow_nonfinite: bool = False
    callbacks: Iterable[Callback] = ()
    progress: Progress = True
    checkpoint: Checkpoint | None = None
    on_interrupt: OnInterrupt = "stop"
    device: Device | None = None
    in_background: bool = False
    earlier: TrainingFingerprint | None = None
    rate_before: float | None = None

    def __post_init__(self) -> None:
        for name in _COUNTS:
            self._keep(name, check_positive_int(name, getattr(self, name)))
        for name in _OPTIONAL_COUNTS:
            if (value := getattr(self, name)) is not None:
                self._keep(name, check_positive_int(name, value))
        self._keep("allow_nonfinite", check_flag("allow_nonfinite", self.allow_nonfinite))
        if self.shuffle is not None:
            self._keep("shuffle", check_flag("shuffle", self.shuffle))
        self._keep("steps_per_call", _checked_steps_per_call(self.steps_per_call))
        self._keep("progress", check_progress(self.progress))
        self._keep("callbacks", check_callbacks(self.callbacks))
        check_choice("on_nonfinite", self.on_nonfinite, OnNonFinite)
        check_choice("on_interrupt", self.on_interrupt, OnInterrupt)
        check_choice("rows", self.row_dependence, RowDependence)

    def check_length(self, checkpoint: Checkpoint) -> None:
        """Check that the run does not end before the checkpoint that it goes on from.

        Raises:
            ArgumentError: If fewer epochs or steps are asked for than are done.
        """
        epoch, batch = checkpoint.position
        done = checkpoint.step if self.num_steps else epoch + (batch > 0)
        name, asked = ("num_steps", self.num_steps) if self.num_steps else ("epochs", self.epochs)
        if asked < done:
            msg = (
                f"{name}={asked:,} counts from the beginning of the run, and its checkpoint "
                f"{checkpoint.path.name} has begun {done:,} of them; pass {name}={done:,} at "
                f"least, and more to train on."
            )
            raise ArgumentError(msg)

    def repeated(self, run: Run, data: TrainingData) -> TrainingCall:
        """Return the call that trains as this one did.

        Args:
            run: Its run.
            data: Its data.
        """
        further = self.arguments
        options: dict[str, Any] = {
            "num_samples": self.num_samples,
            "on_nonfinite": self.on_nonfinite,
            "allow_nonfinite": self.allow_nonfinite,
            "by_row": tuple(name for name in data.rows if name in further),
            "shared": tuple(name for name in data.shared if name in further),
        }
        if run.info.is_sampling:
            return TrainingCall(True, options, begins_anew=True)
        steps = max(1, run.restored.step if run.restored else run.step)
        if self.num_steps is not None:
            options["num_steps"] = steps
        else:
            per_epoch = run.info.steps_per_epoch
            options |= {
                "epochs": -(-steps // per_epoch) if per_epoch else max(1, run.epoch),
                "batch_size": data.batch_size,
                "shuffle": data.order is not None if data.in_memory else None,
                "scale": self.step.scale,
                "accumulate": self.step.accumulate,
                "rows": self.row_dependence,
            }
        return TrainingCall(
            self.num_steps is not None,
            options,
            begins_anew=self.checkpoint is not None and self.origin.first_epoch == 0,
            was_steered=bool(run.rate_changes),
            num_steps=steps,
        )

    def _keep(self, name: str, value: object) -> None:
        """Set a field to its checked value: an ``int`` where NumPy's was passed."""
        object.__setattr__(self, name, value)

    @property
    def start(self) -> Position:
        """Position in the data to begin at."""
        if self.checkpoint is None:
            return Position()
        # A fit on all rows is one epoch; a resumed call may ask for more steps of it.
        return Position(0, self.checkpoint.step) if self.num_steps else self.checkpoint.position


def _checked_steps_per_call(value: object) -> int | str:
    if isinstance(value, str) and value == "auto":
        return value
    try:
        return check_positive_int("steps_per_call", value)
    except ArgumentError:
        msg = f"steps_per_call={shown(value)} is not allowed; use 'auto' or an int of at least 1."
        raise ArgumentError(msg) from None


@dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """One call of ``sample``, with the state of the model.

    Attributes:
        num_samples: Draws to make; where chains continue, iterations of each chain.
        key: A typed random key.
        arguments: Kernel arguments by name; empty for none.
        roles: Which of them were by row or shared in training.
        spec: The kernel's structure as last trained, or ``None``.
        state: The SVI state, or ``None``.
        params: Constrained parameters to draw with; empty for those of ``state``.
        posterior: The model's draws, or ``None``.
        fingerprint: Recognises the rows of the training; ``None`` where that is not known.
        schema: Schema of the training data, or ``None``.
        way_to_draws: What to do for a posterior, where there is none.

    Raises:
        ArgumentError: If ``num_samples`` is not a positive int.
    """

    num_samples: int
    key: jax.Array
    arguments: Arguments
    roles: ArgumentRoles
    spec: KernelSpec | None
    state: SVIState | None
    params: Params
    posterior: Posterior | None
    fingerprint: TrainingFingerprint | None
    schema: InputSchema | None = None
    way_to_draws: str = ""

    def __post_init__(self) -> None:
        count = check_positive_int("num_samples", self.num_samples)
        object.__setattr__(self, "num_samples", count)


@dataclass(frozen=True)
class FitResult:
    """The result of a fit, for its model.

    Attributes:
        spec: The kernel's structure.
        schema: Names, shapes and types of the training data.
        state: The SVI state; ``None`` under MCMC.
        vi_result: Parameters and losses; ``None`` before the first step, and under MCMC.
        posterior: The draws, or ``None`` where there are none yet.
        fingerprint: Recognises the training rows.
        epochs_done: Epochs of the loader so far.
        ending: How a run ended that was interrupted or diverged; see :attr:`Run.ending`.
        is_wrecked: Whether the state is not to be used; see :attr:`Run.is_wrecked`.
        training: The call that repeats the training; ``None`` before the first step.
        row_labels: Labels of the training rows, if they have some.
    """

    spec: KernelSpec
    schema: InputSchema
    state: SVIState | None = None
    vi_result: SVIRunResult | None = None
    posterior: Posterior | None = None
    fingerprint: TrainingFingerprint | None = None
    epochs_done: int = 0
    ending: str = ""
    is_wrecked: bool = False
    training: TrainingCall | None = None
    row_labels: AxisLabels | None = None


class ViResult(Protocol):
    """Parameters and losses of a training, such as NumPyro's ``SVIRunResult``.

    Attributes:
        params: Constrained parameters by name.
        losses: Loss of each step in nats.
    """

    params: Params
    losses: Float[Array, " step"]


class StartedFit(Protocol):
    """A fit whose checks have passed.

    Attributes:
        data: The training data.
        spec: The kernel's structure.
        schema: Shapes and types of the data.
        run: The record of the run.
        loop: The loop that trains.
    """

    data: TrainingData
    spec: KernelSpec
    schema: InputSchema
    run: Run
    loop: RunLoop

    def results(self) -> Iterator[FitResult]:
        """Yield results after the end of the run; a later one replaces an earlier one."""

    @property
    def has_reported(self) -> bool:
        """Whether there is a result of a state before the end."""

    def now(self) -> tuple[FitResult, int] | None:
        """Return the result as of the last report with its step, while the run goes on."""

    def undo(self) -> None:
        """Leave learner, guide and sampler as before the start; for a refused run."""

    def warning(self) -> str | None:
        """Return a warning about the end of the run, or ``None``."""


@contextlib.contextmanager
def undone_on_error(fit: StartedFit) -> Iterator[None]:
    """Undo the start of a fit if the block raises."""
    try:
        yield
    except BaseException:
        fit.undo()
        raise


class Learner(Protocol):
    """An inference method at work on one kernel: SVI or MCMC."""

    def start(self, request: FitRequest, state: SVIState | None) -> StartedFit:
        """Check and prepare a fit that begins with ``state``."""

    def sample(self, request: SampleRequest) -> Posterior:
        """Draw from the posterior, or from its approximation."""

    def set_up(self, schema: InputSchema) -> SVIState | None:
        """Return a state with the structure for this schema; ``None`` under MCMC."""

    def params(self, state: SVIState | None) -> dict[str, jax.Array]:
        """Return the constrained parameters of a state; empty without one."""
