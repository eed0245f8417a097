"""A run in a person's words: its status, how far it came, its time, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from aimz_lab.data.html import html_table
from aimz_lab.inference.run.chain_words import chain_facts, chain_parts, draws
from aimz_lab.inference.run.loss_words import (
    best_words,
    loss_words,
    shown_best,
    trend_words,
    with_total,
)
from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.inference.run.records import RateChange
from aimz_lab.inference.run.smoothing import FEW_STEPS
from aimz_lab.inference.run.spent_rate import spent_note
from aimz_lab.number_text import SEEN_S, count, duration, number
from aimz_lab.types import RunStatus

STATUS_WORDS: dict[RunStatus, str] = {
    "pending": "about to begin",
    "running": "running",
    "paused": "paused",
    "completed": "completed",
    "stopped": "stopped",
    "early_stopped": "stopped early",
    "interrupted": "interrupted",
    "diverged": "diverged",
    "failed": "failed",
}


def position(run: ReadRun) -> str:
    """Write how far a run has come: its steps, or its draws.

    Example:
        >>> position(im.fit(X, y, epochs=5, progress=False).last_run)
        'step 5 of 5'
    """
    if run.chains is not None:
        return draws(run)
    total = run.planned_steps
    return f"step {count(run.step)}" + (f" of {count(total)}" if total else "")


def status_words(run: ReadRun) -> str:
    """Write the status of a run; one whose first step has not begun is being prepared."""
    if run.status == "running" and run.is_preparing:
        return "preparing"
    return STATUS_WORDS[run.status]


def awaited(run: ReadRun) -> str:
    """Write what a run has been asked for and has not done yet; empty if that is nothing.

    Args:
        run: The run, which gets to a request between two chunks of steps.
    """
    if run.finished:
        return ""
    asked, control = [], run.control
    if control.stop_request:
        asked.append("stopping")
    elif control.paused and run.status != "paused":
        asked.append("pausing")
    if not control.stop_request and (rate := control.requested_learning_rate) is not None:
        asked.append(f"setting the learning rate to {number(rate, 3)}")
    if run.status == "paused" and not control.stop_request:
        when = "once it goes on"
    else:
        is_compiling = run.activity or run.is_preparing
        when = "once the steps are compiled" if is_compiling else "after the steps under way"
    words = f"{' and '.join(asked)} {when}" if asked else ""
    return ", ".join(filter(None, (run.activity, words)))


def skipped_last(run: ReadRun) -> int:
    """Return how many of the last steps of a run were skipped in a row."""
    if not run.skipped:
        return 0
    taken = np.isfinite(run.losses)
    return int(taken[::-1].argmax()) if taken.any() else run.step


def skipped(run: ReadRun) -> str:
    """Write how many steps of a run were skipped; empty if none were."""
    return f"{count(run.skipped)} of {count(run.step)} steps" if run.skipped else ""


def skipped_words(run: ReadRun) -> str:
    """Write the same as a clause, with the reason."""
    if not run.skipped:
        return ""
    last = skipped_last(run)
    row = f", the last {count(last)} in a row" if last >= FEW_STEPS else ""
    return f"{skipped(run)} were skipped{row}, as their loss or parameters were not finite"


def rate_words(run: ReadRun) -> str:
    """Write the learning rates of a run whose rate was changed on request; empty if it was not.

    Args:
        run: The run.
    """
    changes = [change for change in run.rate_changes if change.step]
    if not changes:
        started = run.rate_changes[-1:]
        return "".join(f"{number(one.after)} from the start{_instead(one)}" for one in started)
    last = changes[-1]
    first = changes[0].before if run.first_learning_rate is None else run.first_learning_rate
    set_before = changes[-2].after if len(changes) > 1 else first
    lead = "" if first is None else f"{number(first)} at first, "
    if last.before is not None and last.before != set_before:  # a schedule went on from there
        lead += f"{number(last.before)} before and "
    more = f", the last of {count(len(changes))} changes" if len(changes) > 1 else ""
    return f"{lead}{number(last.after)} after step {count(last.step)}{more}"


def _instead(change: RateChange) -> str:
    return "" if change.before is None else f", in place of {number(change.before)}"


def how_diverged(run: ReadRun) -> str:
    """Write the beginning of a sentence on a run that diverged; its reason follows.

    A run that skips steps does all of them, and diverges all the same.

    Args:
        run: The run.
    """
    did_all = run.skipped > 0 and run.step == run.planned_steps
    return "did all its steps, but" if did_all else "ended early:"


def ended_words(run: ReadRun) -> str:
    """Write how a run ended, and why.

    Args:
        run: The run, which has ended.
    """
    status = STATUS_WORDS[run.status]
    if run.reason.startswith(f"{status} "):  # "interrupted after step 7"
        return run.reason
    return ": ".join(filter(None, (status, run.reason)))


def time_now() -> str:
    """Write date and local time: a notebook that is saved may be opened on another day."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def status_then(run: ReadRun) -> str:
    """Write the status of a run for a text that does not move with it.

    Such a text is read when the run may have ended, or is gone with its kernel.

    Args:
        run: The run; of one that goes on, it says what it was, and when.
    """
    words = status_words(run)
    return words if run.finished else f"was {words} at {time_now()}"


