"""What a function reads: another value of any of it is noticed, and nothing else is."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import gc
import itertools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
import xarray as xr
from numpyro import handlers
from numpyro.infer.reparam import LocScaleReparam

from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.reads import fingerprint


@dataclasses.dataclass
class Settings:
    size: float = 1.0


class Plain:
    size = 1.0
    unrelated = 0

    def __init__(self):
        self.own = [1.0]
        self.counter = 0

    def scaled(self, x):
        return x * self.size * self.own[0]


class Slots:
    __slots__ = ("size",)

    def __init__(self):
        self.size = 1.0


class Celsius(float):
    pass


class Kind(enum.Enum):
    ONE = 1
    TWO = 2


def reader(value):
    """A kernel that reads a value from its closure."""

    def kernel(X):
        return X, value, value.size, value.own, value.scaled

    return kernel


def _set(name, new):
    return lambda value: setattr(value, name, new)


def _put(at, new):
    return lambda value: value.__setitem__(at, new)


CHANGES = {
    "dict": (lambda: {"a": 1, "b": {"c": [2]}}, lambda value: value["b"]["c"].append(3)),
    "order of a dict": (lambda: {"a": 1, "b": 2}, lambda value: value.update(a=value.pop("a"))),
    "list": (lambda: [1, 2], _put(0, 2)),
    "int and float": (lambda: [1], _put(0, 1.0)),
    "int and bool": (lambda: [1], _put(0, True)),
    "zeros": (lambda: [0.0], _put(0, -0.0)),
    "float subclass": (lambda: [Celsius(1)], _put(0, Celsius(2))),
    "enum": (lambda: [Kind.ONE], _put(0, Kind.TWO)),
    "set": (lambda: {1, 2}, lambda value: value.add(3)),
    "deque": (lambda: collections.deque([1]), lambda value: value.append(2)),
    "bytearray": (lambda: bytearray(b"ab"), _put(0, 3)),
    "small array": (lambda: np.zeros(5), _put(3, 1.0)),
    "large array": (lambda: np.zeros(100_000, np.float32), _put(77_777, 1.0)),
    "order of a large array": (
        lambda: np.arange(100_000),
        lambda value: value.__setitem__(slice(None), value[::-1].copy()),
    ),
    "order of the rows of a large array": (
        lambda: np.arange(16 * 2048, dtype=np.float32).reshape(16, 2048),
        lambda value: value.__setitem__(slice(None), value[::-1].copy()),
    ),
    "strided array": (lambda: np.zeros((300, 300)).T[::2], _put((2, 3), 1.0)),
    "array of objects": (lambda: np.array([1, "a"], object), _put(0, 2)),
    "dtype of an array": (lambda: [np.zeros(2)], _put(0, np.zeros(2, np.int64))),
    "jax array": (lambda: [jnp.zeros(2)], lambda value: value.__setitem__(0, value[0] + 1)),
    "series": (lambda: pd.Series([1.0, 2.0]), _put(0, 5.0)),
    "index of a series": (lambda: pd.Series([1.0]), _set("index", ["b"])),
    "frame": (lambda: pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), _put("a", [3, 4])),
    "labelled array": (lambda: xr.DataArray([1.0, 2.0], dims="x"), _put(0, 5.0)),
    "dataclass": (Settings, _set("size", 2.0)),
    "namespace": (lambda: types.SimpleNamespace(size=1), _set("size", 2)),
    "attribute": (Plain, lambda value: value.own.append(1.0) or _put(0, 9.0)(value.own)),
    "new attribute": (Plain, _set("size", 2.0)),
    "slots": (Slots, _set("size", 2.0)),
    "distribution": (lambda: [dist.Normal(0.0, 1.0)], _put(0, dist.Normal(0.0, 2.0))),
    "handler": (
        lambda: handlers.condition(reader(1), data={"b": 1.0}),
        lambda value: value.data.update(b=2.0),
    ),
    "decorator with a state": (lambda: functools.wraps(reader)(Plain()), _set("own", [2.0])),
    "reparametrisation": (
        lambda: [LocScaleReparam(0.0)],
        lambda value: _set("centered", 1.0)(value[0]),
    ),
    "partial": (lambda: [functools.partial(max, 1)], _put(0, functools.partial(max, 2))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed(name):
    make, change = CHANGES[name]
    value = make()
    kernel = reader(value)
    before = fingerprint(kernel)
    assert fingerprint(kernel) == before
    assert hash(fingerprint(kernel)) == hash(before)
    change(value)
    assert fingerprint(kernel) != before


SIZE = 1.0


def by_global(X):
    return X * SIZE


def through_a_helper(X):
    return [by_global(part) for part in X]


@jax.jit
def compiled_helper(X):
    return X * SIZE


def through_a_compiled_helper(X):
    return compiled_helper(X)


class Callable_:
    def __call__(self, X):
        return self.helper(X)

    def helper(self, X):
        return X * SIZE

    @property
    def scale(self):
        return SIZE

    @classmethod
    def of_class(cls, X):
        return X * SIZE


def by_name(X):
    return X * globals()["SIZE"]


def through_a_property(X):
    return X * Callable_().scale


def by_import(X):
    from tests.kernel.test_reads import SIZE

    return X * SIZE


def through_a_module(X):
    import tests.kernel.test_reads as module

    return X * module.SIZE


@pytest.mark.parametrize(
    "kernel",
    [
        by_global,
        through_a_helper,
        through_a_compiled_helper,
        Callable_(),
        Callable_().helper,
        Callable_.of_class,
        functools.partial(by_global),
        functools.partial(max, key=by_global),
        by_name,
        through_a_property,
        by_import,
        through_a_module,
        functools.wraps(by_global)(lambda X: through_a_helper(X)),
    ],
)
def test_a_global_is_noticed_however_it_is_reached(kernel, monkeypatch):
    before = fingerprint(kernel)
    monkeypatch.setattr("tests.kernel.test_reads.SIZE", 2.0)
    changed = fingerprint(kernel)
    assert changed != before
    monkeypatch.setattr("tests.kernel.test_reads.SIZE", 1.0)
    assert fingerprint(kernel) == before


def test_a_helper_that_is_defined_anew_is_noticed(monkeypatch):
    before = fingerprint(through_a_helper)
    monkeypatch.setattr("tests.kernel.test_reads.by_global", lambda X: X + SIZE)
    assert fingerprint(through_a_helper) != before


def test_defaults_and_annotations_of_a_function():
    def kernel(X, knots=[1.0], *, degree=2):  # noqa: B006
        return X, knots, degree

    before = fingerprint(kernel)
    kernel.__defaults__[0].append(2.0)
    after = fingerprint(kernel)
    assert after != before
    kernel.__kwdefaults__["degree"] = 3
    assert fingerprint(kernel) != after


def test_what_is_not_read_does_not_count(monkeypatch):
    value = Plain()
    kernel = reader(value)
    before = fingerprint(kernel)
    value.counter += 1
    monkeypatch.setattr(Plain, "unrelated", 9)
    monkeypatch.setattr("tests.kernel.test_reads.SIZE", 7.0)
    assert fingerprint(kernel) == before


def test_nan_equals_itself():
    assert fingerprint(reader([math.nan])) == fingerprint(reader([float("nan")]))


def test_cycles_end():
    value: list = [1]
    value.append({"self": value})
    kernel = reader(value)
    before = fingerprint(kernel)
    assert fingerprint(kernel) == before
    value[0] = 2
    assert fingerprint(kernel) != before


def test_an_object_that_cannot_be_read_counts_as_changed():
    class Hidden:
        def __init__(self):
            self.own = self

        def __array__(self, *_):
            raise ValueError

    kernel = reader(Hidden())
    assert fingerprint(kernel) != fingerprint(kernel)


@pytest.mark.slow
def test_a_freed_array_is_not_taken_for_a_new_one():
    value = [jnp.zeros(3)]
    seen = []
    for step in range(3):
        seen.append(fingerprint(reader(value)))
        value[0] = None
        gc.collect()
        value[0] = jnp.full(3, step)
    assert len(set(seen)) == 3


TRACES = itertools.count()  # read by its identity
SIZES = Settings()


@jax.jit
def shared(x):
    next(TRACES)
    return dist.Normal(x * SIZES.size, 1.0).mean


def of_gamma(x):
    return dist.Gamma(2.0).mean + shared(x)


def of_beta(x):
    return dist.Beta(2.0, 2.0).mean + shared(x)


def of_uniform(x):
    return dist.Uniform(0.0, 1.0).mean + shared(x)


def asked(kernel):
    fingerprint(kernel)
    return float(kernel(1.0))


def test_kernels_that_share_a_helper_keep_its_traces_until_what_it_reads_changes(monkeypatch):
    jax.clear_caches()
    before = next(TRACES)
    assert [asked(one) for one in (of_gamma, of_beta) * 2] == [3.0, 1.5] * 2
    assert next(TRACES) == before + 2
    monkeypatch.setattr(SIZES, "size", 4.0)  # seen first by a kernel that has not been asked yet
    assert [asked(one) for one in (of_uniform, of_beta, of_gamma)] == [4.5, 4.5, 6.0]
    assert next(TRACES) == before + 4
    monkeypatch.setattr(SIZES, "size", 2.0)  # and by one that has been
    assert [asked(one) for one in (of_gamma, of_uniform, of_beta)] == [4.0, 2.5, 2.5]


def test_a_change_is_noticed_however_many_kernels_share_a_helper(monkeypatch):
    kernels = {}
    for i in range(10):
        monkeypatch.setattr(dist, f"name_{i}", 0.0, raising=False)
        exec(f"def kernel_{i}(x): return shared(x) + dist.name_{i}", globals(), kernels)
    assert [asked(kernel) for kernel in kernels.values()] == [1.0] * 10
    monkeypatch.setattr(SIZES, "size", 3.0)
    assert [asked(kernel) for kernel in kernels.values()] == [3.0] * 10


FACTOR = 1.0


def test_a_copy_of_a_key_keeps_what_was_read(monkeypatch):
    """The programs under it were compiled for that."""
    before = CodeKey(times_factor)
    monkeypatch.setitem(globals(), "FACTOR", 2.0)
    copied = copy.deepcopy({before: "compiled for 1"})
    assert before in copied
    assert CodeKey(times_factor) not in copied


def times_factor(x):
    return x * FACTOR
