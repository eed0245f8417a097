"""Keep the best state of a run.

The loss of a step is that of the parameters before its update. So the losses up to a step say
nothing of what its update did to the state after it. By the training loss, that state is therefore
a *candidate* at first. It is judged once some steps have followed it, see
:func:`~aimz_lab.inference.run.smoothing.following_steps`: if their mean is above its loss by more
than the noise of both, it is dropped. At the end of a run, the steps that there are judge it, and
the last state is judged by steps that are computed and not taken. The held-out loss of a state is
its own.
"""

from __future__ import annotations

import threading

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.run.monitor_windows import MonitorWindows, ReadRun, losses_of
from aimz_lab.inference.run.records import HELD_OUT, TRAINING, Best
from aimz_lab.inference.run.smoothing import (
    average_at,
    averaged_steps,
    following_steps,
    window_steps,
)

_SURE = 2.0
"""Standard errors that a mean may be off by its noise."""

_SAFE = 4.0
"""The same of the lowest of many means, which is low by its noise as a rule."""

_LEAST_STEPS = 64
"""Steps whose losses tell of their noise."""

_ROUNDING = 1e-6
"""Share of a loss that may be rounding, where there is no noise."""


def offer_best(run: ReadRun, readings: MonitorWindows, *, is_due: bool) -> None:
    """Keep the run's best state by a monitor in :attr:`Run.best`, and so in checkpoints.

    Call it after each report. One state at a time is a candidate, in :attr:`Run.candidates`.

    Args:
        run: The run.
        readings: The readings of the monitor. The present state has the value of
            :meth:`MonitorWindows.last`; lower is better.
        is_due: Whether the present state is to be judged.
    """
    name = readings.name
    found = None if readings.is_held_out else take_candidate(run, name, readings.window)
    if found is not None:
        run.best[name] = found
    if not is_due or name in run.candidates:
        return
    present = _present(run, readings)
    if present is not None:
        (run.best if readings.is_held_out else run.candidates)[name] = present


def offer_last(run: ReadRun, readings: MonitorWindows) -> Best | None:
    """Return the best state at the end of a run, which may be the last one.

    A state that fewer steps have judged goes to :attr:`Run.end_best`, as checkpoints do not keep
    it: a run that goes on judges it anew.

    Args:
        run: The run, which takes no more steps.
        readings: The readings of the monitor.
    """
    name = readings.name
    if not readings.is_held_out and run.losses_after is not None:
        last = _present(run, readings) if run.step >= readings.window else None
        states = [one for one in (last, run.candidates.get(name)) if one is not None]
        for state in sorted(states, key=lambda state: state.value):
            if _is_borne_out_at_end(run, state, readings.window):
                run.end_best[name] = state
                break
    return run.end_best.get(name) or run.best.get(name)


def _present(run: ReadRun, readings: MonitorWindows) -> Best | None:
    """The present state, if it is better than the best one but for what its own loss says."""
    present = Best(readings.last(run), run.step, run.state, readings.name)
    best = run.best.get(readings.name)
    is_better = np.isfinite(present.value) and (best is None or present.value < best.value)
    return present if is_better else None


def take_candidate(run: ReadRun, name: str, averaged: int) -> Best | None:
    """Judge the candidate of a training loss, if enough steps have followed it.

    Args:
        run: The run; it no longer has the candidate then.
        name: Name of the monitor.
        averaged: Steps of the mean that is the candidate's value.

    Returns:
        The candidate, if the mean of the steps after it is not above its value by more than noise.
    """
    candidate = run.candidates.get(name)
    following = following_steps(run.info.steps_per_epoch)
    if candidate is None or run.step < candidate.step + following:
        return None
    del run.candidates[name]
    after = run.losses[candidate.step : candidate.step + following]
    return candidate if is_borne_out(run, candidate, averaged, after) else None


def is_borne_out(
    run: ReadRun, state: Best, averaged: int, after: Float[np.ndarray, " step"]
) -> bool:
    """Whether the mean loss of steps after a state is not above its value by more than noise.

    Args:
        run: The run.
        state: The state.
        averaged: Steps of the mean that is its value.
        after: Losses of the steps after it in nats; without a finite one it is not borne out.
    """
    after = after[np.isfinite(after)].astype(np.float64) / (run.info.n_obs or 1)
    if not len(after):
        return False
    error = _deviation(run, state.step, averaged) * (1 / averaged + 1 / len(after)) ** 0.5
    allowed = _SURE * error + _ROUNDING * abs(state.value)
    return bool(after.mean() <= state.value + allowed)


def _is_borne_out_at_end(run: ReadRun, state: Best, averaged: int) -> bool:
    """The same by the steps that there are: of the last state those that are not taken."""
    after = run.losses[state.step :] if state.step < run.step else run.losses_after
    return is_borne_out(run, state, averaged, after)


def _deviation(run: ReadRun, step: int, averaged: int) -> float:
    """Return the standard deviation of the loss of a step, from neighbours: trends cancel."""
    losses = losses_of(run, max(step - max(averaged, _LEAST_STEPS), 0), step)
    apart = np.diff(losses[np.isfinite(losses)])
    return float(np.sqrt(np.mean(apart**2) / 2)) if len(apart) else 0.0


