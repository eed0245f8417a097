"""Models and runs in a real MLflow store on disk."""

from __future__ import annotations

import importlib
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import yaml
from numpyro.infer import HMC, MCMC

import aimz_lab
from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel
from aimz_lab.errors import (
    AimzLabError,
    ArgumentError,
    ArtifactError,
    ArtifactWriteError,
    CallbackWarning,
    CallError,
    DataError,
)
from tests.kernels import linked
from tests.runs import mean_field, mean_field_model
from tests.served import (
    FIT,
    GROUP,
    OFFSET,
    TABLE,
    X,
    Y,
    draws_of,
    fitted,
    kernel,
    plant,
    redescribe,
)

mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed: the extra mlflow")
flavor = importlib.import_module("aimz_lab.mlflow")
ServedModel = importlib.import_module("aimz_lab.mlflow.serving").ServedModel

pytestmark = [
    pytest.mark.allow_rank_promotion,  # NumPyro's guides draw with a sample shape
    # MLflow's own: its file store is in maintenance mode, it uses what pydantic and pandas
    # deprecate, and it has a hint for integer columns.
    pytest.mark.filterwarnings("ignore::FutureWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow"),
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow"),
]


@pytest.fixture(scope="module")
def im():
    return fitted()


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    """A tracking store of its own for each test; nothing leaves the machine."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "true")
    # mlflow.set_experiment would outlive the store, in this process and in those that it starts.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    yield
    flavor.autolog(disable=True)
    mlflow.set_tracking_uri(None)


@pytest.fixture(scope="module")
def saved(im, tmp_path_factory):
    """A saved model, not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "model"
    flavor.save_model(im, path, kernel_kwargs=OFFSET, input_example=TABLE[:4])
    return path


@pytest.fixture
def tampered(saved, tmp_path):
    """A copy of the saved model whose pickle and modules leave a trace, and the trace."""
    path, trace = tmp_path / "tampered", tmp_path / "trace"
    shutil.copytree(saved, path)
    plant(path, trace)
    before = list(sys.path)
    yield path, trace
    sys.path[:] = before


def runs():
    return mlflow.search_runs(experiment_names=["ours"], output_format="list")


def same_draws(im, other):
    np.testing.assert_array_equal(draws_of(other), draws_of(im))


@pytest.mark.slow
def test_a_logged_model_comes_back_as_it_was(im, tmp_path):
    info = flavor.log_model(im, name="model", kernel_kwargs=OFFSET)
    other = flavor.load_model(info.model_uri, kernel=kernel, inference=mean_field(kernel))
    same_draws(im, other)
    target = tmp_path / "here"
    same_draws(im, flavor.load_model(info.model_uri, dst_path=target, allow_pickle=True))
    assert list(target.rglob("MLmodel"))


# Consent


def say(**config):
    return lambda described: described["flavors"]["python_function"].update(config)


@pytest.mark.parametrize(
    ("change", "config"),
    [
        (say(config={"allow_pickle": True}), None),
        (say(config={"allow_pickle": True}), {"allow_pickle": False}),
        (say(config={"allow_pickle": "no"}), {"allow_pickle": "no"}),
        (say(config={"allow_pickle": 1}), {"allow_pickle": 1}),
        # The model sends MLflow to another folder, whose description looks innocent.
        (say(config={"allow_pickle": True}, data="model/.."), None),
        (say(code="code"), None),
    ],
)
def test_nothing_in_a_model_is_consent_to_unpickle(tampered, change, config):
    path, trace = tampered
    redescribe(path, change)
    with pytest.raises(CallError, match="unpickling runs code"):
        mlflow.pyfunc.load_model(str(path), model_config=config)
    assert not trace.exists()


def test_a_configuration_in_the_environment_is_no_consent(tampered, monkeypatch):
    path, trace = tampered
    redescribe(path, say(config={"allow_pickle": False}))
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", '{"allow_pickle": true}')
    with pytest.raises(CallError, match="A model_config of MLflow is not asked"):
        mlflow.pyfunc.load_model(str(path))
    assert not trace.exists()


@pytest.mark.parametrize("said", ["true", "yes", "no", "0", "", "01"])
def test_only_1_in_the_environment_is_consent(tampered, monkeypatch, said):
    path, trace = tampered
    monkeypatch.setenv("AIMZ_LAB_ALLOW_PICKLE", said)
    with pytest.raises(CallError, match=f"it is '{said}'; only 1 counts" if said else "AIMZ_LAB"):
        mlflow.pyfunc.load_model(str(path))
    assert not trace.exists()


