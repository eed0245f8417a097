"""How much ``gpu_check.py`` computes, and how a section tells its rows.

A section is a function that tells ``report`` one row at a time: what was measured stays when a
later row fails.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np

COLUMNS = 20


class Report(Protocol):
    """Takes one row of the table."""

    def __call__(self, what: str, value: float | None, unit: str, **more: object) -> None: ...


class Work(NamedTuple):
    """How much to compute.

    Attributes:
        rows: By rows of a batch, rows of the data.
        turn_s: Least seconds of a turn, where more steps make it longer.
        predicted: Rows of a prediction.
        network: Rows of a prediction by a neural network.
        draws: Draws of a prediction.
        chain: Iterations of a chain, in the warm-up and after it.
        turns: Turns of each comparison.
        megabytes: Size of an array that is moved.
    """

    rows: dict[int, int]
    turn_s: float = 0.7
    predicted: int = 100_000
    network: int = 10_000
    draws: int = 1_000
    chain: int = 500
    turns: int = 3
    megabytes: int = 256


WHOLE = Work({256: 200_000, 4_096: 1_000_000, 65_536: 2_000_000})
TINY = Work({16: 200, 64: 500}, 0.02, 300, 100, 20, 20, 1, 1)


@contextlib.contextmanager
def kept_going(report: Report, what: str) -> Iterator[None]:
    """Report a failure as a row, and go on with the next one."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, the other rows are wanted
        traceback.print_exc()
        report(what, None, "", ok=False, note=f"{type(error).__name__}: {error}"[:200])


def regression_rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a regression."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, COLUMNS), dtype=np.float32)
    return X, X @ np.ones(COLUMNS, np.float32) + rng.standard_normal(n, dtype=np.float32)
