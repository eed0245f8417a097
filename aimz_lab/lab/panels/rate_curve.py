"""The curve of the learning rate: its value at the end of each bucket, and the first one."""

from __future__ import annotations

from typing import Any

import numpy as np

from aimz_lab.inference.run.run import Run
from aimz_lab.lab.traces import CAPACITY, float32

LEARNING_RATE = "learning_rate"


def rate_frame(run: Run) -> dict[str, Any]:
    """Describe the rate for the page, as :meth:`aimz_lab.lab.traces.Trace.frame` does a loss.

    A mean over steps would begin below the first rate of a schedule that falls. So each bucket has
    the rate of its last step, and ``first`` is that of the first step.
    """
    column = run.buckets(LEARNING_RATE)
    kept, n_steps, width = column.kept, len(column), column.width
    while n_steps > width * CAPACITY:
        width *= 2
    # The column joins steps in powers of two, too: those of a bucket here end where one ends there.
    ends = np.arange(width, n_steps + 1, width) // column.width - 1
    values = kept[ends]
    if n_steps % width:
        values = np.append(values, kept[-1])
    frame: dict[str, Any] = {"width": width, "steps": n_steps, "mean": float32(values)}
    first = run.first_learning_rate
    if first is None and n_steps and column.is_exact:
        first = float(kept[0])
    return frame if first is None else frame | {"first": first}
