"""Predictions on a Dask cluster of processes: the same draws, also when workers are killed."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

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

from aimz_lab import ImpactModel
from aimz_lab.cluster import call_log, executors
from aimz_lab.errors import ArtifactWriteError, CallStoppedError, ClusterError
from aimz_lab.lab.dashboard.call_frames import record_of_call
from aimz_lab.predictive.reducers import Mean

pytest.importorskip("dask.dataframe", reason="needs the extra: aimz_lab[cluster]")
distributed = pytest.importorskip("distributed", reason="needs the extra: aimz_lab[cluster]")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Dask's on the way out

KEY = jax.random.key(3)
MODULE = """
import numpyro, numpyro.distributions as dist

SHIFT = 0.0

def mean(X, b):
    return X * b + SHIFT

def kernel(X, y=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean(X, b), 1.0), obs=y)
"""
X = np.random.default_rng(0).normal(size=(60_000, 3)).astype(np.float32)


def make_model():
    def linear(X, y=None):  # not importable, so that its code travels
        slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)

    svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(linear, jax.random.key(0), svi=svi)
    im.set_posterior_sample({"b": np.random.default_rng(1).normal(size=(50, 3))})
    return im


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def im():
    return make_model()


@pytest.fixture(scope="module")
def expected(im):
    """The draws of one process; programs of other shapes would round differently."""
    options = {"rng_key": KEY, "batch_size": 256, "store": "memory", "progress": False}
    return im.predict(X, **options).posterior_predictive.y


def test_workers_write_a_store_with_the_same_draws(im, client, expected, tmp_path):
    tree = im.predict(
        X, rng_key=KEY, executor=client, output_dir=tmp_path, batch_size=256, progress=False
    )
    np.testing.assert_array_equal(tree.posterior_predictive.y, expected)
    assert [path.suffix for path in tmp_path.iterdir()] == [".zarr"]


def test_a_worker_that_dies_before_it_has_the_call_is_not_waited_for(im, client, expected):
    """Dask's scheduler never ends a broadcast to a worker that died."""
    client.wait_for_workers(2)
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    options = {"rng_key": KEY, "executor": client, "batch_size": 256, "progress": False}
    tree = im.predict(X, store="memory", **options)
    np.testing.assert_array_equal(tree.posterior_predictive.y, expected)


class Lost:
    """A future of Dask whose worker died after it had computed it."""

    key, status = "a part", "lost"

    def result(self, timeout):
        raise TimeoutError


def test_a_part_that_is_lost_after_it_was_computed_is_no_lost_cluster(client):
    workers, future = executors.as_workers(client), Lost()
    log = call_log.CallLog("kernel", "row", 10, part_size=10)
    workers.look({0: future}, log)
    assert workers.result(future) is None
    future.status = "cancelled"
    with pytest.raises(ClusterError, match="does not know the parts any more"):
        workers.look({0: future}, log)
    future.status = "error"
    with pytest.raises(ClusterError, match="are lost: TimeoutError"):
        workers.result(future)


def test_a_cluster_that_loses_its_workers_is_not_waited_for_without_end(im, monkeypatch):
    monkeypatch.setattr(executors, "_NO_WORKERS_S", 0.2)
    with (
        distributed.LocalCluster(n_workers=1, dashboard_address=None, processes=False) as cluster,
        distributed.Client(cluster) as client,
    ):
        rows = dask.array.from_array(X, chunks=X.shape).map_blocks(_waits, dtype=X.dtype)
        closer = threading.Timer(0.5, cluster.scale, [0])
        closer.start()
        with pytest.raises(ClusterError, match="has had no workers for 0.2 s"):
            im.predict(rows, executor=client, rows="independent", store="memory", progress=False)


def _waits(rows):
    time.sleep(0.5)
    return rows


