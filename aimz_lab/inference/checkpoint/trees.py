"""Trees of arrays and random keys as named arrays of a file, and the checks on the way back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpy.typing import DTypeLike

from aimz_lab.files import Malformed
from aimz_lab.types import shown

_MISSING = "missing"
_SHOWN = 200


def tree_facts(tree: PyTree) -> dict[str, str]:
    """Describe the leaves of a tree of arrays and random keys: type and shape by path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _kind(leaf) for path, leaf in leaves}


def tree_arrays(prefix: str, tree: PyTree) -> dict[str, np.ndarray]:
    """Return the leaves of a tree of arrays and random keys as arrays to store, named by number."""
    return {f"{prefix}/{i}": _to_array(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def tree_from(arrays: Mapping[str, np.ndarray], prefix: str, template: PyTree) -> PyTree:
    """Return the tree that :func:`tree_arrays` stored.

    Args:
        arrays: The stored arrays.
        prefix: Prefix of their names.
        template: A tree of the same structure, whose leaves have the same shapes and types.

    Raises:
        Malformed: If an array is missing, or has another shape or type.
    """
    leaves, structure = jax.tree.flatten_with_path(template)
    restored = [
        _leaf_like(array_of(arrays, f"{prefix}/{i}"), leaf, jax.tree_util.keystr(where))
        for i, (where, leaf) in enumerate(leaves)
    ]
    return jax.tree.unflatten(structure, restored)


def array_of(arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return an array of a file.

    Raises:
        Malformed: If there is none of this name.
    """
    if name not in arrays:
        msg = f"the array {name!r} is missing"
        raise Malformed(msg)
    return arrays[name]


def check_names(arrays: Mapping[str, np.ndarray], expected: Iterable[str]) -> None:
    """Check that a file has these arrays and no others.

    Raises:
        Malformed: With a name.
    """
    expected = set(expected)
    for name in expected:
        array_of(arrays, name)
    for name in arrays:
        if name not in expected:
            msg = f"the array {shown(name)} is not known"
            raise Malformed(msg)


def check_array(
    name: str, array: np.ndarray, dtype: DTypeLike, shape: tuple[int, ...]
) -> np.ndarray:
    """Return an array that has this type and shape.

    Raises:
        Malformed: If it has not.
    """
    if array.dtype != dtype or array.shape != shape:
        got, expected = f"{array.dtype}{list(array.shape)}", f"{np.dtype(dtype)}{list(shape)}"
        msg = f"the array {name!r} is {got}; expected {expected}"
        raise Malformed(msg)
    return array


def differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """Return the differences of two mappings, in the order of the first.

    Example:
        >>> differences({"rows": 3, "k": 1}, {"rows": 4, "k": 1})
        ['rows is 3 there and 4 here']
        >>> differences({"a": {"shape": [2]}}, {"a": {"shape": [3]}, "b": {"shape": []}})
        ['a: shape is [2] there and [3] here', 'b is missing there']
    """
    found = []
    for name in dict.fromkeys([*there, *here]):
        one, other = there.get(name, _MISSING), here.get(name, _MISSING)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found += [f"{_short(name)}: {inner}" for inner in differences(one, other)]
        elif isinstance(one, Mapping) and other is _MISSING:
            found.append(f"{_short(name)} is missing here")
        elif isinstance(other, Mapping) and one is _MISSING:
            found.append(f"{_short(name)} is missing there")
        elif one != other:
            found.append(f"{_short(name)} is {_short(one)} there and {_short(other)} here")
    return found


def state_differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """Return what differs of two states of a training, of which :func:`tree_facts` told.

    Example:
        >>> state_differences({".i": "int32[]"}, {".i": "int8[]"})
        ['guide and optimizer have a state of other arrays: .i is int32[] there and int8[] here']
    """
    found = differences(there, here)
    return [f"guide and optimizer have a state of other arrays: {found[0]}"] if found else []


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _kind(leaf: ArrayLike) -> str:
    if _is_key(leaf):
        return f"key {jax.random.key_impl(leaf)}{list(leaf.shape)}"
    array = jnp.asarray(leaf)
    return f"{array.dtype}{list(array.shape)}"


def _is_key(leaf: ArrayLike) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_array(leaf: ArrayLike) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf))


def _leaf_like(array: np.ndarray, template: ArrayLike, where: str) -> jax.Array:
    if _is_key(template):
        words = jax.eval_shape(jax.random.key_data, template)
        check_array(where, array, words.dtype, words.shape)
        return jax.random.wrap_key_data(array, impl=str(jax.random.key_impl(template)))
    template = jnp.asarray(template)
    check_array(where, array, template.dtype, template.shape)
    if template.weak_type and array.ndim == 0:
        # A weakly typed counter stays one: the same program, and so the same bits, as before.
        return jnp.asarray(array.item())
    return jnp.asarray(array)
