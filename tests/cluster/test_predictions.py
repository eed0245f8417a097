"""Predictions by an executor's workers are those of one process, bit for bit."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from dataclasses import replace

import dask.array
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
import zarr
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, ImpactModel, TableSpec, progress
from aimz_lab.cluster import executors
from aimz_lab.errors import (
    ArgumentError,
    ArtifactWriteError,
    ClusterError,
    DataError,
    DataTypeError,
    ForkedProcessError,
    OutputWarning,
)
from aimz_lab.predictive.reducers import Mean, Quantiles
from aimz_lab.predictive.results import regions
from aimz_lab.system import forks

EXTRA = "tables of Dask need the extra: aimz_lab[cluster]"
N_ROWS = 1500
KEY = jax.random.key(11)
X = np.random.default_rng(0).normal(size=(N_ROWS, 3)).astype(np.float32)
Y = (X @ [1.0, 2.0, 3.0]).astype(np.float32)


def linear(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    shift = numpyro.sample("shift", dist.Normal(0.0, 1.0))  # the posterior below has no draws of it
    numpyro.deterministic("twice", 2.0 * shift)
    with numpyro.plate("row", X.shape[0]):
        treated = numpyro.sample("treated", dist.Bernoulli(0.5))
        numpyro.sample("y", dist.Normal(X @ slopes + shift + treated, 1.0), obs=y)


def linear_alone(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)


def walk(X, y=None):
    steps = numpyro.sample("steps", dist.Normal(0.0, 1.0).expand([X.shape[0]]).to_event(1))
    numpyro.sample("y", dist.Normal(jax.numpy.cumsum(steps), 1.0).to_event(1), obs=y)


def model_of(kernel, **draws):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    im.set_posterior_sample(draws)
    return im


@pytest.fixture(scope="module")
def im():
    draws = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    return model_of(linear, b=draws)


@pytest.fixture(scope="module")
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def check_same(got, expected):
    assert got.children.keys() == expected.children.keys()
    for group in expected.children:
        assert got[group].to_dataset().equals(expected[group].to_dataset()), group


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"store": "memory"},
        {"reduce": [Quantiles([0.1, 0.9]), Mean(over="row", by=np.arange(N_ROWS) % 3)]},
        {"shard_axis": "draw"},
        {"return_sites": ["y", "treated", "twice"]},
        {"return_sites": ["twice"]},
        {"intervention": {"treated": np.arange(N_ROWS) % 2}},
        {"condition": {"shift": 3.0}, "held": "keep"},
    ],
    ids=["store", "memory", "reduce", "draw", "sites", "no-rows", "do", "condition"],
)
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_every_kind_of_prediction_is_the_same(im, threads, options):
    options = {"rng_key": KEY, "batch_size": 256, "progress": False, **options}
    check_same(im.predict(X, executor=threads, **options), im.predict(X, **options))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_prior_draws_are_the_same(im, threads):
    options = {"rng_key": KEY, "batch_size": 256, "progress": False, "num_samples": 10}
    check_same(
        im.sample_prior_predictive(X, executor=threads, **options),
        im.sample_prior_predictive(X, **options),
    )


def with_numpy(X, y=None):
    """Calls a function of NumPy, whose type has no pickle."""
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ b * np.ones(1), 1.0), obs=y)


def test_kernels_that_call_numpy_travel(im, threads):
    model = model_of(with_numpy, b=np.asarray(im.posterior["b"]))
    options = {"rng_key": KEY, "progress": False, "store": "memory"}
    check_same(model.predict(X[:9], executor=threads, **options), model.predict(X[:9], **options))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zarr", "dask", "frame", "loader", "generator"])
def test_rows_from_anywhere_are_the_same(threads, kind):
    im = model_of(linear_alone, b=np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32))
    if kind == "frame":
        frames = pytest.importorskip("dask.dataframe", reason=EXTRA, exc_type=ImportError)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    rows = {
        "zarr": lambda: zarr.array(X, chunks=(400, 3)),
        "dask": lambda: dask.array.from_array(X, chunks=(400, 3)),
        "frame": lambda: frames.from_pandas(frame, npartitions=4),
        "loader": lambda: ArrayLoader(ArrayDataset(X=X), KEY, batch_size=100),
        "generator": lambda: lambda: iter([{"X": X[:700]}, {"X": X[700:]}]),
    }[kind]
    expected = im.predict(X, rng_key=KEY, progress=False).posterior_predictive.y
    for store in ("memory", "persistent"):
        got = im.predict(
            rows(), rng_key=KEY, executor=threads, batch_size=256, store=store, progress=False
        )
        np.testing.assert_array_equal(got.posterior_predictive.y, expected)
    if kind in ("zarr", "dask", "frame"):
        got = im.log_likelihood(rows(), Y, executor=threads, batch_size=256, progress=False)
        expected = im.log_likelihood(X, Y, progress=False)
        np.testing.assert_array_equal(got.log_likelihood.y, expected.log_likelihood.y)


def squares(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal((X * X) @ slopes, 1.0), obs=y)  # int8 would overflow


def in_parts(rows, kinds, declared):
    """An array of Dask whose parts have other types than it says."""
    each = len(rows) // len(kinds)
    parts = [rows[i * each : (i + 1) * each].astype(kind) for i, kind in enumerate(kinds)]
    lazy = dask.array.from_array(rows.astype(declared), chunks=(each, rows.shape[1]))

    def of(block_info=None):
        return parts[block_info[None]["chunk-location"][0]]

    return dask.array.map_blocks(of, chunks=lazy.chunks, dtype=lazy.dtype, meta=lazy._meta)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dask")
def test_parts_of_a_dask_array_or_table_are_read_in_its_type(threads):
    im = model_of(squares, b=np.ones((5, 3), np.float32))
    rows = np.round(20 * X).clip(-90, 90).astype(np.float32)
    options = {"rng_key": KEY, "batch_size": 256, "store": "memory", "progress": False}
    expected = im.predict(rows, **options).posterior_predictive.y
    lazy = in_parts(rows, ["i1", "f4", "f8", "i1", "f4"], "f4")
    got = im.predict(lazy, executor=threads, **options).posterior_predictive.y
    np.testing.assert_array_equal(got, expected)
    untrue = in_parts(rows, ["i4", "f4", "i4"], "i4")
    with pytest.raises(DataTypeError, match="says that it is int32, and a part of it is float32"):
        im.predict(untrue, executor=threads, rows="independent", **options)
    frames = pytest.importorskip("dask.dataframe", reason=EXTRA, exc_type=ImportError)
    table = frames.from_pandas(pd.DataFrame(rows), npartitions=3)
    table = table.map_partitions(
        lambda part: part.astype("i1") if part.index[0] else part, meta=table._meta
    )
    got = im.predict(table, executor=threads, **options).posterior_predictive.y
    np.testing.assert_array_equal(got, expected)


class Centred(Mean):
    """A reducer of the user's whose code reads the values of all rows."""

    def block(self, values, valid, by_row):
        return super().block(values - self.by_row.mean(), valid, by_row)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_labels_of_rows_travel_with_their_part(im, threads):
    class Weighing:
        def submit(self, function, header, call, part):
            self.nbytes = len(call)
            return threads.submit(function, header, call, part)

    options = {"rng_key": KEY, "batch_size": 256, "progress": False}
    by, nbytes = np.arange(N_ROWS) % 3, []
    for reduce in (Mean(over="row"), Mean(over="row", by=by), Centred(over="row", by=by)):
        weighing = Weighing()
        got = im.predict(X, executor=weighing, reduce=reduce, **options)
        check_same(got, im.predict(X, reduce=reduce, **options))
        nbytes.append(weighing.nbytes)
    without, ours, own = nbytes
    assert ours - without < N_ROWS < own - without


