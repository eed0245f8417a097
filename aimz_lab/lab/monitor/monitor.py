"""Watch and steer a training loop that is written by hand."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import CallError
from aimz_lab.inference.run.events import Callback, Callbacks, Control, Run, RunInfo, Steps
from aimz_lab.lab.dashboard.dashboard import LiveDashboard
from aimz_lab.lab.monitor.batches import Batches, Source, bytes_of, rows_of
from aimz_lab.lab.monitor.model_link import ModelLink
from aimz_lab.lab.monitor.pending_losses import PendingLosses
from aimz_lab.types import RunStatus

FLUSH_S = 0.05
"""Seconds between two looks at the losses, each of which waits for the device."""

_END = object()
_FORGOTTEN = "{} of {} batches had no loss: call watch.step(loss) once for each."


def monitor(
    batches: Source,
    *,
    epochs: int = 1,
    n_obs: int | None = None,
    model: Any = None,
    callbacks: Iterable[Callback] | None = None,
    set_learning_rate: Callable[[float], None] | None = None,
) -> Watch:
    """Watch a hand-written training loop as ``fit`` is watched.

    The result is iterated in place of the batches and yields what they yield, epoch after epoch;
    each batch's loss is given to :meth:`Watch.step`. The loop ends early when somebody clicks Stop.

    Args:
        batches: An ``ArrayLoader``, a PyTorch ``DataLoader``, a list or another iterable of
            batches; or a function that returns an iterable of batches, called once an epoch.
        epochs: Passes over the batches.
        n_obs: Rows of the data set, where the batches cannot tell. An ``ImpactModel`` that was not
            told yet learns it from here, so that its minibatches are scaled right.
        model: The ``ImpactModel`` that the loop trains, or a name for it.
        callbacks: Listeners; by default a :class:`~aimz_lab.lab.LiveDashboard`.
        set_learning_rate: Called with the new rate when somebody asks for one. Not needed where
            ``model`` is an ``ImpactModel`` whose optimizer keeps its rate in its state.

    Returns:
        The watched batches.

    Raises:
        ArgumentError: If ``epochs`` or ``n_obs`` is no positive int.
        DataTypeError: If ``batches`` is no source of batches, or has fewer passes than ``epochs``.

    Example:
        >>> watch = monitor([{"x": np.ones(4)}, {"x": np.zeros(4)}], epochs=2, model="demo")
        >>> for batch in watch:
        ...     watch.step(float(batch["x"].sum()))
        >>> watch.run.losses.tolist(), watch.run.status
        ([4.0, 0.0, 4.0, 0.0], 'completed')
    """
    listeners = [LiveDashboard()] if callbacks is None else list(callbacks)
    known = None if n_obs is None else check_positive_int("n_obs", n_obs)
    epochs = check_positive_int("epochs", epochs)
    return Watch(Batches(batches, epochs, known), epochs, model, listeners, set_learning_rate)


class Watch:
    """Batches that are watched; made by :func:`monitor`.

    Iterate it, or :meth:`epochs`, once. In a ``with`` block it also knows how the loop was left: an
    interrupt then ends the block quietly and keeps everything, as ``fit`` does.

    Args:
        batches: The source, with its number of passes.
        epochs: Passes over it.
        model: The ``ImpactModel`` that the loop trains, or a name for it.
        callbacks: Listeners.
        set_learning_rate: Called with the new rate when somebody asks for one; or ``None``.

    Attributes:
        run: What the listeners see: losses, status, rates.

    Example:
        >>> with monitor([1.0, 2.0], model="demo", callbacks=[]) as watch:
        ...     for batch in watch:
        ...         watch.step(batch)
        >>> watch.run.step
        2
    """

    def __init__(
        self,
        batches: Batches,
        epochs: int,
        model: Any,
        callbacks: list[Callback],
        set_learning_rate: Callable[[float], None] | None,
    ) -> None:
        self._batches = batches
        self._epochs = epochs
        self._link = ModelLink(model)
        self._set_rate = set_learning_rate
        control = Control(
            can_set_learning_rate=set_learning_rate is not None, why_not=self._link.why_fixed
        )
        info = RunInfo(
            model=self._link.name,
            method=self._link.method,
            n_obs=self._link.tell_n_obs(batches.n_obs),
            batch_size=batches.batch_size,
            epochs=epochs,
            steps_per_epoch=batches.per_epoch,
            row_multiple=batches.row_multiple,
            devices=batches.devices,
        )
        self.run = Run(info, control=control, get_params=self._link.params)
        self._callbacks = Callbacks(callbacks, self.run)
        self._begun = False
        self._in_block = False
        self._pending = PendingLosses()
        self._flushed_s = 0.0

    def __iter__(self) -> Iterator[Any]:
        for epoch in self.epochs():
            yield from epoch

    def epochs(self) -> Iterator[Iterator[Any]]:
        """Yield the watched batches of each epoch in turn."""
        self._begin()
        whole = False
        try:
            with self._telling_errors():
                for epoch in range(1, self._epochs + 1):
                    self._callbacks.emit("on_epoch_begin", epoch)
                    yield self._one_epoch(epoch)
                    if self.run.control.stop_request:
                        break
                    self._end_epoch(epoch)
            whole = True
        finally:
            # In a `with` block, its end knows whether the loop was left by an error.
            if whole or not self._in_block:
                self._finish_loop(whole=whole)

    def _one_epoch(self, epoch: int) -> Iterator[Any]:
        with self._telling_errors():
            batches = self._batches.epoch()
            while not self._asked_to_stop():
                began = time.monotonic()
                item = next(batches, _END)
                if item is _END:
                    return
                self.run.spend("data", time.monotonic() - began)
                self.run.transferred_bytes += bytes_of(item)
                self._pending.hand_out(epoch, *rows_of(item))
                handed_out, listened = time.monotonic(), self._listened_s
                yield item
                body_s = time.monotonic() - handed_out
                self.run.spend("steps", body_s - (self._listened_s - listened))

    @contextmanager
    def _telling_errors(self) -> Iterator[None]:
        """End the run by what the batches or a listener raise; the loop's own body is not in it."""
        try:
            yield
        except KeyboardInterrupt:
            self._finish("interrupted", f"interrupted after step {self._n_steps:,}")
            raise
        except Exception as error:
            self._fail(error)
            raise

    def step(self, loss: Any, **metrics: Any) -> None:
        """Take the loss of the batch at hand; it is not waited for.

        Args:
            loss: A scalar: negative ELBO in nats, of all rows.
            **metrics: Further scalars of this step to draw, such as ``grad_norm``.

        Raises:
            CallError: If there is no batch at hand, or its loss was given already.
            DataError: If a value is no scalar.
        """
        self._pending.give(loss, metrics)
        if time.monotonic() - self._flushed_s >= FLUSH_S:
            # The newest is likely still being computed: waiting for it would stall the loop.
            self._flush(keep=1 if len(self._pending) > 1 else 0)

    log = step

    @property
    def _listened_s(self) -> float:
        return self.run.seconds_in.get("callbacks", 0.0)

    @property
    def _n_steps(self) -> int:
        return self.run.step + len(self._pending)

    def _begin(self) -> None:
        if self._begun:
            msg = "These batches were watched already; call monitor() again for another run."
            raise CallError(msg)
        self._begun = True
        self.run.begin()
        self._callbacks.emit("on_fit_begin")
        self._flushed_s = time.monotonic()

    def _asked_to_stop(self) -> bool:
        """Between two batches: do what was asked for since the last one."""
        control = self.run.control
        if control.paused and not control.stop_request:
            self._flush()
            self._flushed_s += self._callbacks.hold_while_paused()
        rate = control.take_learning_rate()
        if rate is not None:
            (self._set_rate or self._link.set_learning_rate)(rate)
        if control.take_checkpoint():
            self._flush()
            self._callbacks.emit("on_checkpoint")
        return control.stop_request is not None

    def _end_epoch(self, epoch: int) -> None:
        n_batches = self._pending.n_batches
        if self._n_steps == 0 and n_batches:
            raise CallError(_FORGOTTEN.format(n_batches, n_batches))
        if self.run.info.steps_per_epoch is None:
            self.run.info = dataclasses.replace(self.run.info, steps_per_epoch=n_batches)
        self._pending.end_epoch(epoch)
        if self._callbacks.aligned_to_epochs or not self._pending:
            self._flush()

    def _flush(self, keep: int = 0) -> None:
        """Fetch the pending losses but for the newest ``keep``, and tell the listeners."""
        columns, ended = self._pending.fetch(keep)
        now = time.monotonic()
        seconds, self._flushed_s = now - self._flushed_s, now
        steps = Steps(
            first=self.run.step + 1,
            seconds=seconds,
            learning_rate=self._learning_rate(),
            **columns,
        )
        if len(steps):
            self.run.record(steps)
        if len(steps) or ended:
            self._callbacks.steps_end(steps, ended)

    def _learning_rate(self) -> float | None:
        rate = self._link.learning_rate()
        if rate is not None:
            self.run.control.can_set_learning_rate = True
        return rate

    def _finish_loop(self, *, whole: bool) -> None:
        """End a run that nothing ended yet."""
        if self.run.control.stop_request:
            reason, status = self.run.control.stop_request
            self._finish(status, reason)
        elif whole:
            self._finish("completed", f"all {self._n_steps:,} steps done")
        else:
            self._finish("stopped", f"the loop was left after step {self._n_steps:,}")

    def _fail(self, error: BaseException) -> None:
        if not self.run.finished:
            self.run.exception = error
            self._finish("failed", f"{type(error).__name__}: {error}")

    def _finish(self, status: RunStatus, reason: str) -> None:
        if self.run.finished:
            return
        self._flush()
        # The batch in which a loop is left early may have none.
        n_batches = self._pending.n_batches
        forgotten = n_batches - self.run.step - (status != "completed")
        if forgotten > 0:
            self.run.notes.append(_FORGOTTEN.format(forgotten, n_batches))
        self.run.finish(status, reason)
        if self.run.exception is not None:
            self._callbacks.emit("on_exception", self.run.exception)
        self._callbacks.emit("on_fit_end")

    def __enter__(self) -> Self:
        self._in_block = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not self._begun:
            return False
        if isinstance(error, KeyboardInterrupt):
            first = not self.run.finished or self.run.status == "interrupted"
            self._finish("interrupted", f"interrupted after step {self._n_steps:,}")
            return first
        if error is not None:
            self._fail(error)
        self._finish_loop(whole=False)
        return False