@pytest.mark.parametrize("module", ["jax", "aimz_lab.cluster.tasks"])
def test_a_worker_of_another_version_is_refused(im, client, tmp_path, module):
    """The workers get other versions, as if they had been installed earlier."""
    now = next(iter(client.run(_exchange, module, "__version__", "0.1").values()))
    try:
        with pytest.raises(ClusterError, match="has .* 0.1, and this process"):
            im.predict(X, executor=client, output_dir=tmp_path, progress=False)
    finally:
        client.run(_exchange, module, "__version__", now)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_without_this_release_is_named_before_it_is_sent_a_part(im, client):
    """Dask would end a worker that cannot read its task, and start it anew."""
    client.run(_hide, "aimz_lab.cluster.tasks")
    try:
        with (
            distributed.Client(client.scheduler.address) as another,
            pytest.raises(ClusterError, match="lacks a package, or has another release of it"),
        ):
            im.predict(X, executor=another, store="memory", progress=False)
    finally:
        client.run(_show, "aimz_lab.cluster.tasks")


def _hide(module):
    sys.hidden_module = sys.modules[module]
    sys.modules[module] = None  # importing it is an ImportError


def _show(module):
    sys.modules[module] = sys.hidden_module


def _exchange(module, name, value):
    module = importlib.import_module(module)
    before = getattr(module, name)
    setattr(module, name, value)
    return before


def test_a_disk_that_fills_up_at_a_worker_leaves_nothing(im, client, tmp_path):
    """The operating system refuses longer files there, as it does on a full disk."""
    client.run(_limit_files, 50_000)
    try:
        with pytest.raises(ArtifactWriteError, match="could not be written.*Nothing was kept"):
            im.predict(X, executor=client, output_dir=tmp_path, progress=False)
    finally:
        client.run(_limit_files, -1)
    assert list(tmp_path.iterdir()) == []


def _limit_files(most):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


@pytest.mark.parametrize("kind", ["zarr", "parquet"])
def test_files_that_a_worker_does_not_see_are_no_zeros(im, client, tmp_path, kind):
    """Arrays of Zarr within arrays of Dask would be read as their fill value."""
    here = tmp_path / "here"
    if kind == "zarr":
        zarr.create_array(here / "X", data=X[:2_000], chunks=(500, 3))
        rows = dask.array.from_zarr(here / "X") * 1.0
    else:
        here.mkdir()
        pd.DataFrame(X[:2_000], columns=list("abc")).to_parquet(here / "X.parquet")
        rows = dask.dataframe.read_parquet(here / "X.parquet")
    options = {"executor": client, "store": "memory", "progress": False}
    options |= {"rng_key": KEY, "rows": "independent"}
    found = im.predict(rows, **options).posterior_predictive.y
    alone = im.predict(X[:2_000], rng_key=KEY, store="memory", progress=False)
    np.testing.assert_array_equal(found, alone.posterior_predictive.y)

    class HidesFiles:
        """Begins once the files are elsewhere, as they are for a worker on another machine."""

        def of_call(self):
            here.rename(tmp_path / "elsewhere")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(call_log, "default_display", lambda _: [HidesFiles()])
        with pytest.raises(ClusterError, match="where all workers see"):
            im.predict(rows, **options)


class Watching:
    """A display of calls that does something at each look, and keeps the log at the end."""

    def __init__(self, act):
        self.closed, self._act = None, act

    def of_call(self):
        return self

    def show(self, log):
        self._act(log)

    def close(self, log):
        self.closed = log


def test_a_stopped_call_ends_between_parts_and_leaves_nothing(im, client, tmp_path, monkeypatch):
    display = Watching(lambda log: log.n_done < 2 or log.stop("Stop was clicked"))
    monkeypatch.setattr(call_log, "default_display", lambda _: [display])
    with pytest.raises(CallStoppedError, match="clicked after 2 of [0-9]+ parts.*nothing was kept"):
        im.predict(X, executor=client, output_dir=tmp_path, batch_size=256)
    assert display.closed.status == "stopped"
    assert list(tmp_path.iterdir()) == []


