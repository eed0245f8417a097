"""Persistent results: the same values, labels that come back, no half-written store, no zeros."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
import zarr

from aimz_lab.data import RowCoord, as_source
from aimz_lab.errors import ArtifactError, ArtifactGoneError, ArtifactWriteError, DataError
from aimz_lab.predictive import Predictor, open_results, sinks, store
from tests.predictive.models import draws_of_linear, inputs, request_of

PREDICTOR = Predictor()
DRAWS = draws_of_linear(24)


def a_request(n_rows=700, **options):
    return request_of(rows={"X": inputs(n_rows)}, draws=DRAWS, num_chains=4, **options)


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


@pytest.fixture
def lazily(monkeypatch):
    monkeypatch.setattr(store, "LOADED_BYTES", 0)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(store.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("batch_size", [None, 256, 512])
@pytest.mark.parametrize("axis", ["obs", "draw"])
def test_stored_values_and_labels_are_those_in_memory(tmp_path, axis, batch_size):
    labels = np.array([f"row {i}" for i in range(700)])
    request = a_request(shard_axis=axis, batch_size=batch_size, row_coord=RowCoord(None, labels))
    if axis == "draw" and batch_size:
        request = dataclasses.replace(
            request, batch_size=batch_size // 100
        )  # cuts chains and chunks
    in_memory = PREDICTOR.predict(request)
    stored = PREDICTOR.predict(
        dataclasses.replace(request, store="persistent", output_dir=tmp_path)
    )
    reopened = open_results(stored.attrs["artifact_path"])
    for tree in (stored, reopened):
        for group in ("posterior_predictive", "posterior"):
            xr.testing.assert_identical(tree[group].to_dataset(), in_memory[group].to_dataset())


@pytest.mark.usefixtures("lazily")
def test_larger_results_are_read_lazily(tmp_path):
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path))
    y = tree["posterior_predictive"]["y"]
    assert y.chunks is not None
    np.testing.assert_array_equal(
        y.values.reshape(24, 700), PREDICTOR.predict_arrays(a_request())["y"]
    )


def test_source_of_unknown_length_is_stored(tmp_path):
    X = inputs(1100)
    source = as_source({"X": part} for part in np.array_split(X, 7))
    request = request_of(rows=source, fields=("X",), draws=DRAWS, batch_size=512)
    tree = PREDICTOR.predict(dataclasses.replace(request, store="persistent", output_dir=tmp_path))
    expected = PREDICTOR.predict_arrays(request_of(rows={"X": X}, draws=DRAWS))
    np.testing.assert_allclose(tree["posterior_predictive"]["y"][0], expected["y"], atol=1e-5)
    assert tree["posterior_predictive"]["data"].size == 1100


def test_axes_of_rows_come_back_where_the_kernel_has_them(tmp_path):
    def kernel(X, y=None):
        with numpyro.plate("kinds", 3, dim=-2), numpyro.plate("rows", len(X), dim=-1):
            numpyro.sample("y", dist.Poisson(3.0), obs=y)

    request = request_of(kernel, {"X": inputs(300)}, num_draws=5)
    in_memory = PREDICTOR.predict(request)
    stored = PREDICTOR.predict(
        dataclasses.replace(request, store="persistent", output_dir=tmp_path)
    )
    assert in_memory["posterior_predictive"]["y"].dims == ("chain", "draw", "kinds", "rows")
    xr.testing.assert_identical(
        stored["posterior_predictive"].to_dataset(), in_memory["posterior_predictive"].to_dataset()
    )


@pytest.mark.parametrize("scheme", ["memory://results", "file://{tmp}"])
def test_urls(tmp_path, scheme):
    url = scheme.format(tmp=tmp_path)
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=url))
    reopened = open_results(tree.attrs["artifact_path"])
    xr.testing.assert_identical(
        reopened["posterior_predictive"].to_dataset(),
        PREDICTOR.predict(a_request())["posterior_predictive"].to_dataset(),
    )


def failing_source():
    X = inputs(2000)
    yield {"X": X[:700]}
    yield {"X": X[700:1500]}
    raise OSError("the disk of the data went away")


@pytest.mark.parametrize("output", ["{tmp}", "memory://failing"])
def test_a_failed_call_leaves_nothing(tmp_path, output):
    request = request_of(
        rows=as_source(failing_source()), fields=("X",), draws=DRAWS, batch_size=256
    )
    with pytest.raises(OSError, match="went away"):
        PREDICTOR.predict(
            dataclasses.replace(request, store="persistent", output_dir=output.format(tmp=tmp_path))
        )
    assert not files_in(tmp_path)
    assert not fsspec.filesystem("memory").exists("/failing") or not fsspec.filesystem(
        "memory"
    ).find("/failing")


def test_errors_of_the_disk_name_the_path(tmp_path, monkeypatch):
    def full(self, array, where, part):
        with self._writer.reporting():
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sinks.StoreSink, "_write_region", full)
    with pytest.raises(ArtifactWriteError, match=f"{tmp_path}.*No space left.*Nothing was kept"):
        PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path))
    assert not files_in(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ArtifactWriteError, match=r"file.*output_dir="):
        PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path / "file"))


@pytest.mark.usefixtures("lazily")
def test_a_missing_chunk_is_an_error_and_never_zeros(tmp_path):
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path))
    path = Path(tree.attrs["artifact_path"])
    [chunk, *_] = sorted((path / "posterior_predictive" / "y" / "c").rglob("0"))
    (chunk if chunk.is_file() else next(p for p in chunk.rglob("*") if p.is_file())).unlink()
    with pytest.raises(ArtifactGoneError, match="missing"):
        tree["posterior_predictive"]["y"].load()
    shutil.rmtree(path)
    with pytest.raises(ArtifactGoneError, match=str(path)):
        tree["posterior_predictive"]["mu"].values  # noqa: B018
    with pytest.raises(ArtifactGoneError, match="no result at"):
        open_results(path)


def test_what_is_incomplete_or_foreign_is_refused(tmp_path):
    zarr.create_group(tmp_path / "foreign").create_array("y", shape=(3,), dtype="f4")
    with pytest.raises(ArtifactError, match="not a result"):
        open_results(tmp_path / "foreign")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="not a complete result"):
        open_results(tmp_path / "empty")
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path / "out"))
    zarr.open_group(tree.attrs["artifact_path"]).attrs["aimz_lab"] = {
        "format": 99,
        "complete": True,
    }
    with pytest.raises(ArtifactError, match="format 99"):
        open_results(tree.attrs["artifact_path"])


@pytest.mark.usefixtures("lazily")
def test_temporary_store_lives_as_long_as_something_reads_it(temporary):
    tree = PREDICTOR.predict(a_request(store="persistent"))
    y = tree["posterior_predictive"]["y"]
    mean = y.mean("draw")
    del tree, y
    gc.collect()
    assert np.isfinite(mean.values).all()
    assert files_in(temporary)
    del mean
    gc.collect()
    assert not files_in(temporary)


def test_temporary_store_of_a_loaded_tree_goes_with_it(temporary):
    tree = PREDICTOR.predict(a_request(store="persistent"))
    assert Path(tree.attrs["artifact_path"]).exists()
    del tree
    gc.collect()
    assert not files_in(temporary)


@pytest.mark.usefixtures("lazily")
def test_a_pickled_tree_reads_but_owns_nothing(temporary):
    tree = PREDICTOR.predict(a_request(store="persistent"))
    copy = pickle.loads(pickle.dumps(tree))
    xr.testing.assert_identical(copy["posterior"].to_dataset(), tree["posterior"].to_dataset())
    del copy
    gc.collect()
    assert np.isfinite(tree["posterior_predictive"]["y"].values).all()


def test_rows_without_rows_are_refused():
    with pytest.raises(DataError, match="no rows"):
        PREDICTOR.predict(a_request(n_rows=0))
