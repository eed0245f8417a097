"""Models and runs in a real MLflow store on disk."""

from __future__ import annotations

import importlib
import sys

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

import aimz_lab
from aimz_lab.errors import ArtifactError, CallError
from tests.kernels import linked
from tests.runs import mean_field, mean_field_model

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: the extra mlflow")
flavor = pytest.importorskip("aimz_lab.mlflow")

pytestmark = [
    pytest.mark.allow_rank_promotion,  # NumPyro's guides draw with a sample shape
    # MLflow's own: its file store is in maintenance mode, and it uses what pydantic deprecates.
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
]

X = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
Y = X.sum(1)
GROUP = np.arange(30) % 3


def kernel(X, group, offset, y=None):
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    with numpyro.plate("groups", 3):
        level = numpyro.sample("level", dist.Normal(0.0, 1.0))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta + level[group] + offset.sum(), 0.5), obs=y)


OFFSET = {"offset": np.array([3.0, 4.0], np.float32)}


@pytest.fixture(scope="module")
def im():
    im = mean_field_model(kernel)
    with jax.numpy_rank_promotion("allow"):
        im.fit_on_batch(X, Y, group=GROUP, num_steps=20, num_samples=50, progress=False, **OFFSET)
    return im


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A tracking store of its own for each test; nothing leaves the machine."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield
    flavor.autolog(disable=True)
    mlflow.set_tracking_uri(None)


def predict(im):
    key = jax.random.key(4)
    return im.predict_on_batch(X, rng_key=key, return_datatree=False, group=GROUP, **OFFSET)["y"]


@pytest.mark.slow
def test_a_logged_model_comes_back_as_it_was(im):
    info = flavor.log_model(im, name="model", kernel_kwargs=OFFSET)
    other = flavor.load_model(info.model_uri, kernel, mean_field(kernel))
    np.testing.assert_array_equal(predict(other), predict(im))
    unpickled = flavor.load_model(info.model_uri, allow_pickle=True)
    np.testing.assert_array_equal(predict(unpickled), predict(im))


def test_pickles_are_only_read_on_the_users_word(im, tmp_path, monkeypatch):
    path = tmp_path / "model"
    flavor.save_model(im, path)
    with pytest.raises(CallError, match="allow_pickle=True"):
        flavor.load_model(str(path))
    with pytest.raises(CallError, match="AIMZ_LAB_ALLOW_PICKLE"):
        mlflow.pyfunc.load_model(str(path))
    monkeypatch.setenv("AIMZ_LAB_ALLOW_PICKLE", "1")
    mlflow.pyfunc.load_model(str(path))
    with pytest.raises(ArtifactError, match="not empty"):
        flavor.save_model(im, path)


@pytest.mark.parametrize("kind", ["table", "arrays"])
def test_the_generic_interface_summarises_each_row(im, tmp_path, kind):
    flavor.save_model(im, tmp_path / "model", kernel_kwargs=OFFSET)
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"), model_config={"allow_pickle": True})
    table = pd.DataFrame(X, columns=["a", "b"], index=np.arange(30) + 7).assign(group=GROUP)
    found = served.predict(table if kind == "table" else {"X": X, "group": GROUP})
    assert list(found.columns) == ["mean", "sd", "lower", "upper"]
    assert found.index[0] == (7 if kind == "table" else 0)
    draws = im.predict_on_batch(
        X, rng_key=jax.random.key(0), return_datatree=False, group=GROUP, **OFFSET
    )["y"]
    np.testing.assert_allclose(found["mean"], draws.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["upper"], np.quantile(draws, 0.97, axis=0), rtol=1e-5)


def test_what_is_told_of_a_model_is_written_down(im, tmp_path):
    described = mlflow.models.Model(run_id="abc")
    flavor.save_model(
        im,
        tmp_path / "model",
        mlflow_model=described,
        signature=mlflow.models.infer_signature(X),
        pip_requirements=["aimz_lab==0.1"],
        metadata={"who": "me"},
    )
    read = mlflow.models.Model.load(str(tmp_path / "model"))
    assert (read.run_id, read.metadata) == ("abc", {"who": "me"})
    assert read.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 2)
    assert (tmp_path / "model" / "requirements.txt").read_text() == "aimz_lab==0.1\n"


@pytest.mark.slow
def test_columns_are_served_by_name(tmp_path):
    def line(X, y=None):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ slope, 1e-3), obs=y)

    im = mean_field_model(line)
    table = pd.DataFrame(X, columns=["a", "b"])
    im.fit(table, Y, epochs=2, progress=False)
    flavor.save_model(im, tmp_path / "model")
    served = mlflow.pyfunc.load_model(str(tmp_path / "model"), model_config={"allow_pickle": True})
    pd.testing.assert_frame_equal(served.predict(table[["b", "a"]]), served.predict(table))


@pytest.mark.slow
def test_arguments_that_are_code_come_with_the_kernel(tmp_path):
    im = mean_field_model(linked)
    im.fit(X, Y, link=jax.numpy.tanh, epochs=2, progress=False, num_samples=4)
    flavor.save_model(im, tmp_path / "model")
    loaded = flavor.load_model(
        str(tmp_path / "model"), linked, mean_field(linked), kernel_kwargs={"link": jax.numpy.tanh}
    )
    np.testing.assert_array_equal(loaded.posterior["slope"], im.posterior["slope"])


@pytest.mark.slow
def test_autolog_writes_fits_down_and_stops_when_told(monkeypatch):
    flavor.autolog()
    # mlflow.set_experiment would outlive the store, in this process and in those that it starts.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    im = mean_field_model(kernel)
    options = {"group": GROUP, "progress": False, "num_samples": 2, **OFFSET}
    im.fit(X, Y, epochs=3, batch_size=10, **options)
    (run,) = mlflow.search_runs(experiment_names=["ours"], output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "kernel"
    assert run.data.params["n_obs"] == "30"
    last = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert sum(entry.step for entry in last) > 0
    with mlflow.start_run() as active:
        im.fit(X, Y, epochs=1, batch_size=10, **options)
        status = mlflow.MlflowClient().get_run(active.info.run_id).info.status
        assert status == "RUNNING"  # whoever opened it closes it
    assert mlflow.get_run(active.info.run_id).data.params["method"] == "SVI/AutoNormal"
    flavor.autolog(disable=True)
    im.fit(X, Y, epochs=1, batch_size=10, **options)
    assert len(mlflow.search_runs(experiment_names=["ours"], output_format="list")) == 2


def test_without_mlflow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "aimz_lab.mlflow")
    monkeypatch.setattr(aimz_lab, "mlflow", flavor)  # what a second import would replace for good
    with pytest.raises(ImportError) as caught:
        importlib.import_module("aimz_lab.mlflow")
    assert str(caught.value) == "aimz_lab.mlflow needs MLflow: pip install 'aimz_lab[mlflow]'."
