"""Check random keys, and derive keys from them on the host.

The derived keys equal those of ``jax.random``. NumPy derives them in a millisecond, where JAX would
compile for a tenth of a second.
"""

from __future__ import annotations

import copyreg
import functools
import itertools
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Integer, Key, UInt32

from aimz_lab.errors import DataTypeError
from aimz_lab.types import shown

THREEFRY = "threefry2x32"
"""JAX's default generator, and the only one that :func:`fold_in` implements."""

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def as_typed_key(rng_key: object) -> Key[jax.Array, ""]:
    """Return a single typed random key; a legacy ``uint32`` key is converted.

    Args:
        rng_key: From ``jax.random.key`` or ``jax.random.PRNGKey``.

    Raises:
        DataTypeError: If it is not a key, or is an array of several.

    Example:
        >>> as_typed_key(jax.random.PRNGKey(7)) == jax.random.key(7)
        Array(True, dtype=bool)
    """
    dtype = getattr(rng_key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        key = rng_key
    elif dtype == np.uint32 and np.ndim(rng_key):
        try:
            key = jax.random.wrap_key_data(jnp.asarray(rng_key))
        except (TypeError, ValueError) as error:
            msg = f"rng_key has the shape {np.shape(rng_key)} of no key; use jax.random.key(0)."
            raise DataTypeError(msg) from error
    else:
        kind = type(rng_key).__name__
        msg = f"rng_key must be a key such as jax.random.key(0), got {shown(rng_key)} ({kind})."
        raise DataTypeError(msg)
    if key.shape != ():
        msg = f"rng_key must be a single key, got an array of keys of shape {key.shape}; pass one."
        raise DataTypeError(msg)
    # JAX pickles a key with a copy of its generator, which samplers refuse in another process.
    copyreg.pickle(type(key), _by_name)
    return key


def _by_name(key: Key[jax.Array, ...]) -> str | tuple[Any, ...]:
    """Reduce a key to its words and the name of its generator, for pickling."""
    name = jax.random.key_impl(key)
    if not isinstance(name, str):  # a generator that is not registered has no name
        return key.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    return functools.partial(jax.random.wrap_key_data, impl=name), (jax.random.key_data(key),)


def key_data(key: Key[jax.Array, ""]) -> UInt32[np.ndarray, " word"]:
    """Return the data of a key as NumPy: two 32-bit words for Threefry.

    Example:
        >>> key_data(jax.random.key(7))
        array([0, 7], dtype=uint32)
    """
    return np.asarray(jax.random.key_data(key))


def derive_key(key: Key[jax.Array, ""], *numbers: int) -> Key[jax.Array, ""]:
    """Derive a key from a key and a number, as ``jax.random.fold_in`` does.

    Args:
        key: A typed key.
        *numbers: An integer from 0 to 2^32 - 1; with several, each derives from the key before.

    Example:
        >>> key = jax.random.key(3)
        >>> bool(derive_key(key, 5) == jax.random.fold_in(key, 5))
        True
        >>> bool(derive_key(key, 5, 1) == derive_key(derive_key(key, 5), 1))
        True
    """
    if jax.random.key_impl(key) != THREEFRY:
        return functools.reduce(jax.random.fold_in, numbers, key)
    data = functools.reduce(fold_in, map(np.asarray, numbers), key_data(key))
    return jax.random.wrap_key_data(data, impl=THREEFRY)


def fold_in(
    keys: UInt32[np.ndarray, "*#key 2"], numbers: Integer[np.ndarray, "*#key"]
) -> UInt32[np.ndarray, "*key 2"]:
    """Derive Threefry keys from keys and numbers, elementwise.

    Threefry-2x32 with 20 rounds; Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as
    easy as 1, 2, 3".

    Args:
        keys: Data of the keys.
        numbers: Integers from 0 to 2^32 - 1; broadcast against the keys.

    Returns:
        Data of the new keys.

    Example:
        >>> one = fold_in(key_data(jax.random.key(3)), np.arange(4))[2]
        >>> bool((one == key_data(jax.random.fold_in(jax.random.key(3), 2))).all())
        True
    """
    first, second = keys[..., :1], keys[..., 1:]
    schedule = itertools.cycle((second, first ^ second ^ _PARITY, first))
    ahead, behind = next(schedule), next(schedule)
    x, y = np.broadcast_arrays(first, second + np.asarray(numbers, dtype=np.uint32)[..., None])
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x = x + y
            y = x ^ (y << np.uint32(rotation) | y >> np.uint32(32 - rotation))
        x, y = x + ahead, y + behind + np.uint32(group + 1)
        ahead, behind = behind, next(schedule)
    return np.concatenate([x, y], axis=-1)
