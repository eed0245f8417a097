"""A run in a person's words: how it ended, how far it came, and its loss.

*The loss of a run* at a step is one number everywhere: the mean negative ELBO of its last steps in
nats per row, see :mod:`~aimz_lab.inference.run.smoothing`. That of its best state is this number at
its step, or the held-out loss. States are judged by later steps, so that it may be above the loss
of the run: words then say why. Where it helps, the loss of all rows stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float

from aimz_lab.data.html import html_table
from aimz_lab.inference.run.best_state import not_kept
from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.plateau import fall_at_end, rise_to_end
from aimz_lab.inference.run.records import TRAINING, Best, RateChange, RunInfo
from aimz_lab.inference.run.smoothing import FEW_STEPS, average_at
from aimz_lab.inference.run.spent_rate import is_spent, spent_note
from aimz_lab.progress import WELL_MIXED, count, duration, number, ratio, spread
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

SEEN_S = 0.05
"""What is shorter would be written as 0.0 s."""


class Run(Protocol):
    """What is read of a run; see :class:`aimz_lab.inference.run.run.Run`, which has these words."""

    info: RunInfo
    number: int | None
    status: RunStatus
    reason: str
    epoch: int
    step: int
    skipped: int
    resumed_at: int
    planned_steps: int | None
    losses: Float[np.ndarray, " step"]
    validation: Sequence[tuple[int, float]]
    rate_changes: Sequence[RateChange]
    first_learning_rate: float | None
    notes: list[str]
    unmoved_steps: int
    has_spent_rate: bool
    step_of_model: int
    chains: ChainRecord | None
    finished: bool
    is_preparing: bool
    trained_s: float
    prepared_s: float
    compiling_s: float
    waited_s: float
    paused_s: float
    restored: Best | None
    best_so_far: Best | None
    has_last_state: bool
    left_model: bool
    outcome_column: str


def total_loss(run: Run, step: int | None = None) -> float | None:
    """Return the loss of a run in nats of all rows; ``None`` without a finite one.

    It is the mean over the last steps up to there; later ones do not change it.

    Args:
        run: The run; of chains it is the mean potential energy.
        step: The step of it; by default the last one.
    """
    step = run.step if step is None else step
    return average_at(run.losses, step, run.info.averaged_epoch)


def loss_per_row(run: Run, step: int | None = None) -> float | None:
    """Return the loss of a run in nats per row; the total if the number of rows is unknown.

    Args:
        run: The run.
        step: The step of it; by default the last one.
    """
    total = total_loss(run, step)
    return None if total is None else total / (run.info.n_obs or 1)


@dataclass(frozen=True)
class ShownBest:
    """The best state of a run, as it is shown.

    Attributes:
        best: The state, its step and its value.
        is_lower: Whether it is lower than the last value of the loss that it is the best by.
    """

    best: Best
    is_lower: bool

    @property
    def step(self) -> int:
        """Steps done by then."""
        return self.best.step

    @property
    def value(self) -> float:
        """Its loss per row: held-out, or that of the run at its step."""
        return self.best.value

    @property
    def is_held_out(self) -> bool:
        """Whether the value is a held-out loss."""
        return self.best.is_held_out

    @property
    def what(self) -> str:
        """The loss that it is the best by."""
        if self.is_held_out:
            return "held-out loss"
        return "training loss" if self.best.monitor == TRAINING else self.best.monitor

    @property
    def name(self) -> str:
        """What it is called beside the loss of the run, which may be another loss."""
        return "best" if self.best.monitor == TRAINING else f"best {self.what}"


def shown_best(run: Run) -> ShownBest | None:
    """Return the best state of a run: the one that its model went back to, if it did.

    Its value is the one that was shown at its step.

    Args:
        run: The run.
    """
    best = run.restored or run.best_so_far
    if best is None:
        return None
    if best.monitor != TRAINING:
        return ShownBest(best, is_lower=best.step < run.step)
    now = loss_per_row(run)
    return ShownBest(best, is_lower=now is None or best.value < now)


def loss_words(run: Run) -> str:
    """Write the loss of a run; empty before the first step, and for chains.

    Example:
        >>> loss_words(im.fit(X, y, epochs=5, progress=False).last_run)
        '... per row'
    """
    if run.info.is_sampling or not run.step:
        return ""
    loss = loss_per_row(run)
    if loss is None:
        return "not finite"
    return f"{number(loss)} per row" if run.info.n_obs else number(loss)


def loss_of_model(run: Run, *, total: bool = False) -> str:
    """Write the loss of the state that a run gave its model, which may not be the last one.

    Args:
        run: The run; if the model is as it was before, there is nothing to write.
        total: Write the loss of all rows beside it.
    """
    if run.left_model:
        return ""
    if run.has_last_state:
        return with_total(run) if total else loss_words(run)
    if run.restored is None or (best := shown_best(run)) is None:
        return ""
    per = " per row" if run.info.n_obs else ""
    held_out = "held-out, " if best.is_held_out else ""
    return f"{number(best.value)}{per} ({held_out}best state, step {count(best.step)})"


def best_not_kept(run: Run) -> str:
    """Say why a run that has ended has no best state, or one above a loss that was shown before.

    Args:
        run: The run.

    Returns:
        A clause; empty where there is nothing to say, as for a best state by a held-out loss.
    """
    if run.info.is_sampling or not run.finished or run.info.validation_every:
        return ""
    best = run.restored or run.best_so_far
    if best is not None and best.monitor != TRAINING:
        return ""
    lower = None if best is None else best.lower
    if (words := not_kept(run, best)) or lower is None:
        return words
    if number(lower.value) == number(best.value):
        return ""
    return (
        f"{number(lower.value)} at step {count(lower.step)} was a mean over fewer steps: noise "
        "leaves open which is lower"
    )


def best_words(run: Run) -> str:
    """Write the loss of a run's best state and its step, or why it has none; empty if too short."""
    if (best := shown_best(run)) is None:
        return best_not_kept(run)
    per = " per row" if run.info.n_obs else ""
    what = "" if best.name == "best" else f", {best.what}"
    words = f"{number(best.value)}{per}{what}, at step {count(best.step)}"
    if lower := best_not_kept(run):
        return f"{words}; {lower}"
    if best.is_lower or best.step == run.step or best.name != "best":
        return words
    return f"{words}, the best that later steps confirm"


