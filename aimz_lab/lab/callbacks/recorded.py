"""A run from the plain values of a saved history, checked field by field."""

from __future__ import annotations

from itertools import chain
from typing import get_args

import numpy as np

from aimz_lab.files import Value
from aimz_lab.files.json_text import NONFINITE
from aimz_lab.inference.checkpoint.content import check_columns
from aimz_lab.inference.run.events import RunInfo
from aimz_lab.inference.run.records import Best
from aimz_lab.inference.run.step_history import column_forms, metric_form
from aimz_lab.lab.record import RecordedRun
from aimz_lab.types import RunStatus

_TIMES = ("elapsed_s", "trained_s", "prepared_s", "compiling_s", "waited_s", "paused_s")
_SIZES = ("n_obs", "batch_size", "epochs", "steps_per_epoch")


def recorded_run(plain: Value) -> RecordedRun:
    """Return the run that ``History.to_json`` wrote.

    Args:
        plain: The content of its file.

    Raises:
        Malformed: If it is no history; the message names the field.
    """
    fields = plain.fields(
        "version",
        "info",
        "status",
        "reason",
        *_TIMES,
        "skipped",
        "unmoved_steps",
        "has_spent_rate",
        "notes",
        "checkpoints",
        "validation",
        "best",
        "columns",
    )
    columns, metrics = _columns(fields["columns"])
    times = {name: _seconds(fields[name]) for name in _TIMES}
    run = RecordedRun(
        _info(fields["info"]),
        columns,
        metrics,
        status=fields["status"].choice(get_args(RunStatus)),
        reason=fields["reason"].text(),
        **times,
    )
    steps = run.step
    run.skipped = fields["skipped"].whole(most=steps)
    run.unmoved_steps = fields["unmoved_steps"].whole(most=steps)
    run.has_spent_rate = fields["has_spent_rate"].flag()
    pairs = [pair.listed(2) for pair in fields["validation"].listed()]
    run.validation = [(step.whole(most=steps), loss.number(finite=False)) for step, loss in pairs]
    best = fields["best"].optional(lambda plain: _best(plain, steps))
    run.take_over_best(None)  # none is judged anew: which states were judged is not in the file
    run.best = {} if best is None else {best.monitor: best}
    pairs = [pair.listed(2) for pair in fields["checkpoints"].listed()]
    run.checkpoints = [(step.whole(most=steps), where.text()) for step, where in pairs]
    run.notes = list(fields["notes"].texts())
    return run


def _best(plain: Value, steps: int) -> Best:
    monitor, value, step = plain.listed(3)
    return Best(value.number(), step.whole(1, steps), None, monitor.text())


def _seconds(plain: Value) -> float:
    if (seconds := plain.number()) < 0:
        raise plain.refuse("seconds from 0")
    return seconds


def _info(plain: Value) -> RunInfo:
    names = ("row_multiple", "scaled", "is_sampling", "outcome")
    fields = plain.fields("model", "method", *_SIZES, *names)
    return RunInfo(
        model=fields["model"].text(),
        method=fields["method"].text(),
        **{name: fields[name].optional(_size) for name in _SIZES},
        row_multiple=_size(fields["row_multiple"]),
        scaled=fields["scaled"].text(),
        is_sampling=fields["is_sampling"].flag(),
        outcome=fields["outcome"].text(),
    )


def _size(plain: Value) -> int:
    return plain.whole(1)


def _columns(plain: Value) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read columns and metrics, as a run keeps them."""
    found = plain.named()
    losses = found["loss"].value if "loss" in found else []
    steps = len(losses) if isinstance(losses, list) else 0
    forms = column_forms(steps)
    for name in forms:
        if name not in found:
            raise plain.refuse(f"a column {name!r} as well")
    columns, metrics = {}, {}
    for name, part in found.items():
        dtype, shape = forms.get(name, metric_form(steps))
        (columns if name in forms else metrics)[name] = _array(part, dtype, shape)
    check_columns(columns, metrics)
    return columns, metrics


def _array(plain: Value, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Read numbers: whole ones from 0 for a type of integers, else any, NaN too."""
    parts = plain.value
    if not isinstance(parts, list) or len(parts) != shape[0]:
        raise plain.refuse(f"a list of {shape[0]:,}")
    most = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else None
    flat: list[object] = parts
    if shape[1:]:
        is_even = all(type(part) is list and len(part) == shape[1] for part in parts)
        flat = list(chain.from_iterable(parts)) if is_even else [None]
    if not _are_numbers(flat, most):
        # Value by value, which takes a while, to find the one to name.
        rows = [part.listed(shape[1]) if shape[1:] else [part] for part in plain.listed()]
        flat = [_number(value, most) for row in rows for value in row]
    wide = np.array(flat, np.float64 if most is None else np.int64)
    with np.errstate(over="ignore"):
        array = wide.astype(dtype)
    if (np.isfinite(wide) & ~np.isfinite(array)).any():
        raise plain.refuse(f"numbers that {dtype} can hold")
    return array.reshape(shape)


def _number(plain: Value, most: int | None) -> float:
    return plain.number(finite=False) if most is None else plain.whole(most=int(most))


def _are_numbers(values: list[object], most: int | None) -> bool:
    types = set(map(type, values))
    if most is not None:
        return types <= {int} and 0 <= min(values, default=0) <= max(values, default=0) <= most
    return types <= {int, float, str} and {v for v in values if type(v) is str} <= set(NONFINITE)
