"""Tell users of an old JAX what it costs them."""

from __future__ import annotations

import jax

FAST_SINCE = (0, 12)
"""The version from which XLA runs a small loop on a CPU as one function. Before, it calls each of
the hundred operations of a training step by itself, which takes longer than they do."""


def cost_of_old_jax() -> str:
    """Return what the installed JAX costs, and how to get a faster one; empty if it is fast.

    Example:
        >>> "Python 3.12" in cost_of_old_jax() or jax.__version_info__ >= (0, 12)
        True
    """
    if jax.__version_info__ >= FAST_SINCE or jax.default_backend() != "cpu":
        return ""
    return (
        f"JAX {jax.__version__} takes up to 6 times as long as JAX 0.12 for training steps on "
        "small batches; Python 3.12 or newer gets it"
    )
