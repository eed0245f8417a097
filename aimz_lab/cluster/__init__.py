"""Work on many processes and machines, by engines that exist: Dask, ``concurrent.futures``.

In: a call, cut into parts of rows or draws, and an executor. Out: the draws of one process, bit for
bit on machines of the same kind, and sums over rows up to rounding. Nothing of it is imported by
those who do not use it.
"""

from __future__ import annotations

from aimz_lab.cluster.joining import join
from aimz_lab.cluster.processes import run_script, train
from aimz_lab.cluster.shares import own_share

__all__ = ["join", "own_share", "run_script", "train"]
