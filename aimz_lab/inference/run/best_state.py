"""Keep the best state of a run.

The loss of a step is that of the parameters before its update. So the losses up to a step say
nothing of what its update did to the state after it, and two rules make a state the best one by the
training loss:

1. *It is lower than the best one.* Its value is the mean loss of the steps up to it. States are
   compared by their values and four standard errors more, as the lowest of many means is low by
   its noise, above all a mean over few steps at the beginning of a run. (A callback's values are
   means over windows of one length, and are compared as they are.) It is then a *candidate*.
2. *The next steps confirm it.* Their mean loss is at most its value and two standard errors of the
   difference. There are 16 to 64 of them, see
   :func:`~aimz_lab.inference.run.smoothing.following_steps`. Otherwise the candidate is dropped.

One candidate waits at a time, so that a run keeps two more states in memory. At the end of a run,
the steps that there are judge it; and the last state is judged by up to 16 steps that are computed
and not taken. A last state whose value is not above the best one's is the best, without the four
standard errors: where noise leaves open which is lower, the model ends as it was trained. Where the
loss had been lower by more than noise, and no state of then was kept, there is no best one.

A held-out loss is that of the state itself, and the lowest one is the best.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.run.monitor_windows import MonitorWindows, losses_of
from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.inference.run.records import HELD_OUT, TRAINING, Best
from aimz_lab.inference.run.smoothing import (
    average_at,
    averaged_steps,
    following_steps,
    window_steps,
)

_TO_CONFIRM = 2.0
"""Standard errors by which the steps after a state may be above its value."""

_TO_COMPARE = 4.0
"""Standard errors that are added to values that are compared; more, as the lowest one is taken."""

_LEAST_STEPS = 64
"""Steps whose losses tell of their noise."""

_ROUNDING = 1e-6
"""Share of a loss that may be rounding, where there is no noise."""


def _confirmed_candidate(run: ReadRun, name: str, averaged: int) -> Best | None:
    """Take a candidate off the run, once enough steps have followed it, and judge it by them.

    Args:
        run: The run.
        name: Name of the monitor.
        averaged: Steps of the mean that is the candidate's value.

    Returns:
        The candidate, if they confirm it.
    """
    candidate = run.candidates.get(name)
    following = following_steps(run.info.steps_per_epoch)
    if candidate is None or run.step < candidate.step + following:
        return None
    del run.candidates[name]
    after = run.losses[candidate.step : candidate.step + following]
    return candidate if _is_confirmed(run, candidate, averaged, after) else None


def _is_confirmed_at_end(run: ReadRun, state: Best, averaged: int) -> bool:
    """Whether the steps that there are confirm a state; the last one, those that are not taken."""
    after = run.losses[state.step :] if state.step < run.step else run.losses_after
    return _is_confirmed(run, state, averaged, after)


def was_lower(run: ReadRun, value: float, step: int, averaged: int) -> bool:
    """Whether the loss had been lower, by more than noise: not every state of a run is kept.

    Args:
        run: The run.
        value: A mean of its losses, in nats per row.
        step: The last step of it.
        averaged: Its number of steps.
    """
    before = losses_of(run, 0, step - averaged)
    blocks = before[: len(before) // averaged * averaged].reshape(-1, averaged)
    blocks = blocks[np.isfinite(blocks).all(axis=1)]
    squares = (np.diff(blocks, axis=1) ** 2).sum(axis=1) / max(averaged - 1, 1)
    errors = np.sqrt(squares / 2 / averaged)
    return bool((blocks.mean(axis=1) + _TO_COMPARE * errors < value).any())


def _is_confirmed(
    run: ReadRun, state: Best, averaged: int, after: Float[np.ndarray, " step"]
) -> bool:
    """Whether the mean loss of the steps after a state is not above its value by more than noise.

    Args:
        run: The run.
        state: The state.
        averaged: Steps of the mean that is its value.
        after: Losses of the steps after it in nats; without a finite one it is not confirmed.
    """
    after = after[np.isfinite(after)].astype(np.float64) / (run.info.n_obs or 1)
    if not len(after):
        return False
    error = _deviation(run, state.step, averaged) * (1 / averaged + 1 / len(after)) ** 0.5
    allowed = _TO_CONFIRM * error + _ROUNDING * abs(state.value)
    return bool(after.mean() <= state.value + allowed)


def _deviation(run: ReadRun, step: int, averaged: int) -> float:
    """Return the standard deviation of the loss of a step, from neighbours: trends cancel."""
    return _noise(losses_of(run, max(step - max(averaged, _LEAST_STEPS), 0), step))


def _noise(losses: Float[np.ndarray, " step"]) -> float:
    apart = np.diff(losses[np.isfinite(losses)])
    return float(np.sqrt(np.mean(apart**2) / 2)) if len(apart) else 0.0


class BestSoFar:
    """The best state of a run so far: of the lowest held-out loss, or else the lowest loss.

    Its value is the loss of the run at its step, as it was shown there: see
    :func:`~aimz_lab.inference.run.smoothing.averaged_steps`. The first candidate comes once a
    window of steps is done.
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
        """Judge the candidate, if it is time, and make the present state the next, if it is lower.

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
            found = _confirmed_candidate(run, TRAINING, _averaged(run, waiting))
            if found is not None:
                self._keep(found, self._bound_of(run, found))
        present = None if TRAINING in run.candidates else self._present(run)
        if present is not None and self._is_lower(run, present):
            run.candidates[TRAINING] = present

    def _present(self, run: ReadRun) -> Best | None:
        """The present state with its value; ``None`` before there is a window of steps."""
        per_epoch = run.info.steps_per_epoch
        if run.step < window_steps(per_epoch):
            return None
        total = average_at(run.losses, run.step, per_epoch)
        if total is None:
            return None
        return Best(total / (run.info.n_obs or 1), run.step, run.state, TRAINING)

    def _is_lower(self, run: ReadRun, present: Best) -> bool:
        # The first comparison costs less, and is enough at a plateau.
        return present.value < self._bound and self._bound_of(run, present) < self._bound

    def _is_level(self, last: Best) -> bool:
        return self._best is not None and last.value <= self._best.value

    def at_end(self, run: ReadRun) -> Best | None:
        """Return the last state of a run that takes no more steps, or its candidate.

        Args:
            run: The run, with the losses of steps after it.

        Returns:
            ``None`` if neither is the best one.
        """
        with self._lock:
            last = None if self._has_held_out else self._present(run)
            if last is not None and not (self._is_level(last) or self._is_lower(run, last)):
                last = None
            states = [one for one in (last, run.candidates.get(TRAINING)) if one is not None]
            states.sort(key=lambda state: state.value)
            for one in states:
                averaged = _averaged(run, one)
                has_better = self._best is None and was_lower(run, one.value, one.step, averaged)
                if not has_better and _is_confirmed_at_end(run, one, averaged):
                    return self._after_lower(one)
            return None

    @staticmethod
    def _bound_of(run: ReadRun, best: Best) -> float:
        """Return what states are compared by."""
        if best.is_held_out:
            return best.value
        averaged = _averaged(run, best)
        return best.value + _TO_COMPARE * _deviation(run, best.step, averaged) / averaged**0.5

    def _keep(self, found: Best, bound: float) -> None:
        if np.isfinite(bound) and bound < self._bound:
            self._best, self._bound = self._after_lower(found), bound

    def _after_lower(self, found: Best) -> Best:
        """Return a new best state with the lower value that an earlier one had, if one had."""
        kept = (self._best, self._best.lower) if self._best is not None else ()
        lower = [one for one in kept if one is not None and one.value < found.value]
        if not lower:
            return found
        lowest = min(lower, key=lambda one: one.value)
        return replace(found, lower=replace(lowest, state=None, lower=None))


def _averaged(run: ReadRun, state: Best) -> int:
    """Return the steps of the mean that is the value of a state of :class:`BestSoFar`."""
    return int(averaged_steps(state.step, run.info.steps_per_epoch))


def not_kept(run: ReadRun, best: Best | None) -> str:
    """Say why a lower loss than that of the best state is none, or why there is no best one.

    Args:
        run: A run that has ended, without held-out losses.
        best: Its best state by the training loss; ``None`` if there is none.

    Returns:
        A clause; empty if there is nothing to say, as of a run that is too short for a best state.
    """
    per_epoch = run.info.steps_per_epoch
    if best is None and run.step < window_steps(per_epoch):
        return ""
    step = run.step if best is None else best.step
    averaged = int(averaged_steps(step, per_epoch))
    value = float(losses_of(run, step - averaged, step).mean()) if best is None else best.value
    if not np.isfinite(value) or not was_lower(run, value, step, averaged):
        return "" if best else "none that later steps confirm"
    lower = "the loss was lower before"
    if not run.info.is_by_hand:
        more = f"steps_per_call={following_steps(per_epoch)} keeps more states"
        lower += f", and no state of then was kept ({more})"
    return lower if best else f"none, as {lower}"


def offer_best(run: ReadRun, readings: MonitorWindows, *, is_due: bool) -> None:
    """Keep the run's best state by a callback's monitor in :attr:`Run.best`, and so in checkpoints.

    Call it after each report.

    Args:
        run: The run; the candidate is in :attr:`Run.candidates`.
        readings: The readings of the monitor. The present state has the value of
            :meth:`MonitorWindows.last`; lower is better.
        is_due: Whether the present state is to be looked at.
    """
    name = readings.name
    found = None if readings.is_held_out else _confirmed_candidate(run, name, readings.window)
    if found is not None:
        run.best[name] = found
    if not is_due or name in run.candidates:
        return
    present = _present(run, readings)
    if present is not None:
        (run.best if readings.is_held_out else run.candidates)[name] = present


def offer_last(run: ReadRun, readings: MonitorWindows) -> Best | None:
    """Return the best state by a callback's monitor at the end of a run, which may be the last one.

    A state that fewer steps have judged goes to :attr:`Run.end_best`, as checkpoints do not keep
    it: a run that goes on judges it anew.

    Args:
        run: The run, which takes no more steps.
        readings: The readings of the monitor.
    """
    name, window = readings.name, readings.window
    if not readings.is_held_out and run.losses_after is not None:
        last = _present(run, readings) if run.step >= window else None
        states = [one for one in (last, run.candidates.get(name)) if one is not None]
        states.sort(key=lambda state: state.value)
        for one in states:
            has_better = name not in run.best and was_lower(run, one.value, one.step, window)
            if not has_better and _is_confirmed_at_end(run, one, window):
                run.end_best[name] = one
                break
    return run.end_best.get(name) or run.best.get(name)


def _present(run: ReadRun, readings: MonitorWindows) -> Best | None:
    """The present state, if it is lower than the best one."""
    present = Best(readings.last(run), run.step, run.state, readings.name)
    best = run.best.get(readings.name)
    is_lower = np.isfinite(present.value) and (best is None or present.value < best.value)
    return present if is_lower else None
