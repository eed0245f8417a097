"""Values that arguments may wrongly have, and which of them a kind of argument takes."""

from __future__ import annotations

import datetime
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr

from aimz_lab import Callback, Mean
from tests.property.call_world import World

Make = Callable[[World], Any]
HUGE = 2**40

# ruff: noqa: E501
_PLAIN = (
    None, True, False, np.True_, 0, 1, -5, 2, HUGE, 10**30, 10**400, np.int64(3), np.uint8(2), 0.5, 1.5, -0.5,
    0.0, 1.0, math.nan, math.inf, 1j, np.float32(0.25), "", "no", "auto", "X", "y", "slope", "mu",
    "../x", "a\0b", b"bytes", (), [], {}, frozenset(), [1], [[1, 2], [3]], [None], ["mu"], ["mu", 1],
    ("mu", "mu"), ["nope"], {"a": 1}, {1: 2}, {"y": 0.0}, {"slope": 1.0}, {"slope": "x"},
    {"slope": None}, {"mu": ["row"]}, {"mu": 5}, {"y": None}, {"X": None}, [{"X": 1}], {"a": {"b": {}}},
    [("mean",)], {"m": "mean"}, {"m": 5}, ["mean", "mean"], "mean", "loo", "draw", "memory", "loss",
    len, print, dict, int, Callback, Mean, Callback(), Mean(), object(), Ellipsis, NotImplemented,
    slice(None), range(3), datetime.date(2020, 1, 1), ValueError("x"),
)  # fmt: skip

_MADE: dict[str, Make] = {
    "array of rows": lambda w: w.X,
    "one column": lambda w: w.X[:, 0],
    "three columns": lambda w: np.zeros((12, 3), np.float32),
    "three axes": lambda w: np.zeros((12, 2, 2), np.float32),
    "fewer rows": lambda w: w.X[:5],
    "short y": lambda w: w.y[:5],
    "no rows": lambda w: w.X[:0],
    "0-d array": lambda w: np.array(3.0),
    "0-d int": lambda w: np.array(3),
    "0-d flag": lambda w: np.array(True),
    "0-d jax": lambda w: jnp.array(2),
    "object array": lambda w: np.array([object()] * 12),
    "mixed objects": lambda w: np.array([1, "a", None], dtype=object),
    "text array": lambda w: np.array(["a"] * 12),
    "bytes array": lambda w: np.array([b"a"] * 12),
    "complex array": lambda w: w.X + 1j,
    "dates": lambda w: np.arange("2020-01", "2021-01", dtype="datetime64[M]"),
    "durations": lambda w: np.arange(12).astype("timedelta64[s]"),
    "records": lambda w: np.zeros(12, dtype=[("a", "f4"), ("b", "i4")]),
    "bool array": lambda w: w.y > 0,
    "int array": lambda w: np.arange(12),
    "long double": lambda w: w.X.astype(np.longdouble),
    "half": lambda w: w.X.astype(np.float16),
    "huge numbers": lambda w: w.X.astype(np.float64) * 1e300,
    "huge ints": lambda w: np.arange(12) * HUGE,
    "NaN rows": lambda w: np.full((12, 2), np.nan, np.float32),
    "masked": lambda w: np.ma.masked_array(w.y, w.y > 0),
    "jax array": lambda w: jnp.asarray(w.X),
    "old key": lambda w: jax.random.PRNGKey(1),
    "new key": lambda w: jax.random.key(1),
    "two keys": lambda w: jax.random.split(jax.random.key(1)),
    "two old keys": lambda w: jax.random.split(jax.random.PRNGKey(1)),
    "other key": lambda w: jax.random.key(1, impl="rbg"),
    "nested": lambda w: _nested(40),
    "endless list": lambda w: _of_itself(),
    "series": lambda w: pd.Series(w.y),
    "frame": lambda w: pd.DataFrame(w.X, columns=["a", "b"]),
    "frame of text": lambda w: pd.DataFrame({"a": ["x"] * 12, "b": ["y"] * 12}),
    "index": lambda w: pd.RangeIndex(12),
    "polars": lambda w: _polars(w),
    "data array": lambda w: xr.DataArray(w.X, dims=("obs", "c")),
    "xarray dataset": lambda w: xr.Dataset({"a": ("obs", w.y)}),
    "empty tree": lambda w: xr.DataTree(),
    "tree": lambda w: w.tree,
    "summary tree": lambda w: w.plain.predict(w.X, reduce="mean", store="memory", progress=False),
    "dataset of a tree": lambda w: w.tree["posterior_predictive"].to_dataset(),
    "duration": lambda w: np.timedelta64(3, "s"),
    "generator": lambda w: (i for i in range(3)),
    "batches": lambda w: iter([{"X": w.X, "y": w.y}]),
    "odd batches": lambda w: [{"X": w.X}, {"X": w.X[:, 0]}, 5],
    "dataset": lambda w: w.dataset,
    "loader": lambda w: w.loader,
    "run": lambda w: w.run,
    "model": lambda w: w.plain,
    "svi": lambda w: w.svi(),
    "world's folder": lambda w: w.folder,
    "no folder": lambda w: w.folder / "none" / "of" / "it",
    "history file": lambda w: w.history_file,
    "saved model": lambda w: w.saved,
    "store": lambda w: w.store,
    "device": lambda w: jax.devices()[0],
    "callbacks": lambda w: [Callback()],
    "callback class": lambda w: [Callback],
    "strange equality": lambda w: _Strange(),
    "bad repr": lambda w: _BadRepr(),
}  # fmt: skip