class BestSoFar:
    """The best state of a run so far: of the lowest held-out loss, or else the lowest loss.

    Its value is the loss of the run at its step, as it was shown there: see
    :func:`~aimz_lab.inference.run.smoothing.averaged_steps`. States are compared by this loss and
    four standard errors more: so a mean over few steps, at the beginning of a run, is not the best
    by its noise. Whenever steps are recorded and there is no candidate, the state after the last
    one becomes it, if it may be the best; the first once a window of steps is done.
    Its memory is that of two more states.
    """

    def __init__(self) -> None:
        self._best: Best | None = None
        self._bound = np.inf
        self._judged = 0
        self._has_held_out = False
        self._lock = threading.Lock()  # displays may ask from other threads

    def take_over(self, best: Best | None, run: ReadRun) -> None:
        """Begin with the best state of an earlier process, whose history the run has.

        Args:
            best: That state; ``None`` if there is none.
            run: The run. If it has held-out losses, a state that was judged by another loss is left
                out, and the other way round.
        """
        self._begin(run)
        if best is not None and best.is_held_out == self._has_held_out:
            self._keep(best, self._bound_of(run, best))
        self._judged = len(run.validation) if self._has_held_out else run.step

    def look(self, run: ReadRun) -> Best | None:
        """Judge the states that are new, and keep the best one.

        Returns:
            The best state so far, or ``None``.
        """
        if run.info.is_sampling:
            return None
        with self._lock:
            if self._by_held_out(run) != self._has_held_out:
                self._begin(run)
            done = len(run.validation) if self._has_held_out else run.step
            if done > self._judged:
                first, self._judged = self._judged, done
                if self._has_held_out:
                    self._offer_held_out(run, first)
                else:
                    self._offer_training(run, first)
            return self._best

    def _begin(self, run: ReadRun) -> None:
        self._has_held_out = self._by_held_out(run)
        self._best, self._bound, self._judged = None, np.inf, 0
        if self._has_held_out:
            run.candidates.pop(TRAINING, None)

    @staticmethod
    def _by_held_out(run: ReadRun) -> bool:
        return run.info.validation_every is not None or bool(run.validation)

    def _offer_held_out(self, run: ReadRun, first: int) -> None:
        """Offer the lowest of the held-out losses that are new: usually there is one."""
        values = run.validation.losses[first:]
        finite = np.where(np.isfinite(values), values, np.inf)
        at = len(values) - 1 - int(finite[::-1].argmin())
        state = run.state if at == len(values) - 1 else None
        best = Best(float(values[at]), int(run.validation.steps[first + at]), state, HELD_OUT)
        self._keep(best, best.value)

    def _offer_training(self, run: ReadRun, seen: int) -> None:
        """Judge the candidate, if it is time, and make the present state the next one.

        Args:
            run: The run.
            seen: Steps at the last call. Neighbouring states are much alike: one is looked at in
                as many steps as judge it.
        """
        per_epoch = run.info.steps_per_epoch
        following = following_steps(per_epoch)
        if run.step // following == seen // following:
            return
        if (waiting := run.candidates.get(TRAINING)) is not None:
            found = take_candidate(run, TRAINING, int(averaged_steps(waiting.step, per_epoch)))
            if found is not None:
                self._keep(found, self._bound_of(run, found))
        if TRAINING not in run.candidates and (present := self._present(run)) is not None:
            run.candidates[TRAINING] = present

    def _present(self, run: ReadRun) -> Best | None:
        """The present state, if it is better than the best one but for what its own loss says."""
        per_epoch = run.info.steps_per_epoch
        if run.step < window_steps(per_epoch):
            return None
        total = average_at(run.losses, run.step, per_epoch)
        if total is None:
            return None
        present = Best(total / (run.info.n_obs or 1), run.step, run.state, TRAINING)
        # The first comparison costs less, and is enough at a plateau.
        is_better = present.value < self._bound and self._bound_of(run, present) < self._bound
        return present if is_better else None

    def at_end(self, run: ReadRun) -> Best | None:
        """Return the last state of a run that takes no more steps, or its candidate.

        Args:
            run: The run, with the losses of steps after it.

        Returns:
            ``None`` if neither is the best one.
        """
        with self._lock:
            last = None if self._has_held_out else self._present(run)
            states = [one for one in (last, run.candidates.get(TRAINING)) if one is not None]
            for state in sorted(states, key=lambda state: self._bound_of(run, state)):
                averaged = int(averaged_steps(state.step, run.info.steps_per_epoch))
                if _is_borne_out_at_end(run, state, averaged):
                    return state
            return None

    @staticmethod
    def _bound_of(run: ReadRun, best: Best) -> float:
        """Return what states are compared by."""
        if best.is_held_out:
            return best.value
        averaged = int(averaged_steps(best.step, run.info.steps_per_epoch))
        return best.value + _SAFE * _deviation(run, best.step, averaged) / averaged**0.5

    def _keep(self, found: Best, bound: float) -> None:
        if np.isfinite(bound) and bound < self._bound:
            self._best, self._bound = found, bound
