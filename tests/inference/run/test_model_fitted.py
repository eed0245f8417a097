"""The event of a model that has its result."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import Callback
from tests.kernels import regression_data
from tests.runs import regression_model

pytestmark = pytest.mark.allow_rank_promotion


class Saver(Callback):
    """Saves the model at the end, and notes the order of events."""

    def __init__(self, path):
        self.path = path
        self.events = []

    def on_fit_end(self, run):
        self.events.append("end")

    def on_model_fitted(self, run, model, data):
        self.events.append(run.status)
        self.rows = data.rows["X"]
        self.draws = model.predict_on_batch(
            self.rows[:3], rng_key=jax.random.key(0), return_datatree=False
        )["y"]
        model.save(self.path)


class Spoiler(Callback):
    def on_steps_end(self, run, steps):
        raise ZeroDivisionError("not today")


X, Y = regression_data(60, 3)
OPTIONS = {"batch_size": 20, "num_samples": 5, "progress": False}


@pytest.mark.parametrize("blocking", [True, False])
def test_a_callback_uses_the_model_when_it_has_its_result(tmp_path, blocking):
    im, saver = regression_model(), Saver(tmp_path / "model")
    handle = im.fit(X, Y, callbacks=[saver], blocking=blocking, **OPTIONS)
    if not blocking:
        handle.result()
    assert saver.events == ["end", "completed"]
    np.testing.assert_array_equal(saver.rows, X)
    draws = im.predict_on_batch(X[:3], rng_key=jax.random.key(0), return_datatree=False)["y"]
    np.testing.assert_array_equal(saver.draws, draws)
    other = type(im).load(tmp_path / "model", im.kernel, im.inference)
    np.testing.assert_array_equal(other.posterior["beta"], im.posterior["beta"])


def test_a_failed_run_leaves_no_fitted_model(tmp_path):
    im, saver = regression_model(), Saver(tmp_path / "model")
    with pytest.raises(ZeroDivisionError, match="not today"):
        im.fit(X, Y, callbacks=[saver, Spoiler()], **OPTIONS)
    assert saver.events == ["end"]


def test_an_error_of_the_callback_leaves_the_model_fitted(tmp_path):
    im = regression_model()
    (tmp_path / "model").write_text("not a folder")
    with pytest.raises(ValueError, match="no stored model"):
        im.fit(X, Y, callbacks=[Saver(tmp_path / "model")], **OPTIONS)
    assert im.is_fitted()
    assert im.last_run.status == "completed"
