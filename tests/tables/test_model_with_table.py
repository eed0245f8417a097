"""A model that takes data frames: fit, predict, effects, saving, against arrays encoded by hand."""

from __future__ import annotations

import re

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import polars as pl
import pytest
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel, Mean, TableSpec, summarize_effect
from aimz_lab.errors import (
    ArgumentError,
    ArtifactError,
    CallError,
    DataError,
    DataTypeError,
    FitWarning,
    OutputWarning,
)
from aimz_lab.number_text import number
from aimz_lab.tables.encoder import TableEncoder

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro draws from the guide of vectors

N = 300
LEVELS = ["east", "north", "south"]
LIFT = {"east": 1000.0, "north": 2000.0, "south": 4000.0}
FORMULAS = {
    "X": "scale(age) + scale(income)",
    "y": "scale(pay)",
    "clinic": "index(clinic)",
    "n_clinics": "levels(clinic)",
    "treated": "treated",
}


def kernel(X, clinic, n_clinics, treated, y=None):
    level = numpyro.sample("level", dist.Normal(0, 1))
    slopes = numpyro.sample("slopes", dist.Normal(0, 1).expand([X.shape[1]]).to_event(1))
    lift = numpyro.sample("lift", dist.Normal(0, 1).expand([n_clinics]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(1))
    with numpyro.plate("day", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + X @ slopes + lift[clinic] * treated, sd), obs=y)


def new_svi():
    return SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 10, N),
            "income": rng.gamma(2, 1e4, N),
            "clinic": rng.choice(LEVELS, N),
            "treated": rng.random(N) < 0.5,
        },
        index=pd.date_range("2024-01-01", periods=N, name="day"),
    )
    effect = frame.treated * frame.clinic.map(LIFT)
    frame["pay"] = 20_000 + 100 * frame.age + effect + rng.normal(0, 500, N)
    return frame


@pytest.fixture(scope="module")
def im(table):
    im = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=TableSpec(**FORMULAS))
    with jax.numpy_rank_promotion("allow"):
        return im.fit(table, epochs=600, progress=False)


def arrays_of(table, trained):
    """The kernel's arguments, encoded by pandas."""
    columns = ["age", "income"]
    X = (table[columns] - trained[columns].mean()) / trained[columns].std()
    return {
        "X": X.to_numpy(np.float32),
        "clinic": pd.Index(LEVELS).get_indexer(table.clinic).astype(np.int32),
        "treated": table.treated.to_numpy(np.int32),
    }


@pytest.mark.slow
def test_draws_are_those_of_arrays_encoded_by_hand(im, table):
    key, new = jax.random.key(5), table.sample(30, random_state=1)
    tree = im.predict(new, rng_key=key, output_scale="model", progress=False)
    of_table = tree.posterior_predictive.y
    arrays = arrays_of(new, table)
    by_hand = im.predict(**arrays, kernel_kwargs={"n_clinics": 3}, rng_key=key, progress=False)
    np.testing.assert_allclose(of_table, by_hand.posterior_predictive.y, atol=1e-5)


