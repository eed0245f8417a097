"""A call that fails, is interrupted or is killed leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from zarr.storage import LocalStore

from aimz_lab.errors import ArgumentError, ArtifactWriteError
from aimz_lab.inference.checkpoint import archive
from aimz_lab.lab.callbacks import CSVLogger, ModelCheckpoint
from aimz_lab.predictive import Predictor
from aimz_lab.predictive.results import checked_store, owner, sinks, store
from tests.predictive.models import draws_of_linear, inputs, linear, request_of
from tests.runs import mean_field_model

PREDICTOR = Predictor()
DRAWS = draws_of_linear(24)


def slope(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Normal(b * X[:, 0], 1.0), obs=y)


def predict(**options):
    return PREDICTOR.predict(
        request_of(rows={"X": inputs(700)}, draws=DRAWS, num_chains=4, **options)
    )


@pytest.fixture(params=["output_dir", "temporary"])
def place(request, tmp_path, monkeypatch):
    """The folder that a call writes to, and its options."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    for name in ("temp", "out"):
        (tmp_path / name).mkdir()
    if request.param == "temporary":
        return tmp_path / "temp", {"store": "persistent"}
    return tmp_path / "out", {"store": "persistent", "output_dir": tmp_path / "out"}


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compile once, so that what is timed below is the writing."""
    for axis in ("obs", "draw"):
        predict(shard_axis=axis)


@pytest.fixture
def in_parts(monkeypatch):
    """Small results are written part by part too, as large ones are."""
    monkeypatch.setattr(store, "SMALL_BYTES", 0)


@pytest.mark.parametrize("failing", [1, 5])
def test_a_full_disk_leaves_nothing_of_a_small_result(place, monkeypatch, failing):
    folder, options = place
    write, written = Path.write_bytes, []

    def full(self, data):
        written.append(self)
        if len(written) == failing:
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ArtifactWriteError, match=f"{folder}.*No space left.*Nothing was kept"):
        predict(**options)
    assert not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("axis", ["obs", "draw"])
@pytest.mark.parametrize("failing", [3, 9])
def test_a_full_disk_leaves_nothing_also_while_other_chunks_are_written(
    place, monkeypatch, axis, failing
):
    folder, options = place
    write, written = LocalStore.set, []

    async def full(self, key, value):
        written.append(key)
        if len(written) == failing:
            raise OSError(28, "No space left on device")
        await asyncio.sleep(0.05)
        await write(self, key, value)

    monkeypatch.setattr(LocalStore, "set", full)
    with pytest.raises(ArtifactWriteError, match=f"{folder}.*No space left.*Nothing was kept"):
        predict(shard_axis=axis, batch_size=256 if axis == "obs" else 3, **options)
    assert not list(folder.iterdir())


def after(monkeypatch, where, name):
    """Interrupt a function of the package as it returns."""
    original = getattr(where, name)

    def interrupted(*args, **kwargs):
        result = original(*args, **kwargs)
        signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(where, name, interrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "name"),
    [
        (store, "make_folder"),
        (owner, "make_folder"),
        (checked_store, "WrittenStore"),
        (store.StoreWriter, "begin"),
        (store.StoreWriter, "create_array"),
        (sinks.StoreSink, "write"),
        (sinks.StoreSink, "close"),
        (store.StoreWriter, "write_dataset"),
        (checked_store.WrittenStore, "write_files"),
        (store, "keep_folder"),
        (store, "read_store"),
        (store.StoreWriter, "publish"),
    ],
)
def test_an_interrupt_leaves_nothing_wherever_it_comes(place, monkeypatch, where, name):
    folder, options = place
    if name in ("create_array", "write", "close", "read_store"):  # of what is written in parts
        monkeypatch.setattr(store, "SMALL_BYTES", 0)
    if where is owner and "output_dir" in options:
        pytest.skip("only temporary stores have owners")
    after(monkeypatch, where, name)
    with pytest.raises(KeyboardInterrupt):
        predict(**options)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["stop", "discard"])
def test_an_interrupt_while_a_failed_call_is_removed_waits(place, monkeypatch, name):
    folder, options = place
    after(monkeypatch, checked_store.WrittenStore if name == "stop" else store.StoreWriter, name)

    def fails(*args):
        raise OSError("the first error")

    monkeypatch.setattr(store.StoreWriter, "write_dataset", fails)
    with pytest.raises(KeyboardInterrupt):
        predict(**options)
    assert not list(folder.iterdir())


def test_results_in_memory_look_for_no_folders(monkeypatch):
    def looked(*args, **kwargs):
        raise AssertionError("looked for folders")

    for where in (store, owner):
        monkeypatch.setattr(where, "remove_leftovers", looked)
    monkeypatch.setattr(signal, "signal", looked)
    assert "posterior_predictive" in predict()


KILLED = """
    import sys, time
    from aimz_lab.predictive.results.store import new_store
    with new_store(sys.argv[1], "y"), new_store(None, "y"):
        print("writing", flush=True)
        time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_the_next_call_removes_what_a_killed_process_left(tmp_path, monkeypatch):
    out, temp = tmp_path / "out", tmp_path / "temp"
    temp.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(out)],
        env={**os.environ, "TMPDIR": str(temp)},
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    left = [*out.iterdir(), *temp.iterdir()]
    predict(store="persistent", output_dir=out / "other")
    predict(store="persistent")
    assert len(left) == 2
    assert all(path.exists() for path in left)  # its process lives
    process.kill()
    process.wait()
    process.stdout.close()
    tree = predict(store="persistent", output_dir=out)
    del tree
    predict(store="persistent")
    assert not any(path.exists() for path in left)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_leaves_nothing_and_names_its_path(
    tmp_path, monkeypatch
):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.raises(
        ArtifactWriteError, match=f"checkpoint could not be written to {tmp_path}.*No space"
    ):
        mean_field_model(slope).fit(
            inputs(20), np.ones(20, np.float32), epochs=1, progress=False,
            callbacks=[ModelCheckpoint(tmp_path)],
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to a device that is full")
def test_a_log_on_a_full_disk_names_its_path():
    with pytest.raises(ArtifactWriteError, match=r"CSV file of the run .*/dev/full: "):
        mean_field_model(slope).fit(
            inputs(20), np.ones(20, np.float32), epochs=1, progress=False,
            callbacks=[CSVLogger("/dev/full")],
        )  # fmt: skip


@pytest.mark.parametrize("output_dir", [5, "", b"x", ["a"]])
def test_what_is_no_directory_is_refused(output_dir):
    model = mean_field_model(linear).set_posterior_sample(DRAWS)
    with pytest.raises(ArgumentError, match=r"output_dir=.* is no path"):
        model.predict(inputs(9), output_dir=output_dir, progress=False)


def test_a_model_is_not_saved_to_a_folder_named_like_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = mean_field_model(linear).set_posterior_sample(DRAWS)
    for name in ("s3://b/m", 5):
        with pytest.raises(ArgumentError, match="path="):
            model.save(name)
        with pytest.raises(ArgumentError, match="path="):
            type(model).load(name, linear)
    assert not list(tmp_path.iterdir())
    assert model.save(f"file://{tmp_path}/m") == tmp_path / "m"
