"""Which arguments follow the rows is said, remembered from training, or asked for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import HMC, MCMC, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.data import ArrayDataset, ArrayLoader
from aimz_lab.errors import ArgumentError, DataError

N = 60
rng = np.random.default_rng(3)
X = rng.normal(size=N).astype(np.float32)
DAY = rng.permutation(N)
TABLE = rng.normal(size=N).astype(np.float32)
WEIGHT = rng.uniform(1.0, 2.0, size=N).astype(np.float32)
Y = (2 * TABLE[DAY] * WEIGHT + 0.1 * rng.normal(size=N)).astype(np.float32)
KEY = jax.random.key(0)
ASKED = r"'table' has 60 entries.*shared=\['table'\].*by_row=\['table'\]"


def kernel(X, day, table, weight, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
    with numpyro.plate("rows", X.shape[0]):
        mean = numpyro.deterministic("mean", slope * table[day] * weight + 0.0 * X)
        numpyro.sample("y", dist.Normal(mean, 0.1), obs=y)


def model():
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    return ImpactModel(kernel, KEY, svi=svi)


def predicting():
    return model().set_posterior_sample({"slope": np.full(3, 2.0, np.float32)})


def mean_of(tree):
    group = next(name for name in ("posterior_predictive", "predictions") if name in tree.children)
    return np.asarray(tree[group]["mean"])[0, 0]


GIVEN = {"day": DAY, "table": TABLE, "weight": WEIGHT}
QUIET = {"progress": False, "num_samples": 50}


@pytest.fixture(scope="module")
def fitted():
    said = {"shared": ["table"], "by_row": ["day"]}
    return model().fit(X, Y, **GIVEN, **said, batch_size=20, epochs=60, **QUIET)


class TestFit:
    @pytest.mark.slow
    def test_a_shared_table_is_passed_whole_to_every_batch(self, fitted):
        assert fitted.posterior["slope"].mean() == pytest.approx(2.0, abs=0.1)

    @pytest.mark.slow
    def test_predictions_remember_what_was_said(self, fitted):
        options = {"progress": False, "store": "memory"}
        expected = np.asarray(fitted.posterior["slope"])[0] * TABLE[DAY] * WEIGHT
        np.testing.assert_allclose(
            mean_of(fitted.predict(X, **GIVEN, **options)), expected, rtol=1e-4, atol=1e-5
        )
        fewer = {"day": DAY[:20] % 20, "table": TABLE[:20], "weight": WEIGHT[:20]}
        expected = np.asarray(fitted.posterior["slope"])[0] * TABLE[DAY[:20] % 20] * WEIGHT[:20]
        np.testing.assert_allclose(
            mean_of(fitted.predict(X[:20], **fewer, **options)), expected, rtol=1e-4, atol=1e-5
        )

    @pytest.mark.slow
    def test_an_array_by_row_in_training_keeps_one_entry_per_row(self, fitted):
        with pytest.raises(DataError, match="'weight' has 1 entries, and there are 60 rows"):
            fitted.predict(X, day=DAY, table=TABLE, weight=WEIGHT[:1], progress=False)

    def test_what_may_be_either_is_asked_for_and_changes_nothing(self):
        im = model()
        with pytest.raises(DataError, match=ASKED):
            im.fit(X, Y, **GIVEN, batch_size=20, **QUIET)
        with pytest.raises(DataError, match=ASKED):
            im.fit_on_batch(X, Y, **GIVEN, num_steps=2, **QUIET)
        with pytest.raises(DataError, match=ASKED):
            im.train_on_batch(X, Y, **GIVEN, n_obs=N)
        assert im.input_schema is None

    @pytest.mark.slow
    def test_all_ways_to_train_take_both_words(self):
        roles = {"table": "shared", "day": "rows", "weight": "rows"}

        def roles_in(im):
            schema = im.input_schema
            return {name: "shared" if name in schema.shared else "rows" for name in GIVEN}

        im = model()
        im.fit_on_batch(X, Y, **GIVEN, shared=["table"], by_row=["day"], num_steps=2, **QUIET)
        assert roles_in(im) == roles
        im = model()
        im.train_on_batch(X, Y, **GIVEN, n_obs=N, shared=["table"], by_row=["weight"])
        im.train_on_batch(X, Y, **GIVEN, n_obs=N)
        assert roles_in(im) == roles
        sampler = HMC(kernel, num_steps=2, trajectory_length=None)
        mcmc = MCMC(sampler, num_warmup=2, num_samples=2, progress_bar=False)
        im = ImpactModel(kernel, KEY, inference=mcmc)
        im.fit_on_batch(X, Y, **GIVEN, shared=["table"], progress=False)
        im.sample(X=X, y=Y, **GIVEN, num_samples=2)
        assert roles_in(im) == roles

    def test_arrays_beside_a_loader_that_may_shuffle_are_not_by_row(self):
        data = ArrayDataset(X=X, y=Y, day=DAY)
        with pytest.raises(DataError, match=r"'weight' has one entry per row.*ArrayDataset"):
            model().fit(ArrayLoader(data, KEY, batch_size=N), table=TABLE, weight=WEIGHT, **QUIET)
        with pytest.raises(DataError, match="'weight' has one entry per row"):
            model().fit(data, table=TABLE, weight=WEIGHT, **QUIET)
        with pytest.raises(ArgumentError, match=r"'weight' cannot be cut.*ArrayDataset"):
            model().fit(data, table=TABLE, weight=WEIGHT, by_row=["weight"], **QUIET)
        whole = ArrayDataset(X=X, y=Y, day=DAY, weight=WEIGHT, table=TABLE)
        with pytest.raises(DataError, match="'table' is a field of the data"):
            model().fit(whole, shared=["table"], **QUIET)

    @pytest.mark.slow
    def test_a_table_beside_a_loader_is_shared(self):
        data = ArrayDataset(X=X, y=Y, day=DAY, weight=WEIGHT)
        im = model().fit(ArrayLoader(data, KEY, batch_size=20), table=TABLE, **QUIET)
        assert list(im.input_schema.shared) == ["table"]

    def test_rows_that_are_passed_whole_to_a_batch_are_named(self):
        with pytest.raises(
            DataError, match="batch of 20 rows.*gets 'table', 'weight' whole.*by_row="
        ):
            model().fit(X, Y, **GIVEN, shared=["table", "weight"], batch_size=20, **QUIET)

    @pytest.mark.slow
    def test_held_out_rows_of_the_length_of_a_shared_table(self):
        def looked_up(X, table, y=None):
            slope = numpyro.sample("slope", dist.Normal(0.0, 5.0))
            with numpyro.plate("rows", X.shape[0]):
                numpyro.sample("y", dist.Normal(slope * table[X], 1.0), obs=y)

        svi = SVI(looked_up, AutoNormal(looked_up), numpyro.optim.Adam(0.05), Trace_ELBO())
        table, day = TABLE[:40], DAY % 40
        y = 2 * table[day]
        for held_out in ((day[:40], y[:40]), (day[:39], y[:39])):
            im = ImpactModel(looked_up, KEY, svi=svi)
            im.fit(day, y, table=table, batch_size=20, epochs=30, validation=held_out, **QUIET)
            assert 0.9 < im.last_run.validation[-1][1] < 2.0


class TestPredict:
    def test_every_call_asks(self):
        im = predicting()
        args = {"X": X, **GIVEN}
        calls = [
            lambda: im.predict(X, **GIVEN, progress=False),
            lambda: im.predict_on_batch(X, **GIVEN),
            lambda: im.sample_posterior_predictive(X, **GIVEN, progress=False),
            lambda: im.sample_prior_predictive(X, **GIVEN, progress=False),
            lambda: im.sample_prior_predictive_on_batch(X, **GIVEN),
            lambda: im.log_likelihood(X, Y, **GIVEN, progress=False),
            lambda: im.estimate_effect(args_baseline=args, args_intervention=args),
            lambda: im.predict(ArrayDataset(X=X, day=DAY, weight=WEIGHT), table=TABLE),
        ]
        for call in calls:
            with pytest.raises(DataError, match=ASKED):
                call()

    @pytest.mark.slow
    def test_every_call_takes_both_words(self):
        im = predicting()
        said = {"shared": ["table"], "by_row": ["day"], **GIVEN}
        expected = 2 * TABLE[DAY] * WEIGHT
        trees = [
            im.predict(X, shared=["table"], by_row=["day"], progress=False, **GIVEN),
            im.predict_on_batch(X, shared=["table"], by_row=["day"], **GIVEN),
            im.sample_posterior_predictive(
                X, shared="table", by_row="day", progress=False, **GIVEN
            ),
        ]
        for tree in trees:
            np.testing.assert_allclose(mean_of(tree), expected, rtol=1e-5)
        args = {"X": X, **said}
        effect = im.estimate_effect(
            args_baseline=args, args_intervention={**args, "table": TABLE + 1}
        )
        np.testing.assert_allclose(mean_of(effect), 2 * WEIGHT, rtol=1e-4)
        tree = im.log_likelihood(X, Y, shared=["table"], by_row=["day"], progress=False, **GIVEN)
        density = dist.Normal(jnp.asarray(expected), 0.1).log_prob(Y)
        np.testing.assert_allclose(tree.log_likelihood.y[0, 0], density, rtol=1e-4, atol=1e-4)
        few = {"num_samples": 2, **GIVEN}
        im.sample_prior_predictive(X, shared=["table"], by_row=["day"], progress=False, **few)
        im.sample_prior_predictive_on_batch(X, shared=["table"], by_row=["day"], **few)

    def test_one_row_and_a_table_of_one_entry(self):
        given = {"day": [0], "table": [3.0], "weight": [1.0]}
        with pytest.raises(DataError, match="'table' has 1 entries"):
            predicting().predict_on_batch(X[:1], **given)
        tree = predicting().predict_on_batch(X[:1], shared=["table"], **given)
        np.testing.assert_allclose(mean_of(tree), [6.0], rtol=1e-5)


class TestWhatIsSaid:
    @pytest.mark.parametrize(
        ("said", "message"),
        [
            ({"shared": ["tables"]}, "name 'tables'.*it takes 'day', 'table', 'weight'"),
            ({"by_row": ["X"]}, "name 'X'"),
            ({"shared": ["y"]}, "name 'y'"),
            ({"shared": ["table"], "by_row": ["table"]}, "both by row and shared"),
        ],
    )
    def test_wrong_names_are_refused(self, said, message):
        with pytest.raises(ArgumentError, match=message):
            predicting().predict(X, **GIVEN, **said, progress=False)

    def test_by_row_needs_one_entry_per_row(self):
        given = {**GIVEN, "table": TABLE[:30]}
        with pytest.raises(DataError, match="'table' has 30 entries, and there are 60 rows"):
            predicting().predict(X, **given, by_row=["table"], progress=False)

    def test_a_plain_value_has_no_role(self):
        given = {**GIVEN, "weight": 2.0}
        with pytest.raises(ArgumentError, match="'weight' is none"):
            predicting().predict(X, **given, shared=["table", "weight"], progress=False)