@pytest.mark.parametrize("said", ["no", "true", 1, np.True_, [True], None])
@pytest.mark.parametrize("load", [flavor.load_model, flavor.load_pyfunc])
def test_only_true_is_consent(tampered, load, said):
    path, trace = tampered
    with pytest.raises(ArgumentError, match="allow_pickle takes True or False"):
        load(path, allow_pickle=said)
    assert not trace.exists()


def test_consent_reads_the_pickle(tampered, monkeypatch):
    path, trace = tampered
    with pytest.raises(ArtifactError, match="cannot be unpickled"):
        flavor.load_model(path, allow_pickle=True)
    assert trace.exists()
    trace.unlink()
    monkeypatch.setenv("AIMZ_LAB_ALLOW_PICKLE", "1")
    with pytest.raises(ArtifactError, match="cannot be unpickled"):
        mlflow.pyfunc.load_model(str(path))
    assert trace.exists()
    trace.unlink()
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with pytest.raises(CallError, match="MLFLOW_ALLOW_PICKLE_DESERIALIZATION forbids"):
        flavor.load_model(path, allow_pickle=True)
    assert not trace.exists()


@pytest.mark.slow
@pytest.mark.parametrize("load", [flavor.load_model, flavor.load_pyfunc])
def test_with_your_own_code_nothing_of_the_model_runs(im, tampered, load):
    path, trace = tampered

    def change(described):
        generic, own = (described["flavors"][name] for name in ("python_function", "aimz_lab"))
        generic.update(loader_module="planted", code="code", config={"allow_pickle": True})
        own.update(code="code", pickled="code.pkl", state="../elsewhere", allow_pickle=True)

    redescribe(path, change)
    with pytest.raises(CallError, match="unpickling runs code"):
        load(path)
    loaded = load(path, kernel=kernel, inference=mean_field(kernel), kernel_kwargs=OFFSET)
    model = loaded if load is flavor.load_model else loaded.get_raw_model()
    same_draws(im, model)
    assert not trace.exists()
    assert importlib.util.find_spec("planted") is None


def test_kernel_and_inference_go_together(saved):
    with pytest.raises(CallError, match="kernel= goes with inference="):
        flavor.load_model(saved, kernel=kernel, allow_pickle=True)
    with pytest.raises(CallError, match="passed by name: kernel="):
        flavor.load_model(saved, kernel, allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: shutil.rmtree(path), "No model of MLflow can be read"),
        (lambda path: (path / "MLmodel").write_text("{"), "No model of MLflow can be read"),
        (lambda path: redescribe(path, lambda d: d["flavors"].pop("aimz_lab")), "no model of aimz"),
        (lambda path: (path / "code.pkl").unlink(), "no code.pkl"),
        (lambda path: (path / "code.pkl").write_bytes(b"x"), "cannot be unpickled"),
        (lambda path: as_pipe(path / "code.pkl"), "no code.pkl"),
        (lambda path: as_pipe(path / "MLmodel"), "no regular file"),
        (lambda path: (path / "MLmodel").write_text("flavors: aimz_lab"), "No model of MLflow"),
        (lambda path: redescribe(path, lambda d: d.update(signature=5)), "No model of MLflow"),
    ],
)
def test_what_is_no_model_is_refused_in_our_words(saved, tmp_path, spoil, message):
    path = tmp_path / "copy"
    shutil.copytree(saved, path)
    spoil(path)
    with pytest.raises(ArtifactError, match=message):
        flavor.load_model(path, allow_pickle=True)


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


# Saving