@pytest.mark.slow
def test_rows_far_outside_are_told_in_columns_and_units_of_the_table(im, table):
    low, high = number(table.age.min()), number(table.age.max())
    said = (
        "Rows are far outside of what the model was trained on: column 'age' goes from 500 to 500, "
        f"in training from {low} to {high}. The model has learned nothing about such values."
    )
    with pytest.warns(OutputWarning, match=re.escape(said)):
        im.predict(table.assign(age=500.0), progress=False)
    with pytest.warns(OutputWarning, match=re.escape(said)):
        im.sweep("age", [40, 500], table, progress=False)
    with pytest.warns(OutputWarning, match="column 'pay' goes from 9e"):
        im.log_likelihood(table.assign(pay=9e9), progress=False)
    arrays = arrays_of(table, table)
    arrays["X"] = arrays["X"] + 500
    with pytest.warns(
        OutputWarning, match=r"column 'scale\(age\)' of X .*If the training data was"
    ):
        im.predict(**arrays, kernel_kwargs={"n_clinics": 3}, progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("on_batch", [False, True])
def test_outputs_come_back_on_the_scale_of_their_column(im, table, on_batch):
    predict = im.predict_on_batch if on_batch else im.predict
    options = {"rng_key": jax.random.key(5)} | ({} if on_batch else {"progress": False})
    own = predict(table, **options).posterior_predictive.y
    model = predict(table, output_scale="model", **options).posterior_predictive.y
    np.testing.assert_allclose(own, table.pay.std() * model + table.pay.mean(), rtol=1e-5)
    assert abs(float(own.mean()) - table.pay.mean()) < 200


@pytest.mark.slow
def test_each_way_to_predict_gives_either_scale(im, table):
    options = {"rng_key": jax.random.key(5), "return_sites": ["y"]}
    quiet = {**options, "progress": False}
    for own, model in (
        (
            im.predict_on_batch(table, **options),
            im.predict_on_batch(table, output_scale="model", **options),
        ),
        (
            im.sample_posterior_predictive(table, **quiet),
            im.sample_posterior_predictive(table, output_scale="model", **quiet),
        ),
        (
            im.sample_posterior_predictive_on_batch(table, **options),
            im.sample_posterior_predictive_on_batch(table, output_scale="model", **options),
        ),
        (
            im.sample_prior_predictive(table, **quiet),
            im.sample_prior_predictive(table, output_scale="model", **quiet),
        ),
        (
            im.sample_prior_predictive_on_batch(table, **options),
            im.sample_prior_predictive_on_batch(table, output_scale="model", **options),
        ),
    ):
        group = next(name for name in own.children if name.endswith("predictive"))
        wanted = table.pay.std() * model[group].y + table.pay.mean()
        np.testing.assert_allclose(own[group].y, wanted, rtol=1e-4)


@pytest.mark.slow
def test_summaries_and_stores_have_that_scale_too(im, table, tmp_path):
    key = jax.random.key(5)
    draws = im.predict(table, rng_key=key, progress=False).posterior_predictive.y
    mean = im.predict(table, rng_key=key, reduce="mean", progress=False).posterior_predictive.y_mean
    np.testing.assert_allclose(mean, draws.mean(["chain", "draw"]), rtol=1e-5)
    stored = im.predict(table, rng_key=key, output_dir=tmp_path, progress=False)
    np.testing.assert_array_equal(stored.posterior_predictive.y, draws)


@pytest.mark.slow
def test_the_rows_decide_the_group(im, table):
    trained = im.predict(table, progress=False)
    assert "posterior_predictive" in trained
    np.testing.assert_allclose(trained.observed_data.y, table.pay, rtol=1e-5)
    new = table.sample(20, random_state=2).drop(columns="pay")
    assert "predictions" in im.predict(new, progress=False)
    assert "posterior_predictive" in im.predict(new, in_sample=True, progress=False)
    assert "predictions" in im.predict(table, in_sample=False, progress=False)


@pytest.mark.slow
def test_names_of_columns_levels_and_rows_come_back(im, table):
    tree = im.predict(table, progress=False)
    assert tree.posterior.slopes.coords["X"].values.tolist() == ["scale(age)", "scale(income)"]
    assert tree.posterior.lift.coords["clinic"].values.tolist() == LEVELS
    assert tree.posterior_predictive.y.sel(day="2024-02").sizes["day"] == 29
    assert im.posterior_tree.posterior.lift.sel(clinic="north").shape == (1, 1000)
    assert im.sample(num_samples=7).posterior.lift.sel(clinic="north").shape == (1, 7)


def test_a_summary_by_name(im):
    summary = im.summary(["lift", "slopes"], prob=0.9)
    assert summary.index.tolist() == [
        *(f"lift[{level}]" for level in LEVELS),
        "slopes[scale(age)]",
        "slopes[scale(income)]",
    ]
    draws = np.asarray(im.posterior["lift"], np.float64)
    np.testing.assert_allclose(summary["mean"][:3], draws.mean(0), rtol=1e-4)
    assert (summary.hdi_low < summary["mean"]).all()
    assert (summary.hdi_high > summary["mean"]).all()
    first = number(float(summary["mean"].iloc[0]))
    assert first in repr(summary)
    assert first in summary._repr_html_()
    assert type(summary.T) is pd.DataFrame


@pytest.mark.slow
def test_effects_are_in_units_of_the_outcome_by_group(im, table):
    by = Mean(over="row", by=table.clinic)
    effect = im.estimate_effect(table.assign(treated=0), table.assign(treated=1), reduce=by)
    means = effect.posterior_predictive.y_mean
    assert means.dims == ("chain", "draw", "clinic")
    low, high = (
        summarize_effect(effect)["y_mean"].sel(summary=name) for name in ("hdi_low", "hdi_high")
    )
    truth = np.array([LIFT[level] for level in LEVELS])
    assert ((low - 150 < truth) & (truth < high + 150)).all()


@pytest.mark.slow
def test_scenarios_with_and_without_one_pass_agree(im, table):
    key = jax.random.key(8)
    sides = [{"X": table.assign(treated=value), "rng_key": key} for value in (0, 1)]
    one_pass = im.estimate_effect(args_baseline=sides[0], args_intervention=sides[1])
    trees = [im.predict(**side, in_sample=True, progress=False) for side in sides]
    np.testing.assert_allclose(
        one_pass.posterior_predictive.y,
        im.estimate_effect(*trees).posterior_predictive.y,
        atol=0.02,
    )


def test_the_log_likelihood_is_that_of_the_kernel(im, table):
    tree = im.log_likelihood(table, progress=False)
    arrays = arrays_of(table, table)
    y = ((table.pay - table.pay.mean()) / table.pay.std()).to_numpy(np.float32)
    by_hand = im.log_likelihood(**arrays, y=y, kernel_kwargs={"n_clinics": 3}, progress=False)
    np.testing.assert_allclose(tree.log_likelihood.y, by_hand.log_likelihood.y, atol=1e-3)


@pytest.mark.slow
def test_priors_before_a_training(table):
    im = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=TableSpec(**FORMULAS))
    tree = im.sample_prior_predictive(table, num_samples=50, progress=False)
    assert float(tree.prior_predictive.y.std()) > 1000  # dollars
    assert not im.is_fitted()