def with_total(run: Run) -> str:
    """Write the loss of a run, and that of all rows beside it."""
    words, rows = loss_words(run), run.info.n_obs
    if not words or not rows or (total := total_loss(run)) is None:
        return words
    return f"{words}, {number(total)} for all {count(rows)} rows"


def position(run: Run) -> str:
    """Write how far a run has come: its steps, or its draws.

    Example:
        >>> position(im.fit(X, y, epochs=5, progress=False).last_run)
        'step 5 of 5'
    """
    if run.chains is not None:
        return draws(run)
    total = run.planned_steps
    return f"step {count(run.step)}" + (f" of {count(total)}" if total else "")


def draws(run: Run) -> str:
    """Write the number of draws of the chains, or of their iterations in the warm-up.

    Args:
        run: A run of chains.
    """
    chains, plan = run.chains, run.chains.plan
    if chains.warming_up:
        done = f"warm-up {count(chains.iterations)} of {count(plan.warmup)}"
    else:
        done = f"draw {count(chains.draws)} of {count(plan.draws)}"
    return done + (f" in {plan.chains} chains" if plan.chains > 1 else "")


def status_words(run: Run) -> str:
    """Write the status of a run; one whose first step has not begun is being prepared."""
    if run.status == "running" and run.is_preparing:
        return "preparing"
    return STATUS_WORDS[run.status]


def awaited(run: Run) -> str:
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


def skipped_last(run: Run) -> int:
    """Return how many of the last steps of a run were skipped in a row."""
    if not run.skipped:
        return 0
    taken = np.isfinite(run.losses)
    return int(taken[::-1].argmax()) if taken.any() else run.step


def skipped(run: Run) -> str:
    """Write how many steps of a run were skipped; empty if none were."""
    return f"{count(run.skipped)} of {count(run.step)} steps" if run.skipped else ""