def test_what_is_told_of_a_model_is_written_down(im, tmp_path):
    described = mlflow.models.Model(run_id="abc")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "helpers.py").write_text("scale = 2\n")
    flavor.save_model(
        model=im,
        path=tmp_path / "model",
        code_paths=[tmp_path / "helpers.py"],
        mlflow_model=described,
        signature=mlflow.models.infer_signature(X),
        pip_requirements=iter(["aimz_lab==0.1", "numpyro"]),
        metadata={"who": "me"},
        extra_files=[tmp_path / "notes.txt"],
    )
    read = mlflow.models.Model.load(str(tmp_path / "model"))
    assert (read.run_id, read.metadata) == ("abc", {"who": "me"})
    assert read.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 2)
    assert [spec.name for spec in read.signature.params] == ["output", "prob", "seed", "num_draws"]
    (extra,) = read.flavors["aimz_lab"]["extra_files"]
    assert (tmp_path / "model" / extra["path"]).read_text() == "hello"
    assert (tmp_path / "model" / "code" / "helpers.py").is_file()
    required = (tmp_path / "model" / "requirements.txt").read_text().splitlines()
    assert required == [f"mlflow=={mlflow.__version__}", "aimz_lab==0.1", "numpyro"]


def test_environments_are_described_as_mlflow_does(im, tmp_path):
    environment = flavor.get_default_conda_env(include_cloudpickle=True)
    pinned = flavor.get_default_pip_requirements(include_cloudpickle=True)
    assert set(pinned) < set(environment["dependencies"][-1]["pip"])
    assert f"jax=={jax.__version__}" in flavor.get_default_pip_requirements()
    flavor.save_model(im, tmp_path / "a", conda_env=environment)
    assert yaml.safe_load((tmp_path / "a" / "conda.yaml").read_text()) == environment
    (tmp_path / "constraints.txt").write_text("flax==1.0\n")
    lines = [f"-c {tmp_path / 'constraints.txt'}", "flax"]
    flavor.save_model(im, tmp_path / "b", extra_pip_requirements=lines)
    required = (tmp_path / "b" / "requirements.txt").read_text().splitlines()
    assert {*pinned, "flax", "-c constraints.txt"} <= set(required)
    assert (tmp_path / "b" / "constraints.txt").read_text() == "flax==1.0\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": kernel}, CallError, "model is an aimz_lab.ImpactModel; got a function"),
        ({"model": ImpactModel}, CallError, "got a type"),
        ({"mlflow_model": {}}, CallError, "mlflow_model is a mlflow.models.Model"),
        ({"signature": "X"}, ArgumentError, "signature is a ModelSignature"),
        ({"signature": True}, ArgumentError, "signature is a ModelSignature"),
        ({"conda_env": {}, "pip_requirements": []}, CallError, "pass only one"),
        ({"conda_env": 5}, ArgumentError, "conda_env is a dict"),
        ({"conda_env": "no.yaml"}, ArgumentError, "'no.yaml', which does not exist"),
        ({"pip_requirements": 5}, ArgumentError, "pip_requirements is a list"),
        ({"extra_pip_requirements": [5]}, ArgumentError, "extra_pip_requirements is a list"),
        ({"pip_requirements": ["flax >> 1"]}, ArgumentError, "requirements cannot be read"),
        ({"pip_requirements": "no.txt"}, ArgumentError, "requirements cannot be read"),
        ({"code_paths": "helpers.py"}, ArgumentError, "code_paths is a list"),
        ({"code_paths": ["no.py"]}, ArgumentError, "'no.py', which does not exist"),
        ({"extra_files": ["no.txt"]}, ArgumentError, "'no.txt', which does not exist"),
        ({"metadata": "me"}, ArgumentError, "metadata is a dict"),
        ({"metadata": {"me": object()}}, ArgumentError, "YAML cannot hold"),
        ({"kernel_kwargs": ["offset"]}, ArgumentError, "kernel_kwargs is a dict"),
        ({"kernel_kwargs": {"knots": 1}}, ArgumentError, "kernel_kwargs names 'knots'"),
        ({"kernel_kwargs": {"offset": sys.stdout}}, ArtifactError, "cannot be pickled"),
        ({"input_example": "text"}, AimzLabError, "text"),
        ({"input_example": X[:3]}, AimzLabError, "needs the argument 'group'"),
        ({"input_example": {"group": GROUP}}, DataError, "no 'X', the kernel's input"),
        ({"input_example": (TABLE, {"prob": 2})}, ArgumentError, "prob is the mass"),
        ({"input_example": (TABLE, {"probs": 0.5})}, ArgumentError, "params has no 'probs'"),
    ],
)
@pytest.mark.parametrize("save", ["save_model", "log_model"])
def test_bad_arguments_are_refused_before_anything_is_written(
    im, tmp_path, save, options, error, message
):
    options = {"model": im, **options}
    if save == "save_model":
        with pytest.raises(error, match=message):
            flavor.save_model(path=tmp_path / "model", **options)
    elif "mlflow_model" not in options:
        with pytest.raises(error, match=message):
            flavor.log_model(name="model", **options)
        assert mlflow.search_logged_models(output_format="list") == []
    assert not list(tmp_path.glob("*model*"))


