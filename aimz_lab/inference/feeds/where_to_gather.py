"""Choose where the rows of a batch are gathered: by the host, or in the training step."""

from __future__ import annotations

from collections.abc import Iterable

import jax

from aimz_lab.inference.feeds.feed import row_bytes
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.types import Rows

LARGE_BATCH = 16 << 10
"""Bytes of a batch from which a step on a CPU gathers its rows itself. Smaller ones are gathered on
the host while the steps before compute. CPU time of a whole fit, in us for each of its steps (JAX
0.12), where the host gathers and where the step does: 5.0 and 4.7 for 32 rows of 20 columns (2.7
KB; there a step itself takes 3.6 and 4.1), 24 and 21 for 256 (22 KB), 37 and 25 for 32 rows of 200
columns (26 KB), 143 and 105 for 256 (206 KB)."""

_MOST_BYTES = 512 << 20
"""The most bytes of such rows: JAX may copy them."""

_SHARE = 8
"""Rows stay on a GPU if they take at most one part in this many of its memory."""

_MOST_BYTES_MOVED = 4 * 2**30
"""The most bytes of such rows: copying more would take seconds before the first step."""


def is_gathered_in_steps(rows: Rows, batch_size: int, placement: Placement) -> bool:
    """Return whether the steps gather their rows from arrays that stay on the devices.

    A GPU would wait for batches that the host gathers. The answer depends on sizes and devices
    alone: a resumed run finds the same, and computes the same bits.

    Args:
        rows: The per-row arguments.
        batch_size: Rows of a batch.
        placement: Devices of the batches.

    Example:
        >>> import numpy as np
        >>> rows = {"X": np.ones((9_000, 20), np.float32)}
        >>> [is_gathered_in_steps(rows, size, Placement()) for size in (32, 4096)]
        [False, True]
    """
    if not placement.team.is_alone:  # processes on other devices might decide otherwise
        return False
    all_bytes = row_bytes(rows) * len(next(iter(rows.values())))
    is_large = row_bytes(rows) * batch_size >= LARGE_BATCH and all_bytes <= _MOST_BYTES
    if is_large and [one.platform for one in placement.devices] == ["cpu"]:
        return True
    return all_bytes <= room_for_rows(placement.devices)


def room_for_rows(devices: Iterable[jax.Device]) -> int:
    """Return how many bytes of rows may stay on each of the devices: none on a CPU.

    It depends on the memory that a device has, not on what is free: a resumed run finds the same.

    Args:
        devices: The devices of the batches.
    """
    rooms = [0 if one.platform == "cpu" else _memory_of(one) // _SHARE for one in devices]
    return min([*rooms, _MOST_BYTES_MOVED])


def _memory_of(device: jax.Device) -> int:
    return (device.memory_stats() or {}).get("bytes_limit", 0)
