"""Values that are equal have one text, in other processes and types too; others have another."""

from __future__ import annotations

import enum
from datetime import date, datetime, timedelta
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from aimz_lab.kernel.value_text import plain_text


class Way(enum.Enum):
    UP = 1
    DOWN = 2


TABLE = pd.DataFrame({"dose": [1.0, 2.0], "group": ["a", "b"]})


@pytest.mark.parametrize(
    ("one", "alike", "other"),
    [
        (0.5, np.float32(0.5), 0.25),
        (2, jnp.asarray(2.0), 3),
        (0.1 + 0.2, 0.3, 0.31),
        ("a" * 200, "a" * 200, "a" * 199 + "b"),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {"a": 1, "b": [3]}),
        ({3, 1, 2}, {1, 2, 3}, {1, 2}),
        (Way.UP, Way.UP, Way.DOWN),
        (Way.UP, Way(1), enum.Enum("Way", {"UP": 2}).UP),
        (np.arange(3.0), np.arange(3.0) * (1 + 1e-15), np.arange(3.0) * (1 + 1e-6)),
        (np.ones(3), np.ones(3), np.ones((3, 1))),
        (np.ones(3), np.ones(3), np.ones(3, np.int32)),
        (jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.bfloat16), jnp.zeros(3, jnp.bfloat16)),
        (np.array([np.nan, -0.0]), np.array([-np.nan, 0.0]), np.array([1.0, 0.0])),
        (np.arange(2**21), np.arange(2**21), np.arange(2**21) ^ 1),
        (jax.random.key(1), jax.random.key(1), jax.random.key(2)),
        (pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0]), pd.Series([1.0, 3.0])),
        (
            pd.Series([1, 2], ["a", "b"]),
            pd.Series([1, 2], ["a", "b"]),
            pd.Series([1, 2], ["b", "a"]),
        ),
        (pd.Series(["a", None]), pd.Series(["a", None]), pd.Series(["b", None])),
        (TABLE, TABLE.copy(), TABLE.rename(columns={"group": "kind"})),
        (TABLE, TABLE.copy(), TABLE.assign(dose=[1.0, 3.0])),
        (date(2020, 1, 1), date(2020, 1, 1), date(2020, 1, 2)),
        (timedelta(days=1), timedelta(hours=24), timedelta(days=2)),
        (pd.Timestamp("2020-01-01"), datetime(2020, 1, 1), datetime(2020, 1, 1, 1)),
        (Fraction(1, 2), Fraction(2, 4), Fraction(1, 4)),
    ],
)
def test_equal_values_have_one_text(one, alike, other):
    assert plain_text(one) == plain_text(alike) is not None
    assert plain_text(one) != plain_text(other)
    assert len(plain_text(one)) <= 80


@pytest.mark.parametrize(
    "value",
    [object(), np.sum, jnp, {"a": object()}, np.array([object()]), pd.Series([object()])],
)
def test_what_cannot_be_written_out_has_no_text(value):
    assert plain_text(value) is None
