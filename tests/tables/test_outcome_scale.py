"""Outputs back on the table's scale: the inverse of formulas, against the column itself."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.table_spec import TableSpec

RNG = np.random.default_rng(1)
TABLE = pd.DataFrame({"pay": RNG.gamma(2, 1e4, 200) + 1, "weight in kg": RNG.normal(70, 5, 200)})


FORMULAS = pytest.mark.parametrize(
    "formula",
    [
        "pay", "scale(pay)", "center(pay)", "standardize(pay)", "log(pay)", "scale(log(pay))",
        "np.log1p(pay)", "np.sqrt(pay)", "log10(pay)", "log2(pay)", "{pay / 1000}", "{pay - 5}",
        "{5 - pay}", "{2 * pay + 1}", "scale(pay / 1000)", "I(pay)",
        "{log(pay / 1000) * 3}", "scale(center(pay))", "np.expm1(log(pay))",
    ],
)  # fmt: skip


@FORMULAS
def test_the_inverse_gives_the_column(formula):
    encoder = TableEncoder.learn(TableSpec(y=formula), TABLE)
    back = encoder.outcome_scale("y")
    encoded = encoder.encode(TABLE).arguments["y"].to_numpy()
    assert back.column == "pay"
    np.testing.assert_allclose(back(encoded), TABLE.pay, rtol=2e-5)
    np.testing.assert_allclose(back(jnp.asarray(encoded)), TABLE.pay, rtol=2e-5)


@FORMULAS
def test_the_change_of_density_is_the_slope_of_the_formula(formula):
    encoder = TableEncoder.learn(TableSpec(y=formula), TABLE)
    near, at, far = (
        encoder.encode(TABLE.assign(pay=TABLE.pay * by)).arguments["y"].to_numpy()
        for by in (0.99, 1, 1.01)
    )
    found = encoder.outcome_scale("y").on_column(at)
    np.testing.assert_allclose(found.values, TABLE.pay, rtol=2e-5)
    slope = np.abs(far - near) / (0.02 * TABLE.pay)
    np.testing.assert_allclose(found.log_jacobian, np.log(slope), atol=1e-3)


def test_a_plain_column_needs_no_way_back():
    assert TableEncoder.learn(TableSpec(y="`weight in kg`"), TABLE).outcome_scale("y").is_identity


def test_a_quoted_column_has_a_scale():
    encoder = TableEncoder.learn(TableSpec(y="scale(`weight in kg`)"), TABLE)
    back = encoder.outcome_scale("y")
    assert back.column == "weight in kg"
    np.testing.assert_allclose(
        back(encoder.encode(TABLE).arguments["y"].to_numpy()), TABLE["weight in kg"], rtol=1e-6
    )


@pytest.mark.parametrize("formula", ["np.sin(pay)", "{pay * pay}", "np.square(pay)", "{1 / pay}"])
def test_a_formula_without_an_inverse(formula):
    assert TableEncoder.learn(TableSpec(y=formula), TABLE).outcome_scale("y") is None


@pytest.mark.parametrize(("unit", "origin"), [(1.0, 1e12), (1e-45, 0.0), (1e36, 0.0)])
def test_units_that_single_precision_cannot_tell(unit, origin):
    table = TABLE.assign(pay=unit * TABLE.pay + origin)
    assert not TableEncoder.learn(TableSpec(y="scale(pay)"), table).outcome_scale("y").is_lossless
    assert TableEncoder.learn(TableSpec(y="scale(pay)"), TABLE).outcome_scale("y").is_lossless


def test_each_column_of_a_matrix_has_its_scale():
    encoder = TableEncoder.learn(TableSpec(y=["scale(log(pay))", "`weight in kg`"]), TABLE)
    back = encoder.outcome_scale("y")
    assert (str(back), back.is_identity) == ("columns pay, weight in kg", False)
    encoded = encoder.encode(TABLE).arguments["y"].to_numpy()
    np.testing.assert_allclose(back(encoded), TABLE, rtol=2e-5)
    changes = back.on_column(encoded).log_jacobian
    np.testing.assert_allclose(changes[:, 0], -np.log(TABLE.pay * np.log(TABLE.pay).std()))
    assert not changes[:, 1].any()
    other = TableEncoder.learn(TableSpec(y="pay * `weight in kg`"), TABLE)
    assert other.outcome_scale("y") is None


@pytest.mark.parametrize(
    "formula",
    ["pay - 1", "-1 + pay", "scale(pay) - 1", "log(pay) - 1", "I(-pay)", "I(pay + 1 + 2)"],
)
def test_a_removed_intercept_is_not_subtracted_and_a_sign_is_undone(formula):
    encoder = TableEncoder.learn(TableSpec(y=formula), TABLE)
    encoded = encoder.encode(TABLE).arguments["y"]
    assert encoded.ndim == 1
    back = encoder.outcome_scale("y")(encoded.to_numpy())
    np.testing.assert_allclose(back, TABLE.pay, rtol=1e-4)


@pytest.mark.parametrize(
    ("formula", "event"),
    [
        ("I(won == 'yes')", "won = yes"),
        ("{`weight in kg` > 70}", "weight in kg > 70"),
        ("I((pay > 10) & (won != 'no'))", "(pay > 10) & (won != 'no')"),
    ],
)
def test_a_comparison_is_called_by_what_is_true_and_stays_as_it_is(formula, event):
    encoder = TableEncoder.learn(TableSpec(y=formula), TABLE.assign(won=["yes", "no"] * 100))
    assert encoder.event("y") == event
    back = encoder.outcome_scale("y")
    assert (back.column, back.is_identity) == (event, True)
    count = TableEncoder.learn(TableSpec(y="{1 * (pay > 10) + 1 * (pay > 20)}"), TABLE)
    assert (count.event("y"), count.outcome_scale("y")) == ("", None)


def test_columns_lead_back_to_the_table_where_they_come_from_one_number():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 9, 30), "pay": rng.gamma(2, 9.0, 30)})
    table["sex"] = ["f", "m"] * 15
    formula = "scale(age) + log(pay) + C(sex) + bs(age, df=4) + age:pay + pay"
    encoder = TableEncoder.learn(TableSpec(X=formula), table)
    X = encoder.encode(table).arguments["X"]
    found = dict(zip(X.columns, encoder.column_scales["X"], strict=True))
    back = {name: scale.column for name, scale in found.items() if scale is not None}
    assert back == {"scale(age)": "age", "log(pay)": "pay", "pay": "pay"}
    for name, column in back.items():
        np.testing.assert_allclose(found[name](X[name].to_numpy()), table[column], rtol=1e-5)