@pytest.mark.slow
def test_a_saved_model_reads_tables(im, table, tmp_path):
    again = ImpactModel.load(im.save(tmp_path / "model"), kernel, svi=new_svi())
    key, new = jax.random.key(2), table.sample(10, random_state=3)
    one, other = (each.predict(new, rng_key=key, progress=False) for each in (im, again))
    np.testing.assert_array_equal(one.posterior_predictive.y, other.posterior_predictive.y)
    assert other.posterior.lift.coords["clinic"].values.tolist() == LEVELS
    assert again.fit(table, epochs=1, progress=False).is_fitted()


def test_a_kernel_that_the_saved_table_does_not_fit(im, tmp_path):
    path = im.save(tmp_path / "model")

    def other(X, clinic, n_clinics, y=None):
        kernel(X, clinic, n_clinics, 0, y)

    svi = SVI(other, AutoNormal(other), numpyro.optim.Adam(0.05), Trace_ELBO())
    with pytest.raises(ArtifactError, match="treated"):
        ImpactModel.load(path, other, svi=svi)


@pytest.mark.slow
def test_held_out_tables_and_polars(table):
    frame = pl.from_dict({name: table[name].to_list() for name in table})
    im = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=TableSpec(**FORMULAS))
    im.fit(frame[:200], validation=frame[200:], epochs=2, batch_size=50, progress=False)
    assert len(im.last_run.validation) == 2
    with pytest.warns(FitWarning, match="the first training table"):
        im.fit_on_batch(frame, num_steps=2, progress=False)
    tree = im.predict(frame[:5], progress=False)
    assert tree.posterior_predictive.y.shape == (1, 1000, 5)


@pytest.mark.slow
def test_what_was_learned_stays(im, table):
    """Another training table does not move the scale or the levels, and the model says so."""
    model = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=TableSpec(**FORMULAS))
    model.fit(table, epochs=1, progress=False)
    key = jax.random.key(1)
    before = model.predict(table.iloc[:5], rng_key=key, output_scale="model", progress=False)
    shifted = table.assign(age=table.age + 5)
    draws = model.posterior
    with pytest.warns(FitWarning, match=r"'scale\(age\).*' of 'X'.*make a new model"):
        model.fit(shifted, epochs=1, progress=False).set_posterior_sample(draws)
    after = model.predict(table.iloc[:5], rng_key=key, output_scale="model", progress=False)
    np.testing.assert_array_equal(before.posterior_predictive.y, after.posterior_predictive.y)


