"""A training run as its listeners read it: history, state, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from aimz_lab.inference.run.best_state import Best
from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.steps import Column, Steps
from aimz_lab.types import RunStatus

if TYPE_CHECKING:
    from aimz_lab.inference.run.events import Callback


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first step.

    Attributes:
        model: Name of the kernel.
        method: Inference method and guide, such as ``"SVI/AutoNormal"``.
        n_obs: Rows of the data set, or ``None`` where nobody knows.
        batch_size: Rows of a full batch, padding excluded.
        epochs: Planned epochs.
        steps_per_epoch: Planned steps of an epoch, or ``None`` where nobody knows.
        row_multiple: What a batch is padded to a multiple of.
        devices: The devices that the run computes on.
        scaled: Factor on the rows' likelihood, in words, such as ``"N / B = 12.4"``.
        validation_every: Epochs between two evaluations of the held-out loss; ``None`` without one.
        is_sampling: Whether Markov chains are run instead of parameters being trained. A step is
            then an iteration of every chain, warm-up included, all of them are one epoch, and the
            loss of a step is the mean of the chains' potential energies: their negative log joint
            density on the unconstrained scale, in nats.

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
        """Planned steps of the run, or ``None`` where nobody knows."""
        if self.epochs is None or self.steps_per_epoch is None:
            return None
        return self.epochs * self.steps_per_epoch


class Run:
    """The state of a training run, as its listeners read it.

    Args:
        info: What is known before the first step.
        control: Where requests are taken; a new one by default.
        get_params: Called for :attr:`params`.

    Attributes:
        info: What was known before the first step.
        control: Where to ask for a stop, a pause, a checkpoint or another learning rate.
        status: One of :data:`aimz_lab.types.RunStatus`.
        reason: Why the run ended, in words.
        epoch: Epoch of the last step, from 1; 0 before the first.
        learning_rate: The rate of the last step, where the optimizer tells.
        validation: Pairs of step and held-out loss in nats per row.
        disabled: Callbacks that failed and were switched off, with what they raised.
        checkpoints: Paths written so far, with the step of each.
        seconds_in: Wall time by activity: ``data`` (gathering batches and moving them),
            ``dispatch`` (and compiling), ``steps`` (waiting for them), ``validation`` and
            ``callbacks``.
        transferred_bytes: Bytes of batches, or of their row numbers where the data is on the
            devices, that were moved there so far.
        skipped: Steps that were left out because they were not finite.
        notes: Sentences that a display should show.
        exception: What ended a failed run.
        resumed_at: Steps that an earlier process did, up to the checkpoint; 0 for a new run.
        best: The best states so far by monitor; see :mod:`aimz_lab.inference.run.best_state`.
        chains: What the Markov chains of a sampling run did so far, chain by chain; else ``None``.

    Example:
        >>> run = im.fit(X, y, epochs=5, progress=False).last_run
        >>> run.status, run.losses.shape
        ('completed', (5,))
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        control: Control | None = None,
        get_params: Callable[[], Mapping[str, jax.Array]] | None = None,
    ) -> None:
        self.info = info
        self.control = control or Control()
        self.status: RunStatus = "pending"
        self.reason = ""
        self.epoch = 0
        self.learning_rate: float | None = None
        self.validation: list[tuple[int, float]] = []
        self.disabled: list[tuple[Callback, Exception]] = []
        self.checkpoints: list[tuple[int, str]] = []
        self.seconds_in: dict[str, float] = {}
        self.transferred_bytes = 0
        self.skipped = 0
        self.notes: list[str] = []
        self.exception: BaseException | None = None
        self.resumed_at = 0
        self.best: dict[str, Best] = {}
        self.chains: ChainRecord | None = None
        self._kept: Any = None
        self._get_params = get_params
        self._get_state: Callable[[], Any] | None = None
        self._get_position: Callable[[], Any] | None = None
        self._get_provenance: Callable[[], Mapping[str, Any]] | None = None
        self._columns = {
            "loss": Column(np.float32),
            "epoch": Column(np.int32),
            "rows": Column(np.int32),
            "n_pad": Column(np.int32),
            "seconds": Column(np.float64),
            "learning_rate": Column(np.float32),
        }
        self._metrics: dict[str, Column] = {}
        self._began: float | None = None
        self._ended: float | None = None

    @property
    def step(self) -> int:
        """Steps done so far."""
        return len(self.losses)

    @property
    def losses(self) -> np.ndarray:
        """Loss of each step in nats; shape ``(step,)``, read-only."""
        return self._columns["loss"].values

    @property
    def losses_per_row(self) -> np.ndarray:
        """Loss of each step in nats per row; the total where nobody knows the number of rows."""
        return self.losses / (self.info.n_obs or 1)

    @property
    def params(self) -> Mapping[str, jax.Array]:
        """The guide's constrained parameters after the last step; empty where nobody tells."""
        return self._get_params() if self._get_params else {}

    @property
    def elapsed_s(self) -> float:
        """Wall time since the run began, up to its end."""
        if self._began is None:
            return 0.0
        return (self._ended or time.monotonic()) - self._began

    @property
    def steps_per_s(self) -> float:
        """Rate over the last few seconds of stepping; 0 before the first chunk.

        The first chunk, during which the step is compiled, counts only as long as it is alone.
        """
        began, ends = self._chunk_ends
        if len(ends) == 0:
            return 0.0
        recent = int(np.searchsorted(ends, ends[-1] - 3.0))
        if recent == 0 and not self._in_first_chunk:
            recent = int(np.searchsorted(ends, ends[0], side="right"))
        span = ends[-1] - (ends[recent - 1] if recent else began)
        return (len(ends) - recent) / span if span > 0 else 0.0

    @property
    def _chunk_ends(self) -> tuple[float, np.ndarray]:
        """Stepping time at the beginning of this process, and after each of its steps."""
        seconds = self._columns["seconds"].values
        began = float(seconds[self.resumed_at - 1]) if self.resumed_at else 0.0
        return began, seconds[self.resumed_at :]

    @property
    def _in_first_chunk(self) -> bool:
        _, ends = self._chunk_ends
        return len(ends) == 0 or ends[0] == ends[-1]

    @property
    def rows_per_s(self) -> float:
        """Rows of data per second, at the rate of :attr:`steps_per_s`."""
        rows = self._columns["rows"].values
        return self.steps_per_s * float(rows[-256:].mean()) if len(rows) else 0.0

    @property
    def eta_s(self) -> float | None:
        """Expected wall time to the planned end, or ``None`` where it cannot be told yet."""
        total, rate = self.info.total_steps, self.steps_per_s
        if total is None or rate == 0 or (self._in_first_chunk and self.step < total):
            return None
        return max(total - self.step, 0) / rate

    @property
    def finished(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self._ended is not None

    def column(self, name: str) -> np.ndarray:
        """One value a step, read-only: ``loss``, ``epoch``, ``rows``, ``n_pad``, or a metric.

        ``seconds`` is the stepping time at the end of the step's chunk, in seconds, and
        ``learning_rate`` the rate of the chunk, NaN where the optimizer does not tell.

        Args:
            name: One of :attr:`columns`, or of :attr:`metrics`.

        Returns:
            Shape ``(step,)``.

        Raises:
            KeyError: If no step reported such a value.
        """
        return (self._columns.get(name) or self._metrics[name]).values

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the further values that the steps reported."""
        return tuple(self._metrics)

    @property
    def state(self) -> Any:
        """The trainer's state after the last accepted step; ``None`` where nobody tells."""
        return self._get_state() if self._get_state else None

    @property
    def position(self) -> Any:
        """Where in the data the next step begins; ``None`` where nobody tells."""
        return self._get_position() if self._get_position else None

    @property
    def final_state(self) -> Any:
        """The state that the model ends with: the one of :meth:`end_with`, else :attr:`state`."""
        return self.state if self._kept is None else self._kept

    def end_with(self, state: Any) -> None:
        """Give the model ``state`` at the end, instead of the one after the last step.

        Training itself, and what a checkpoint holds, go on from :attr:`state`.
        """
        self._kept = state

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What a run must share with this one to go on from its checkpoint; plain values."""
        return self._get_provenance() if self._get_provenance else {}

    def bind(
        self,
        *,
        params: Callable[[], Mapping[str, jax.Array]],
        state: Callable[[], Any],
        position: Callable[[], Any],
        provenance: Callable[[], Mapping[str, Any]] | None = None,
    ) -> None:
        """Say where ``params``, ``state``, ``position`` and ``provenance`` are; for trainers."""
        self._get_params, self._get_state, self._get_position = params, state, position
        self._get_provenance = provenance

    def begin(self) -> None:
        """Start the clock; for trainers."""
        self.status = "running"
        self._began = time.monotonic()

    def record(self, steps: Steps) -> None:
        """Append ``steps``, a chunk of them; for trainers."""
        before = self._columns["seconds"].values
        stepping_s = (before[-1] if len(before) else 0.0) + steps.seconds
        for name in ("loss", "epoch", "rows", "n_pad"):
            self._columns[name].extend(getattr(steps, name))
        self._columns["seconds"].extend(np.full(len(steps), stepping_s))
        rate = np.nan if steps.learning_rate is None else steps.learning_rate
        self._columns["learning_rate"].extend(np.full(len(steps), rate))
        for name in dict.fromkeys([*self._metrics, *steps.metrics]):
            if name not in self._metrics:
                self._metrics[name] = Column(np.float32)
                self._metrics[name].extend(np.full(len(before), np.nan))
            missing = np.full(len(steps), np.nan)
            self._metrics[name].extend(steps.metrics.get(name, missing))
        self.learning_rate = steps.learning_rate
        if len(steps):
            self.epoch = int(steps.epoch[-1])

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the values that every step has; :attr:`metrics` has further ones."""
        return tuple(self._columns)

    def take_over(
        self, columns: Mapping[str, np.ndarray], metrics: Mapping[str, np.ndarray]
    ) -> None:
        """Begin with the history of an earlier process; for trainers.

        Args:
            columns: All of :attr:`columns` by name, shape ``(step,)``.
            metrics: Further values of the same steps by name.
        """
        for name, column in self._columns.items():
            column.extend(columns[name])
        for name, values in metrics.items():
            self._metrics[name] = Column(np.float32)
            self._metrics[name].extend(values)
        self.resumed_at = self.step
        self.epoch = int(columns["epoch"][-1]) if self.step else 0

    def spend(self, activity: str, seconds: float) -> None:
        """Add ``seconds`` to an ``activity`` of :attr:`seconds_in`; for trainers."""
        self.seconds_in[activity] = self.seconds_in.get(activity, 0.0) + seconds

    def finish(self, status: RunStatus, reason: str) -> None:
        """Stop the clock; ``status`` and ``reason`` say how the run ended; for trainers."""
        self.status, self.reason = status, reason
        self._ended = time.monotonic()
