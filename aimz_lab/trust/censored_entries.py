"""Entries of an output that are bounds of what was not seen: predictions of it are not censored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from aimz_lab.kernel.censoring import sides_of
from aimz_lab.trust.masked_entries import by_entry
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.types import Params

CENSORED = "some of its values are bounds of what was not seen, and predictions are not censored"
"""Why values of the output cannot be held against predictions."""

NO_INTERVALS = "values of the output are intervals, and predictions are single values"
"""Why intervals cannot be."""


def censored_entries(
    kernel: Callable, output: str, params: Params | None, rows: ExaminedRows
) -> Int[np.ndarray, "row ..."] | None:
    """Return how each entry of the output is censored, as in :func:`entry_sides`.

    Args:
        kernel: The kernel.
        output: Name of its output.
        params: Values of its ``param`` sites, if there are some.
        rows: The data.

    Returns:
        The sides; ``None`` if no entry is censored.
    """
    found = entry_sides(kernel, output, params, rows)
    return found if found is not None and found.any() else None


def entry_sides(
    kernel: Callable, output: str, params: Params | None, rows: ExaminedRows
) -> Int[np.ndarray, "row ..."] | None:
    """Return for each entry of the output whether its distribution takes it for a bound.

    Args:
        kernel: The kernel.
        output: Name of its output.
        params: Values of its ``param`` sites, if there are some.
        rows: The data.

    Returns:
        -1 for an upper bound, 0 for a value that was seen, 1 for a lower bound, and 2 for an end of
        an interval, rows first. ``None`` if its distribution is not censored, or by flags that
        depend on latent sites.
    """

    def sides(trace: Mapping[str, Any]) -> dict[str, jax.Array]:
        site = trace.get(output, {"type": None})
        found = sides_of(site) if site["type"] == "sample" else None
        return {} if found is None else {output: found}

    return by_entry(kernel, params, rows, sides).get(output)
