"""The history of a long run, as a checkpoint keeps it in buckets, is checked like any other."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab import RunInfo, Steps
from aimz_lab.files import Malformed
from aimz_lab.inference.checkpoint.content import check_columns, check_position
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.run.buckets import COUNT, HIGH, LOW, SUM
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.step_history import column_forms, metric_form

PER_EPOCH = 1001


def history(n):
    """What a run of ``n`` steps keeps."""
    run, step = Run(RunInfo("kernel", "SVI/AutoNormal")), np.arange(n)
    norm = np.where(step < 100, np.nan, step % 7)
    steps = Steps(
        first=1,
        epoch=step // PER_EPOCH + 1,
        loss=np.ones(n),
        rows=np.full(n, 10),
        n_pad=step % 3,
        seconds=1.0,
        metrics={"grad_norm": norm},
    )
    run.record(steps)
    return run.kept()


@pytest.fixture(scope="module")
def kept():
    return history(300_002)


@pytest.mark.parametrize("n", [0, 1, 1000, 131_072, 131_073, 300_002])
def test_a_run_keeps_what_so_many_steps_have(n):
    columns, metrics = history(n) if n else (Run(RunInfo("kernel", "SVI")).kept()[0], {})
    for name, form in column_forms(n).items():
        assert (columns[name].dtype, columns[name].shape) == form, name
    for values in metrics.values():
        assert (values.dtype, values.shape) == metric_form(n)
    check_columns(columns, metrics)


def put(place, change):
    """Change one of the four values of the bucket in the middle."""

    def changed(values):
        values = values.copy()
        values[len(values) // 2, place] = change(values[len(values) // 2])
        return values

    return changed


@pytest.mark.parametrize("name", ["n_pad", "grad_norm"])
@pytest.mark.parametrize(
    "change",
    {
        "more values than steps": put(COUNT, lambda of: 5),
        "fewer than none": put(COUNT, lambda of: -1),
        "a part of a value": put(COUNT, lambda of: 2.5),
        "a sum beyond the highest": put(SUM, lambda of: 4 * of[HIGH] + 1),
        "a sum below the lowest": put(SUM, lambda of: 4 * of[LOW] - 1),
        "lowest above highest": put(LOW, lambda of: of[HIGH] + 1),
        "nothing known": put(HIGH, lambda of: np.nan),
        "an infinite sum": put(SUM, lambda of: np.inf),
    }.items(),
    ids=lambda item: item[0],
)
def test_values_that_no_steps_can_have_are_refused(kept, name, change):
    columns, metrics = ({**part} for part in kept)
    part = columns if name in columns else metrics
    part[name] = change[1](part[name])
    with pytest.raises(Malformed, match=f"the column '{name}'"):
        check_columns(columns, metrics)


def test_a_position_is_within_what_the_buckets_leave_open(kept):
    epoch, steps = kept[0]["epoch"], 300_002
    known = divmod(steps, PER_EPOCH)
    check_position(Position(*known), steps, epoch, PER_EPOCH)
    check_position(Position(*known), steps, epoch)
    check_position(Position(known[0] + 1, 0), steps, epoch)
    for wrong in (1, PER_EPOCH - 1):
        with pytest.raises(
            Malformed, match=r"it can be epoch 299, batch 70\d to 70\d or epoch 300"
        ):
            check_position(Position(known[0], wrong), steps, epoch)
        with pytest.raises(Malformed, match="it can be epoch 299, batch 703$"):
            check_position(Position(known[0], wrong), steps, epoch, PER_EPOCH)
    with pytest.raises(Malformed, match="do not have 1,000 batches each"):
        check_position(Position(*known), steps, epoch, PER_EPOCH - 1)