def test_models_have_one_name(im):
    with pytest.raises(CallError, match="former word for name"):
        flavor.log_model(im, "a", name="b")
    for name, value in {
        "registered_model_name": 5,
        "model_type": "",
        "model_id": 5,
        "run_id": 5,
        "params": [],
        "tags": {1: 2},
        "step": "a",
        "await_registration_for": "long",
    }.items():
        with pytest.raises(ArgumentError, match=f"{name} is a"):
            flavor.log_model(im, **{name: value})
    with pytest.raises(CallError, match="no argument 'stepp'"):
        flavor.log_model(im, stepp=3)
    assert mlflow.search_logged_models(output_format="list") == []


def test_options_reach_the_logged_model(im, saved, tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    info = flavor.log_model(
        im,
        code_paths=iter([tmp_path / "notes.txt"]),
        signature=mlflow.models.infer_signature(X),
        pip_requirements=iter(["numpyro"]),
        metadata={"who": "me"},
        extra_files=iter([tmp_path / "notes.txt"]),
    )
    path = tmp_path / "fetched"
    flavor.load_pyfunc(info.model_uri, dst_path=path, allow_pickle=True)
    assert {file.parent.name for file in path.rglob("notes.txt")} == {"code", "extra_files"}
    assert "numpyro" in next(path.rglob("requirements.txt")).read_text().splitlines()
    assert (info.metadata, info.signature.inputs.is_tensor_spec()) == ({"who": "me"}, True)
    with pytest.raises(CallError, match="conda_env and extra_pip_requirements all say"):
        flavor.log_model(im, conda_env={}, extra_pip_requirements=["flax"])


def test_a_full_folder_and_an_unwritable_one_are_refused(im, saved, tmp_path):
    with pytest.raises(ArtifactError, match="not empty"):
        flavor.save_model(im, saved)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="not empty"):
        flavor.save_model(im, tmp_path / "file")
    with pytest.raises(ArtifactWriteError, match="could not be written"):
        flavor.save_model(im, tmp_path / "file" / "below")
    for path in (None, 5, "", "a\0b"):
        with pytest.raises(CallError, match="path is a path"):
            flavor.save_model(im, path)
    (tmp_path / "left").mkdir()
    with pytest.raises(ArgumentError, match="cannot be fetched"):
        flavor.save_model(im, tmp_path / "left" / "m", extra_files=["nope://x"])
    assert not list((tmp_path / "left").iterdir())


# Serving


@pytest.fixture(scope="module")
def served(saved):
    return flavor.load_pyfunc(saved, allow_pickle=True)


@pytest.mark.parametrize("kind", ["table", "arrays"])
def test_the_generic_interface_summarises_each_row(im, served, saved, kind, monkeypatch):
    if kind == "arrays":  # saved without a signature
        served = flavor.load_pyfunc(
            saved, kernel=kernel, inference=mean_field(kernel), kernel_kwargs=OFFSET
        )
        served.metadata.signature = None
    table = TABLE.set_axis(np.arange(30) + 7)
    found = served.predict(table if kind == "table" else {"X": X, "group": GROUP})
    assert list(found.columns) == ["mean", "sd", "lower", "upper"]
    assert found.index[0] == (7 if kind == "table" else 0)
    draws = draws_of(im)
    np.testing.assert_allclose(found["mean"], draws.mean(0), rtol=1e-5)
    np.testing.assert_allclose(found["upper"], np.quantile(draws, 0.97, axis=0), rtol=1e-5)