def test_rows_that_depend_on_one_another_stay_together(threads):
    im = model_of(walk, steps=np.random.default_rng(3).normal(size=(12, 50)).astype(np.float32))
    rows = X[:50]
    options = {"rng_key": KEY, "shard_axis": "draw", "progress": False}
    expected = im.predict(rows, **options)
    check_same(im.predict(rows, executor=threads, **options), expected)
    by_another_name = im.sample_posterior_predictive(rows, executor=threads, **options)
    check_same(by_another_name, expected)


def test_what_workers_find_wrong_is_said_here(im, threads):
    broken = X.copy()
    broken[1400, 1] = np.nan
    with pytest.raises(DataError, match="Within rows 0 to 1,499.*NaN.*row 1400"):
        im.predict(zarr.array(broken, chunks=(400, 3)), executor=threads, rows="independent")
    unknown = dask.array.from_array(X, chunks=(400, 3))
    with pytest.raises(DataTypeError, match="number of rows of field 'X' is unknown"):
        im.predict(unknown[unknown[:, 0] > 0], executor=threads)
    with pytest.raises(DataError, match="'X' has 1500, 'y' has 7"):
        im.log_likelihood(zarr.array(X), Y[:7], executor=threads)
    with pytest.raises(ArgumentError, match=r"executor='dask' has no submit\(\)"):
        im.predict(X, executor="dask")


