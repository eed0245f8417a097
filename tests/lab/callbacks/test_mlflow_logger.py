"""Runs in a real MLflow store on this disk."""

from __future__ import annotations

import arviz_stats as azs
import numpy as np
import pytest

from aimz_lab.errors import CallbackWarning, OptionalDependencyError
from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.lab.callbacks import MLflowLogger
from tests.lab.runs import begun, feed
from tests.runs import tell, told_run


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The address of an empty store, and a client of it."""
    # Before the first import: nothing may be sent anywhere.
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow = pytest.importorskip("mlflow")
    uri = (tmp_path / "mlruns").as_uri()
    return uri, mlflow.MlflowClient(tracking_uri=uri)


def history(client, run_id, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, name)]


def test_a_run_is_written_down(store):
    uri, client = store
    logger = MLflowLogger(
        "attempts", run_name="first", tracking_uri=uri, tags={"who": "me"}, every_s=0.0
    )
    run = told_run(rate=0.1, n_obs=10, validation_every=1)
    tell([logger], [40.0, 20.0, 10.0, np.nan], run, chunk=2, validation=[5.0, 4.0])
    saved = client.get_run(logger.run_id)
    assert client.get_experiment(saved.info.experiment_id).name == "attempts"
    assert (saved.info.run_name, saved.info.status) == ("first", "FINISHED")
    assert saved.data.params["model"] == "kernel"
    assert saved.data.params["n_obs"] == "10"
    assert "scaled" not in saved.data.params
    assert saved.data.tags["who"] == "me"
    assert saved.data.tags["aimz_lab.status"] == "completed"
    assert history(client, logger.run_id, "loss") == [(2, 3.0), (4, 1.0)]
    assert history(client, logger.run_id, "validation") == [(2, 5.0), (4, 4.0)]
    assert history(client, logger.run_id, "learning_rate") == [(2, 0.1), (4, 0.1)]


def test_entries_of_a_long_run_are_means_of_all_their_steps(store):
    uri, client = store
    logger = MLflowLogger(tracking_uri=uri, every_s=0.0)
    run, n = begun(n_obs=10), 70_001
    called = Callbacks([logger], run)
    called.emit("on_fit_begin")
    norms = np.random.default_rng(0).normal(size=(3, n)).astype(np.float32)
    norms[1, :50] = np.inf
    for norm in norms:
        called.steps_end(feed(run, np.arange(n), grad_norm=norm), [])
    assert len(run.bucket_steps) < run.step
    ends, means = zip(*history(client, logger.run_id, "grad_norm"), strict=True)
    assert ends == (n, 2 * n, 3 * n)
    wanted = [norm[np.isfinite(norm)].mean(dtype=float) for norm in norms]
    np.testing.assert_allclose(means, wanted, rtol=1e-9)
    losses = [value for _, value in history(client, logger.run_id, "loss")]
    np.testing.assert_allclose(losses, (n - 1) / 20)


def test_chains_are_written_down_with_how_far_they_agree(store):
    uri, client = store
    run = told_run(is_sampling=True, n_obs=10, epochs=1, steps_per_epoch=30)
    draws = np.random.default_rng(0).normal(size=(2, 20, 1))
    run.chains = ChainRecord(
        ChainPlan(2, 10, 20), {"mu": ()}, lambda name, at, every: draws[:, ::every, at]
    )
    diverging = np.arange(30)[:, None] >= [0, 28]
    run.chains.extend({"diverging": diverging}, 30)
    logger = MLflowLogger(tracking_uri=uri)
    tell([logger], np.full(30, 7.0), run, chunk=30)
    saved = client.get_run(logger.run_id)
    plan = {"num_chains": "2", "num_warmup": "10", "num_samples": "20", "thinning": "1"}
    assert saved.data.params == {"model": "kernel", "method": run.info.method, "n_obs": "10"} | plan
    assert saved.data.metrics == {
        "potential_energy": 7.0,
        "draws": 20.0,
        "divergences": 22.0,
        "r_hat_max": pytest.approx(azs.rhat(draws[..., 0])),
        "ess_min": pytest.approx(
            min(azs.ess(draws[..., 0]), azs.ess(draws[..., 0], method="tail", prob=(0.05, 0.95)))
        ),
    }


def test_what_was_not_due_is_written_at_the_end(store):
    uri, client = store
    logger = MLflowLogger(tracking_uri=uri, every_s=1e9)
    tell([logger], np.arange(6.0), chunk=2)
    assert history(client, logger.run_id, "loss") == [(2, 0.5), (6, 3.5)]


def test_two_runs_share_an_experiment(store):
    uri, client = store
    logger = MLflowLogger(tracking_uri=uri)
    ids = {}
    for _ in range(2):
        tell([logger], [1.0])
        ids[logger.run_id] = client.get_run(logger.run_id).info.experiment_id
    assert len(ids) == 2
    assert len(set(ids.values())) == 1


def test_a_run_that_somebody_else_opened_stays_open(store):
    uri, client = store
    opened = client.create_run(client.create_experiment("theirs"))
    logger = MLflowLogger(tracking_uri=uri)
    logger.write_to(opened.info.run_id)
    tell([logger], [3.0])
    saved = client.get_run(opened.info.run_id)
    assert logger.run_id == opened.info.run_id
    assert saved.info.status == "RUNNING"
    assert history(client, logger.run_id, "loss") == [(1, 3.0)]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("stopped", "FINISHED"),
        ("early_stopped", "FINISHED"),
        ("interrupted", "KILLED"),
        ("diverged", "FAILED"),
    ],
)
def test_the_end_is_told(store, status, expected):
    uri, client = store
    logger, run = MLflowLogger(tracking_uri=uri), told_run()
    run.control.stop("because", status=status)
    tell([logger], [1.0], run)
    saved = client.get_run(logger.run_id)
    assert saved.info.status == expected
    assert saved.data.tags["aimz_lab.reason"] == "because"


def test_a_store_that_fails_does_not_end_the_run(store, monkeypatch):
    uri, _ = store
    logger, run = MLflowLogger(tracking_uri=uri, every_s=0.0), told_run()

    def fail(*args, **kwargs):
        raise ConnectionError("the server is gone")

    monkeypatch.setattr("mlflow.MlflowClient.log_batch", fail)
    with pytest.warns(CallbackWarning, match="the server is gone"):
        tell([logger], np.ones(4), run)
    assert run.status == "completed"
    assert run.disabled[0][0] is logger


def test_without_mlflow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mlflow", None)
    with pytest.raises(OptionalDependencyError, match=r"aimz_lab\[mlflow\]"):
        MLflowLogger()
