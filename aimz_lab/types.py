"""Names for the values that several layers share, and the check of a choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import numpy as np

from aimz_lab.errors import ArgumentError

Store = Literal["persistent", "memory"]
ShardAxis = Literal["obs", "draw"]
OnNonFinite = Literal["stop", "skip", "raise"]
Progress = bool | Literal["live", "text"]
RunStatus = Literal[
    "pending",
    "running",
    "paused",
    "completed",
    "stopped",
    "early_stopped",
    "interrupted",
    "diverged",
    "failed",
]

Batch = Mapping[str, np.ndarray | jax.Array]
Draws = Mapping[str, jax.Array]
Device = jax.Device | jax.sharding.Sharding

SAMPLE_DIMS = ("chain", "draw")
"""The leading dimensions of everything that has posterior draws, in this order."""


def callable_name(fn: Callable) -> str:
    """Return what a kernel, a guide or a source is called: its own name, else that of its type.

    Example:
        >>> from functools import partial
        >>> callable_name(len), callable_name(partial(print, end=""))
        ('len', 'partial')
    """
    return getattr(fn, "__name__", type(fn).__name__)


def check_choice(name: str, value: Any, choices: Any) -> Any:
    """Return ``value`` if it is one of the values of the ``Literal`` type ``choices``.

    Args:
        name: The argument's name, for the message.
        value: What was passed.
        choices: A ``Literal[...]``.

    Raises:
        ArgumentError: If it is not; the message lists what is allowed.

    Example:
        >>> check_choice("store", "memory", Store)
        'memory'
    """
    allowed = get_args(choices)
    if value not in allowed:
        listed = ", ".join(repr(choice) for choice in allowed)
        msg = f"{name}={value!r} is not known; use one of {listed}."
        raise ArgumentError(msg)
    return value
