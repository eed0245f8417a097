"""Sizes of the work: blocks of rows and draws per call, and draws side by side."""

from __future__ import annotations

import sys

from aimz_lab.predictive.blocks import BLOCK_ROWS

CALL_BYTES = 16 * 2**20
"""Result of one call, or its rows if they are read from a source. Memory beyond the result is a
small multiple of this."""

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

MANY_CALLS = 8
"""Calls of the largest size at least; fewer blocks go in calls of an eighth of it. On a CPU two
blocks at a time are predicted as fast as sixteen."""


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
        row_bytes: Bytes of the result per row, over all draws; or those of a row that is read from
            a source, if it has more.
        batch_size: Requested rows per call, if any.
        n_devices: Devices that share a call; the count is a multiple of theirs.
        most_rows: Rows per call at most, unless more are requested.

    Returns:
        Blocks per call: one of a few sizes, whatever the number of rows, since each is a program to
        compile. There are at least :data:`MANY_CALLS` calls of the largest, unless more rows are
        requested, so that the padding of the last one matters little.
    """
    largest = max(min(CALL_BYTES // max(row_bytes, 1), most_rows or sys.maxsize) // BLOCK_ROWS, 1)
    largest = _whole_chunks(largest)
    most = largest if batch_size is None else max(batch_size // BLOCK_ROWS, 1)
    size = most
    if n_rows is not None:
        blocks = count_blocks(n_rows)
        few = _ladder(_whole_chunks(max(largest // MANY_CALLS, 1)))
        enough = MANY_CALLS if most <= largest else 1
        wanted = [most] if blocks >= enough * most else []
        size = next(each for each in (*wanted, *few) if each <= most and each <= blocks)
    return -(-size // n_devices) * n_devices


def _whole_chunks(blocks: int) -> int:
    return blocks if blocks <= CHUNK_BLOCKS else blocks - blocks % CHUNK_BLOCKS


def _ladder(size: int) -> list[int]:
    """A size, a quarter of it, and so on down to 1."""
    return [size] if size == 1 else [size, *_ladder(max(size // 4, 1))]


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
