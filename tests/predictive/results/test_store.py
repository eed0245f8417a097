"""Persistent results: the same values, labels that come back, no half-written store, no zeros."""

from __future__ import annotations

import dataclasses
import gc
import pickle
import shutil
import sys
from pathlib import Path

import fsspec
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
import zarr

from aimz_lab.data import RowCoord, as_source
from aimz_lab.errors import (
    ArgumentError,
    ArtifactError,
    ArtifactGoneError,
    ArtifactWriteError,
    DataError,
    OptionalDependencyError,
)
from aimz_lab.predictive import Predictor, open_results
from aimz_lab.predictive.results import sinks, store
from tests.predictive.models import draws_of_linear, inputs, request_of

PREDICTOR = Predictor()
DRAWS = draws_of_linear(24)


def assert_same_result(one, other, group="posterior_predictive"):
    """Values, labels and attributes are the same, except when they were made and where they are."""
    datasets = [tree[group].to_dataset() for tree in (one, other)]
    for dataset in datasets:
        for name in ("created_at", "artifact_path"):
            dataset.attrs.pop(name, None)
    xr.testing.assert_identical(*datasets)


def a_request(n_rows=700, **options):
    return request_of(rows={"X": inputs(n_rows)}, draws=DRAWS, num_chains=4, **options)


def counts(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", X.shape[0]):
        numpyro.sample("y", dist.Poisson(jnp.exp(X @ b / 3)), obs=y)


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


@pytest.fixture
def lazily(monkeypatch):
    monkeypatch.setattr(store, "LOADED_BYTES", 0)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(store.tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def in_parts(monkeypatch):
    """Small results are written part by part too, as large ones are."""
    monkeypatch.setattr(store, "SMALL_BYTES", 0)


@pytest.mark.slow
@pytest.mark.usefixtures("in_parts")
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
            assert_same_result(tree, in_memory, group)


def all_kinds(X, group, flags, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1).expand([3]).to_event(1))
    numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("rows", len(X), dim=-1):
        numpyro.sample("y", dist.Bernoulli(logits=X @ b), obs=y)
        with numpyro.plate("kinds", 2, dim=-2):
            numpyro.sample("count", dist.Poisson(3.0))
    numpyro.deterministic("above", (X @ b + group > 0) & flags)


@pytest.mark.slow
@pytest.mark.parametrize("labels", ["counted", "text"])
def test_a_small_result_is_stored_by_its_bytes_as_zarr_and_xarray_store_it(
    tmp_path, monkeypatch, labels
):
    """Its tree, its files and what Zarr itself reads of them are those of the parts."""
    text = {} if labels == "counted" else {"row_coord": RowCoord(None, np.array(list("abcdefg")))}
    request = request_of(
        all_kinds,
        {"X": inputs(7), "group": np.arange(7, dtype="i1"), "flags": np.arange(7) % 2 == 0},
        draws=DRAWS,
        num_chains=4,
        return_sites=("y", "count", "above", "b"),
        store="persistent",
        output_dir=tmp_path,
        **text,
    )
    whole = PREDICTOR.predict(request)
    paths = [whole.attrs["artifact_path"]]
    assert isinstance(whole["posterior_predictive"]["y"].variable._data, np.ndarray)
    whole["posterior"]["b"].values[:] = 0  # its arrays are its own, and no view of the draws
    assert DRAWS["b"].any()
    monkeypatch.setattr(store, "SMALL_BYTES", 0)
    monkeypatch.setattr("aimz_lab.predictive.results.plain_arrays.SMALL_BYTES", 0)
    paths.append(PREDICTOR.predict(request).attrs["artifact_path"])
    small, parts = map(open_results, paths)
    assert set(small.children) == set(parts.children) == set(whole.children)
    for group in small.children:
        assert_same_result(small, parts, group)
        if group != "posterior":
            assert_same_result(whole, parts, group)
        for name in small[group].variables:
            one, other = (zarr.open_array(f"{path}/{group}/{name}", mode="r") for path in paths)
            assert one.dtype == other.dtype or other.dtype == np.int8  # xarray's form of a flag
            assert sorted(one.metadata.dimension_names) == sorted(other.metadata.dimension_names)


def narrow(X, y=None):
    b = numpyro.sample("b", dist.Normal(0, 1))
    numpyro.deterministic("half", X[:, 0] / 2)
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", dist.Normal(b + X[:, 0].astype(jnp.float32), 1.0), obs=y)


@pytest.mark.parametrize("small", [store.SMALL_BYTES, 0])
def test_types_that_numpy_lacks_come_back_as_float32_from_everywhere(tmp_path, monkeypatch, small):
    """xarray leaves bfloat16 out of means, and Zarr cannot store it."""
    monkeypatch.setattr(store, "SMALL_BYTES", small)
    X = inputs(7).astype(jnp.bfloat16)
    draws = {"b": np.ones(4, np.float32)}
    options = {"draws": draws, "return_sites": ("half", "y"), "constant": {"X": X}}
    in_memory = PREDICTOR.predict(request_of(narrow, {"X": X}, **options))
    options |= {"store": "persistent", "output_dir": tmp_path}
    stored = PREDICTOR.predict(request_of(narrow, {"X": X}, **options))
    for tree in (in_memory, stored):
        half, known = tree["posterior_predictive"]["half"], tree["constant_data"]["X"]
        assert half.dtype == known.dtype == np.float32
        np.testing.assert_array_equal(half[0, 0], (X[:, 0] / 2).astype(np.float32))
        np.testing.assert_array_equal(known, X.astype(np.float32))
        assert "half" in tree["posterior_predictive"].mean()


@pytest.mark.usefixtures("lazily")
def test_larger_results_are_read_lazily(tmp_path):
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path))
    y = tree["posterior_predictive"]["y"]
    assert y.chunks is not None
    np.testing.assert_array_equal(
        y.values.reshape(24, 700), PREDICTOR.predict_arrays(a_request())["y"]
    )