def test_a_killed_worker_costs_time_and_no_draw_and_is_told(
    im, client, expected, tmp_path, monkeypatch
):
    """It is killed after the first part has been written, and the others do its parts."""
    client.wait_for_workers(2)
    pids = client.run(os.getpid)

    def kill_one(log):
        if log.n_done and not killed:
            victims = [pids[part.address] for part in log.open_parts if part.address in pids]
            for victim in victims[:1]:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    killed, display = [], Watching(kill_one)
    monkeypatch.setattr(call_log, "default_display", lambda _: [display])
    rows = dask.array.from_array(X, chunks=X.shape).map_blocks(_waits, dtype=X.dtype)
    options = {"rng_key": KEY, "executor": client, "batch_size": 256, "rows": "independent"}
    tree = im.predict(rows, output_dir=tmp_path, **options)
    np.testing.assert_array_equal(tree.posterior_predictive.y, expected)
    assert [path.suffix for path in tmp_path.iterdir()] == [".zarr"]
    log = display.closed
    assert log.status == "completed"
    assert log.done == len(X) == sum(one.count for one in log.workers.values())
    assert sum(one.nbytes for one in log.workers.values()) == expected.nbytes
    assert log.repeats == sum(one.lost for one in log.workers.values()) >= 1
    assert f"{log.repeats} again after a worker was lost" in record_of_call(log)["text/plain"]


def test_sums_are_joined_on_the_workers_and_a_lost_one_changes_no_bit(im, client, monkeypatch):
    """Rows of many magnitudes: sums in another order would round otherwise."""
    client.wait_for_workers(2)
    pids = client.run(os.getpid)
    scales = np.random.default_rng(2).integers(-12, 12, size=len(X) // 250)
    rows = X * (10.0 ** np.repeat(scales, 250)).astype(np.float32)[:, None]
    options = {"rng_key": KEY, "batch_size": 256, "rows": "independent", "progress": False}
    options["reduce"] = Mean(over="row", by=np.arange(len(X)) % 200)
    joined, join = [], executors.DaskWorkers.join

    def joins(workers, parts):
        joined.append(len(parts))
        if len(joined) == 2:  # what it holds is computed again
            os.kill(next(iter(pids.values())), signal.SIGKILL)
        return join(workers, parts)

    monkeypatch.setattr(executors.DaskWorkers, "join", joins)
    got = im.predict(rows, executor=client, **options).posterior_predictive.y_mean
    np.testing.assert_array_equal(got, im.predict(rows, **options).posterior_predictive.y_mean)
    assert joined == [8, 8, 8, 6, 4]


def test_a_client_that_is_closed_in_mid_call_is_an_error(im, tmp_path):
    with distributed.LocalCluster(n_workers=1, dashboard_address=None, processes=False) as cluster:
        client = distributed.Client(cluster)
        rows = dask.array.from_array(X, chunks=X.shape).map_blocks(_waits, dtype=X.dtype)
        closer = threading.Timer(0.5, client.close)
        closer.start()
        options = {"executor": client, "rows": "independent", "progress": False}
        with pytest.raises(ClusterError, match="are lost"):
            im.predict(rows, output_dir=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_workers_run_the_code_of_this_process(client, tmp_path, monkeypatch):
    """Also after a module that the workers could import was changed here."""
    monkeypatch.syspath_prepend(tmp_path)
    client.run(sys.path.insert, 0, str(tmp_path))
    (tmp_path / "shop.py").write_text(MODULE)
    shop = importlib.import_module("shop")
    svi = SVI(shop.kernel, AutoNormal(shop.kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(shop.kernel, jax.random.key(0), svi=svi)
    im.set_posterior_sample({"b": np.ones(4)})
    options = {"rng_key": KEY, "store": "memory", "progress": False}
    for shift in (1.0, 2.0):
        shop.SHIFT = shift
        got = im.predict(X[:100, 0], executor=client, **options).posterior_predictive.y
        np.testing.assert_array_equal(got, im.predict(X[:100, 0], **options).posterior_predictive.y)


def test_a_cluster_that_is_gone_leaves_nothing(im, tmp_path):
    with distributed.LocalCluster(n_workers=0, dashboard_address=None, processes=False) as cluster:
        client = distributed.Client(cluster)
        with pytest.raises(ClusterError, match="has no workers"):
            im.predict(X, executor=client, output_dir=tmp_path, progress=False)
        client.close()
    with pytest.raises(ClusterError, match="are lost"):
        im.predict(X, executor=client, output_dir=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []
