"""Dose-response: averages over a grid, with common noise, by group, against a reference."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, TableSpec, lab, summarize_effect
from aimz_lab.effects.swept_values import with_column
from aimz_lab.errors import ArgumentError, DataError, SiteError
from tests.runs import mean_field_model

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro draws from the guide of vectors

N, S = 500, 25
_rng = np.random.default_rng(2)
AGE = _rng.normal(size=N).astype(np.float32)
CLINIC = _rng.choice(["east", "west"], N)
B = _rng.normal([0.5, -1.0], 0.1, (S, 2)).astype(np.float32)
LIFT = _rng.normal(2.0, 0.1, S).astype(np.float32)
DOSES = [0.0, 0.5, 2.0]


def kernel(X, dose, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([2]).to_event(1))
    lift = numpyro.sample("lift", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        z = numpyro.sample("z", dist.Normal(X @ b, 0.1))
        numpyro.sample("y", dist.Normal(10 + z + lift * dose, 1.0), obs=y)


@pytest.fixture(scope="module")
def im():
    model = mean_field_model(kernel).set_posterior_sample({"b": B, "lift": LIFT})
    model.predict_on_batch(np.ones((2, 2), np.float32), dose=np.ones(2, np.float32))
    return model  # which knows the kernel's sites


@pytest.fixture(scope="module")
def data():
    frame = pd.DataFrame({"age": AGE, "income": _rng.normal(size=N).astype(np.float32)})
    return {"X": frame, "dose": np.ones(N, np.float32)}


@pytest.mark.slow
def test_the_noise_is_common_and_the_averages_those_of_predictions(im, data, key):
    doses = im.sweep("dose", DOSES, **data, rng_key=key).posterior_predictive
    assert doses.y.dims == ("chain", "draw", "dose")
    moved = doses.y - doses.y.sel(dose=0.0)
    np.testing.assert_allclose(moved.values[0], LIFT[:, None] * DOSES, atol=1e-4)
    at_two = {**data, "dose": np.full(N, 2.0, np.float32)}
    tree = im.predict(**at_two, rng_key=key, progress=False).posterior_predictive
    # Averages of what is expected have none of the noise of drawn outcomes.
    error = (doses.y.sel(dose=2.0) - tree.y.mean("row")).values
    assert 0 < abs(error).max() < 5 / np.sqrt(N)


def test_a_column_by_group_against_a_reference(im, data):
    ages = im.sweep(
        "age",
        [-1.0, 1.0],
        **data,
        reference=0.0,
        contrast="percent",
        by={"clinic": CLINIC},
        weights=np.ones(N),
        subset=AGE > -9,
    ).posterior_predictive
    assert ages.y.dims == ("chain", "draw", "age", "clinic")
    assert ages.attrs["contrast"] == "percent"
    # Both have one noise, so that the ratio is near that of the expected values.
    expected = 100 * B[:, 0] / 10
    np.testing.assert_allclose(ages.y.sel(age=1.0, clinic="west").values[0], expected, atol=3.0)


def test_the_picture_has_a_line_for_each_group(im, data):
    pytest.importorskip("matplotlib")
    swept = im.sweep("age", [0.0, 1.0, 2.0], **data, by={"clinic": CLINIC})
    (axes,) = lab.plot_effect(swept).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("age", "average of y (of drawn outcomes)")
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["east", "west"]
    assert {line.get_linestyle() for line in axes.lines} == {"-"}
    (flags,) = lab.plot_effect(swept.isel(age=slice(2))).axes  # 0 and 1 are levels
    assert {line.get_linestyle() for line in flags.lines} == {"None"}
    assert [label.get_text() for label in flags.get_xticklabels()] == ["0", "1"]


def test_a_site_of_a_kernel_that_was_not_traced_yet(data):
    fresh = mean_field_model(kernel).set_posterior_sample({"b": B, "lift": LIFT})
    assert fresh.sweep("z", [0.0], **data, held="redraw").posterior_predictive.y.dims[-1] == "z"
    with pytest.raises(SiteError, match="'w'"):
        mean_field_model(kernel).set_posterior_sample({"b": B, "lift": LIFT}).sweep(
            "w", [0.0], **data
        )


def test_a_site_and_its_summary(im, data):
    sweep = im.sweep("z", [0, 5], **data, of="site", held="redraw")
    summary = summarize_effect(sweep, 0.9).y
    np.testing.assert_allclose(summary.sel(z=5, summary="mean"), 15 + LIFT.mean(), atol=0.15)
    assert "average of y is given for each z (2 in all)" in summary.attrs["text"]
    assert "Their difference is an effect of the swept input if" in summary.attrs["text"]
    assert "It is an effect of the intervention" not in summary.attrs["text"]
    assert str(summarize_effect(sweep)).startswith("Average of y, with the 94%")


def swept(grid, reference, effects):
    """Draws of a sweep with these effects at each value of the grid."""
    effects = np.asarray(effects, float)
    noise = np.random.default_rng(0).normal(0, 0.1, (1, 400, len(grid)))
    draws = xr.DataArray(
        effects * (1 + noise), dims=("chain", "draw", "dose"), coords={"dose": grid}
    )
    attrs = {"contrast": "difference", "swept": "dose", "reference": reference}
    return xr.DataTree.from_dict({"predictions": xr.Dataset({"y": draws}, attrs=attrs)})


@pytest.mark.parametrize(
    ("grid", "reference", "called"),
    [([0.0, 0.5, 1.0], 0.5, "0.5"), (["low", "mid", "top"], "mid", "mid"), ([0, 3, 6], 3, "3")],
)
def test_the_reference_of_a_sweep_is_named_and_is_no_entry_of_its_own(grid, reference, called):
    tree = swept(grid, reference, [-1.0, 0.0, 2.0])
    summary = summarize_effect(tree, direction="greater", rope=0.3)
    text = summary.y.attrs["text"]
    assert text.startswith(
        f"The effect on y against dose = {called} is given for each dose (2 in all): "
    )
    assert f"dose {called}: " not in text
    assert "lies above 0 for 1 of 2, and below it for 1." in text
    assert "relevant for 2 of 2." in text
    assert str(summary).startswith(f"Effect on y against dose = {called}, with the 94%")
    assert summary.y.sel(dose=reference, summary="mean") == 0  # the table has the whole grid
    (axes,) = lab.plot_effect(tree).axes
    assert axes.get_ylabel() == f"difference of y\nagainst dose = {called}"
    assert f"against dose = {called} over dose" in axes.figure.alt


def test_a_reference_beside_the_grid_takes_no_entry_away():
    text = summarize_effect(swept([1.0], 0.0, [2.0])).y.attrs["text"]
    assert text.startswith(
        "The effect on y against dose = 0 is given for each dose (1 in all): dose 1.0"
    )


@pytest.mark.slow
def test_a_level_of_a_category_in_a_table():
    def of_table(X, clinic, n_clinics, y=None):
        level = numpyro.sample("level", dist.Normal(0, 3).expand([n_clinics]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(level[clinic] + 0.1 * X, 0.1), obs=y)

    frame = pd.DataFrame({"age": AGE, "clinic": pd.Categorical(CLINIC)})
    frame["pay"] = np.where(CLINIC == "west", 3.0, 1.0) + 0.1 * AGE
    spec = TableSpec(X="age", y="pay", clinic="index(clinic)", n_clinics="levels(clinic)")
    svi = SVI(of_table, AutoNormal(of_table), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(of_table, jax.random.key(0), svi=svi, table=spec)
    im.fit_on_batch(frame, num_steps=500, progress=False)
    for table in (frame, pl.from_pandas(frame)):
        levels = im.sweep("clinic", ["east", "west"], table).posterior_predictive.y
        np.testing.assert_allclose(levels.mean(("chain", "draw")), [1.0, 3.0], atol=0.1)
    by_clinic = im.estimate_effect(frame, frame.assign(age=frame.age + 1), by="clinic")
    assert by_clinic.posterior_predictive.y.clinic.values.tolist() == ["east", "west"]
    for table in (frame, frame.astype({"clinic": str}), pl.from_pandas(frame)):
        with pytest.raises(ArgumentError, match="grid= has 'wst', .* Did you mean 'west'") as told:
            im.sweep("clinic", ["east", "wst"], table)
        assert "no level of 'clinic' in the training table: 'east', 'west'" in str(told.value)
        with pytest.raises(ArgumentError, match="reference= has 'eat', .* Did you mean 'east'"):
            im.sweep("clinic", ["east", "west"], table, reference="eat")
    with pytest.raises(ArgumentError, match="'day' is in no formula"):
        im.sweep("day", [1, 2], frame.assign(day=1))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_value_is_set_without_loss_whatever_the_type_of_the_column(library):
    columns = {
        "count": np.arange(3, dtype=np.uint8),
        "flag": np.array([True, False, True]),
        "dose": np.ones(3, np.float32),
        "name": ["a", "b", "a"],
        "day": np.array(["2024-01-01", "2024-02-01", "2024-03-01"], "M8[ms]"),
    }
    frame = pd.DataFrame(columns) if library == "pandas" else pl.DataFrame(columns)
    for name, values in {
        "count": [7, 300, -1, 0.5],
        "flag": [True, 0, 2, 0.5],
        "dose": [2, 0.1],
        "name": ["b"],
        "day": [np.datetime64("2024-05-01", "ms")],
    }.items():
        for value in values:
            found = np.asarray(with_column(frame, name, value)[name].to_numpy())
            assert (found == np.asarray(value).astype(found.dtype)).all()
            if name in ("count", "flag"):
                assert (found == value).all()
    kept = with_column(frame, "count", 7)
    assert kept["count"].dtype == frame["count"].dtype
    assert frame["count"].to_list() == [0, 1, 2]
    with pytest.raises(ArgumentError, match="'dose' holds numbers, and 'high' is none"):
        with_column(frame, "dose", "high")


def test_columns_of_pandas_can_be_nullable_or_numbered():
    frame = pd.DataFrame({"count": pd.array([1, None], "Int64"), 5: [1.0, 2.0]})
    assert with_column(frame, "count", 0.5)["count"].tolist() == [0.5, 0.5]
    assert with_column(frame, "5", 3.0)[5].tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("name", "grid", "options", "said"),
    [
        ("income2", DOSES, {}, "no column, argument or site 'income2'.*columns: age, income"),
        ("dose", DOSES, {"of": "site"}, "no site 'dose'"),
        ("dose", DOSES, {"of": "plate"}, "of='plate' is not known"),
        ("dose", [], {}, "grid="),
        ("dose", [1.0, np.nan], {}, "finite values"),
        ("dose", [1.0, 1.0], {}, "more than once"),
        ("dose", DOSES, {"reference": [1.0]}, "use one value of 'dose'"),
        ("dose", DOSES, {"reference": "none"}, "use one value of 'dose'"),
        ("y", DOSES, {"of": "site"}, "'y' is the outcome"),
        ("dose", DOSES, {"contrast": "odds"}, "contrast='odds'"),
        (5, DOSES, {}, "name=5"),
        ("dose", DOSES, {"contrast": "ratio"}, "pass it as reference="),
        ("dose", DOSES, {"reduce": "ate"}, "reduce= does not go with a sweep"),
        ("dose", ["a"], {}, "'dose' holds numbers, and 'a' is none"),
        ("dose", [0.01, "a"], {}, "'a' is a text, and 0.01 is none"),
        ("dose", [0, "a"], {}, "'a' is a text, and 0 is none"),
        ("dose", [1e300], {}, "beyond the range of float32"),
        ("dose", DOSES, {"by": {"dose": np.arange(N) % 2}}, "groups of by= are called 'dose' too"),
    ],
)
def test_bad_input_is_refused_by_name(im, data, name, grid, options, said):
    before = im.rng_key
    with pytest.raises(ArgumentError, match=said):
        im.sweep(name, grid, **data, **options)
    assert im.rng_key == before


def test_an_effect_against_a_reference_is_that_of_two_scenarios_to_the_last_bit(im, data, key):
    doses = im.sweep("dose", [0.0, 2.0], **data, rng_key=key, reference=0.0, contrast="percent")
    sides = [{**data, "dose": np.full(N, value, np.float32)} for value in (0.0, 2.0)]
    effect = im.estimate_effect(
        args_baseline={**sides[0], "rng_key": key}, args_intervention=sides[1], contrast="percent"
    )
    swept = doses.posterior_predictive.y.sel(dose=2.0).values
    np.testing.assert_array_equal(swept, effect.posterior_predictive.y.values)


def test_groups_called_like_what_is_swept_are_refused(im, data):
    with pytest.raises(ArgumentError, match="dose_observed"):
        im.sweep("dose", [0.0, 2.0], **data, by={"dose": CLINIC})


def test_odds_of_what_is_no_share_are_refused(im, data):
    with pytest.raises(DataError, match="odds_ratio"):
        im.sweep("dose", [0.0, 2.0], **data, reference=0.0, contrast="odds_ratio")
