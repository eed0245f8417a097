"""Type aliases that several rooms share, and the check of a ``Literal`` argument."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_args, runtime_checkable

import jax
import numpy as np
from jaxtyping import Key, PyTree, Shaped, UInt32
from numpy.typing import ArrayLike

from aimz_lab.errors import ArgumentError

_T = TypeVar("_T")

Store = Literal["persistent", "memory"]
ShardAxis = Literal["obs", "draw"]
RowDependence = Literal["auto", "independent"]
Held = Literal["refuse", "redraw", "keep"]
OnNonFinite = Literal["stop", "skip", "raise"]
OnBadStep = Literal["raise", "skip"]
OutputScale = Literal["outcome", "model"]
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

Array: TypeAlias = np.ndarray | jax.Array
"""An array on the host or on a device."""

Arrays: TypeAlias = Mapping[str, Array]
"""Arrays by name."""

Rows: TypeAlias = Mapping[str, Shaped[Array, "row ..."]]
"""Arrays by field or kernel argument; their leading axes are the same rows."""

Batch: TypeAlias = dict[str, Shaped[Array, "row ..."]]
"""The rows of one training step, by field."""

HostRows: TypeAlias = dict[str, Shaped[np.ndarray, "row ..."]]
"""Rows in host memory, by field or kernel argument."""

RandomKey: TypeAlias = Key[jax.Array, ""] | UInt32[jax.Array, " word"]
"""A single random key, typed or legacy."""

Device: TypeAlias = jax.Device | jax.sharding.Sharding
"""Where arrays go: one device, or several and how the arrays are split among them."""

Shared: TypeAlias = Mapping[str, PyTree[Array]]
"""Kernel arguments that every batch gets whole: arrays, or containers of arrays."""

Static: TypeAlias = Mapping[str, Hashable]
"""Kernel arguments without arrays: constants of the compiled program."""

StaticKey: TypeAlias = tuple[tuple[str, type, Hashable], ...]
"""Static arguments as a hashable key."""

Columns: TypeAlias = Mapping[str, tuple[str, ...]]
"""Column names of each field that came as a data frame."""

Arguments: TypeAlias = Mapping[str, Any]
"""Kernel arguments by name, of any type."""

Params: TypeAlias = Mapping[str, PyTree[jax.Array]]
"""Parameters by name; those of a network are a tree of arrays."""

Coords: TypeAlias = Mapping[str, ArrayLike]
"""Labels by dimension."""

JsonObject: TypeAlias = dict[str, Any]
"""What ``json.loads`` returns for an object."""


@runtime_checkable
class Executor(Protocol):
    """Runs functions elsewhere, as executors of ``concurrent.futures`` and Dask's clients do."""

    def submit(self, function: Callable, /, *arguments: Any) -> Any:
        """Run a function; the future that is returned has ``result()`` and ``cancel()``."""


class HasShape(Protocol):
    """An array, or a stand-in such as ``jax.ShapeDtypeStruct``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""
        ...


SAMPLE_DIMS = ("chain", "draw")
"""The leading dimensions of everything with posterior draws, in this order."""


def callable_name(fn: Callable) -> str:
    """Return the name of a kernel, a guide or a source; without one, the name of its type.

    Example:
        >>> from functools import partial
        >>> callable_name(len), callable_name(partial(print, end=""))
        ('len', 'partial')
    """
    return getattr(fn, "__name__", type(fn).__name__)


def shown(value: object) -> str:
    """Return a few words that show any value in a message.

    Args:
        value: Anything; arrays are shown by their shape, long values by their beginning.

    Example:
        >>> shown(0.5), shown(np.ones((3, 2)))
        ('0.5', '<float64 array of shape (3, 2)>')
    """
    if isinstance(value, np.ndarray | jax.Array) and value.ndim:
        return f"<{value.dtype} array of shape {value.shape}>"
    try:
        # Of a large or deep container, only the beginning is written.
        text = _SHORT.repr(value) if isinstance(value, _CONTAINERS) else repr(value)
    except Exception:  # noqa: BLE001  of an object of the user's
        return f"<{type(value).__name__}>"
    if len(text) <= _SHOWN and "\n" not in text:
        return text
    return f"<{type(value).__name__}: {text[:_SHOWN].splitlines()[0]}...>"


_SHOWN = 80  # characters
_CONTAINERS = (dict, list, tuple, set, frozenset, str, bytes, int)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = _SHOWN
_SHORT.maxlevel = 3


def check_choice(name: str, value: _T, choices: object) -> _T:
    """Return ``value`` if the ``Literal`` type ``choices`` contains it.

    Args:
        name: The argument's name, for the message.
        value: The value passed.
        choices: A ``Literal[...]`` of texts.

    Raises:
        ArgumentError: If not; the message lists the allowed values.

    Example:
        >>> check_choice("store", "memory", Store)
        'memory'
    """
    allowed = get_args(choices)
    if not isinstance(value, str) or value not in allowed:
        listed = ", ".join(repr(choice) for choice in allowed)
        msg = f"{name}={shown(value)} is not known; use one of {listed}."
        raise ArgumentError(msg)
    return value
