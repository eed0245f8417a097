"""Write numbers, durations and the state of a run as text.

The page writes its own numbers (``dashboard/static/math.js``), and writes them alike. Both round an
exact half away from zero, and neither writes a minus before zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from aimz_lab.inference.run.chain_words import draws
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run_words import (
    STATUS_WORDS,
    awaited,
    no_training,
    status_words,
    time_now,
    time_words,
)
from aimz_lab.number_text import (
    WELL_MIXED,
    count,
    duration,
    fixed,
    number,
    number_beside,
    numbers_of_row,
    rate,
    ratio,
    spread,
)
from aimz_lab.progress import time_left

__all__ = [
    "STATUS_WORDS",
    "count",
    "curve_words",
    "draws",
    "duration",
    "first_lines",
    "last_known_line",
    "line_then",
    "mean_rates",
    "number",
    "number_beside",
    "numbers_of_row",
    "rate",
    "ratio",
    "share",
    "size",
    "spread",
    "status",
    "status_line",
    "tick_labels",
    "time_words",
    "why_ended",
]

_MOST_DIGITS = 12
_LEAST_SHARE = 0.001
_DISPENSABLE = "rest", "step size", "step", "ESS", "name"  # the least important parts first
_OF_THE_MOMENT = ("awaited", "rate", "eta")  # parts of a line that soon are no longer so
_OF_CHAINS = {"diverging": "divergences", "n_steps": "leapfrog steps"}


def tick_labels(values: Sequence[float]) -> list[str]:
    """Write the values along an axis: as numbers, or all with decimals.

    They have decimals where numbers would be off, or where only some have a power of ten; then they
    are off by less than a hundredth of a step. A value alone has no step; its label is exact to
    nine digits.

    Example:
        >>> tick_labels([0.5, 1.0, 1.5]), tick_labels([19_215.0, 19_215.5, 19_216.0])
        (['0.5', '1', '1.5'], ['19,215.0', '19,215.5', '19,216.0'])
        >>> tick_labels([1000.5]), tick_labels([0.0, 5e-5, 1e-4])
        (['1,000.5'], ['0.00000', '0.00005', '0.00010'])
    """
    steps = [abs(after - before) for before, after in pairwise(values) if after != before]
    step = min(steps, default=max(map(abs, values), default=0.0))
    near = (0.01 if steps else 1e-9) * step
    labels = [number(value) for value in values]
    written = [float(label.replace(",", "")) for label in labels]
    powers = {"e" in label for label, value in zip(labels, values, strict=True) if value}
    is_mixed = len(powers) > 1 and max(steps) < 2 * step  # not along a logarithmic axis
    if not is_mixed and all(
        abs(there - value) <= near for there, value in zip(written, values, strict=True)
    ):
        return labels
    for decimals in range(_MOST_DIGITS):
        if abs(round(step, decimals) - step) < near:
            return [fixed(value, decimals) for value in values]
    return [number(value, _MOST_DIGITS) for value in values]


def size(n_bytes: float | None) -> str:
    """Write a number of bytes.

    Example:
        >>> size(512), size(412 * 2**20), size(None)
        ('512 B', '412 MiB', '-')
    """
    if n_bytes is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(n_bytes) < 1023.5:  # what would be written as 1024 has the next unit
            digits = 0 if n_bytes >= 10 or unit == "B" else 1
            return f"{fixed(n_bytes, digits, group='')} {unit}"
        n_bytes /= 1024
    return f"{fixed(n_bytes, 1, group='')} TiB"


def share(fraction: float) -> str:
    """Write a fraction as a percentage.

    Example:
        >>> share(0.375), share(0.0385), share(0.0004), share(0)
        ('37.5%', '3.9%', 'under 0.1%', '0%')
    """
    if 0 < fraction < _LEAST_SHARE:
        return "under 0.1%"
    if 1 - _LEAST_SHARE < fraction < 1:
        return "over 99.9%"
    percent = 100 * fraction
    return f"{number(percent, 2 if percent < 10 else 3)}%"


def status(run: Run) -> str:
    """Return the status of a run, or that it is being prepared, or that its chains warm up."""
    if (words := status_words(run)) == "preparing":
        return words
    if run.status == "running" and run.chains is not None and run.chains.warming_up:
        return "warming up"
    return words


def status_line(
    run: Run,
    loss: float | None = None,
    width: int | None = None,
    convergence: Mapping[str, Any] | None = None,
) -> str:
    """Describe the progress of a run in a line of text.

    Args:
        run: The run.
        loss: The loss, per row if their number is known; ``None`` is left out.
        width: Most characters; the least important parts are left out.
        convergence: Frame of the convergence panel, for a run of chains.
    """
    parts = _parts(run, loss, convergence or {})
    return _in_width(parts, _DISPENSABLE, width)


def line_then(run: Run, loss: float | None = None, width: int | None = None) -> str:
    """Describe where a run was, and when: a line that is read when the run may be gone.

    Args:
        run: The run; of one that has ended this is its :func:`status_line`.
        loss: As for :func:`status_line`.
        width: As for :func:`status_line`.
    """
    return _in_width(_parts_then(run, loss), _DISPENSABLE, width)


def last_known_line(run: Run, loss: float | None = None) -> str:
    """Describe the same without what soon is no longer so, such as the time left.

    Args:
        run: The run; of one that has ended this is its :func:`status_line`.
        loss: As for :func:`status_line`.
    """
    parts = _parts_then(run, loss)
    left_out = () if run.finished else _OF_THE_MOMENT
    return " · ".join(text for name, text in parts.items() if name not in left_out)


def _parts_then(run: Run, loss: float | None) -> dict[str, str]:
    parts = _parts(run, loss, {})
    if not run.finished:
        parts["name"] = f"{run.info.model}: was {status(run)} at {time_now()}"
    return parts


def _parts(run: Run, loss: float | None, convergence: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of a line that describes a run, by name."""
    if run.chains is not None:
        return _sampling_parts(run, convergence)
    epochs, place = run.info.epochs, run.place
    total = place.planned_steps
    parts = {
        "name": f"{run.info.model}: {status(run)}",
        **_awaited(run),
        "epoch": f"epoch {count(place.epoch)}" + (f" of {count(epochs)}" if epochs else ""),
        "step": f"step {count(place.step)}" + (f" of {count(total)}" if total else ""),
    }
    if run.info.has_all_rows_each_step:  # their one epoch tells nothing
        parts["epoch"] = parts.pop("step")
    if loss is not None:
        parts["loss"] = f"loss {number(loss)}" + (" per row" if run.info.n_obs else "")
    if run.skipped:
        parts["skipped"] = f"{count(run.skipped)} steps skipped"
    if not run.finished and run.status != "paused" and run.steps_per_s:
        rows, steps = run.rows_per_s, run.steps_per_s  # the items of a loop may have no rows
        parts["rate"] = f"{rate(rows)} rows/s" if rows else f"{rate(steps)} steps/s"
    return parts | _time(run, place.eta_s)