def time_words(run: ReadRun) -> str:
    """Write the time that a run trained or sampled, and apart from it that of what was none.

    Example:
        >>> time_words(im.fit(X, y, epochs=5, progress=False).last_run)
        '... s'
    """
    rest = no_training(run.prepared_s, run.compiling_s, run.waited_s, run.paused_s)
    return duration(run.trained_s) + (f", and {rest}" if rest else "")


def no_training(prepared_s: float, compiling_s: float, waited_s: float, paused_s: float) -> str:
    """Write the time of a run that was no training; what is too short to see is left out.

    Args:
        prepared_s: Seconds before the first step.
        compiling_s: Seconds of its own tracing and compiling since then.
        waited_s: Seconds of waiting for other calls since then.
        paused_s: Seconds of pauses.

    Example:
        >>> no_training(0.0, 0.0, 0.0, 11.2), no_training(3.0, 1.5, 0.0, 0.0)
        ('11 s paused', '3.0 s to prepare, 1.5 s tracing and compiling')
        >>> no_training(0.0, 0.0, 6.3, 0.0), no_training(0.0, 0.0, 0.0, 0.0)
        ('6.3 s waiting for other runs', '')
    """
    all_of_it = [
        (prepared_s, "to prepare"),
        (compiling_s, "tracing and compiling"),
        (waited_s, "waiting for other runs"),
        (paused_s, "paused"),
    ]
    seen = [(seconds, what) for seconds, what in all_of_it if seconds >= SEEN_S]
    return ", ".join(f"{duration(seconds)} {what}" for seconds, what in seen)


def run_line(run: ReadRun) -> str:
    """Describe a run in a line: its name, status, position, loss and time."""
    parts = [*filter(None, (status_then(run), awaited(run))), position(run)]
    if words := loss_words(run):
        parts.append(f"loss {words}")
        if (best := shown_best(run)) is not None and best.is_lower:
            parts.append(f"{best.name} {number(best.value)} at step {count(best.step)}")
    if run.skipped:
        parts.append(f"{count(run.skipped)} steps skipped")
    if run.chains is not None:
        parts += chain_parts(run)
    if run.status != "pending":
        parts.append(f"{'in' if run.finished else 'for'} {time_words(run)}")
    return f"{run.info.model} ({method_words(run.info.method)}): {', '.join(parts)}"


def run_facts(run: ReadRun) -> list[tuple[str, str]]:
    """Return the facts of a run that a person wants to know first, by name."""
    if run.finished:
        found = [("status", ended_words(run))]
    else:
        found = [("status", ", ".join(filter(None, (status_then(run), awaited(run)))))]
    if words := with_total(run):
        found.append(("loss", words))
    if words := best_words(run):
        found.append(("best", words))
    if words := trend_words(run):
        found.append(("trend", words))
    if run.validation:
        found.append(("held-out loss", f"{number(run.validation[-1][1])} per row"))
    if run.info.is_sampling:
        found += chain_facts(run).items()
    else:
        found.append(("steps", steps_words(run)))
        found += [("skipped", skipped(run))] if run.skipped else []
        found += [("learning rate", words)] if (words := rate_words(run)) else []
    found.append(("time", time_words(run)))
    found += [("note", note) for note in notes(run, most=3)]
    return found


def notes(run: ReadRun, most: int) -> list[str]:
    """Return the latest notes of a run, and that its learning rate has come to 0.

    Args:
        run: The run.
        most: How many of its own there may be.
    """
    return [*run.notes[-most:], *filter(None, [spent_note(run)])]


def steps_words(run: ReadRun) -> str:
    """Write the steps of a run, and their epochs; steps on all rows have none to speak of.

    Example:
        >>> steps_words(im.fit(X, y, epochs=5, progress=False).last_run)
        '5 in 5 epochs'
        >>> steps_words(im.fit_on_batch(X, y, num_steps=30, progress=False).last_run)
        '30 on all rows'
    """
    if run.info.has_all_rows_each_step:
        return f"{count(run.step)} on all rows"
    return f"{count(run.step)} in {count(run.epoch)} {'epoch' if run.epoch == 1 else 'epochs'}"


def run_html(run: ReadRun) -> str:
    """Describe a run in a small table of facts."""
    return html_table(heading(run), (), run_facts(run))


def heading(run: ReadRun) -> str:
    """Name a run: its kernel, its number if it was shown, and its method."""
    return " · ".join(filter(None, (run_name(run), method_words(run.info.method))))


def run_name(run: ReadRun) -> str:
    """Name a run by its kernel, and by its number if it was shown."""
    return run.info.model if run.number is None else f"{run.info.model} · run {run.number}"


def of_outcomes(runs: Sequence[ReadRun]) -> list[str]:
    """Return for each run what its losses are densities of, if that is not one for all.

    Returns:
        Phrases that end the name of a run, such as ``", of log(y)"``; else empty ones.
    """
    if len({run.info.outcome for run in runs}) < 2:
        return [""] * len(runs)
    return [f", of {outcome_of(run) or 'the outcome as it is'}" for run in runs]


def outcome_of(run: ReadRun) -> str:
    """Name what the losses of a run are densities of, where it is known; else empty."""
    return run.info.outcome or run.outcome_column


def method_words(method: str) -> str:
    """Write a method and its guide or sampler.

    Example:
        >>> method_words("SVI/AutoNormal"), method_words("MCMC/NUTS")
        ('SVI with AutoNormal', 'MCMC with NUTS')
    """
    return method.replace("/", " with ", 1)
