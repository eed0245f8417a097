"""Arithmetic of columns is that of real numbers, row by row; what cannot be exact is refused."""

from __future__ import annotations

import decimal
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from aimz_lab.errors import ArgumentError, DataError, DataTypeError
from aimz_lab.tables.decimals import shortest_decimals
from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.table_spec import TableSpec


def encoded(formula, **columns):
    """Return an argument, encoded in training, again, and by the saved encoder."""
    table = pd.DataFrame(columns)
    encoder, first = TableEncoder.learn_and_encode(TableSpec(X=formula), table)
    saved = TableEncoder.of_plain(encoder.as_plain())
    values = np.asarray(first.arguments["X"])
    for again in (encoder, saved):
        np.testing.assert_array_equal(again.encode(table).arguments["X"], values)
    return values


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", "Int16", "float16", "float32"])
def test_small_types_do_not_wrap_around(dtype):
    x = pd.array([100, 120, 127], dtype=dtype)
    np.testing.assert_array_equal(encoded("I(x * x)", x=x), [10_000, 14_400, 16_129])
    np.testing.assert_array_equal(encoded("I(x - 110)", x=x), [-10, 10, 17])
    np.testing.assert_array_equal(encoded("x:z", x=x, z=x)[:, 0], [10_000, 14_400, 16_129])


def test_large_numbers_do_not_wrap_around():
    np.testing.assert_allclose(encoded("I(x**2)", x=[2**32, 2**33]), [2.0**64, 2.0**66])
    large = pd.array([2**63 + 2**62, 1], dtype="UInt64")
    np.testing.assert_allclose(encoded("x", x=large), [2.0**63 + 2.0**62, 1])


def test_single_precision_is_scaled_in_double():
    x = np.random.default_rng(0).normal(1e6, 1, 20_000).astype(np.float32)
    assert encoded("scale(x)", x=x).std(dtype=np.float64) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "Float32", "float[pyarrow]"])
def test_numbers_are_compared_in_the_precision_of_their_column(dtype):
    x = pd.Series([0.1, 0.2, -0.3]).astype(dtype)
    for formula, expected in {
        "I(x == 0.1)": [1, 0, 0],
        "I(x <= 0.1)": [1, 0, 1],
        "I(-0.3 < x)": [1, 1, 0],
        "np.where(x != 0.2, x, 0)": [0.1, 0, -0.3],
        "I(1 - x == 0.9)": [1, 0, 0],
        "I(np.abs(x) < 0.2)": [1, 0, 0],
        "I(x == z)": [1, 1, 1],
        "I(x == 0.1000000001)": [x.dtype != np.float64, 0, 0],
    }.items():
        np.testing.assert_allclose(encoded(formula, x=x, z=[0.1, 0.2, -0.3]), expected, rtol=1e-3)


def test_single_precision_with_gaps_is_compared_as_such():
    table = pl.DataFrame({"x": [0.1, None, 0.2]}, schema={"x": pl.Float32})
    spec = TableSpec(X="I(x == 0.1)", missing="drop")
    _, (arguments, _) = TableEncoder.learn_and_encode(spec, table, quietly=True)
    assert arguments["X"].tolist() == [1, 0]


def test_numbers_of_low_precision_keep_their_value():
    rng = np.random.default_rng(0)
    ends = [0.0, 1e-40, 3.4e38, np.float32(16_777_217), -0.3]
    x = np.concatenate([rng.normal(size=500), 10 ** rng.uniform(-30, 30, 500), ends])
    for dtype in (np.float32, np.float16):
        with np.errstate(over="ignore"):
            values = x.astype(dtype)
        values = values[np.isfinite(values)]
        found = shortest_decimals(values.astype(float), np.dtype(dtype))
        np.testing.assert_array_equal(found.astype(dtype), values)
    assert shortest_decimals(np.float32([0.1, 1e-3]).astype(float), np.dtype("f4")).tolist() == [
        0.1,
        1e-3,
    ]


def test_decimals_of_arrow_keep_their_fraction():
    dtype = pd.ArrowDtype(pa.decimal128(5, 2))
    x = pd.Series([decimal.Decimal("1.5"), decimal.Decimal("2.25")], dtype=dtype)
    np.testing.assert_array_equal(encoded("x", x=x), [1.5, 2.25])