class _Strange:
    """Compares like an array, and is not hashable."""

    __hash__ = None

    def __eq__(self, other: object) -> Any:
        return np.array([True, False])


class _BadRepr:
    def __repr__(self) -> str:
        return "x" * 100_000


def _nested(depth: int) -> Any:
    value: Any = 1.0
    for _ in range(depth):
        value = [value]
    return value


def _of_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _polars(world: World) -> Any:
    try:
        import polars as pl
    except ImportError:
        return None
    return pl.DataFrame({"a": world.X[:, 0], "b": world.X[:, 1]})


VALUES: dict[str, Make] = {
    **{repr(value)[:40]: (lambda _, value=value: value) for value in _PLAIN},
    **_MADE,
}
"""Values by what a report calls them."""


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_) or (
        isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype == bool
    )


def _is_int(value: Any) -> bool:
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 0:
        return jnp.issubdtype(value.dtype, jnp.integer)
    return isinstance(value, int | np.integer) and not isinstance(value, bool | np.timedelta64)


def _is_count(value: Any) -> bool:
    return _is_int(value) and int(value) >= 1


def _is_number(value: Any) -> bool:
    if isinstance(value, np.ndarray | jax.Array) and value.ndim == 0:
        return jnp.issubdtype(value.dtype, jnp.floating) or _is_int(value)
    return isinstance(value, numbers.Real) and not isinstance(
        value, bool | np.bool_ | np.timedelta64
    )


def _are_names(value: Any) -> bool:
    if isinstance(value, str):
        return True
    listed = isinstance(value, Iterable) and not isinstance(value, bytes | Mapping)
    # A generator was used up by the call that is judged.
    return listed and (isinstance(value, type(iter([]))) or all(isinstance(n, str) for n in value))


def _one_of(*choices: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices


def _or_none(rule: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or rule(value)


def _share(value: Any) -> bool:
    return _is_number(value) and 0 < float(value) < 1


RULES: dict[str, Callable[[Any], bool]] = {
    "flag": _is_flag,
    "flag or None": _or_none(_is_flag),
    "count": _is_count,
    "count or None": _or_none(_is_count),
    "count or auto": lambda value: _is_count(value) or _one_of("auto")(value),
    "number": _is_number,
    "positive": lambda value: _is_number(value) and 0 < float(value) < math.inf,
    "at least 0": lambda value: _is_number(value) and float(value) >= 0,
    "share": _share,
    "names": _are_names,
    "names or None": _or_none(_are_names),
    "store": _one_of("memory", "persistent"),
    "shard_axis": _one_of("obs", "draw"),
    "rows": _one_of("auto", "independent"),
    "held": _one_of("refuse", "redraw", "keep"),
    "on_nonfinite": _one_of("stop", "skip", "raise"),
    "monitor": _one_of("loss", "validation"),
    "monitor or None": _or_none(_one_of("loss", "validation")),
    "progress": lambda value: _is_flag(value) or _one_of("live", "text")(value),
    "key": lambda value: hasattr(value, "dtype"),
    "key or None": lambda value: value is None or hasattr(value, "dtype"),
    "text": lambda value: isinstance(value, str),
    "text or None": lambda value: value is None or isinstance(value, str),
    "callable": callable,
    "mapping or None": _or_none(lambda value: isinstance(value, Mapping)),
    "callbacks or None": lambda value: value is None or RULES["callbacks"](value),
    "callable or None": _or_none(callable),
    "callbacks": lambda value: (
        isinstance(value, Iterable) and all(isinstance(one, Callback) for one in value)
    ),
    "anything": lambda value: True,
}
"""Which values a call may accept, by kind of argument; others must be refused."""
