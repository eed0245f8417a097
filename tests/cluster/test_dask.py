"""Predictions on a Dask cluster of processes: the same draws, also when workers are killed."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.cluster import executors
from aimz_lab.errors import ClusterError

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


def test_a_killed_worker_costs_time_and_no_draw(im, client, expected, tmp_path):
    pids = client.run(os.getpid)
    victim = next(iter(pids.values()))
    options = {"rng_key": KEY, "executor": client, "batch_size": 256, "progress": False}
    killed = threading.Event()

    def kill():
        while not list(tmp_path.rglob("c/*")):  # the first chunk has been written
            time.sleep(0.001)
        os.kill(victim, signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    tree = im.predict(X, output_dir=tmp_path, **options)
    killer.join()
    assert killed.is_set()
    np.testing.assert_array_equal(tree.posterior_predictive.y, expected)
    assert [path.suffix for path in tmp_path.iterdir()] == [".zarr"]


def test_a_worker_that_dies_before_it_has_the_call_is_not_waited_for(im, client, expected):
    """Dask's scheduler never ends a broadcast to a worker that died."""
    client.wait_for_workers(2)
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    options = {"rng_key": KEY, "executor": client, "batch_size": 256, "progress": False}
    tree = im.predict(X, store="memory", **options)
    np.testing.assert_array_equal(tree.posterior_predictive.y, expected)


def test_a_cluster_without_workers_is_not_waited_for_without_end(im, monkeypatch):
    monkeypatch.setattr(executors, "_LOOK_S", 0.05)
    monkeypatch.setattr(executors, "_NO_WORKERS_S", 0.2)
    with (
        distributed.LocalCluster(n_workers=1, dashboard_address=None, processes=False) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = executors.as_workers(client)
        cluster.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        with pytest.raises(ClusterError, match="has had no workers for 0.2 s"):
            workers.result(workers.send(b"call"))


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
