"""Sizes of the work: blocks of rows and draws per call, and draws side by side."""

from __future__ import annotations

import sys

from aimz_lab.predictive.blocks import BLOCK_ROWS

CALL_BYTES = 16 * 2**20
"""Result of one call. Memory beyond the result is a small multiple of this."""

SIDE_BY_SIDE = 2**18
"""Values computed side by side; enough for the vector units, few enough for the caches. A linear
model predicts twice as fast as draw by draw."""

MANY_WEIGHTS = 4096
"""Values of a draw above which draws run one after the other: 1.7 times as fast for a network of
three layers of 128, whose matrix products would be batched otherwise."""

CACHED_ROWS = 4096
"""Rows of a call of such draws on a CPU: the layers' values stay in its caches, so that such a
network takes 30% less time for 100,000 rows."""


CHUNK_BLOCKS = 16
"""Blocks of the longest chunk of a store. Chunks end where calls do: of 163 blocks, a prime number,
each chunk would be one block, and a store would have sixteen times as many."""


def count_blocks(n_rows: int) -> int:
    """Blocks that hold ``n_rows`` rows."""
    return -(-n_rows // BLOCK_ROWS)


def blocks_per_call(
    n_rows: int | None,
    row_bytes: int,
    batch_size: int | None,
    n_devices: int,
    most_rows: int | None = None,
) -> int:
    """Choose how many blocks a call works on.

    Args:
        n_rows: Rows in all, if known.
        row_bytes: Bytes of the result per row, over all draws.
        batch_size: Requested rows per call, if any.
        n_devices: Devices that share a call; the count is a multiple of theirs.
        most_rows: Rows per call at most, unless more are requested.

    Returns:
        Blocks per call, close to the largest number that fits: the last call is nearly full, and
        inputs of similar length share a compilation.
    """
    rows = batch_size or min(max(CALL_BYTES // max(row_bytes, 1), 1), most_rows or sys.maxsize)
    most = max(rows // BLOCK_ROWS, 1)
    if batch_size is None and most > CHUNK_BLOCKS:
        most -= most % CHUNK_BLOCKS
    if n_rows is not None:
        blocks = count_blocks(n_rows)
        fewest = -(-blocks // most)
        each = [-(-blocks // calls) for calls in range(fewest, 2 * fewest + 1)]
        sizes = [min(_rounded_up(size), most) for size in each]
        most = min(sizes, key=lambda size: -(-blocks // size) * size)
    return -(-most // n_devices) * n_devices


def _rounded_up(count: int) -> int:
    """The next of 1-8, 10, 12, 14, 16, 20, 24, 28, 32, ...: at most a quarter more."""
    step = max(2 ** (max(count - 1, 1).bit_length() - 3), 1)
    return -(-count // step) * step


def draws_per_call(n_draws: int, draw_bytes: int, batch_size: int | None, n_devices: int) -> int:
    """Choose how many draws a call computes if the rows stay together.

    Args:
        n_draws: Draws in all.
        draw_bytes: Bytes of the result per draw, over all rows.
        batch_size: Requested draws per call, if any.
        n_devices: Devices that share a call; the count is a multiple of theirs.
    """
    most = max(min(batch_size or CALL_BYTES // max(draw_bytes, 1), n_draws), 1)
    each = -(-n_draws // -(-n_draws // most))
    return -(-each // n_devices) * n_devices


def draws_side_by_side(n_draws: int, draw_size: int, draw_values: int) -> int:
    """Choose how many draws run side by side within a call.

    Args:
        n_draws: Draws of the call, on each device.
        draw_size: Values that a draw computes.
        draw_values: Number of values in a posterior draw.

    Returns:
        A number of draws, a divisor of ``n_draws`` if one is near.
    """
    if draw_values > MANY_WEIGHTS:
        return 1
    wanted = min(max(SIDE_BY_SIDE // max(draw_size, 1), 1), n_draws)
    near = range(wanted, wanted // 2, -1)
    return next((count for count in near if n_draws % count == 0), wanted)
