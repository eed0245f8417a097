"""Refuse a call whose result, or a piece of it, cannot fit into memory."""

from __future__ import annotations

import math

from aimz_lab.data.memory import check_memory
from aimz_lab.predictive.blocks import BLOCK_ROWS
from aimz_lab.predictive.programs.scenario import Scenario

_KEY_BYTES = 8
_FEWER = (
    "Ask for fewer draws: num_samples=, or a posterior with fewer of them; a few rows that are "
    "large take less with shard_axis='draw'."
)
SUMMARISE = (
    "Let reducers summarise the draws as they are made, reduce='mean' or others; or let predict "
    "write them to disk, output_dir='results' (or store='persistent' for a temporary place); or "
    "ask for fewer draws or rows."
)
"""What to do where the draws of a prediction do not fit into memory."""


def check_call_fits(scenario: Scenario, *, in_memory: bool) -> None:
    """Check that what a call computes at once can fit into memory, and so can its result.

    Args:
        scenario: The scenario whose sites are returned.
        in_memory: Whether the result stays in memory.

    Raises:
        OutOfMemoryError: If it cannot, with what would.
    """
    n_draws, plan = scenario.request.n_draws, scenario.plan
    sites = [plan.spec.sites[name] for name in plan.globals_drawn]
    drawn = sum(site.dtype.itemsize * math.prod(site.shape) for site in sites)
    row = -(-scenario.row_bytes // n_draws) if plan.row_sites else 0
    at_once = row * BLOCK_ROWS if plan.axis == "obs" else 0
    check_memory(n_draws, _KEY_BYTES + drawn + at_once, "this kernel", _FEWER)
    n_rows = scenario.rows.count
    if in_memory and n_rows:
        what = f"predictions of {n_rows:,} rows"
        check_memory(n_draws, _KEY_BYTES + drawn + row * n_rows, what, SUMMARISE)
