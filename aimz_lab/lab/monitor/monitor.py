"""Watch and steer a training loop that is written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.options import check_callable
from aimz_lab.errors import CallError
from aimz_lab.inference.run.endings import tell_interrupt
from aimz_lab.inference.run.events import Callback, check_callbacks
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import run_html, run_line
from aimz_lab.lab.dashboard.dashboard import LiveDashboard
from aimz_lab.lab.monitor.batches import Batches, Source
from aimz_lab.lab.monitor.watched_run import WatchedRun
from aimz_lab.types import OnInterrupt, check_choice

_END = object()


@public
def monitor(
    batches: Source,
    *,
    epochs: int = 1,
    n_obs: int | None = None,
    model: Any = None,
    callbacks: Iterable[Callback] | None = None,
    set_learning_rate: Callable[[float], None] | None = None,
    on_interrupt: OnInterrupt = "stop",
) -> Watch:
    """Watch and steer a hand-written training loop as ``fit`` is watched and steered.

    Iterate the result in place of the batches; it yields the same, epoch after epoch. Pass the loss
    of each batch to :meth:`Watch.step`. A click on Stop ends the loop early.

    Args:
        batches: An ``ArrayLoader``, a PyTorch ``DataLoader``, a list or another iterable of
            batches; or a function that returns an iterable of batches, called once an epoch.
        epochs: Passes over the batches.
        n_obs: Rows of the data set, if the batches do not know it. An ``ImpactModel`` without an
            ``n_obs`` takes it over, so that its minibatches are scaled correctly.
        model: The ``ImpactModel`` that the loop trains, or a name for it.
        callbacks: The callbacks; by default a :class:`~aimz_lab.lab.LiveDashboard`.
        set_learning_rate: Called with a requested rate. Not needed if ``model`` is an
            ``ImpactModel`` whose optimizer keeps its rate in its state.
        on_interrupt: What an interrupt stops besides the loop, which has to be in a ``with`` block;
            as in ``ImpactModel.fit``.

    Returns:
        The batches, to iterate once.

    Raises:
        ArgumentError: If ``epochs`` or ``n_obs`` is no positive int, ``set_learning_rate`` is no
            function, or ``on_interrupt`` is not known.
        CallError: If ``callbacks`` is no list of callbacks.
        DataTypeError: If ``batches`` is no source of batches, or has fewer passes than ``epochs``.

    Example:
        >>> import numpy as np
        >>> watch = monitor([{"x": np.ones(4)}, {"x": np.zeros(4)}], epochs=2, model="demo")
        >>> for batch in watch:
        ...     watch.step(float(batch["x"].sum()))
        >>> watch.run.losses.tolist(), watch.run.status
        ([4.0, 0.0, 4.0, 0.0], 'completed')
    """
    chosen = [LiveDashboard()] if callbacks is None else check_callbacks(callbacks)
    if set_learning_rate is not None:
        check_callable("set_learning_rate", set_learning_rate, "of a rate")
    rows = None if n_obs is None else check_positive_int("n_obs", n_obs)
    epochs = check_positive_int("epochs", epochs)
    source = Batches(batches, epochs, rows)
    watch = Watch(source, epochs, model, chosen, set_learning_rate)
    watch.on_interrupt = check_choice("on_interrupt", on_interrupt, OnInterrupt)
    return watch


@public
class Watch:
    """The batches of a monitored loop; made by :func:`monitor`.

    Iterate it, or :meth:`epochs`, once. A ``with`` block around the loop also reports errors of the
    loop's own code. An interrupt then ends the block without an error, as it ends ``fit``; in a
    notebook the rest of the cell and the queued cells do not run.

    Args:
        batches: The source of batches.
        epochs: Passes over it.
        model: The ``ImpactModel`` that the loop trains, or a name for it.
        callbacks: The callbacks of the run.
        set_learning_rate: Called with a requested rate; or ``None``.

    Attributes:
        on_interrupt: What an interrupt of the block stops besides it.

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
        self._lifecycle = WatchedRun(batches, epochs, model, callbacks, set_learning_rate)
        self.on_interrupt: OnInterrupt = "stop"
        self._begun = False
        self._in_block = False

    @property
    def run(self) -> Run:
        """The record of the run: losses, status, rates."""
        return self._lifecycle.run

    def __repr__(self) -> str:
        return f"<Watch {run_line(self.run)}>"

    def _repr_html_(self) -> str:
        return run_html(self.run)

    def __iter__(self) -> Iterator[Any]:
        for epoch in self.epochs():
            yield from epoch

    def epochs(self) -> Iterator[Iterator[Any]]:
        """Yield the batches of each epoch in turn.

        Raises:
            CallError: If they were iterated before, or no batch of the first epoch had a loss.
            Exception: An error of the batches, or of a callback that is not a display.
        """
        if self._begun:
            msg = "These batches were watched already; call monitor() again for another run."
            raise CallError(msg)
        self._begun = True
        is_complete = False
        try:
            with self._errors_end_the_run():
                self._lifecycle.begin()
                for epoch in range(1, self._epochs + 1):
                    self._lifecycle.callbacks.emit("on_epoch_begin", epoch)
                    yield self._one_epoch(epoch)
                    if self.run.finished or self.run.control.stop_request:
                        break
                    self._lifecycle.end_epoch(epoch)
            is_complete = True
        finally:
            # In a `with` block, its end sees whether the loop was left by an error.
            if is_complete or not self._in_block:
                self._finish(is_complete=is_complete)

    def _one_epoch(self, epoch: int) -> Iterator[Any]:
        with self._errors_end_the_run():
            batches = self._batches.epoch()
            while not self.run.finished and self._lifecycle.handle_requests() is None:
                with self.run.clock.spending("data"):
                    item = next(batches, _END)
                if item is _END:
                    return
                self._lifecycle.hand_out(epoch, item)
                handed_out, others_s = time.monotonic(), self._lifecycle.no_stepping_s
                yield item
                self.run.clock.count()
                body_s = time.monotonic() - handed_out
                self.run.clock.spend("steps", body_s - (self._lifecycle.no_stepping_s - others_s))

    @contextmanager
    def _errors_end_the_run(self) -> Iterator[None]:
        """End the run by errors of the batches and of callbacks; the loop's body is outside."""
        try:
            yield
        except GeneratorExit:  # the loop was left
            raise
        except BaseException as error:
            self._lifecycle.fail(error)
            raise

    def step(self, loss: Any, **metrics: Any) -> None:
        """Record the loss of the present batch, without waiting for it to be computed.

        Args:
            loss: A scalar: negative ELBO in nats, of all rows.
            **metrics: Further scalars of this step to draw, such as ``grad_norm``.

        Raises:
            CallError: If there is no present batch, or its loss was recorded already.
            DataError: If a value is no scalar.
            Exception: An error of a callback that is not a display; the run has then failed.
        """
        is_due = self._lifecycle.take(loss, metrics)
        if is_due:
            with self._errors_end_the_run():
                self._lifecycle.flush_ready()

    log = step

    def _finish(self, *, is_complete: bool) -> None:
        stop = self.run.control.stop_request
        if stop is not None:
            reason, status = stop
            self._lifecycle.finish(status, reason)
        elif is_complete:
            self._lifecycle.finish("completed", f"all {self._lifecycle.n_steps:,} steps done")
        else:
            # Without a block around it, a loop that ends early does not say why.
            how = "" if self._in_block else ", by break, return or an error"
            self._lifecycle.finish("stopped", f"the loop was left {self._lifecycle.where}{how}")

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
        if error is None or isinstance(error, GeneratorExit):
            self._finish(is_complete=False)
            return False
        is_first = not self.run.finished or self.run.status == "interrupted"
        self._lifecycle.fail(error)
        if not is_first or not isinstance(error, KeyboardInterrupt):
            return False
        if self.on_interrupt != "raise":
            tell_interrupt(self.run, self.on_interrupt)
        return self.on_interrupt != "raise"
