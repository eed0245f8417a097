"""The cost of padding: rows of each batch that only fill up the devices."""

from __future__ import annotations

import numpy as np

from aimz_lab.data.padding import padding_advice
from aimz_lab.inference.run.events import Run, Steps
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.traces import Trace

MOST_SHARDS = 16
MOST_EPOCHS = 128


class PaddingPanel(Panel):
    """Padded rows of each batch, their share by epoch, their place on the devices, and advice."""

    name = "padding"
    interval_s = 1.0

    def begin(self, run: Run) -> None:
        """Count the steps of a resumed or finished run."""
        self._by_step = Trace(capacity=256)
        self._by_epoch = Trace(capacity=MOST_EPOCHS)
        self._epoch = 0
        # Padded rows and all rows: of the epoch so far, and of the run.
        self._of_epoch = self._of_run = np.zeros(2, np.int64)
        self._latest = np.zeros(2, np.int64)
        self._of_last_epoch = 0.0
        self._most = 0
        self._advice = advice(run)
        sizes = run.bucket_steps
        # A bucket may hold parts of several epochs: the curve then has those from here on.
        self._first_epoch = 1 if len(sizes) == run.step else run.epoch + 1
        self._count(*(run.column(name) for name in ("rows", "n_pad", "epoch")))
        if len(sizes):  # of a bucket, the mean: its batches have the same number of rows in all
            rows, n_pad = (self._latest / sizes[-1]).tolist()
            self._latest = np.array([round(rows + n_pad) - round(n_pad), round(n_pad)])
        self._most = int(run.highest("n_pad").max(initial=0))

    def take(self, steps: Steps) -> None:
        """Count the steps."""
        self._count(steps.rows, steps.n_pad, steps.epoch)
        self._most = max(self._most, int(steps.n_pad.max(initial=0)))

    def _count(self, rows: np.ndarray, n_pad: np.ndarray, epoch: np.ndarray) -> None:
        if len(epoch) == 0:
            return
        self._latest = np.array([rows[-1], n_pad[-1]], np.int64)
        begins = np.flatnonzero(np.diff(epoch, prepend=epoch[0] - 1))
        numbers = epoch[begins]
        padded, real = (np.add.reduceat(part, begins, dtype=np.int64) for part in (n_pad, rows))
        of_each = np.stack([padded, padded + real], axis=1)
        self._of_run = self._of_run + of_each.sum(axis=0)
        if epoch[0] == self._epoch:
            of_each[0] += self._of_epoch
        elif self._epoch:
            of_each = np.concatenate([self._of_epoch[None], of_each])
            numbers = np.append(self._epoch, numbers)
        ended, self._of_epoch, self._epoch = of_each[:-1], of_each[-1], int(epoch[-1])
        ended = ended[numbers[:-1] >= self._first_epoch]
        shares = ended[:, 0] / np.maximum(ended[:, 1], 1)
        self._by_epoch.add(shares)
        if len(shares):
            self._of_last_epoch = float(shares[-1])

    def frame(self, run: Run) -> Frame:
        """Describe the padding of the last batch, the last whole epoch and the run."""
        self._by_step.follow(run.buckets("n_pad"))
        rows, n_pad = self._latest.tolist()
        n_shards = max(run.info.row_multiple, 1)
        return {
            "rows": rows,
            "n_pad": n_pad,
            "n_shards": n_shards,
            "shards": shards(rows, n_pad, n_shards) if n_shards <= MOST_SHARDS else [],
            "share_of_run": _share(self._of_run),
            "most": self._most,
            "share_of_epoch": self._of_last_epoch if len(self._by_epoch.mean) else None,
            "by_epoch": self._by_epoch.frame(),
            "by_step": self._by_step.frame(),
            "advice": self._advice,
        }


def shards(rows: int, n_pad: int, n_shards: int) -> list[list[int]]:
    """Count the rows of data and of padding in each shard of a batch.

    Example:
        >>> shards(rows=10, n_pad=6, n_shards=8)
        [[2, 0], [2, 0], [2, 0], [2, 0], [2, 0], [0, 2], [0, 2], [0, 2]]
    """
    each = (rows + n_pad) // n_shards
    real = [min(max(rows - each * shard, 0), each) for shard in range(n_shards)]
    return [[n, each - n] for n in real]


def advice(run: Run) -> str:
    """Recommend a batch size that wastes less; empty without one, or if the size is unknown."""
    batch_size = run.info.batch_size
    if not batch_size:
        return ""
    return padding_advice(run.info.n_obs or batch_size, batch_size, run.info.row_multiple)


def _share(n_pad_and_total: np.ndarray) -> float:
    n_pad, total = n_pad_and_total.tolist()
    return n_pad / total if total else 0.0