def skipped_words(run: Run) -> str:
    """Write the same as a clause, with the reason."""
    if not run.skipped:
        return ""
    last = skipped_last(run)
    row = f", the last {count(last)} in a row" if last >= FEW_STEPS else ""
    return f"{skipped(run)} were skipped{row}, as their loss or parameters were not finite"


def rate_words(run: Run) -> str:
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


def how_diverged(run: Run) -> str:
    """Write the beginning of a sentence on a run that diverged; its reason follows.

    A run that skips steps does all of them, and diverges all the same.

    Args:
        run: The run.
    """
    did_all = run.skipped > 0 and run.step == run.planned_steps
    return "did all its steps, but" if did_all else "ended early:"


def ended_words(run: Run) -> str:
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


def status_then(run: Run) -> str:
    """Write the status of a run for a text that does not move with it.

    Such a text is read when the run may have ended, or is gone with its kernel.

    Args:
        run: The run; of one that goes on, it says what it was, and when.
    """
    words = status_words(run)
    return words if run.finished else f"was {words} at {time_now()}"


def time_words(run: Run) -> str:
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


def run_line(run: Run) -> str:
    """Describe a run in a line: its name, status, position, loss and time."""
    parts = [*filter(None, (status_then(run), awaited(run))), position(run)]
    if words := loss_words(run):
        parts.append(f"loss {words}")
        if (best := shown_best(run)) is not None and best.is_lower:
            parts.append(f"{best.name} {number(best.value)} at step {count(best.step)}")
    if run.skipped:
        parts.append(f"{count(run.skipped)} steps skipped")
    if run.chains is not None:
        parts += _chain_parts(run)
    if run.status != "pending":
        parts.append(f"{'in' if run.finished else 'for'} {time_words(run)}")
    return f"{run.info.model} ({method_words(run.info.method)}): {', '.join(parts)}"


def run_facts(run: Run) -> list[tuple[str, str]]:
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


def notes(run: Run, most: int) -> list[str]:
    """Return the latest notes of a run, and that its learning rate has come to 0.

    Args:
        run: The run.
        most: How many of its own there may be.
    """
    return [*run.notes[-most:], *filter(None, [spent_note(run)])]


def trend_words(run: Run) -> str:
    """Say whether the loss of a run still fell at its end, or rose to it; empty if neither."""
    per = " per row" if run.info.n_obs else ""
    if run.status in ("completed", "stopped") and (end := fall_at_end(run)):
        fall, steps = end
        fell = f"by {number(fall)}{per} in the last {steps:,} steps"
        if is_spent(run):
            return f"still falling, {fell}, when the learning rate came to 0"
        return f"still falling at the end, {fell}; train on to see it level off"
    if not run.finished or not (rise := rise_to_end(run)):
        return ""
    steps = f"steps {rise.first:,} to {rise.first + rise.window - 1:,}"
    means = (
        f"from {number(rise.lowest)}{per} (mean of {steps}) to {number(rise.last)} (of the last "
        f"{rise.window:,})"
    )
    return f"the loss rose, {means}; a lower learning rate may keep it lower"


def steps_words(run: Run) -> str:
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


def run_html(run: Run) -> str:
    """Describe a run in a small table of facts."""
    return html_table(heading(run), (), run_facts(run))


def heading(run: Run) -> str:
    """Name a run: its kernel, its number if it was shown, and its method."""
    return " · ".join(filter(None, (run_name(run), method_words(run.info.method))))


def run_name(run: Run) -> str:
    """Name a run by its kernel, and by its number if it was shown."""
    return run.info.model if run.number is None else f"{run.info.model} · run {run.number}"


def of_outcomes(runs: Sequence[Run]) -> list[str]:
    """Return for each run what its losses are densities of, if that is not one for all.

    Returns:
        Phrases that end the name of a run, such as ``", of log(y)"``; else empty ones.
    """
    if len({run.info.outcome for run in runs}) < 2:
        return [""] * len(runs)
    return [f", of {outcome_of(run) or 'the outcome as it is'}" for run in runs]


def outcome_of(run: Run) -> str:
    """Name what the losses of a run are densities of, where it is known; else empty."""
    return run.info.outcome or run.outcome_column


