"""Let NumPyro's subsampling plates take all given rows, in their order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from numpyro import handlers


def pin_plates(kernel: Callable, n_rows: int) -> Callable:
    """Let the subsampling plates of a kernel take all rows that it is given, in their order.

    Args:
        kernel: A kernel that may subsample: ``plate("data", 100, subsample_size=X.shape[0])``.
        n_rows: Number of rows that it is given; more than the plate's size are allowed.

    Returns:
        The kernel, under a handler.
    """
    return handlers.substitute(kernel, substitute_fn=lambda msg: _subsample(msg, n_rows))


def _subsample(msg: dict[str, Any], n_rows: int) -> jax.Array | None:
    """Indices for a subsampling plate; ``None`` for every other statement."""
    if msg["type"] != "plate":
        return None
    size, subsample_size = msg["args"]
    if subsample_size is None or subsample_size == size:
        return None
    if subsample_size == n_rows:
        return jnp.arange(n_rows)
    return jnp.arange(size) if subsample_size > size == n_rows else None