def test_booleans_of_a_formula_are_saved():
    flags = {"x": [True, False, True], "z": [True, True, False]}
    np.testing.assert_array_equal(encoded("I(x & z)", **flags), [1, 0, 0])
    np.testing.assert_array_equal(encoded("I(~(x > z))", **flags), [1, 1, 0])


@pytest.mark.parametrize(
    ("formula", "instead"),
    [
        ("x + x**2", "I(x**2)"),
        ("z + x^2", "I(x**2)"),
        ("z + `x`**2", "I(x**2)"),
        ("C(x)**2", "I(x**2)"),
        ("z + scale(x) * scale(x)", "I(x**2)"),
        ("z + x:x", "I(x**2)"),
        ("x - z", "I(x - z)"),
        ("-x", "I(x - z)"),
        ("z + 3:x", "I(3 * x)"),
        ("~x", "I(won == 0)"),
        (
            "days/30",
            "divides by a number, and terms have none; write it in a function, I(days / 30)",
        ),
        ("1 / x", "I(1 / x)"),
        ("z + (x + z) / 30", "as in I(x / 2)"),
        ("2 * log(x)", "I(2 * log(x))"),
        ("`a b` / 1e3", "I(`a b` / 1e3)"),
        ("x + 1.5", "has a number as a term"),
        ("x**1.5", "I(x ** 1.5)"),
        ("x**(-1)", "has a power of numbers"),
        ("x > 0", "Unknown operator '>'. Outside of functions"),
        ("poly(x, 2.5)", "is a whole number"),
        ("np.where(x > 0, 1)", "takes 3 values"),
    ],
)
def test_arithmetic_outside_of_functions_is_refused(formula, instead):
    """Operators of terms would leave the column as it is, without a word."""
    with pytest.raises(ArgumentError, match=re.escape(instead)):
        TableSpec(y=formula)


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        (["x:z", "x"], r"another order than its list.*Write \['x', 'x:z'\]"),
        (["x", "1"], r"Write \['1', 'x'\]"),
        (["x * z", "`a b`"], r"Write \['x', 'z', '`a b`', 'x:z'\]"),
        (["x", "scale(z)", "x"], "has 'x' already"),
        (["x + z", "z"], "has 'z' already"),
        (["index(x)"], "function index of .* is not allowed"),
    ],
)
def test_columns_come_in_the_order_of_their_list(terms, said):
    """A kernel that takes them by position would have others."""
    with pytest.raises(ArgumentError, match=said):
        TableSpec(X=terms)
    in_order = encoded(["x", "C(w)", "x:z"], x=[2, 3, 4], z=[5, 6, 8], w=["p", "q", "p"])
    np.testing.assert_array_equal(in_order, [[2, 0, 10], [3, 1, 18], [4, 0, 32]])


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("I(-(x > 2))", r"opposite. Write -1 \* \(x > 2\)"),
        ("I(x - (-(x > 2)))", "takes it for the opposite"),
        ("I(np.where(x > 1, x > 2, x > 0) + (x > 3))", "sum of two comparisons"),
        ("I(np.maximum(x > 1, x > 2) + (x > 3))", "with few digits. Write 1"),
        ("exp(x > 2)", "with few digits. Write 1"),
        ("x + np.log1p(I(x > 2))", "with few digits. Write 1"),
    ],
)
def test_arithmetic_of_truth_values_that_pandas_does_otherwise_is_refused(formula, said):
    with pytest.raises(ArgumentError, match=said):
        TableSpec(X=formula)
    np.testing.assert_allclose(encoded("exp(1 * (x > 2))", x=[1, 3]), [1, np.e], rtol=1e-6)
    np.testing.assert_array_equal(encoded("I(-1 * (x > 2))", x=[1, 3]), [0, -1])


@pytest.mark.parametrize("compared", ["'size' == 'S'", "'size' > 1", "'S' != 'size'"])
def test_a_comparison_without_a_column_is_refused(compared):
    """It would be the same in each row."""
    with pytest.raises(ArgumentError, match="compares no column.*in backticks"):
        TableSpec(X=f"I({compared}) + x")