@pytest.mark.slow
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
    assert_same_result(stored, in_memory)


@pytest.mark.parametrize("scheme", ["memory://results", "file://{tmp}"])
def test_urls(tmp_path, scheme):
    url = scheme.format(tmp=tmp_path)
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=url))
    reopened = open_results(tree.attrs["artifact_path"])
    assert_same_result(reopened, PREDICTOR.predict(a_request()))


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


@pytest.mark.usefixtures("in_parts")
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


@pytest.fixture
def stored(tmp_path):
    """The folder of a small result."""
    tree = PREDICTOR.predict(a_request(store="persistent", output_dir=tmp_path))
    return Path(tree.attrs["artifact_path"])


@pytest.mark.parametrize("lost", ["posterior", "posterior_predictive/y", "posterior/b"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_part_that_is_lost_is_an_error_and_never_left_out(stored, lost, whole):
    if whole:
        shutil.rmtree(stored / lost)
    else:
        (stored / lost / "zarr.json").unlink()
    with pytest.raises(ArtifactGoneError, match=f"{stored}.*: {lost} is missing"):
        open_results(stored)


@pytest.mark.parametrize("loaded", [store.LOADED_BYTES, 0])
def test_a_chunk_that_was_cut_is_told_with_its_path(stored, monkeypatch, loaded):
    monkeypatch.setattr(store, "LOADED_BYTES", loaded)
    chunk = next(p for p in (stored / "posterior_predictive/y/c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(ArtifactError, match=f"{stored} is damaged: .*/y/c/.* 100 bytes, of"):
        open_results(stored)["posterior_predictive"]["y"].load()


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("kept", [0, 10, 100])
@pytest.mark.parametrize("loaded", [store.LOADED_BYTES, 0])
@pytest.mark.slow
def test_a_compressed_chunk_that_was_cut_is_told_with_its_path(tmp_path, monkeypatch, loaded, kept):
    monkeypatch.setattr(store, "LOADED_BYTES", loaded)
    tree = PREDICTOR.predict(a_request(kernel=counts, store="persistent", output_dir=tmp_path))
    path = Path(tree.attrs["artifact_path"])
    chunk = next(p for p in (path / "posterior_predictive/y/c").rglob("*") if p.is_file())
    assert len(chunk.read_bytes()) < tree["posterior_predictive"]["y"].nbytes  # is compressed
    chunk.write_bytes(chunk.read_bytes()[:kept])
    with pytest.raises(ArtifactError, match=f"{path} is damaged: .*/y/c/.* {kept} bytes"):
        open_results(path)["posterior_predictive"]["y"].load()


@pytest.mark.usefixtures("lazily")
def test_a_small_part_that_was_cut_is_told_when_the_result_is_opened(stored):
    chunk = next(p for p in (stored / "posterior/b/c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:30])
    with pytest.raises(ArtifactError, match=str(stored)):
        open_results(stored)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("zarr.json", "cannot be read; .*damaged: JSONDecode"),
        ("posterior/b/zarr.json", "is damaged: posterior/b/zarr.json is not as it was written"),
    ],
)
def test_metadata_that_were_cut_are_told_with_their_path(stored, part, told):
    (stored / part).write_text("{")
    with pytest.raises(ArtifactError, match=f"{stored} {told}"):
        open_results(stored)


def test_a_remote_store_that_nobody_finished_or_began_says_so():
    writer = store.StoreWriter("memory://unfinished", "y")
    writer.begin()
    writer.create_array(
        "posterior",
        "b",
        dims=("draw",),
        stored_dims=("draw",),
        shape=(3,),
        chunks=(3,),
        dtype=np.dtype("f4"),
    )
    with pytest.raises(ArtifactError, match="not a complete result: its writing was interrupted"):
        open_results(writer.path)
    writer.discard()
    with pytest.raises(ArtifactGoneError, match="no result at memory://unfinished"):
        open_results(writer.path)


def test_urls_that_cannot_be_used_say_why(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(OptionalDependencyError, match="gs://bucket/x needs .*gcsfs"):
        open_results("gs://bucket/x")
    with pytest.raises(OptionalDependencyError, match="gs://bucket/.* needs .*gcsfs"):
        PREDICTOR.predict(a_request(store="persistent", output_dir="gs://bucket"))
    with pytest.raises(ArgumentError, match="weird://x cannot be used as a URL.*weird"):
        open_results("weird://x")


def test_a_site_may_have_the_name_of_the_chunks(tmp_path):
    def kernel(X, y=None):
        numpyro.deterministic("c", X[:, 0])
        numpyro.sample("y", dist.Normal(X[:, 0], 1.0), obs=y)

    request = request_of(kernel, {"X": inputs(9)}, num_draws=5, return_sites=("c", "y"))
    tree = PREDICTOR.predict(dataclasses.replace(request, store="persistent", output_dir=tmp_path))
    np.testing.assert_allclose(tree["posterior_predictive"]["c"][0, 0], inputs(9)[:, 0])


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


@pytest.mark.slow
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


@pytest.mark.slow
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