def test_refusals_change_nothing(im, table):
    before = jax.random.key_data(im.rng_key)
    for error, said, call in (
        (CallError, "already gives 'treated'", lambda: im.predict(table, treated=np.ones(N))),
        (CallError, "already gives 'y'", lambda: im.fit(table, table.pay)),
        (DataError, "no column 'age'", lambda: im.predict(table.drop(columns="age"))),
        (DataError, "'clinic'.*'west'", lambda: im.fit(table.assign(clinic="west"))),
        (DataError, "Values are missing", lambda: im.predict(table.assign(age=np.nan))),
        (ArgumentError, "output_scale='raw'", lambda: im.predict(table, output_scale="raw")),
    ):
        with pytest.raises(error, match=said):
            call()
    np.testing.assert_array_equal(before, jax.random.key_data(im.rng_key))


@pytest.mark.parametrize(
    "values",
    [
        lambda table: table.to_numpy(),
        lambda table: table.to_numpy().tolist(),
        lambda table: table.to_records(index=False),
        lambda table: table.to_dict("list"),
        lambda table: table.clinic,
        lambda table: table.clinic.astype("category"),
    ],
)
def test_columns_that_are_no_data_frame_are_refused(im, table, values):
    given, inputs = values(table), "'age', 'income', 'clinic', 'treated'"
    for call, columns in (
        (im.predict, inputs),
        (im.sample_prior_predictive, inputs),
        (im.fit, "'age', 'income', 'pay', 'clinic', 'treated'"),
        (im.log_likelihood, "'pay'"),
        (lambda X: im.estimate_effect(None, None, {"X": table}, {"X": X}), inputs),
        (lambda X: im.fit(table, validation=X, progress=False), "'pay'"),
        (lambda X: im.fit(table, validation=(X, table.pay), progress=False), "'pay'"),
    ):
        with pytest.raises(DataTypeError, match=f"Pass a pandas or polars data frame.*{columns}"):
            call(given)
    assert "Pass a pandas or polars data frame" in str(im.check(given))
    with pytest.raises(DataTypeError, match="a list of them; join them first"):
        im.fit([table[:100], table[100:]], progress=False)
    with pytest.raises(ArgumentError, match="'age' is a column.*pass a data frame as X="):
        im.sweep("age", [30.0, 40.0], given)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TableSpec(y="pay"), "has to make the kernel's input, 'X'"),
        (TableSpec(X="age", price="age"), "makes 'price', and the kernel's arguments are X"),
        ({"X": "age"}, "takes a TableSpec; got dict"),
        (TableSpec(X="age", y="age:pay"), r"has interactions of columns.*write I\(a \* b\)"),
        (TableSpec(X="age", y="pay - 1"), r"subtracts nothing. For a difference write I\(a - 1\)"),
    ],
)
def test_a_description_that_does_not_fit_the_kernel(spec, said):
    with pytest.raises(ArgumentError, match=said):
        ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=spec)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("zero", "one", "is_said"),
    [
        ("drug", "placebo", False),
        ("control", "treated", False),
        ("F", "M", False),
        ("n", "s", False),
        ("no", "off", False),
        ("no", "yes", True),
        ("N", "Y", True),
    ],
)
def test_two_texts_are_0_and_1_only_if_they_say_so(table, zero, one, is_said):
    arms = table.assign(arm=np.where(table.treated == 1, one, zero))
    for formula, is_fine in (("arm", is_said), (f"I(arm == '{one}')", True)):
        spec = TableSpec(**{**FORMULAS, "treated": formula})
        model = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=spec)
        if is_fine:
            drawn = model.sample_prior_predictive(arms, num_samples=2, progress=False)
            assert drawn.prior_predictive.y.sizes["draw"] == 2
            continue
        said = rf"the texts '{zero}' and '{one}'.*Write treated=\"I\(arm == '{one}'\)\""
        for call in (model.fit, model.sample_prior_predictive):
            with pytest.raises(DataTypeError, match=said):
                call(arms, progress=False)


