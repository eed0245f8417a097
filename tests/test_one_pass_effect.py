"""The effect of two scenarios in one pass is the difference of two predictions with one key."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab.errors import ArgumentError, OutputWarning
from tests import kernels
from tests.runs import mean_field_model

X, _ = kernels.regression_data(300, 3, seed=2)
BASELINE, TREATED = {"X": X}, {"X": X + np.float32(1.0)}


@pytest.fixture
def im(rng):
    model = mean_field_model(kernels.regression)
    return model.set_posterior_sample({"beta": rng.normal(size=(40, 3)).astype(np.float32)})


@pytest.mark.slow
def test_it_is_the_difference_of_two_predictions(im, key):
    trees = [im.predict(**args, rng_key=key, progress=False) for args in (BASELINE, TREATED)]
    before, after = (tree.posterior_predictive for tree in trees)
    effect = im.estimate_effect(
        args_baseline={**BASELINE, "rng_key": key}, args_intervention=TREATED
    )
    for site in ("y", "mean"):
        expected = after[site].values - before[site].values
        got = effect.posterior_predictive[site].values
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_the_noise_of_both_cancels(im):
    effect = im.estimate_effect(args_baseline=BASELINE, args_intervention=TREATED)
    slope = np.asarray(im.posterior["beta"]).sum(axis=1)
    y = effect.posterior_predictive.y.values[0]
    np.testing.assert_allclose(y, np.repeat(slope[:, None], 300, axis=1), atol=1e-4)


def test_each_call_moves_the_models_key_on_once(im):
    before = im.rng_key
    im.estimate_effect(args_baseline=BASELINE, args_intervention=TREATED)
    assert im.rng_key == jax.random.fold_in(before, 1)


def test_it_is_reduced_on_the_fly(im):
    effect = im.estimate_effect(args_baseline=BASELINE, args_intervention=TREATED, reduce="mean")
    slope = np.asarray(im.posterior["beta"]).sum(axis=1).mean()
    mean = next(iter(effect.posterior_predictive.data_vars.values()))
    assert "draw" not in mean.dims
    np.testing.assert_allclose(mean.values, slope, atol=1e-4)


def test_reducing_outputs_that_are_at_hand_is_refused(im):
    trees = [im.predict(**args, progress=False) for args in (BASELINE, TREATED)]
    with pytest.raises(ArgumentError, match="given by their arguments"):
        im.estimate_effect(*trees, reduce="mean")


def test_a_key_for_each_scenario_is_done_as_asked_and_warned_about(im):
    with pytest.warns(OutputWarning, match="not paired"):
        im.estimate_effect(
            args_baseline={**BASELINE, "rng_key": jax.random.key(1)},
            args_intervention={**TREATED, "rng_key": jax.random.key(2)},
        )


def test_an_option_of_the_call_may_stand_with_either_scenario_but_not_differ(im):
    average = BASELINE | {"reduce": "ate"}
    for treated in (TREATED, TREATED | {"reduce": "ate"}):
        tree = im.estimate_effect(args_baseline=average, args_intervention=treated)
        assert {name.rpartition("_")[2] for name in tree.posterior_predictive.data_vars} == {"ate"}
    with pytest.raises(ArgumentError, match="reduce= must be the same"):
        im.estimate_effect(args_baseline=average, args_intervention=TREATED | {"reduce": "mean"})


def test_summaries_have_no_folder(im, tmp_path):
    with pytest.raises(ArgumentError, match="to_zarr"):
        im.predict(X, reduce="mean", output_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
