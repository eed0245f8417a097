"""Models in a tracking store with a database, and behind a server: with the full MLflow."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.served import FIT, GROUP, OFFSET, TABLE, X, Y, draws_of, fitted, kernel

WHY = "MLflow's database and server are not installed: the extra mlflow-server"
for part in ("sqlalchemy", "alembic", "uvicorn", "fastapi"):
    pytest.importorskip(part, reason=WHY)
mlflow = pytest.importorskip("mlflow", reason=WHY)
flavor = importlib.import_module("aimz_lab.mlflow")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.allow_rank_promotion,  # NumPyro's guides draw with a sample shape
    # What MLflow and its database do is not ours.
    pytest.mark.filterwarnings("ignore"),
]

STARTED_WITHIN_S = 120


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A store in a database, and the environment of processes that use it."""
    folder = tmp_path_factory.mktemp("store")
    settings = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_EXPERIMENT_NAME": "served",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.delenv("AIMZ_LAB_ALLOW_PICKLE", raising=False)
        artifacts = (folder / "artifacts").as_uri()
        mlflow.create_experiment("served", artifact_location=artifacts)
        bin_first = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        repository = str(Path(__file__).resolve().parents[1])  # the kernel is in a test's module
        yield {**os.environ, "PATH": bin_first, "PYTHONPATH": repository}


@pytest.fixture(scope="module")
def im(environment):
    """A model whose second version was registered by hand, the first by autologging."""
    import jax

    flavor.autolog(registered_model_name="levels", log_input_examples=True)
    try:
        with jax.numpy_rank_promotion("allow"):
            im = fitted()
    finally:
        flavor.autolog(disable=True)
    with jax.numpy_rank_promotion("allow"), mlflow.start_run():
        arrays = {"X": X[:4], "group": GROUP[:4]}
        flavor.log_model(
            im,
            registered_model_name="levels",
            input_example=(arrays, {"output": "draws"}),
            await_registration_for=10,
            name="by_hand",
            params={"why": "better"},
            tags={"stage": "trial"},
            model_type="hierarchical",
            step=3,
            kernel_kwargs=OFFSET,
        )
    return im


def served(environment, version, **more):
    """A server of a registered version, and its port."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/levels/{version}"]
    command += ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.Popen(
        command,
        env={**environment, **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ), port


@pytest.fixture(scope="module", params=[1, 2])
def answer(environment, im, request, tmp_path_factory):
    """Asks a server of one version, and returns its predictions."""
    server, port = served(environment, request.param, AIMZ_LAB_ALLOW_PICKLE="1")
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + STARTED_WITHIN_S
        while not _is_up(url):
            assert server.poll() is None, server.stdout.read()
            assert time.monotonic() < until
            time.sleep(0.2)
        yield request.param, lambda body: _post(f"{url}/invocations", body)
    finally:
        os.killpg(server.pid, 15)  # the command and the server that it started
        server.communicate(timeout=30)


def _is_up(url):
    try:
        with urllib.request.urlopen(f"{url}/ping", timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def _post(url, body):
    data = json.dumps(body).encode()
    ask = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(ask, timeout=60) as reply:
            return reply.status, json.loads(reply.read())["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_registered_versions_are_found(im):
    client = mlflow.MlflowClient()
    versions = client.search_model_versions("name='levels'")
    assert {int(each.version) for each in versions} == {1, 2}
    for version in (1, 2):
        other = flavor.load_model(f"models:/levels/{version}", allow_pickle=True)
        np.testing.assert_array_equal(draws_of(other), draws_of(im))
    (by_hand,) = mlflow.search_logged_models(filter_string="name = 'by_hand'", output_format="list")
    assert by_hand.params["why"] == "better"
    assert (by_hand.tags["stage"], by_hand.model_type) == ("trial", "hierarchical")


def test_autologging_fills_the_database(im):
    (run,) = mlflow.search_runs(filter_string="params.model = 'kernel'", output_format="list")
    assert run.info.status == "FINISHED"
    (data,) = run.inputs.dataset_inputs
    assert json.loads(data.dataset.profile)["features_shape"] == {"X": [30, 2], "group": [30]}
    (logged,) = run.outputs.model_outputs
    assert mlflow.get_logged_model(logged.model_id).params["num_samples"] == "50"


def test_a_server_answers_as_the_model_does(im, answer):
    version, ask = answer
    rows, draws = slice(0, 5), draws_of(im, slice(0, 5), seed=7)
    if version == 1:  # its signature has columns
        table = TABLE[["b", "group", "a"]][rows]
        body = {"dataframe_split": table.to_dict(orient="split", index=False)}
    else:
        body = {"inputs": {"X": X[rows].tolist(), "group": GROUP[rows].tolist()}}
    asked = {"output": "draws", "seed": 7, "num_draws": 50}
    status, found = ask({**body, "params": asked})
    assert status == 200
    np.testing.assert_allclose(found["y"], draws, rtol=1e-5)
    status, found = ask({**body, "params": {"output": "summary", "seed": 7, "prob": 0.5}})
    assert status == 200
    np.testing.assert_allclose([row["mean"] for row in found], draws.mean(0), rtol=1e-5)
    lower = np.quantile(draws, 0.25, axis=0)
    np.testing.assert_allclose([row["lower"] for row in found], lower, rtol=1e-5)
    status, found = ask(body)  # what the example said
    assert status == 200
    assert isinstance(found, list) == (version == 1)
    status, found = ask({**body, "params": {"prob": 7.0}})
    assert status == 400
    assert "prob is the mass of the interval" in found


def test_a_server_without_consent_does_not_start(environment, im):
    server, _ = served(environment, 2)
    said, _ = server.communicate(timeout=STARTED_WITHIN_S)
    assert server.returncode != 0
    assert "unpickling runs code" in said
    assert "AIMZ_LAB_ALLOW_PICKLE=1" in said


def test_a_model_that_mlflow_has_opened_is_completed(im):
    opened = mlflow.create_external_model(name="opened")
    info = flavor.log_model(im, model_id=opened.model_id, artifact_path="ignored")
    assert info.model_id == opened.model_id
    same = flavor.load_model(info.model_uri, allow_pickle=True)
    np.testing.assert_array_equal(draws_of(same), draws_of(im))


def test_a_database_that_is_gone_ends_no_fit(environment, tmp_path, monkeypatch):
    from tests.runs import mean_field_model

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'no' / 'mlflow.db'}")
    (tmp_path / "no").write_text("a file, not a folder")
    flavor.autolog(silent=True)
    try:
        run = mean_field_model(kernel).fit_on_batch(X, Y, num_steps=2, num_samples=2, **FIT)
    finally:
        flavor.autolog(disable=True)
    assert run.last_run.status == "completed"
