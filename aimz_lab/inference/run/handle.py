"""The handle of a run on a background thread: follow it, steer it, wait for it."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import threading
import time
from collections.abc import Callable, Generator
from html import escape
from typing import Generic, NoReturn, Self, TypeVar

import numpy as np
from jaxtyping import Float

from aimz_lab.calls import public
from aimz_lab.data.options import real_number
from aimz_lab.errors import ArgumentError, FitWarning
from aimz_lab.inference.copies import refuse_copy
from aimz_lab.inference.run.control import INTERRUPTED
from aimz_lab.inference.run.endings import tell_interrupt
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import run_html, run_line
from aimz_lab.system.forks import check_can_compute
from aimz_lab.system.notebook_output import LastingOutput, cell_number, leave_out_end
from aimz_lab.tracebacks import warn
from aimz_lab.types import OnInterrupt, RunStatus, shown

Model = TypeVar("Model")

SLICE_S = 0.1
"""Waiting is cut into slices of this length in seconds, so that an interrupt gets through."""


@public
class RunHandle(Generic[Model]):
    """A run on a background thread.

    A notebook can go on while it trains: look at the run, steer it, or wait for it. Awaiting the
    handle waits without blocking the event loop.

    Args:
        model: The model that trains.
        run: Its run, already begun.
        work: Trains to the end and updates the model.
        on_interrupt: What an interrupt of :meth:`wait` stops besides the run.
        is_shown: Whether a display already shows the facts of the run in the cell that makes the
            handle, so that the handle does not repeat them there.

    Example:
        >>> import jax, numpy as np, numpyro, numpyro.distributions as dist
        >>> from numpyro.infer import SVI, Trace_ELBO
        >>> from numpyro.infer.autoguide import AutoNormal
        >>> from aimz_lab import ImpactModel
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("obs", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)
        >>> svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
        >>> X = np.linspace(-1, 1, 40)
        >>> im = ImpactModel(kernel, jax.random.key(0), svi=svi)
        >>> handle = im.fit(X, 2 * X, epochs=50, blocking=False, progress=False)
        >>> handle.wait().status
        'completed'
        >>> handle.result() is im
        True
    """

    def __init__(
        self,
        model: Model,
        run: Run,
        work: Callable[[], None],
        *,
        on_interrupt: OnInterrupt = "stop",
        is_shown: bool = False,
    ) -> None:
        self.run = run
        self._on_interrupt = on_interrupt
        self._model = model
        self._error: BaseException | None = None
        # An interrupt of Thread.join() can leave a live thread marked as ended.
        self._ended = threading.Event()
        self._has_result = False
        self._shown = LastingOutput(
            lambda: {"text/plain": repr(self), "text/html": self._repr_html_()}
        )
        self._beside_display = LastingOutput(
            lambda: {"text/plain": repr(self), "text/html": self._way_on_html}
        )
        self._cell_of_display = cell_number() if is_shown else None
        # The thread's displays belong to the cell that started it.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work, work), name="aimz_lab-fit", daemon=True
        )
        atexit.register(self._leave)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no more threads
            atexit.unregister(self._leave)
            raise

    def __reduce__(self) -> NoReturn:
        refuse_copy(
            "A handle",
            "Take its result() first: the model itself can be pickled and copied.",
        )

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  result() raises it
            self._error = error
        finally:
            atexit.unregister(self._leave)
            # Outputs come first: a cell that waits for the run may be the last one of a program.
            self._has_result = True
            self._shown.end()
            self._beside_display.end()
            self._ended.set()

    def _leave(self) -> None:
        """Stop between two chunks when the program ends: a thread cut off mid-step crashes."""
        self.run.control.stop("the program ended")
        self._thread.join()

    @property
    def done(self) -> bool:
        """Whether the run has ended and the model has its result."""
        return self._ended.is_set()

    @property
    def status(self) -> RunStatus:
        """One of :data:`aimz_lab.types.RunStatus`."""
        return self.run.status

    @property
    def history(self) -> Float[np.ndarray, " step"]:
        """Loss of each step so far in nats; for chains, see :attr:`RunInfo.is_sampling`.

        It is empty while the run prepares.
        """
        return self.run.losses

    def stop(self, reason: str = "asked to stop") -> None:
        """End the run after the current chunk and keep its result.

        This returns at once; :meth:`wait` waits for the end, and so does the next call of the
        model.

        Args:
            reason: A phrase that becomes :attr:`Run.reason`.
        """
        self.run.control.stop(reason)

    def pause(self) -> None:
        """Hold the run after the current chunk."""
        self.run.control.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.run.control.resume()

    def checkpoint(self) -> None:
        """Ask the checkpoint callbacks to write after the current chunk."""
        self.run.control.checkpoint()

    def set_learning_rate(self, rate: float) -> None:
        """Train with ``rate`` from the next chunk on, in this run and in one that resumes it.

        A schedule of the optimizer continues from there: it keeps its shape, scaled to ``rate``.
        The next ``fit`` begins with the optimizer's own rate, unless it is part of the optimizer's
        state, as with :func:`aimz_lab.settable_rate`.

        Args:
            rate: Positive and finite.

        Raises:
            ArgumentError: If the optimizer's rate cannot be set, or ``rate`` is not positive.

        Warns:
            FitWarning: If the run has ended, so that no step is trained at the rate.
        """
        if self.run.finished:
            warn(
                "The run has ended, and no step of it takes another learning rate. Give the rate "
                "to the optimizer of the next fit.",
                FitWarning,
            )
            return
        self.run.control.set_learning_rate(rate)

    def wait(self, timeout: float | None = None) -> Self:
        """Wait until the run has ended.

        An interrupt ends the run as in the foreground: the model keeps the result so far,
        ``status`` is ``"interrupted"``, and the ``on_interrupt`` of the fit says what else is
        stopped. A second interrupt raises.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            The handle.

        Raises:
            TimeoutError: If the run has not ended by then; it goes on.
            ArgumentError: If ``timeout`` is no number of seconds.
            ForkedProcessError: In a forked process, which has no such thread.
            KeyboardInterrupt: At an interrupt, with ``on_interrupt="raise"``; at a second one.
        """
        try:
            self._wait(timeout)
        except KeyboardInterrupt:
            reason, status = INTERRUPTED
            self.run.control.stop(reason, status=status)
            self._wait(None)
            tell_interrupt(self.run, self._on_interrupt)
        return self

    def _wait(self, timeout: float | None) -> None:
        if timeout is not None and not real_number(timeout) >= 0:
            msg = f"timeout={shown(timeout)} is not allowed; use seconds, at least 0, or None."
            raise ArgumentError(msg)
        deadline = None if timeout is None else time.monotonic() + real_number(timeout)
        while not self.done:
            check_can_compute("Waiting for a run")
            left = SLICE_S if deadline is None else min(SLICE_S, deadline - time.monotonic())
            if left <= 0:
                msg = f"The run has not ended within {timeout:g} s; it goes on."
                raise TimeoutError(msg)
            self._ended.wait(left)

    def result(self, timeout: float | None = None) -> Model:
        """Wait for the run, and return the model.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            The model, fitted.

        Raises:
            TimeoutError: If the run has not ended by then; it goes on.
            ArgumentError: If ``timeout`` is no number of seconds.
            BaseException: The error of a failed run.
        """
        self.wait(timeout)
        if self._error is not None:
            raise self._error
        return self._model

    def __await__(self) -> Generator[None, None, Model]:
        return self._awaited().__await__()

    async def _awaited(self) -> Model:
        while not self.done:
            await asyncio.sleep(SLICE_S)
        return self.result()

    def __repr__(self) -> str:
        return f"<RunHandle {run_line(self.run)}; {self._way_on}>"

    def _ipython_display_(self) -> None:
        cell = cell_number()
        if cell is None:
            raise NotImplementedError  # IPython then writes the text, as of any object
        output = self._beside_display if cell == self._cell_of_display else self._shown
        output.show()
        if self._has_result:
            leave_out_end(self._thread)

    def _repr_html_(self) -> str:
        return f"{run_html(self.run)}{self._way_on_html}"

    @property
    def _way_on_html(self) -> str:
        return f"<p>{escape(self._way_on)}</p>"

    @property
    def _way_on(self) -> str:
        """What to do with the handle now."""
        if not self._has_result:
            # True after the end too: a page that is loaded anew during the run keeps it.
            return (
                "handle.result() is the model, once the run has ended; "
                "while it goes on, handle.stop() ends it and keeps the result"
            )
        if self._error is not None:
            why = str(self._error).split("\n", 1)[0]
            return (
                f"it raised {type(self._error).__name__} ({why}); handle.result() raises it again"
            )
        return "handle.result() is the model"