def test_rows_that_are_left_out_keep_their_labels(table):
    holes = table.copy()
    holes.loc["2024-01-03", "age"] = np.nan
    spec = TableSpec(**FORMULAS, missing="drop")
    im = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=spec)
    with pytest.warns(OutputWarning, match="1 of 300 rows"):
        im.fit(holes, epochs=1, progress=False)
    with pytest.warns(OutputWarning, match="1 of 300 rows"):
        y = im.predict(holes, progress=False).posterior_predictive.y
    assert y.sizes["day"] == N - 1
    assert pd.Timestamp("2024-01-03") not in y.indexes["day"]
    with pytest.warns(OutputWarning, match="1 of 300 rows") as given:
        im.estimate_effect(holes, holes, average=True)
    assert len(given) == 1  # though both scenarios leave it out


@pytest.mark.slow
def test_an_effect_between_two_scales_is_refused(im, table):
    arrays = {**arrays_of(table, table), "kernel_kwargs": {"n_clinics": 3}}
    own = im.predict(table, progress=False)
    model = im.predict(table, output_scale="model", progress=False)
    refused = pytest.raises(ArgumentError, match="on the kernel's scale")
    with refused:
        im.estimate_effect(table, args_intervention={**arrays, "in_sample": True})
    with refused:
        im.estimate_effect(table, args_intervention={"X": table, "output_scale": "model"})
    with refused:
        im.estimate_effect(own, model)
    effect = im.estimate_effect(
        args_baseline={"X": table, "output_scale": "model", "in_sample": True},
        args_intervention={**arrays, "in_sample": True},
    )
    np.testing.assert_allclose(effect.posterior_predictive.y, 0, atol=1e-5)


@pytest.mark.slow
def test_a_model_of_arrays_does_not_learn_from_the_table_to_predict(table):
    """Each table would be scaled by itself: the same row would get other numbers."""
    arrays = TableEncoder.learn(TableSpec(**FORMULAS), table).encode(table).arguments
    arrays = {
        name: value if isinstance(value, int) else value.to_numpy()
        for name, value in arrays.items()
    }
    model = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=TableSpec(**FORMULAS))
    model.fit_on_batch(**arrays, num_steps=1, num_samples=5, progress=False)
    given = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=TableSpec(**FORMULAS))
    given.set_posterior_sample(model.posterior)
    for call in (
        lambda: model.predict(table[:10], progress=False),
        lambda: given.predict(table[:10], progress=False),
        lambda: model.log_likelihood(table[:10], progress=False),
        lambda: model.estimate_effect(table[:10], table[:20]),
    ):
        with pytest.raises(CallError, match="not trained on a table"):
            call()


@pytest.mark.slow
def test_a_value_of_the_output_and_a_formula_without_inverse_need_the_kernels_scale(im, table):
    for role in ("intervention", "condition"):
        with pytest.raises(ArgumentError, match="in units of the kernel"):
            im.predict(table, **{role: {"y": 1.0}}, progress=False)
    curved = TableSpec(**{**FORMULAS, "y": "np.sin(pay)"})
    model = ImpactModel(kernel, jax.random.key(0), svi=new_svi(), table=curved)
    with pytest.raises(ArgumentError, match="no known inverse"):
        model.sample_prior_predictive(table, progress=False)
    tree = model.sample_prior_predictive(table, output_scale="model", num_samples=5, progress=False)
    assert tree.prior_predictive.y.shape == (1, 5, N)


@pytest.mark.slow
def test_a_run_of_chains_knows_the_levels_as_one_of_svi_does(im, table):
    mcmc = MCMC(HMC(kernel, trajectory_length=0.1), num_warmup=1, num_samples=1, progress_bar=False)
    chains = ImpactModel(kernel, jax.random.key(0), inference=mcmc, table=TableSpec(**FORMULAS))
    chains.fit_on_batch(table, progress=False)
    for one in (chains, im):
        assert one.last_run.axis_labels()["lift"] == (LEVELS,)
    more = chains.sample(num_samples=3, X=table)  # they go on by the table of their run
    assert more["posterior"].sizes["draw"] == 3
    with pytest.raises(DataError, match="other"):
        chains.sample(num_samples=3, X=table.assign(pay=table.pay + 1))
    with pytest.raises(CallError, match="already gives 'y'"):
        chains.sample(num_samples=3, X=table, y=table.pay)
