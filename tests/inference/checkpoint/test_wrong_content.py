"""Right checksums and wrong content: checkpoints and models are refused, and the field is named."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab.errors import ArtifactError, CheckpointError
from tests.property.tampering import Checkpoint, SavedModel

pytestmark = pytest.mark.allow_rank_promotion


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of 4 steps, in 2 epochs of 2 batches, and the model of the run."""
    with jax.numpy_rank_promotion("allow"):
        return Checkpoint(tmp_path_factory.mktemp("checkpoint") / "files")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved model with the state of its training, and 6 draws in 2 chains."""
    with jax.numpy_rank_promotion("allow"):
        return SavedModel(tmp_path_factory.mktemp("model") / "files")


def cut(plain, arrays):
    """Leave out the last step."""
    for name in arrays:
        if name.startswith(("history", "metric", "validation")):
            arrays[name] = arrays[name][:-1]
    plain["best_so_far"][2] = 2
    plain["state_of_step"] -= 1


def put(*path):
    """Replace the value at a path, which ends with the value."""
    *path, last, value = path

    def change(plain, arrays):
        for name in path:
            plain = plain[name]
        plain[last] = value

    return change


def array(name, change):
    def put_array(plain, arrays):
        arrays[name] = change(arrays[name])

    return put_array


def drop(name):
    def leave_out(plain, arrays):
        (arrays if name in arrays else plain).pop(name)

    return leave_out


RUNS = {
    "fewer losses": (array("history/loss", lambda a: a[:-1]), r"best_so_far is of steps \[4\]"),
    "fewer epochs": (array("history/epoch", lambda a: a[:-1]), "'history/epoch' is int32"),
    "a step less": (cut, r"position is epoch 2, batch 0; after the 3 steps"),
    "out of range": (put("position", [0, 999]), "position is epoch 0, batch 999"),
    "within an epoch": (put("position", [1, 2]), "position is epoch 1, batch 2"),
    "before": (put("position", [1, 0]), "position is epoch 1, batch 0"),
    "negative": (put("position", [-1, 0]), r"position\[0\] is -1"),
    "one number": (put("position", [4]), r"position is \[4\]; expected a list of 2"),
    "no position": (drop("position"), "'position' is missing"),
    "a gap": (array("history/epoch", lambda a: a * 2 - 1), "'epoch' of the history"),
    "one long epoch": (array("history/epoch", np.ones_like), "position"),
    "time going back": (array("history/seconds", lambda a: a[::-1] - 1), "'seconds'"),
    "rows below zero": (array("history/rows", lambda a: -a), "'rows'"),
    "losses of another type": (array("history/loss", lambda a: a.astype("f8")), "history/loss"),
    "a loss that is a matrix": (array("history/loss", lambda a: a[:, None]), "history/loss"),
    "another metric": (put("metrics", ["grad_norm", "x"]), "'metric/1' is missing"),
    "a metric of a column": (put("metrics", ["loss"]), "metrics is"),
    "skipped": (put("skipped", 3), "skipped is 3; expected 0"),
    "validation later": (
        array("validation/steps", lambda a: a + 9),
        r"validation is of steps \[11, 13\]",
    ),
    "fewer held-out losses": (
        array("validation/losses", lambda a: a[:-1]),
        r"'validation/losses' is float64\[1\]; expected float64\[2\]",
    ),
    "best later": (put("best", "loss over 2 steps", [1.0, 99]), r"best is of steps \[99\]"),
    "a candidate later": (put("candidates", "x", [1.0, 0]), r"candidates is of steps \[2, 0\]"),
    "a best that is text": (put("best", "loss over 2 steps", ["a", 1]), "best.loss over 2 steps"),
    "no such generator": (put("provenance", "origin", "keys", 0, "impl", "x"), r"keys\[0\]"),
    "words": (put("provenance", "origin", "keys", 1, "words", [1, 2, 3]), r"keys\[1\]"),
    "two keys": (put("provenance", "origin", "keys", []), "a list of 3"),
    "first epoch": (put("provenance", "origin", "first_epoch", -1), "first_epoch is -1"),
    "state of another type": (array("state/1", lambda a: a.astype("f2")), "array .* is float16"),
    "state of another shape": (array("state/2", lambda a: a[None]), "array .* expected"),
    "no state": (drop("state/0"), "'state/0' is missing"),
    "best so far later": (put("best_so_far", ["validation", 1.0, 99]), "best_so_far"),
    "best so far by what": (put("best_so_far", ["x", 1.0, 2]), r"best_so_far\[0\] is 'x'"),
    "best so far is a number": (put("best_so_far", 3), "best_so_far is 3"),
    "a best of another shape": (array("kept/2/2", lambda a: a[None]), "array .* expected"),
    "facts as a list": (put("provenance", "facts", []), "provenance.facts is"),
    "other facts": (put("provenance", "facts", {"a" * 9999: 1}), "another run: a+[.]* is 1 there"),
    "format": (put("format", "2"), "has the format '2'"),
    "a state of later": (put("state_of_step", 5), "the state is of step 5; the history has 4"),
    "unknown": (put("another", 1), "'another' is not known"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_run_does_not_go_on_from_wrong_content(checkpoint, name):
    change, message = RUNS[name]
    plain, arrays = checkpoint.content(checkpoint.good)
    change(plain, arrays)
    checkpoint.write(checkpoint.path, (plain, arrays))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.reload(checkpoint.path)  # asserts that the model is as before
    assert str(checkpoint.path) in str(caught.value)
    assert len(str(caught.value)) < 2_000


MODELS = {
    "epochs": (put("epochs_done", -1), "epochs_done is -1; expected a whole number from 0"),
    "rows": (put("n_obs", 0), "n_obs is 0"),
    "rows as text": (put("n_obs", "40"), "n_obs is '40'"),
    "chains": (put("posterior", "num_chains", 4), r"posterior.num_chains is 4; .* of 6 draws"),
    "no chains": (put("posterior", "num_chains", 0), "posterior.num_chains is 0"),
    "count": (put("posterior", "count", 5), "count=5; they differ"),
    "sites": (put("posterior", "sites", ["b"]), "draws of 'b', which the kernel does not"),
    "doubled": (put("posterior", "sites", ["b", "b"]), "names that differ"),
    "other draws": (array("posterior/0", lambda a: a[:3]), "of 3 draws"),
    "more axes": (array("posterior/0", lambda a: a[..., None]), r"float32\[3, 1\]; expected"),
    "draws of another type": (array("posterior/0", lambda a: a.astype("f2")), "float16"),
    "one number": (array("posterior/0", lambda a: a.reshape(-1)[0]), "they differ"),
    "key": (put("rng_key", "words", [0]), "rng_key is"),
    "generator": (put("rng_key", "impl", "rbg"), "rng_key is"),
    "no key": (drop("rng_key"), "'rng_key' is missing"),
    "losses": (array("losses", lambda a: a[:, None]), "the array 'losses' is"),
    "no losses": (drop("losses"), "'losses' is missing"),
    "parameter": (array("params/0", lambda a: a[..., None]), "'params/0' is float32"),
    "paths": (put("params", "paths", 0, ["x"]), "params.paths is"),
    "state": (array("state/1", lambda a: a.astype("f2")), "array .* is float16"),
    "state facts": (
        put("state", {"x": "float32[]"}),
        r"arrays: x is float32\[\] there and missing here",
    ),
    "arguments": (put("model", "arguments", []), r"model.input is 'X'; expected one of"),
    "source": (put("code", "kernel", "functions", "", "x"), "differs: the source of the kernel"),
    "constant": (put("code", "kernel", "constants", "PRIOR_SD", "1" * 9999), "PRIOR_SD, which"),
    "functions": (put("code", "guide", "functions", 3), "code.guide.functions is 3"),
    "input": (put("model", "input", "y"), "cannot be loaded: The kernel's input 'y'"),
    "schema": (put("schema", "rows", "X", "shape", [5]), "schema"),
    "schema dtype": (put("schema", "rows", "X", "dtype", "object"), "rows.X.dtype is 'object'"),
    "no fields": (put("schema", "rows", {}), "schema.rows is"),
    "batch": (put("schema", "batch_size", 2**31 - 1), r"site y: shape is|memory of this machine"),
    "ranges": (put("schema", "ranges", "X", "low", [1.0]), "schema.ranges.X.low is"),
    "high and low": (put("schema", "ranges", "y", {"low": 2, "high": 1}), "ends below"),
    "columns": (put("schema", "columns", {"X": ["a"]}), "schema.columns.X is"),
    "static": (put("schema", "static", {"z": {"value": [1]}}), "schema.static.z.value is"),
    "another argument": (put("schema", "static", {"z": {"value": 1}}), "raises TypeError"),
    "sites without a schema": (put("schema", None), "sites is"),
    "more": (array("state/0", lambda a: a), None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_not_loaded_from_wrong_content(model, name):
    change, message = MODELS[name]
    plain, arrays = model.content(model.good)
    change(plain, arrays)
    model.write(model.path, (plain, arrays))
    if message is None:
        model.reload(model.path)
        return
    with pytest.raises(ArtifactError, match=message) as caught:
        model.reload(model.path)  # asserts that the guide is as before
    assert str(model.path) in str(caught.value)
