"""Values that all rows share are compared with those of the training."""

from __future__ import annotations

import copy
import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.shared_checksum import shared_checksum
from aimz_lab.inference.feeds.training_data import TrainingData


@dataclass(slots=True, frozen=True)
class Slotted:
    size: int


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


def schema_of(**shared):
    rows = {"X": np.ones((4, 2), np.float32)}
    arrays = {name: each for name, each in shared.items() if hasattr(each, "dtype")}
    static = {name: each for name, each in shared.items() if name not in arrays}
    return InputSchema.of(TrainingData(rows, arrays, static, 4, 4), with_sums=True)


def test_values_are_compared_as_numbers_of_any_type():
    trained = schema_of(price=0.1, knots=np.arange(3.0), link=np.exp, unit="kg")
    alike = {"price": np.float32(0.1), "knots": jnp.arange(3), "link": np.exp, "unit": "kg"}
    assert trained.changed(alike, {}) == set()
    for name, other in {"price": 0.2, "knots": np.arange(4.0), "link": np.log, "unit": "g"}.items():
        assert trained.changed({**alike, name: other}, {}) == {name}
    assert trained.changed({}, {}) == {*alike}
    assert trained.changed({**alike, "more": 1}, {}) == {"more"}
    keys = ({"key": jax.random.key(seed)} for seed in range(2))
    assert len({shared_checksum(each) for each in keys}) == 2


def test_an_argument_left_out_has_its_default():
    trained = schema_of(price=0.1)
    assert trained.changed({}, {"price": 0.1, "unit": "kg"}) == set()
    assert trained.changed({"price": 0.1, "unit": "kg"}, {"price": 3.0, "unit": "kg"}) == set()
    assert trained.changed({}, {"price": 3.0}) == {"price"}
    assert trained.changed({"price": 0.1, "unit": "g"}, {"unit": "kg"}) == {"unit"}


def powers(exponent, scale=1.0):
    def power(x):
        return scale * x**exponent

    return power


class Spline:
    def __init__(self, knots):
        self.knots = knots

    def __call__(self, x):
        return np.interp(x, self.knots, self.knots)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (powers(2), powers(3)),
        (partial(powers, scale=1.0), partial(powers, scale=2.0)),
        (Spline([0, 1]), Spline([0, 2])),
        (Spline([0, 1]).__call__, Spline([0, 2]).__call__),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x: np.sin(x), lambda x: np.cos(x)),
        ({"a": {1, 2}}, {"a": {1, 3}}),
        (dt.date(2026, 1, 1), dt.date(2026, 1, 2)),
        (np.datetime64("2026-01-01"), np.datetime64("2026-01-02")),
        (np.array(["2026-01-01"], "M8[D]"), np.array(["2026-01-02"], "M8[D]")),
        (np.array(["a", None], object), np.array(["b", None], object)),
        (pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-02")),
        (Decimal("0.1"), Decimal("0.2")),
        (Fraction(1, 3), Fraction(2, 3)),
        (1 + 2j, 1 + 3j),
        (Slotted(1), Slotted(2)),
        (Colour.RED, Colour.BLUE),
    ],
)
def test_functions_are_told_apart_by_what_they_were_made_with(one, other):
    assert shared_checksum({"f": one}) == shared_checksum({"f": copy.deepcopy(one)})
    assert shared_checksum({"f": one}) != shared_checksum({"f": other})
