"""Tell users of an old JAX what it costs them."""

from __future__ import annotations

import os

import jax

_LOOPS = "xla_cpu_small_while_loop_byte_threshold"

FAST_SINCE = (0, 12)
"""The version from which XLA runs a small loop on a CPU as one function. Before, it calls each of
the hundred operations of a training step by itself, which takes longer than they do."""


def cost_of_old_jax() -> str:
    """Return what the installed JAX costs, and how to get a faster one; empty if it is fast.

    Example:
        >>> cost_of_old_jax() == "" or "Python 3.12" in cost_of_old_jax()
        True
    """
    is_set = _LOOPS in os.environ.get("XLA_FLAGS", "")
    if jax.__version_info__ >= FAST_SINCE or is_set or jax.default_backend() != "cpu":
        return ""
    return (
        f"JAX {jax.__version__} takes up to 6 times as long as JAX 0.12 for training steps on "
        "small batches; Python 3.12 or newer gets it, or the environment variable "
        f"XLA_FLAGS=--xla_backend_extra_options={_LOOPS}=1000000000 makes this one as fast"
    )
