"""Tables as kernel arguments: against pandas and NumPy, saved and loaded, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import polars as pl
import pytest

from aimz_lab.errors import ArgumentError, ArtifactError, DataError, DataTypeError, OutputWarning
from aimz_lab.tables.encoder import TableEncoder
from aimz_lab.tables.table_spec import TableSpec

N = 60
FORMULAS = {
    "X": "scale(age) + center(income) + C(year) + sex + poly(age, 2) + bs(income, df=4) + age:sex",
    "y": "scale(log(earnings))",
    "clinic": "index(clinic)",
    "n_clinics": "levels(clinic)",
    "treated": "treated",
}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    levels = np.resize(["north", "south", "east"], N)
    return pd.DataFrame(
        {
            "age": rng.normal(40, 10, N),
            "income": rng.gamma(2, 1e4, N),
            "clinic": levels,
            "sex": pd.Categorical(np.resize(["m", "f"], N), ["m", "f", "x"]),
            "year": np.resize([2001, 2003], N),
            "treated": np.resize([True, False, False], N),
            "earnings": rng.gamma(2, 1e4, N) + 1,
            "note": "not used",
        },
        index=pd.date_range("2024-01-01", periods=N, name="day"),
    )


@pytest.fixture(scope="module")
def encoder(table):
    return TableEncoder.learn(TableSpec(**FORMULAS), table)


def test_numbers_are_those_of_pandas(table, encoder):
    X, y, clinic, n_clinics, treated = encoder.encode(table).arguments.values()
    age = (table.age - table.age.mean()) / table.age.std()
    np.testing.assert_allclose(X["scale(age)"], age, rtol=1e-5)
    np.testing.assert_allclose(X["center(income)"], table.income - table.income.mean(), rtol=1e-4)
    np.testing.assert_array_equal(X["C(year)[T.2003]"], table.year == 2003)
    np.testing.assert_array_equal(X["sex[T.f]"], table.sex == "f")
    np.testing.assert_array_equal(X["sex[T.x]"], 0)
    logs = np.log(table.earnings)
    np.testing.assert_allclose(y, (logs - logs.mean()) / logs.std(), rtol=1e-4, atol=1e-6)
    assert np.array(["east", "north", "south"])[clinic].tolist() == table.clinic.tolist()
    assert n_clinics == 3
    assert clinic.dtype == treated.dtype == np.int32
    np.testing.assert_array_equal(treated, table.treated)
    assert X.index.equals(table.index)
    assert y.index.equals(table.index)


def test_the_training_table_encodes_a_part_of_it(table, encoder):
    whole, part = encoder.encode(table).arguments, encoder.encode(table.iloc[5:9]).arguments
    for name in ("X", "y", "clinic", "treated"):
        np.testing.assert_allclose(part[name], whole[name].iloc[5:9], rtol=1e-6)


def test_a_saved_encoder_encodes_alike(table, encoder):
    again = TableEncoder.of_plain(json.loads(json.dumps(encoder.as_plain())))
    new = table.sample(20, random_state=1)
    assert again.names == encoder.names
    assert again.spec == encoder.spec
    for name, value in encoder.encode(new).arguments.items():
        other = again.encode(new).arguments[name]
        assert value.equals(other) if hasattr(value, "equals") else value == other
    assert again.outcome_scale("y") == encoder.outcome_scale("y")


@pytest.mark.parametrize("contrast", ["sum", "helmert", "treatment('south')", "poly"])
def test_contrasts_are_saved(table, contrast):
    table = table.assign(clinic=pd.Categorical(table["clinic"], ordered=True))
    encoder = TableEncoder.learn(TableSpec(X=f"C(clinic, contr.{contrast}) + scale(age)"), table)
    again = TableEncoder.of_plain(json.loads(json.dumps(encoder.as_plain())))
    assert again.columns["clinic"].is_ordered
    one = table.iloc[[1]]
    assert again.encode(one).arguments["X"].equals(encoder.encode(one).arguments["X"])


def test_polars_gives_the_same(table, encoder):
    plain = {
        name: table[name].astype(str if name == "sex" else table[name].dtype) for name in table
    }
    frame = pl.DataFrame({name: column.to_list() for name, column in plain.items()})
    frame = frame.with_columns(pl.col("sex").cast(pl.Categorical))
    for name, value in encoder.encode(frame).arguments.items():
        np.testing.assert_array_equal(value, encoder.encode(table).arguments[name])


def test_an_attribute_of_a_column_is_computed_as_a_column():
    frame = pd.DataFrame({"day": pd.date_range("2025-01-01", periods=3), "y": [1.0, 2.0, 3.0]})
    with pytest.raises(DataError, match=r"no column 'day.dt.hour'.* compute it as a column of the"):
        TableEncoder.learn(TableSpec(X="day.dt.hour", y="y"), frame)


def test_nullable_and_arrow_like_columns(table, encoder):
    nullable = table.convert_dtypes()
    for name, value in encoder.encode(nullable).arguments.items():
        np.testing.assert_array_equal(value, encoder.encode(table).arguments[name])


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"clinic": "west"}, DataError, "'clinic'.*'west'.*row 0"),
        ({"sex": "q"}, DataError, "'sex'.*'q'"),
        ({"year": 1999}, DataError, "'year'.*'1999'"),
        ({"age": "old"}, DataTypeError, "'age' holds text, and held numbers"),
        ({"clinic": 3}, DataTypeError, "'clinic' holds numbers, and held text"),
        ({"treated": 2}, DataTypeError, "'treated'"),
        ({"age": pd.Timestamp("2020-01-01")}, DataTypeError, "'age' holds datetime"),
        ({"age": np.nan}, DataError, "'age' in 60 of 60 rows"),
        ({"clinic": None}, (DataError, DataTypeError), "'clinic'"),
        ({"earnings": 0.0}, DataError, "-inf in row 0"),
        ({"income": 1e9}, DataError, "'X' cannot be computed"),
    ],
)
def test_another_kind_of_value_is_refused(table, encoder, change, error, said):
    with pytest.raises(error, match=said):
        encoder.encode(table.assign(**change))


def test_a_missing_column_and_a_doubled_one(table, encoder):
    with pytest.raises(DataError, match="no column 'age'. It has: income"):
        encoder.encode(table.drop(columns="age"))
    with pytest.raises(DataError, match=r"no column .* It has none\.$"):
        encoder.encode(table[[]])
    doubled = pd.concat([table, table[["age"]]], axis=1)
    with pytest.raises(DataError, match="several columns named 'age'"):
        encoder.encode(doubled)
    with pytest.raises(DataError, match="no rows"):
        encoder.encode(table.iloc[:0])


def test_only_what_is_needed_is_read(table, encoder):
    new = table.drop(columns="earnings")
    arguments = encoder.encode(new, leave_out=frozenset({"y"})).arguments
    assert "y" not in arguments
    assert len(arguments["X"]) == N


def test_zero_and_one_are_fine_for_booleans(table, encoder):
    for value in (0, 1, True, False, 1.0):
        treated = encoder.encode(table.assign(treated=value)).arguments["treated"]
        assert treated.dtype == np.int32
        np.testing.assert_array_equal(treated, int(value))


def test_rows_with_missing_values_are_left_out_and_counted(table):
    holes = table.copy()
    holes.iloc[3, holes.columns.get_loc("age")] = np.nan
    holes.iloc[[3, 7], holes.columns.get_loc("clinic")] = None
    spec = TableSpec(X="scale(age)", clinic="index(clinic)", missing="drop")
    with pytest.warns(OutputWarning, match="2 of 60 rows .* 1 in 'age', 2 in 'clinic'"):
        encoder = TableEncoder.learn(spec, holes)
    with pytest.warns(OutputWarning, match="2 of 60 rows"):
        arguments, kept = encoder.encode(holes)
    assert kept.tolist() == [i for i in range(N) if i not in (3, 7)]
    assert arguments["X"].index.equals(holes.index[kept])
    with pytest.raises(DataError, match="Values are missing: 'age' in 1 of 60 rows"):
        TableEncoder.learn(TableSpec(X="scale(age)"), holes)


def test_a_constant_column_has_no_scale(table):
    with pytest.raises(
        DataError, match="'scale.income.' of 'X' is nan.*finite in no row.*constant"
    ):
        TableEncoder.learn(TableSpec(X="scale(age) + scale(income)"), table.assign(income=3.0))


def test_one_value_that_spoils_the_scale_of_all_rows_blames_no_row(table):
    held = table.assign(income=[-1.0, *np.linspace(1, 2, N - 1)])
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(DataError, match="finite in no row.*where a single row is at fault"),
    ):
        TableEncoder.learn(TableSpec(X="scale(np.log(income))"), held)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(DataError, match="is nan in row 0.* in 1 rows"),
    ):
        TableEncoder.learn(TableSpec(X="np.log(income)"), held)


@pytest.mark.parametrize(
    ("formula", "is_matrix"),
    [
        ("age", False),
        ("scale(age)", False),
        (["age"], True),
        ("age + income", True),
        ("C(clinic)", True),
        ("poly(age, 2)", True),
        ("1 + age", True),
        ("age:income", True),
    ],
)
def test_one_number_per_row_or_a_matrix(table, formula, is_matrix):
    value = TableEncoder.learn(TableSpec(X=formula), table).encode(table).arguments["X"]
    assert isinstance(value, pd.DataFrame) is is_matrix
    if formula == "1 + age":
        assert value.columns.tolist() == ["Intercept", "age"]


@pytest.mark.parametrize(
    "formula",
    [
        "age +", "y ~ age", "scale(age", "lag(age)", "np.cumsum(age)", "np.mean(age)",
        "{age.mean()}",
        "{age - age.mean()}", "__import__('os').system('true')", "{[x for x in age]}", "{age[0]}",
        "C(age > 3)", "C(sex, contr.sum.__class__)", "age | sex", "", "1", "eval('1')",
        "I(age.__class__)", "{lambda: age}", "hashed(sex)", 3, [], ["age", 3], None,
        "np.log(age, where=np.cumsum(age))", "index(a) + b", "C(sex, levels=open('x'))",
        "C(sex, contr.sum('a', open('x') , 'b'))", "C(sex, contr.sum(*age))",
        "C(sex, contr.mro())", "C(sex, contr.sum(open))", "C(sex, contr.sum({'a': open('x')}))",
        "I(age * 9**9**9)", "I(age * (1 << 9999999999))",
        "np.maximum(age, 9999999999 * [1])", "C(sex, contr.treatment('a' * 9999999999))",
    ],
)  # fmt: skip
def test_what_is_no_formula_of_single_rows_is_refused(formula):
    with pytest.raises(ArgumentError):
        TableSpec(X=formula)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("(age + income) ** 99999999", "multiplied out"),
        ("(age + income) ** 30", "multiplied out"),
        ("*".join(f"v{i}" for i in range(40)), "multiplied out"),
        (":".join(["(age + income + sex)"] * 30), "multiplied out"),
        ("(age + income) ** sex", "has a power of numbers"),
        (f"I({'-' * 3000}age)", "too deep"),
        (f"I(age{' + age' * 3000})", "too deep"),
        (f"age{' + age' * 3000}", "too deep"),
    ],
)
def test_a_formula_that_takes_for_ever_is_refused(formula, message):
    with pytest.raises(ArgumentError, match=message) as refused:
        TableSpec(X=formula)
    assert len(str(refused.value)) < 300


def test_a_formula_never_runs_other_code(tmp_path, table, encoder):
    """Not even one that somebody wrote into a saved model."""
    mark = tmp_path / "ran"
    plain = json.loads(json.dumps(encoder.as_plain()))
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    for formula in (f"{{{code}}}", f"C(sex, contr.treatment('m', {code} , 'm'))"):
        plain["spec"]["arguments"]["X"] = formula
        with pytest.raises(ArgumentError):
            TableEncoder.of_plain(plain)
    assert not mark.exists()


def test_a_formula_has_numbers_computed_from_numbers(table):
    spec = TableSpec(X=["I(age / (2 * 3.5))", "I(age * 10**3)", "I(2**(age / 10))"])
    encoded = TableEncoder.learn(spec, table).encode(table).arguments["X"]
    expected = np.stack([table.age / 7, table.age * 1000, 2 ** (table.age / 10)], axis=1)
    np.testing.assert_allclose(encoded, expected, rtol=1e-6)


def _forget_what_was_learned(plain):
    plain["state"]["y"]["pairs"] = []


def _forget_a_scale(plain):
    plain["state"]["y"]["pairs"][0][1]["pairs"].pop()


def _forget_a_formula(plain):
    del plain["state"]["X"]


def _forget_a_column(plain):
    del plain["columns"]["clinic"]


def _repeat_a_level(plain):
    plain["columns"]["clinic"]["levels"][1] = plain["columns"]["clinic"]["levels"][0]


def _empty_the_levels(plain):
    plain["columns"]["clinic"]["levels"] = []


def _nest_a_level(plain):
    plain["columns"]["year"]["levels"][0] = [2001]


def _invent_a_kind(plain):
    plain["columns"]["age"]["kind"] = "dates"


def _turn_the_range(plain):
    plain["columns"]["age"]["range"].reverse()


def _list_a_center(plain):
    plain["state"]["y"]["pairs"][0][1]["pairs"][1][1] = {"array": [7.0]}


def _clear_a_scale(plain):
    plain["state"]["y"]["pairs"][0][1]["pairs"][2][1] = 0


def _add_a_field(plain):
    plain["more"] = 1


@pytest.mark.parametrize(
    "damage",
    [
        _forget_what_was_learned,
        _forget_a_scale,
        _forget_a_formula,
        _forget_a_column,
        _repeat_a_level,
        _empty_the_levels,
        _nest_a_level,
        _invent_a_kind,
        _turn_the_range,
        _list_a_center,
        _clear_a_scale,
        _add_a_field,
    ],
)
def test_what_no_table_taught_is_not_loaded(encoder, damage):
    """Else the encoder would learn from made-up rows, or fail at the first table."""
    plain = json.loads(json.dumps(encoder.as_plain()))
    damage(plain)
    with pytest.raises(ArtifactError):
        TableEncoder.of_plain(plain)


def test_names_of_columns_and_levels(encoder):
    names = encoder.names
    assert names["clinic"] == ("east", "north", "south")
    assert names["X"][:2] == ("scale(age)", "center(income)")
    assert not {"y", "treated"} & names.keys()


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("I(won == 'Yes')", r"compares 'won' with the text 'Yes', which no row has\. Did you mean"),
        ("I('Yes' != won)", r"Did you mean 'yes'\? It has: 'no', 'yes'\.$"),
        ("x + np.where(won == 'maybe', x, 0)", r"which no row has\. It has: 'no', 'yes'\.$"),
        ("I((won == 'yes') | (won == 'won'))", r"with the text 'won', which no row has\."),
        ("I(`won it` == 'Y')", "compares 'won it' with the text 'Y', which no row has"),
        (
            "I(x == '1')",
            r"compares 'x' with the text '1', and it holds numbers\. Leave out the quo",
        ),
        ("I(b == 'True')", "it holds True and False. Leave out"),
    ],
)
def test_a_text_that_no_row_has_is_refused_where_it_is_compared(formula, message):
    frame = pd.DataFrame({"x": [1.0, 2.0], "won": ["yes", "no"], "b": [True, False]})
    frame["won it"] = frame["won"]
    with pytest.raises((DataError, DataTypeError), match=message):
        TableEncoder.learn(TableSpec(y=[formula]), frame)


@pytest.mark.filterwarnings("ignore:1 of 3 rows were left out")
def test_a_category_that_no_row_of_the_training_has_is_refused_where_it_is_compared():
    spec = TableSpec(X="x", y="I(won == 'Yes')", missing="drop")
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "won": ["no", "yes", "yes"]})
    declared = frame.assign(won=pd.Categorical(frame["won"], ["no", "yes", "Yes"]))
    said = r"which is a category that no row has\. Did you mean 'yes'\? It has: 'no', 'yes'\.$"
    with pytest.raises(DataError, match=said):
        TableEncoder.learn(spec, declared)
    left_out = declared.assign(won=declared["won"].mask([False, False, True], "Yes"))
    with pytest.raises(DataError, match=said):
        TableEncoder.learn(spec, left_out.assign(x=[1.0, 2.0, np.nan]))
    assert TableEncoder.learn(spec, left_out).encode(left_out).arguments["y"].tolist() == [0, 0, 1]


SIZES = ["S", "M", "L"]


def sizes(order):
    return pd.Categorical(["S", "M", "L", "M"], order, ordered=True)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("I(size > 'S')", [0, 1, 1, 1]),
        ("I('M' <= `size`)", [0, 1, 1, 1]),
        ("I((size > 'S') & (size < 'L'))", [0, 1, 0, 1]),
        ("np.where(size >= 'L', 2, 0)", [0, 0, 2, 0]),
    ],
)
@pytest.mark.parametrize("of", ["pandas", "polars"])
def test_an_ordered_category_is_compared_in_its_order_on_later_tables_too(formula, expected, of):
    frame = pd.DataFrame({"size": sizes(["XS", *SIZES])})
    if of == "polars":
        frame = pl.DataFrame({"size": pl.Series(frame["size"].tolist(), dtype=pl.Enum(SIZES))})
    encoder = TableEncoder.learn(TableSpec(X=formula), frame)
    as_text = pd.DataFrame({"size": ["S", "M", "L", "M"]})
    part = pd.DataFrame({"size": sizes(["S", "M", "L"]).remove_categories("M")[[0, 2]]})
    for each in (encoder, TableEncoder.of_plain(json.loads(json.dumps(encoder.as_plain())))):
        for later in (frame, as_text, as_text.astype("category")):
            assert each.encode(later).arguments["X"].tolist() == expected
        assert each.encode(part).arguments["X"].tolist() == [expected[0], expected[2]]


@pytest.mark.parametrize(
    "column", [["S", "M", "L"], pd.Categorical(["S", "M", "L"]), pd.Categorical(SIZES, SIZES)]
)
def test_a_comparison_by_order_asks_for_the_order_of_texts_that_have_none(column):
    said = r"by order, and its levels '.', '.', '.' have none\. List them .*ordered=True"
    with pytest.raises(DataError, match=said):
        TableEncoder.learn(TableSpec(X="I(size > 'S')"), pd.DataFrame({"size": column}))


@pytest.mark.parametrize("contrast", ["contr.poly", "contr.poly(scores=[1, 2, 4])"])
def test_a_polynomial_contrast_takes_the_order_of_the_training(contrast):
    spec = TableSpec(X=f"C(size, {contrast})")
    encoder = TableEncoder.learn(spec, pd.DataFrame({"size": sizes(SIZES)}))
    linear = encoder.encode(pd.DataFrame({"size": ["S", "M", "L"]})).arguments["X"].iloc[:, 0]
    assert linear.is_monotonic_increasing
    with pytest.raises(DataError, match="has the order 'L' < 'M' < 'S', and had"):
        encoder.encode(pd.DataFrame({"size": sizes(["L", "M", "S"])}))
    with pytest.raises(DataError, match="by order, and its levels .* have none"):
        TableEncoder.learn(spec, pd.DataFrame({"size": SIZES}))
    assert TableEncoder.learn(spec, pd.DataFrame({"size": [1, 2, 4]})).names["X"]


def test_another_order_is_refused_where_it_is_compared():
    encoder = TableEncoder.learn(TableSpec(X="I(size > 'S')"), pd.DataFrame({"size": sizes(SIZES)}))
    said = "has the order 'L' < 'M' < 'S', and had 'S' < 'M' < 'L' in the table that"
    with pytest.raises(DataError, match=said):
        encoder.encode(pd.DataFrame({"size": sizes(["L", "M", "S"])}))
    with pytest.raises(DataError, match="'XL', which no row has"):
        TableEncoder.learn(TableSpec(X="I(size < 'XL')"), pd.DataFrame({"size": sizes(SIZES)}))


def test_later_rows_need_not_have_a_text_that_is_compared():
    frame = pd.DataFrame({"won": ["yes", "no"]})
    encoder = TableEncoder.learn(TableSpec(y="I(won == 'yes')"), frame)
    assert encoder.encode(frame[1:]).arguments["y"].tolist() == [0]


def test_columns_with_spaces(table):
    spaced = table.rename(columns={"age": "age in years"})
    encoder = TableEncoder.learn(TableSpec(X="scale(`age in years`) + `age in years`"), spaced)
    X = encoder.encode(spaced).arguments["X"]
    np.testing.assert_allclose(X.iloc[:, 1], spaced["age in years"], rtol=1e-6)


def test_the_repr_can_be_written_again():
    spec = TableSpec(X=["scale(age)"], y="earnings", missing="drop")
    assert eval(repr(spec)) == spec
    assert re.fullmatch(r"TableSpec\(X=.*missing='drop'\)", repr(spec))


def test_two_columns_that_differ_in_a_space():
    table = pd.DataFrame({"a b": [1.0, 2.0, 4.0], "a_b": [3.0, 1.0, 0.0]})
    X = TableEncoder.learn(TableSpec(X="I(`a b`) + a_b"), table).encode(table).arguments["X"]
    np.testing.assert_array_equal(X, table)
    assert X.columns.tolist() == ["I(a b)", "a_b"]


@pytest.mark.parametrize("formula", ["sex", "0 + clinic", "clinic - 1"])
def test_several_columns_where_a_vector_is_expected_are_refused(formula):
    table = pd.DataFrame({"clinic": ["a", "b", "c"], "sex": ["m", "f", "x"]})
    with pytest.raises(DataError, match="columns, and one vector was expected"):
        TableEncoder.learn(TableSpec(X=formula), table)


def test_a_number_within_brackets_asks_for_no_intercept(table):
    made = TableEncoder.learn(TableSpec(X="I(age + 1 + income)"), table).encode(table)
    assert made.arguments["X"].ndim == 1


def test_categories_that_are_numbers_keep_their_order_and_those_without_rows():
    categories = pd.Categorical([1, 3, 1, 3], categories=[3, 1, 2])
    encoder = TableEncoder.learn(TableSpec(X="C(year)"), pd.DataFrame({"year": categories}))
    new = pd.DataFrame({"year": [2, 1, 3]})
    for each in (encoder, TableEncoder.of_plain(json.loads(json.dumps(encoder.as_plain())))):
        made = each.encode(new).arguments["X"]
        assert list(made.columns) == ["C(year)[T.1]", "C(year)[T.2]"]
        np.testing.assert_array_equal(made, [[0, 1], [1, 0], [0, 0]])


def test_numbers_and_categories_of_one_column_need_all_levels():
    table = pd.DataFrame({"promo": pd.Categorical([True, True], categories=[False, True])})
    with pytest.raises(DataError, match=r"as numbers and in C\(\)"):
        TableEncoder.learn(TableSpec(X="promo + C(promo)"), table)
    table = pd.DataFrame({"year": pd.Categorical([1, 3, 1, 3], categories=[1, 2, 3])})
    with pytest.raises(DataTypeError, match="a category with numbers as its levels"):
        TableEncoder.learn(TableSpec(X="year + C(year)"), table)


@pytest.mark.parametrize("formula", ["C(promo)", "index(promo)"])
def test_a_level_of_true_and_false_is_also_1_and_0(formula):
    flags, numbers = pd.DataFrame({"promo": [True, False]}), pd.DataFrame({"promo": [1, 0]})
    for trained, new in ((flags, numbers), (numbers, flags)):
        made = TableEncoder.learn(TableSpec(X=formula), trained).encode(new).arguments["X"]
        np.testing.assert_array_equal(np.ravel(made), [1, 0])


@pytest.mark.parametrize("dims", [{"b": [["X"]]}, {"b": 5}, {3: "X"}, ["b"], {"b": None}])
def test_dims_are_names(dims):
    with pytest.raises(ArgumentError, match="names by site"):
        TableSpec(X="age", dims=dims)


@pytest.mark.parametrize(
    ("formula", "spline", "ends"),
    [
        ("bs(age, df=4) + x", "bs(age, df=4)", "20 to 80"),
        ("bs(`my age`, df=4) + x", "bs(my age, df=4)", "20 to 80"),
        ("cs(age, df=4, extrapolation='raise') + x", "cs(age, df=4)", "20 to 80"),
        ("bs(x, df=4) + bs(age, df=4)", "bs(age, df=4)", "20 to 80"),
        ("x + bs(np.log(age), df=4)", "bs(np.log(age), df=4)", "2.99573 to 4.38203"),
        ("bs(x, df=4) + bs(scale(age), df=4)", "bs(scale(age), df=4)", "-1.68069 to 1.68069"),
    ],
)
def test_a_value_beyond_a_spline_is_named_with_its_row(formula, spline, ends):
    name = "my age" if "`" in formula else "age"
    frame = pd.DataFrame({name: np.linspace(20.0, 80.0, 50), "x": np.arange(50.0) % 7, "y": 1.0})
    encoder = TableEncoder.learn(TableSpec(X=formula, y="y"), frame)
    frame.index = frame.index + 100
    frame.loc[[137, 141], name] = 95.5
    with pytest.raises(DataError) as caught:
        encoder.encode(frame)
    said = str(caught.value)
    assert said.startswith(f"The formula {formula!r} of 'X' cannot be computed in row 37 (137), ")
    assert f"where {name!r} is 95.5: the spline" in said
    assert f"has the range from {ends}" in said
    assert ("of what it is computed from" in said) == (ends != "20 to 80")
    assert f"train again: {spline[:-1]}, extrapolation='extend')" in said
    assert "`extrapolation`" not in said