@pytest.mark.parametrize("terms", [["x", "z - x"], ["x", "z", "x - z"], ["`x`", "z - `x`"]])
def test_a_term_of_a_list_takes_nothing_out_of_the_others(terms):
    with pytest.raises(ArgumentError, match=r"takes out a term that it does not have"):
        TableSpec(X=terms)


@pytest.mark.parametrize(
    ("formula", "columns"),
    [
        ("(x + z)**2", ["x", "z", "x:z"]),
        ("x * z - z", ["x", "x:z"]),
        ("x / z", ["x", "x:z"]),
        ("x + z - 1", ["x", "z"]),
        ("0 + x + z", ["x", "z"]),
        ("x + z + x", ["x", "z"]),
    ],
)
def test_operators_of_terms_stay(formula, columns):
    table = pd.DataFrame({"x": [1.0, 2.0, 4.0], "z": [3.0, 1.0, 0.0]})
    made = TableEncoder.learn_and_encode(TableSpec(X=formula), table)[1]
    assert made.arguments["X"].columns.tolist() == columns


@pytest.mark.parametrize(
    ("last", "first"), [(0.7, [True, False]), ("maybe", [True, False]), (["a"], ["a", "b"])]
)
def test_the_kind_of_a_column_is_that_of_all_rows(last, first):
    column = pd.Series([*first * 600, last], dtype=object)
    with pytest.raises(DataTypeError, match=f"{type(last).__name__}"):
        encoded("index(x)", x=column)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("I(~x)", r"Write \(1 - x\)"),
        ("I((x > 1) + (z > 1))", "True and not 2"),
        ("I(1 < x < 3)", "whole columns"),
        ("I(x + 0 == '1')", "equal no text"),
        ("I(x @ z)", "not allowed"),
        ("I(x is 1)", "not allowed"),
        ("I(x * [1, 2, 3])", "not allowed"),
        ("log(x, z)", "takes 1 value"),
        ("np.maximum(x, 2, z)", "takes 2 value"),
        ("np.maximum(x, 2, out=z)", "no option"),
        ("scale(x, scale=z)", "An option is a number"),
        ("log(log)", "`log`"),
        ("np + np.log(x)", "`np`"),
        ("Intercept + x", "`Intercept`"),
    ],
)
def test_what_is_not_row_by_row_or_reads_otherwise_is_refused(formula, words):
    with pytest.raises(ArgumentError, match=words):
        TableSpec(X=formula)


def test_quoted_columns_may_have_any_name():
    columns = {"my x": [1.0, 2, 3], "quoted_0_": [7.0, 8, 9], "Intercept": [4.0, 5, 6]}
    values = encoded("`my x` + quoted_0_ + `Intercept`", **columns)
    np.testing.assert_array_equal(values.T, list(columns.values()))
    np.testing.assert_array_equal(encoded("`x` + x", x=[1.0, 2]), [[1, 1], [2, 2]])
    np.testing.assert_allclose(encoded("log(`log`)", log=[1.0, 2]), np.log([1, 2]), rtol=1e-6)


@pytest.mark.parametrize(
    ("formula", "x", "words"),
    [
        ("scale(x)", [1e200, 2e200, 3e200], "too large to be squared"),
        ("scale(x)", [0.1] * 7, "constant but for rounding"),
        ("x", [1e-50, 2e-50, 3e-50], "these are zero"),
        ("x", 1.7e9 + np.arange(60), r"steps of 1.3e\+02"),
    ],
)
def test_numbers_that_single_precision_cannot_tell_are_refused(formula, x, words):
    with pytest.raises(DataError, match=words):
        encoded(formula, x=x)


def test_close_numbers_are_fine_after_training():
    encoder = TableEncoder.learn(TableSpec(X="x"), pd.DataFrame({"x": [1980.0, 2020.0]}))
    encoder.encode(pd.DataFrame({"x": [2020.0, 2020.001]}))
    np.testing.assert_array_equal(encoded("x", x=[2**20, 2**20 + 1]), [2**20, 2**20 + 1])