class Tampering:
    """Runs parts as if this process were another kind of worker."""

    def __init__(self, threads, **changed):
        self._threads, self._changed = threads, changed

    def submit(self, function, header, *rest):
        return self._threads.submit(function, replace(header, **self._changed), *rest)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"versions": {"jax": "0.1"}}, "has jax .*, and this process 0.1"),
        ({"settings": {"jax_enable_x64": True}}, "has jax_enable_x64 False, and this process True"),
        ({"settings": {"devices of the kind": "tpu"}}, "has devices of the kind .*process tpu"),
    ],
)
def test_a_worker_of_another_kind_is_refused(im, threads, changed, match):
    with pytest.warns(OutputWarning), pytest.raises(ClusterError, match=match):
        im.predict(X, executor=Tampering(threads, **changed), progress=False)


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_a_full_disk_at_a_worker_leaves_nothing(im, threads, tmp_path, monkeypatch):
    class FullArray:
        def __setitem__(self, where, values):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(regions.zarr, "open_array", lambda *_, **__: FullArray())
    with pytest.raises(ArtifactWriteError, match="Rows 0 to .*No space left.*Nothing was kept"):
        im.predict(X, executor=threads, output_dir=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_a_worker_that_does_not_see_the_store_says_so(im, threads, tmp_path):
    class Elsewhere:
        def submit(self, function, header, call, part):
            [folder] = tmp_path.glob(".*.partial")
            folder.rename(tmp_path / "moved")
            try:
                future = threads.submit(function, header, call, part)
                future.exception()
                return future
            finally:
                (tmp_path / "moved").rename(folder)

    with pytest.raises(ClusterError, match="does not see .* output_dir= that all workers share"):
        im.predict(X, executor=Elsewhere(), output_dir=tmp_path, progress=False)


def test_code_that_cannot_travel_is_refused(threads):
    lock = threading.Lock()

    def locked(X, y=None):
        b = numpyro.sample("b", dist.Normal(0.0, 1.0))
        with lock, numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(b, 1.0), obs=y)

    im = model_of(locked, b=np.zeros(5, np.float32))
    with pytest.raises(ClusterError, match="cannot be sent to the workers"):
        im.predict(X, executor=threads, rows="independent", shard_axis="draw", progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_a_result_that_is_lost_on_its_way_is_waited_for_again(im, threads, monkeypatch):
    """Its worker died after it had ended: Dask computes it again."""
    take, lost = executors.Workers.result, []

    def result(workers, future):
        if future not in lost:
            lost.append(future)
            return None
        return take(workers, future)

    monkeypatch.setattr(executors.Workers, "result", result)
    options = {"rng_key": KEY, "batch_size": 256, "store": "memory", "progress": False}
    check_same(im.predict(X, executor=threads, **options), im.predict(X, **options))
    assert len(lost) == 6


class Odd:
    """An executor that is none."""

    def __init__(self, answer):
        self._answer = answer

    def submit(self, *_):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_an_executor_that_takes_no_work_is_refused(im):
    closed = ThreadPoolExecutor(1)
    closed.shutdown()
    with pytest.raises(ClusterError, match="are lost: cannot schedule new futures"):
        im.predict(X, executor=closed, progress=False)
    with pytest.raises(ClusterError, match="are lost: gone"):
        im.predict(X, executor=Odd(BrokenExecutor("gone")), progress=False)
    with pytest.raises(ArgumentError, match=r"returned None; it must return a future"):
        im.predict(X, executor=Odd(None), progress=False)


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_workers_that_were_forked_say_so(im, monkeypatch):
    """Rather than wait for threads of JAX that no fork has."""

    class Forked:
        def submit(self, function, *rest):
            with monkeypatch.context() as inside:
                inside.setattr(forks._Process, "is_cut_off", True)
                with ThreadPoolExecutor(1) as pool:
                    return pool.submit(function, *rest)

    with pytest.raises(ForkedProcessError, match="the worker .* would never end.*spawn"):
        im.predict(X, executor=Forked(), progress=False)


def test_rows_that_a_worker_does_not_see_are_no_zeros(threads, tmp_path):
    """Zarr reads the chunks of an array that is not there as its fill value."""
    im = model_of(linear_alone, b=np.ones((20, 3), np.float32))
    rows = zarr.create_array(tmp_path / "here.zarr", data=X, chunks=(400, 3))

    class Elsewhere:
        def submit(self, *call):
            with contextlib.suppress(FileNotFoundError):
                (tmp_path / "here.zarr").rename(tmp_path / "moved")
            return threads.submit(*call)

    with pytest.raises(ClusterError, match="field 'X' is not at .*all workers see it"):
        im.predict(rows, executor=Elsewhere(), store="memory", progress=False)


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_the_last_line_of_progress_says_who_computed(im, threads, capsys, monkeypatch):
    monkeypatch.setattr(progress, "NEW_LINE_S", 0.0)
    im.predict(X, executor=threads, batch_size=256, store="memory")
    assert re.search(
        r"row 1,500 of 1,500 .* in .* workers?: \d.* parts\n$", capsys.readouterr().err
    )


@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
def test_an_interrupt_waits_until_no_worker_writes(im, threads, tmp_path):
    """A terminal interrupts the workers too; one that still writes would leave its folder."""
    begun = []

    class Interrupted:
        def submit(self, function, *rest):
            begun.append(threads.submit(self._late, len(begun), function, *rest))
            return begun[-1]

        @staticmethod
        def _late(number, function, *rest):
            if number == 0:
                raise KeyboardInterrupt
            time.sleep(0.3)
            return function(*rest)

    with pytest.raises(KeyboardInterrupt):
        im.predict(X, executor=Interrupted(), output_dir=tmp_path, batch_size=256, progress=False)
    assert len(begun) > 1
    assert all(future.done() for future in begun)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::aimz_lab.errors.OutputWarning")
@pytest.mark.parametrize("by", [None, np.arange(N_ROWS) % 3])
def test_effects_are_the_same(im, threads, by):
    sides = [{"X": rows, "rng_key": KEY, "batch_size": 256} for rows in (X, X + 1)]
    options = {"args_baseline": sides[0], "args_intervention": sides[1], "by": by}
    check_same(im.estimate_effect(**options, executor=threads), im.estimate_effect(**options))


@pytest.fixture
def shops():
    """A model of a table with a category, a scaled column and an output on another scale."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {
            "size": rng.integers(10, 500, N_ROWS),
            "city": rng.choice(["Bonn", "Köln", "Ulm"], N_ROWS),
            "sales": rng.gamma(3.0, 20.0, N_ROWS),
        }
    )

    def kernel(X, city, n_cities, y=None):
        slopes = numpyro.sample("slopes", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        effects = numpyro.sample("effects", dist.Normal(0.0, 1.0).expand([n_cities]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ slopes + effects[city], 1.0), obs=y)

    spec = TableSpec(X=["scale(size)"], city="index(city)", n_cities="levels(city)", y="log(sales)")
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi, table=spec)
    im.fit(frame[:200], batch_size=100, num_samples=10, progress=False)
    return im, frame


@pytest.mark.slow
@pytest.mark.allow_rank_promotion
@pytest.mark.filterwarnings("ignore::DeprecationWarning:dask")
@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_a_parquet_table_is_read_and_encoded_by_workers(shops, threads, tmp_path):
    frames = pytest.importorskip("dask.dataframe", reason=EXTRA, exc_type=ImportError)
    im, frame = shops
    frames.from_pandas(frame, npartitions=4).to_parquet(tmp_path)
    options = {"rng_key": KEY, "batch_size": 256, "in_sample": True, "progress": False}
    lazy = frames.read_parquet(tmp_path)
    got = im.predict(lazy, executor=threads, store="memory", **options).posterior_predictive.y
    expected = im.predict(frame, store="memory", **options).posterior_predictive.y
    np.testing.assert_array_equal(got, expected)
    got = im.log_likelihood(lazy, executor=threads, batch_size=256, progress=False)
    expected = im.log_likelihood(frame, batch_size=256, progress=False)
    np.testing.assert_array_equal(got.log_likelihood.y, expected.log_likelihood.y)
    large = [table["size"] > 250 for table in (lazy, frame)]
    for by, same in (("city", frame.city), (["city", large[0]], ["city", large[1]])):
        got = im.predict(lazy, executor=threads, by=by, **options).group_summary
        assert got.to_dataset().equals(
            im.predict(frame, by=same, **options).group_summary.to_dataset()
        )
    with pytest.raises(ArgumentError, match="no column of that name. It has: size, city"):
        im.predict(lazy, executor=threads, by="town", **options)
    strange = lazy.assign(city=lazy.city.where(lazy["size"] < 499, "Rom"))
    with pytest.raises(DataError, match="Within rows .*Rom"):
        im.predict(strange, executor=threads, rows="independent", **options)
    missing = lazy.assign(size=lazy["size"].where(lazy["size"] < 499))
    with pytest.raises(DataError, match=r"Within rows .*missing: 'size' .*dropna\(subset"):
        im.predict(missing, executor=threads, rows="independent", **options)
    with pytest.raises(DataTypeError, match="Train the model on a pandas DataFrame"):
        im.fit(lazy, progress=False)