def test_a_request_says_what_it_wants(im, served):
    draws = served.predict(TABLE, params={"output": "draws", "seed": 3})["y"]
    np.testing.assert_array_equal(draws, draws_of(im, seed=3))
    some = served.predict(TABLE, params={"output": "draws", "seed": 3, "num_draws": 8})["y"]
    np.testing.assert_array_equal(some, draws[[0, 7, 14, 21, 28, 35, 42, 49]])
    half = served.predict(TABLE, params={"prob": 0.5, "seed": 3})
    np.testing.assert_allclose(half["lower"], np.quantile(draws, 0.25, axis=0), rtol=1e-5)
    tree = served.predict(TABLE, params={"output": "tree", "seed": 3})
    np.testing.assert_array_equal(tree.posterior_predictive["y"][0], draws)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"group": GROUP}, "no 'X', the kernel's input"),
        ({"X": [[1, 2], [3]], "group": [0, 1]}, "'X' is no array"),
        ({"X": X[:2] * 1j, "group": GROUP[:2]}, "'X' is complex"),
        ({"X": X[:3], "group": GROUP[:2]}, "'group' has 2 entries"),
        (TABLE[["a", "b"]], "no column 'group'"),
        (TABLE.assign(c=1.0), "was trained on 'a', 'b'"),
        (pd.concat([TABLE, TABLE[["a"]]], axis=1), "was trained on 'a', 'b'"),
        (TABLE.rename(columns={"a": "c"}), "was trained on 'a', 'b'"),
        (TABLE.assign(a="text"), "holds text"),
        (TABLE.assign(group=3), "points at entry 3"),
        (None, "NoneType objects"),
        ([], "trained on a table"),
    ],
)
def test_requests_without_a_signature_are_checked(served, request_, message):
    bare = ServedModel(served.get_raw_model(), OFFSET)
    with pytest.raises(AimzLabError, match=message):
        bare.predict(request_)


def test_whole_numbers_of_json_are_whole(im, served):
    bare = ServedModel(served.get_raw_model(), OFFSET)
    rows = {"X": X.tolist(), "group": [float(each) for each in GROUP]}
    np.testing.assert_array_equal(bare.predict(rows, {"output": "draws"})["y"], draws_of(im))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"return_datatree": "no"}, "neither True nor False"),
        ({"output": "mean"}, "output='mean' is not known"),
        ({"prob": 0.0}, "prob is the mass"),
        ({"prob": float("nan")}, "prob is the mass"),
        ({"seed": "1"}, "seed is an integer"),
        ({"probs": 0.5}, "params has no 'probs'"),
        (5, "params is a dict"),
        ({"seed": -1}, "seed is an integer"),
        ({"seed": 2**40}, "seed is an integer"),
        ({"num_draws": 0}, "num_draws=0"),
        ({"num_draws": 51}, "it has 50 draws"),
        ({"num_draws": 5, "output": "tree"}, "a tree has all draws"),
    ],
)
def test_params_are_checked(served, params, message):
    with pytest.raises(ArgumentError, match=message):
        ServedModel(served.get_raw_model(), OFFSET).predict(TABLE, params=params)


def test_tables_are_matched_by_their_columns(served):
    expected = served.predict(TABLE)
    pd.testing.assert_frame_equal(served.predict(TABLE[["b", "group", "a"]]), expected)
    bare = ServedModel(served.get_raw_model(), OFFSET)
    pd.testing.assert_frame_equal(bare.predict(TABLE[["b", "group", "a"]]), expected)


def test_the_example_says_what_requests_look_like(im, saved, tmp_path):
    read = mlflow.models.Model.load(str(saved))
    assert read.signature.inputs.input_names() == ["a", "b", "group"]
    assert read.signature.outputs.input_names() == ["mean", "sd", "lower", "upper"]
    pd.testing.assert_frame_equal(read.load_input_example(str(saved)), TABLE[:4], check_dtype=False)
    key = im.rng_key
    arrays = {"X": jnp.asarray(X[:5]), "group": jnp.asarray(GROUP[:5])}
    example = (arrays, {"output": "draws", "seed": 5})
    flavor.save_model(im, tmp_path / "model", input_example=example, kernel_kwargs=OFFSET)
    assert (jax.random.key_data(im.rng_key) == jax.random.key_data(key)).all()
    served = flavor.load_pyfunc(tmp_path / "model", allow_pickle=True)
    draws = served.predict({"X": X, "group": GROUP.astype(np.int32)})["y"]
    np.testing.assert_array_equal(draws, draws_of(im, seed=5))
    flavor.save_model(
        im, tmp_path / "none", signature=False, input_example=X[:5], kernel_kwargs=OFFSET
    )
    assert mlflow.models.Model.load(str(tmp_path / "none")).signature is None