def first_lines(run: Run) -> tuple[str, str]:
    """Return what a line says when a run begins: in the foreground, and in the background.

    Args:
        run: The run.

    Returns:
        Both lines; the second is empty unless the run goes on in the background.
    """
    first = f"{run.info.model}: preparing · compiling the first step"
    if not run.in_background:
        return first, ""
    doing = "sampling" if run.info.is_sampling else "training"
    return first, f"{run.info.model}: {doing} in the background · lab.running() says how far it is"


def why_ended(run: Run) -> str:
    """Return the reason of an end as the last part of a line; empty if all went as planned.

    Args:
        run: A run that has ended.
    """
    return f" · {run.reason}" if run.reason and run.status != "completed" else ""


def _sampling_parts(run: Run, convergence: Mapping[str, Any]) -> dict[str, str]:
    chains, plan = run.chains, run.chains.plan
    parts = {
        "name": f"{run.info.model}: {status(run)}",
        **_awaited(run),
        "draws": draws(run),
    }
    if chains.divergences is not None and not chains.warming_up:
        found = int(chains.divergences.sum())
        parts["divergences"] = f"{count(found)} divergence{'' if found == 1 else 's'}"
    if "step_size" in chains.names and chains.iterations:
        parts["step size"] = f"step size {spread(chains.last('step_size'))}"
    if convergence:
        if plan.chains > 1 or convergence["r_hat"] is not None:
            parts["R-hat"] = f"R-hat {_beside_its_limit(convergence['r_hat'])}"
        parts["ESS"] = f"ESS {count(convergence['ess'])}"
        if convergence["read"] is not None:
            parts["ESS"] += f" of {count(convergence['read'])} draws read"
    return parts | _time(run, run.eta_s)


def _beside_its_limit(r_hat: float | None) -> str:
    """Write an R-hat with its limit; without one before it is known."""
    if r_hat is None:
        return ratio(r_hat)
    return f"{ratio(r_hat)} {'≤' if r_hat <= WELL_MIXED else '>'} {WELL_MIXED}"


def _awaited(run: Run) -> dict[str, str]:
    return {"awaited": words} if (words := awaited(run)) else {}


def curve_words(name: str, *, is_sampling: bool) -> str:
    """Write the name of a curve; the statistics of chains have names of their own.

    Example:
        >>> curve_words("n_steps", is_sampling=True), curve_words("n_steps", is_sampling=False)
        ('leapfrog steps', 'n steps')
    """
    return (_OF_CHAINS if is_sampling else {}).get(name, name.replace("_", " "))


def mean_rates(run: Run) -> tuple[float, float]:
    """Return steps and rows per second of training, over a whole run; 0 before the first step."""
    if run.trained_s <= 0:
        return 0.0, 0.0
    rows = float(run.column("rows").sum(dtype="int64"))
    return run.step / run.trained_s, rows / run.trained_s


def _time(run: Run, eta_s: float | None) -> dict[str, str]:
    if run.finished:
        rest = no_training(run.prepared_s, run.compiling_s, run.waited_s, run.paused_s)
        return {"time": f"in {duration(run.trained_s)}", **({"rest": rest} if rest else {})}
    if run.status == "paused":
        return {"time": f"after {duration(run.trained_s)}"}
    return {"eta": left[0]} if run.steps_per_s and (left := time_left(eta_s)) else {}


def _in_width(parts: dict[str, str], dispensables: Iterable[str], width: int | None) -> str:
    for dispensable in dispensables:
        line = " · ".join(parts.values())
        if width is None or len(line) <= width:
            return line
        parts.pop(dispensable, None)
    return " · ".join(parts.values())
