"""What a model knows at one moment, also while a fit goes on in the background."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aimz_lab.errors import FitWarning, NotFittedError
from aimz_lab.inference.posterior import DRAWS_OF_GUIDE
from aimz_lab.inference.request import StartedFit
from aimz_lab.inference.trained import Fitted, Trained
from aimz_lab.progress import progress_line
from aimz_lab.tracebacks import warn

if TYPE_CHECKING:
    from aimz_lab.inference.run.run import Run
    from aimz_lab.tables.encoder import TableEncoder
    from aimz_lab.tables.model_table import ModelTable


@dataclass(frozen=True)
class Moment:
    """What a prediction reads of a model; all of it belongs to one state.

    Attributes:
        trained: What the model has learned.
        table: How it reads tables, or ``None``.
        attrs: Attributes of results, which say that a fit goes on.
        way_to_draws: What to do for a posterior, where there is none; see :func:`way_to_draws`.
        is_of_before: Whether a fit goes on whose draws are not there yet.
    """

    trained: Trained
    table: ModelTable | None = None
    attrs: Mapping[str, object] = field(default_factory=dict)
    way_to_draws: str = ""
    is_of_before: bool = False
    _said: list[str] = field(default_factory=list, repr=False, compare=False)

    @property
    def line(self) -> str | None:
        """A line that says so, or ``None``."""
        if self.is_of_before and self.trained.fitted is not None:
            return (
                "From the posterior of before the fit that goes on; wait() of its handle waits "
                "for its own."
            )
        if not self.attrs:
            return None
        return f"From the guide after step {self.attrs['fit_step']:,}; the fit goes on."

    def say(self) -> None:
        """Say on a line that a fit goes on, once for all calls that read this moment."""
        if self.line is not None and not self._said:
            self._said.append(self.line)
            progress_line().close(self.line)

    def fitted(
        self, method: str, running: RunningFit | None, *, even_wrecked: bool = False
    ) -> Fitted:
        """Return the posterior, with what belongs to it.

        Numbers from a wrecked state, or from one of before more training, look like any others. So
        they are refused, until the user says that they are wanted, by setting the draws.

        Args:
            method: Name of the call, for the message.
            running: The fit that goes on in the background, or ``None``.
            even_wrecked: Return draws that are not to be used, too.

        Raises:
            NotFittedError: If there is none, or it is not to be used.

        Warns:
            FitWarning: If the user has set the draws and trained the model since.
        """
        fitted = self.trained.fitted
        if fitted is not None and not fitted.is_outdated and (even_wrecked or not fitted.why_not):
            if fitted.steps_since:
                warn(draws_of_before(fitted), FitWarning)
            return fitted
        msg = f"{method} needs a posterior; {self.way_to_draws}"
        if running is not None and not self.attrs:
            msg = f"{method} needs a posterior; {running.why_not_yet}"
        elif fitted is not None and fitted.is_outdated:
            msg = f"{method} needs a posterior of the present state. {draws_of_before(fitted)}"
        elif fitted is not None:
            msg = f"{method} needs a posterior, and {why_not_used(fitted.why_not)}"
        elif self.trained.is_wrecked:
            why_not = why_not_used(self.trained.ending, has_draws=False)
            msg = f"{method} needs a posterior, and {why_not}"
        raise NotFittedError(msg)


def way_to_draws(run: Run | None, *, are_chains: bool, has_guide: bool) -> str:
    """Write what to do for a posterior, and why the last chains of the model left none.

    Args:
        run: The last run of the model, or ``None``.
        are_chains: Whether the model does MCMC.
        has_guide: Whether its guide is trained, as by a hand-written loop, also before a save.
    """
    if has_guide:
        return f"{DRAWS_OF_GUIDE} draws one from the trained guide."
    if not are_chains:
        return "call fit, fit_on_batch or set_posterior_sample first."
    chains = None if run is None else run.chains
    if chains is None or chains.draws or run.status not in ("stopped", "interrupted"):
        return "call fit_on_batch or set_posterior_sample first."
    return (
        f"its chains were {run.status} in their warm-up, after {chains.iterations:,} of "
        f"{chains.plan.warmup:,} iterations. Call fit_on_batch again; a stop after the warm-up "
        "keeps the draws so far."
    )


def draws_of_before(fitted: Fitted) -> str:
    """Write that draws are of a state before the present one, and how to draw from that.

    Args:
        fitted: The draws.
    """
    made = "were set" if fitted.is_given else "are of"
    return (
        f"The model's draws {made} before {fitted.since}; {DRAWS_OF_GUIDE} draws from the guide "
        "as it is now."
    )


def why_not_used(ending: str, *, has_draws: bool = True) -> str:
    """Write why the draws of a model are not to be used, and what to do.

    Args:
        ending: How its training ended.
        has_draws: Whether there are such draws.
    """
    msg = f"the training {ending}. Train a model with a lower learning rate or scaled inputs"
    if not has_draws:
        return f"{msg}."
    return (
        f"{msg}; the next fit begins anew. To look at these draws: im.posterior; "
        "im.set_posterior_sample(im.posterior) uses them all the same."
    )


@dataclass(frozen=True)
class RunningFit:
    """A fit on a thread of its own.

    Attributes:
        fit: The fit.
        encoder: What was learned from its table, if it has one.
        thread: Identity of its thread.
    """

    fit: StartedFit
    encoder: TableEncoder | None = None
    thread: int = field(default_factory=threading.get_ident)

    def moment(self, trained: Trained, table: ModelTable | None) -> Moment | None:
        """Return the present state of the training; ``None`` if it has no draws yet.

        Callbacks, which are called on the thread of the fit, predict with the posterior of before.

        Args:
            trained: What the model had learned before.
            table: How it read tables before.
        """
        found = self.fit.now() if self.has_draws else None
        if found is None:
            return None
        result, step = found
        if table is not None and self.encoder is not None:
            table = table.learned(self.encoder)
        attrs = {"fit_status": "running", "fit_step": step}
        return Moment(trained.after(result), table, attrs)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the thread that asks is not that of the fit."""
        return threading.get_ident() != self.thread

    @property
    def has_draws(self) -> bool:
        """Whether there are draws of its present state, for the thread that asks."""
        return self.is_elsewhere and self.fit.has_reported

    @property
    def why_not_yet(self) -> str:
        """Why there are no draws of the training yet, and what to do."""
        if self.fit.run.info.is_sampling:
            return (
                "chains have one at their end. Wait for it, by wait() of the fit's handle, or "
                "stop() them: the draws so far are then the posterior."
            )
        return "the fit in the background has not reported its first steps yet. Try again soon."


_HELD: ContextVar[tuple[object, Moment] | None] = ContextVar("held moment", default=None)


@contextlib.contextmanager
def one_moment(model: object, moment: Moment) -> Iterator[None]:
    """Let all predictions of a model inside the block start from one moment.

    Args:
        model: The model.
        moment: What they read.
    """
    token = _HELD.set((model, moment))
    try:
        yield
    finally:
        _HELD.reset(token)


def held_moment(model: object) -> Moment | None:
    """Return the moment that :func:`one_moment` holds for a model, or ``None``."""
    held = _HELD.get()
    return held[1] if held is not None and held[0] is model else None
