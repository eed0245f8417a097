"""A run from the plain values of a saved history, checked field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args

import numpy as np

from aimz_lab.files import Malformed, Value
from aimz_lab.inference.checkpoint.content import check_columns
from aimz_lab.inference.run.events import RunInfo, Steps
from aimz_lab.inference.run.steps import COLUMN_TYPES, METRIC_TYPE
from aimz_lab.lab.record import RecordedRun
from aimz_lab.types import RunStatus

_WHOLE = ("epoch", "rows", "n_pad")
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
        "elapsed_s",
        "notes",
        "checkpoints",
        "validation",
        "columns",
    )
    columns = _columns(fields["columns"])
    elapsed_s = fields["elapsed_s"].number()
    if elapsed_s < 0:
        raise fields["elapsed_s"].refuse("seconds from 0")
    run = RecordedRun(
        _info(fields["info"]),
        _chunks(columns),
        status=fields["status"].choice(get_args(RunStatus)),
        reason=fields["reason"].text(),
        elapsed_s=elapsed_s,
    )
    steps = run.step
    pairs = [pair.listed(2) for pair in fields["validation"].listed()]
    run.validation = [(step.whole(most=steps), loss.number(finite=False)) for step, loss in pairs]
    pairs = [pair.listed(2) for pair in fields["checkpoints"].listed()]
    run.checkpoints = [(step.whole(most=steps), where.text()) for step, where in pairs]
    run.notes = list(fields["notes"].texts())
    return run


def _info(plain: Value) -> RunInfo:
    fields = plain.fields("model", "method", *_SIZES, "row_multiple", "scaled", "is_sampling")
    return RunInfo(
        model=fields["model"].text(),
        method=fields["method"].text(),
        **{name: fields[name].optional(_size) for name in _SIZES},
        row_multiple=_size(fields["row_multiple"]),
        scaled=fields["scaled"].text(),
        is_sampling=fields["is_sampling"].flag(),
    )


def _size(plain: Value) -> int:
    return plain.whole(1)


def _columns(plain: Value) -> dict[str, np.ndarray]:
    """Read columns of one value a step."""
    found = plain.named()
    columns = {}
    for name in (*COLUMN_TYPES, *(name for name in found if name not in COLUMN_TYPES)):
        if name not in found:
            raise plain.refuse(f"a column {name!r} as well")
        parts = found[name].listed()
        numbers = (
            [part.whole() for part in parts]
            if name in _WHOLE
            else [part.number(finite=False) for part in parts]
        )
        columns[name] = np.array(numbers, COLUMN_TYPES.get(name, METRIC_TYPE))
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        msg = f"columns have the lengths {str(lengths)[:200]}; expected one length"
        raise Malformed(msg)
    check_columns(columns)
    return columns


def _chunks(columns: Mapping[str, np.ndarray]) -> Iterator[Steps]:
    """Cut columns where time or rate changes: steps of one chunk ended together."""
    seconds, rates = columns["seconds"], columns["learning_rate"]
    same = (seconds[1:] == seconds[:-1]) & np.isclose(rates[1:], rates[:-1], 0, 0, equal_nan=True)
    firsts = np.flatnonzero(np.concatenate([np.ones(len(seconds[:1]), bool), ~same]))
    lasts = [*firsts[1:], len(seconds)]
    for first, last, took in zip(firsts, lasts, np.diff(seconds[firsts], prepend=0), strict=False):
        part = {name: values[first:last] for name, values in columns.items()}
        yield Steps(
            first=int(first) + 1,
            epoch=part["epoch"],
            loss=part["loss"],
            rows=part["rows"],
            n_pad=part["n_pad"],
            seconds=float(took),
            learning_rate=rate if np.isfinite(rate := part["learning_rate"][-1]) else None,
            metrics={name: values for name, values in part.items() if name not in COLUMN_TYPES},
        )
