"""What is measured of a run, against the same measured by hand."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab import Callback
from aimz_lab.errors import ArgumentError
from aimz_lab.lab.callbacks import GradientNorm, ParamDrift
from aimz_lab.lab.callbacks.metrics import drift
from tests.kernels import regression_data
from tests.runs import refit, regression_model

pytestmark = pytest.mark.allow_rank_promotion

X, Y = regression_data(n=103)


class Params(Callback):
    """Keeps the parameters of each epoch."""

    def __init__(self):
        self.seen = []

    def on_fit_begin(self, run):
        self.seen.append({name: np.array(value) for name, value in run.params.items()})

    def on_epoch_end(self, run, epoch):
        self.on_fit_begin(run)


@pytest.fixture(scope="module")
def model():
    return regression_model()


@pytest.mark.slow
def test_each_step_has_a_gradient_norm(model):
    run = refit(model, X, Y, callbacks=[GradientNorm()]).last_run
    norms = run.column("grad_norm")
    assert norms.shape == (18,)
    assert (np.isfinite(norms) & (norms > 0)).all()


def test_nobody_pays_for_gradients_that_nobody_asked_for(model):
    assert refit(model, X, Y).last_run.metrics == ()


@pytest.mark.parametrize("every", [1, 2])
def test_drift_is_the_way_in_units_of_the_guides_scale(model, every):
    moved, params = ParamDrift(every), Params()
    refit(model, X, Y, epochs=4, callbacks=[moved, params])
    assert moved.epochs == list(range(every, 5, every))
    for i, row in enumerate(moved.drifts):
        before, now = params.seen[i * every], params.seen[(i + 1) * every]
        way = (now["beta_auto_loc"] - before["beta_auto_loc"]) / now["beta_auto_scale"]
        assert row["beta_auto_loc"] == pytest.approx(np.sqrt(np.mean(way**2)), rel=1e-5)
        factor = np.log(now["beta_auto_scale"] / before["beta_auto_scale"])
        assert row["beta_auto_scale"] == pytest.approx(np.sqrt(np.mean(factor**2)), rel=1e-4)


def test_drift_is_a_table(model):
    moved = ParamDrift()
    refit(model, X, Y, callbacks=[moved])
    frame = moved.to_frame()
    assert list(frame.index) == [1, 2, 3]
    assert set(frame.columns) == {"beta_auto_loc", "beta_auto_scale"}


def test_a_triangular_scale_counts_by_its_marginal_deviations():
    tril = np.array([[2.0, 0.0], [3.0, 4.0]])  # deviations 2 and 5
    before = {"auto_loc": np.zeros(2), "auto_scale_tril": tril}
    now = {"auto_loc": np.array([2.0, 5.0]), "auto_scale_tril": tril}
    assert drift(before, now)["auto_loc"] == pytest.approx(1.0)


def test_a_low_rank_scale_counts_by_its_marginal_deviations():
    scale, factor = np.array([1.0, 2.0]), np.array([[np.sqrt(3.0)], [0.0]])  # deviations 2 and 2
    rest = {"auto_scale": scale, "auto_cov_factor": factor}
    before, now = {"auto_loc": np.zeros(2), **rest}, {"auto_loc": np.full(2, 4.0), **rest}
    assert drift(before, now)["auto_loc"] == pytest.approx(2.0)


def test_what_has_no_scale_moves_in_its_own_unit():
    before = {"a": np.zeros(4), "b_loc": 1.0, "empty": np.zeros(0)}
    now = {"a": np.full(4, 3.0), "b_loc": -1.0, "empty": np.zeros(0)}
    assert drift(before, now) == {"a": 3.0, "b_loc": 2.0, "empty": 0.0}


def test_every_is_a_number_of_epochs():
    with pytest.raises(ArgumentError, match="every"):
        ParamDrift(0)