def test_words_of_the_peer_are_understood(im, tmp_path):
    example = (TABLE[:5], {"progress": False, "return_datatree": False, "seed": 0})
    flavor.save_model(im, tmp_path / "model", input_example=example, kernel_kwargs=OFFSET)
    served = flavor.load_pyfunc(tmp_path / "model", allow_pickle=True)
    np.testing.assert_array_equal(served.predict(TABLE)["y"], draws_of(im))
    tree = served.predict(TABLE, params={"return_datatree": True})
    np.testing.assert_array_equal(tree.posterior_predictive["y"][0], draws_of(im))


@pytest.mark.slow
def test_a_vector_is_served_from_one_column_and_an_output_of_vectors_in_lists(tmp_path):
    def curve(x, y=None):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with numpyro.plate("obs", x.shape[0]):
            numpyro.sample("y", dist.Normal(x[:, None] * slope, 1e-3).to_event(1), obs=y)

    im = ImpactModel(curve, jax.random.key(0), svi=mean_field(curve), param_input="x")
    x = X[:, 0]
    im.fit_on_batch(x, np.stack([x, -x], 1), num_steps=5, num_samples=20, progress=False)
    flavor.save_model(im, tmp_path / "model")
    served = flavor.load_pyfunc(tmp_path / "model", allow_pickle=True)
    found = served.predict(pd.DataFrame({"x": x[:4]}))
    draws = im.predict_on_batch(x[:4], rng_key=jax.random.key(0), return_datatree=False)["y"]
    np.testing.assert_allclose(np.stack(found["mean"]), draws.mean(0), rtol=1e-4)


@pytest.mark.slow
def test_arguments_that_are_code_come_with_the_kernel(tmp_path):
    im = mean_field_model(linked)
    im.fit(X, Y, link=jax.numpy.tanh, epochs=2, progress=False, num_samples=4)
    flavor.save_model(im, tmp_path / "model")
    loaded = flavor.load_model(
        tmp_path / "model",
        kernel=linked,
        inference=mean_field(linked),
        kernel_kwargs={"link": jax.numpy.tanh},
    )
    np.testing.assert_array_equal(loaded.posterior["slope"], im.posterior["slope"])
    served = flavor.load_pyfunc(tmp_path / "model", allow_pickle=True)
    assert len(served.predict(X[:3])) == 3


# Autologging


@pytest.mark.slow
def test_autolog_writes_fits_down_and_stops_when_told():
    flavor.autolog(extra_tags={"who": "me"}, log_models=False)
    im = mean_field_model(kernel)
    im.fit(X, Y, epochs=3, batch_size=10, num_samples=2, **FIT)
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "kernel"
    assert run.data.params["n_obs"] == "30"
    assert run.data.tags["who"] == "me"
    assert [each.tags[0].value for each in run.inputs.dataset_inputs] == ["train"]
    client = mlflow.MlflowClient()
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["kernel.py"]
    assert sum(entry.step for entry in client.get_metric_history(run.info.run_id, "loss")) > 0
    assert mlflow.search_logged_models(output_format="list") == []
    with mlflow.start_run() as active:
        mlflow.log_param("n_obs", "what I think")
        im.fit(X, Y, epochs=1, batch_size=10, num_samples=2, **FIT)
        im.fit(X, Y, epochs=1, batch_size=15, num_samples=2, blocking=False, **FIT).wait()
        assert client.get_run(active.info.run_id).info.status == "RUNNING"  # its opener closes it
        with mlflow.start_run(nested=True) as inner:
            im.fit(X, Y, epochs=1, batch_size=10, num_samples=2, **FIT)
    written = mlflow.get_run(active.info.run_id).data
    assert written.params["method"] == "SVI/AutoNormal"
    assert written.params["n_obs"] == "what I think"
    assert written.params["aimz_lab/n_obs"] == written.params["fit_2/n_obs"] == "30"
    assert (written.params["batch_size"], written.params["fit_2/batch_size"]) == ("10", "15")
    assert {"loss", "fit_2/loss"} <= written.metrics.keys()
    assert mlflow.get_run(inner.info.run_id).data.tags["aimz_lab.fits"] == "1"
    flavor.autolog(exclusive=True, disable_for_unsupported_versions=True)
    with mlflow.start_run():
        im.fit(X, Y, epochs=1, batch_size=10, num_samples=2, **FIT)
    flavor.autolog(disable=True)
    im.fit(X, Y, epochs=1, batch_size=10, num_samples=2, **FIT)
    assert [("model" in run.data.params) for run in runs()].count(True) == 3