def method_words(method: str) -> str:
    """Write a method and its guide or sampler.

    Example:
        >>> method_words("SVI/AutoNormal"), method_words("MCMC/NUTS")
        ('SVI with AutoNormal', 'MCMC with NUTS')
    """
    return method.replace("/", " with ", 1)


def chain_facts(run: Run) -> dict[str, str]:
    """Return what is known of the chains of a run, by name.

    Args:
        run: A run of chains; R-hat and ESS are known once its draws were judged.
    """
    chains = run.chains
    if chains is None:  # read from a file
        return {"iterations": f"{count(run.step)} of each chain, warm-up included"}
    plan = chains.plan
    several = f"in each of {plan.chains} chains" if plan.chains > 1 else "in 1 chain"
    if chains.warming_up:
        done = f"{count(chains.iterations)} of {count(plan.warmup)} iterations of warm-up"
        found = {"draws": f"none {several}, after {done}"}
    else:
        of = "" if run.finished else f" of {count(plan.draws)}"
        after = f"after {count(plan.warmup)} of warm-up"
        found = {"draws": f"{count(chains.draws)}{of} {several}, {after}"}
    if chains.divergences is not None and chains.draws:
        n = int(chains.divergences.sum())
        found["divergences"] = count(n) if n else "none"
        if advice := divergence_advice(run):
            found["advice"] = advice
    if "step_size" in chains.names and chains.iterations:
        found["step size"] = spread(chains.last("step_size"))
    return found | _convergence_facts(chains)


def _convergence_facts(chains: ChainRecord) -> dict[str, str]:
    known = chains.convergence
    if known is None:
        return {}
    found = {}
    if known.r_hat is not None:
        found["R-hat"] = _r_hat_fact(known.r_hat, known.r_hat_of, chains.plan.chains)
    found["ESS"] = f"at least {count(known.ess)} ({known.ess_of})"
    if known.judged < known.total:
        why = known.left_out and f": {known.left_out}"
        found["judged"] = f"{count(known.judged)} of {count(known.total)} values{why}"
    return found


def _r_hat_fact(value: float, entry: str, chains: int) -> str:
    words = _r_hat_of(value, entry)
    if value <= WELL_MIXED:
        return words
    of_chains = ": the chains have not mixed; run longer ones"
    of_halves = ", of the halves of one chain; run four chains, and longer ones"
    return f"{words}{of_chains if chains > 1 else of_halves}"


def _r_hat_of(value: float, entry: str) -> str:
    """Write the largest R-hat beside its limit."""
    if value <= WELL_MIXED:
        return f"at most {ratio(value)} ({entry}), within the limit of {WELL_MIXED}"
    return f"up to {ratio(value)} ({entry}), above {WELL_MIXED}"


def divergence_advice(run: Run) -> str:
    """Explain divergences and advise; empty if there are none.

    Args:
        run: A run of chains.
    """
    divergences = run.chains.divergences
    if divergences is None or not divergences.any():
        return ""
    return (
        "Where chains diverge, they miss a part of the posterior: raise target_accept_prob, or "
        "write the model so that its scales vary less (non-centred)."
    )


def r_hat_words(run: Run) -> str:
    """Write the largest R-hat of chains, where it is known to be above 1.01; else nothing."""
    known = run.chains and run.chains.convergence
    if known is None or known.r_hat is None or known.r_hat <= WELL_MIXED:
        return ""
    return f"R-hat {_r_hat_of(known.r_hat, known.r_hat_of)}"


def _chain_parts(run: Run) -> list[str]:
    """Return what a line says of chains beside their draws."""
    chains, facts, parts = run.chains, chain_facts(run), []
    if chains.divergences is not None and not chains.warming_up:
        n = int(chains.divergences.sum())
        parts.append(f"{count(n) if n else 'no'} {'divergence' if n == 1 else 'divergences'}")
    if "step size" in facts:
        parts.append(f"step size {facts['step size']}")
    if (known := chains.convergence) is not None and known.r_hat is not None:
        parts.append(f"R-hat {_r_hat_of(known.r_hat, known.r_hat_of)}")
    return [*parts, f"ESS {facts['ESS']}"] if "ESS" in facts else parts