@pytest.mark.slow
def test_autolog_logs_model_signature_and_example():
    flavor.autolog(log_input_examples=True, log_model_signatures=True, log_datasets=False)
    im = mean_field_model(kernel)
    options = {"epochs": 2, "batch_size": 10, "num_samples": 6, "blocking": False, **FIT}
    im.fit(TABLE[["a", "b"]], Y, **options).result()
    (run,), (logged,) = runs(), mlflow.search_logged_models(output_format="list")
    assert (logged.source_run_id, logged.status) == (run.info.run_id, "READY")
    assert logged.params["num_samples"] == "6"
    assert [metric.key for metric in logged.metrics] == ["learning_rate", "loss"]
    assert not run.inputs.dataset_inputs
    served = flavor.load_pyfunc(logged.model_uri, allow_pickle=True)
    assert served.metadata.signature.inputs.input_names() == ["a", "b", "group"]
    pd.testing.assert_frame_equal(served.input_example or TABLE[:5], TABLE[:5])
    draws = draws_of(im)
    np.testing.assert_allclose(served.predict(TABLE)["mean"], draws.mean(0), rtol=1e-5)


@pytest.mark.slow
def test_autolog_follows_chains_and_loaders():
    def mean(X, y=None):
        centre = numpyro.sample("centre", dist.Normal(0.0, 1.0))
        with numpyro.plate("obs", X.shape[0]):
            numpyro.sample("y", dist.Normal(centre + X, 1.0), obs=y)

    flavor.autolog(log_model_signatures=False)
    sampler = HMC(mean, num_steps=3, trajectory_length=None)
    chains = ImpactModel(mean, jax.random.key(0), MCMC(sampler, num_warmup=5, num_samples=6))
    chains.fit_on_batch(X[:, 0], Y, progress=False)
    loader = ArrayLoader(ArrayDataset(X=X[:, 0], y=Y), rng_key=jax.random.key(1), batch_size=10)
    mean_field_model(mean).fit(loader, num_samples=4, progress=False)
    methods = {run.data.params["method"] for run in runs()}
    assert methods == {"MCMC/HMC", "SVI/AutoNormal"}
    logged = mlflow.search_logged_models(output_format="list")
    assert {each.params["num_samples"] for each in logged} == {"6", "4"}
    assert all(len(run.inputs.dataset_inputs) == 1 for run in runs())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "silent"),
    [
        ("start_run", False),
        ("MlflowClient.log_batch", False),
        ("MlflowClient.log_model_artifacts", False),
        ("start_run", True),
        ("MlflowClient.log_model_artifacts", True),
    ],
)
def test_a_server_that_fails_ends_no_fit(monkeypatch, recwarn, part, silent):
    def fail(*args, **kwargs):
        raise ConnectionError("the server is gone")

    flavor.autolog(silent=silent, log_model_signatures=False)
    monkeypatch.setattr(f"mlflow.{part}", fail)
    im = mean_field_model(kernel)
    assert im.fit_on_batch(X, Y, num_steps=2, num_samples=2, **FIT).last_run.status == "completed"
    assert im.is_fitted()
    told = [w for w in recwarn if issubclass(w.category, CallbackWarning)]
    assert ["the server is gone" in str(w.message) for w in told] == ([] if silent else [True])


@pytest.mark.parametrize(
    "options",
    [
        {"disable": "no"},
        {"silent": 1},
        {"log_models": np.ones(2)},
        {"registered_model_name": 5},
        {"extra_tags": "a"},
        {"disable_for_unsupported_versions": None},
    ],
)
def test_options_of_autolog_are_checked(options):
    with pytest.raises(ArgumentError, match=f"{next(iter(options))} takes"):
        flavor.autolog(**options)


def test_without_mlflow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.delitem(sys.modules, "aimz_lab.mlflow")
    monkeypatch.setattr(aimz_lab, "mlflow", flavor)  # what a second import would replace for good
    with pytest.raises(ImportError) as caught:
        importlib.import_module("aimz_lab.mlflow")
    assert str(caught.value) == "aimz_lab.mlflow needs MLflow: pip install 'aimz_lab[mlflow]'."
