"""The map of a call on workers in a page: who has which part, the link to Dask's page, Stop."""

from __future__ import annotations

import pytest

pytest.importorskip("distributed", reason="needs the extra: aimz_lab[cluster]")

CLUSTER = """
import logging, threading, time
import dask.array, jax, numpy as np, numpyro, numpyro.distributions as dist
from aimz_lab import ImpactModel
from distributed import Client, LocalCluster
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

def taxi(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("trip", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X[:, 0], 1.0), obs=y)

svi = SVI(taxi, AutoNormal(taxi), numpyro.optim.Adam(0.01), Trace_ELBO())
im = ImpactModel(taxi, jax.random.key(0), svi=svi)
im.set_posterior_sample({"slope": np.ones(20, np.float32)})

pause = 0.15

def slowly(rows):
    if threading.current_thread() is not threading.main_thread():  # as on workers
        time.sleep(pause)
    return rows

read = dask.array.ones((256 * 40, 1), chunks=(256, 1), dtype="float32").map_blocks(slowly)
options = {"rng_key": jax.random.key(1), "rows": "independent", "batch_size": 256}
options["store"] = "memory"
cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False,  # there at once
                       protocol="tcp://", host="127.0.0.1",
                       dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL)
client = Client(cluster)
"""
AGAIN = "pause = 0.03; "
CALL = "im.predict(read, executor=client, **options).posterior_predictive.y.shape"
CLOSE = "client.close(); cluster.close(); print('closed')"


def test_a_call_on_workers_is_shown_and_stopped(notebook, screenshots):
    nb = notebook([CLUSTER, CALL], name="workers", width=900)
    nb.page.keyboard.press("Control+b")  # the side bar
    nb.run_all()
    map_ = nb.cell(1).locator("section.aimz-call")
    map_.wait_for()
    stop = map_.get_by_role("button", name="Stop")
    map_.locator('[data-state="done"]').nth(3).wait_for()
    assert map_.locator(".aimz-map span").count() == 20
    assert set(map_.locator("tbody strong").all_inner_texts()) == {"0", "1"}
    map_.locator('.aimz-map [data-state="assigned"]').first.wait_for()
    map_.locator("tbody td:nth-child(2)", has_text="rows ").first.wait_for()
    link = map_.get_by_role("link", name="Dask's dashboard").get_attribute("href")
    assert link.startswith("http://127.0.0.1:")
    assert link.endswith("/status")
    map_.screenshot(path=screenshots / "worker-map.png")
    stop.click()
    nb.wait_until_done(1)
    error = nb.cell(1).locator(".jp-OutputArea-output", has_text="CallStoppedError").inner_text()
    assert "Stop was clicked after" in error
    table = nb.cell(1).locator(".jp-RenderedHTMLCommon table")
    assert "taxi: stopped · row" in nb.cell(1).inner_text()
    assert table.locator("tbody tr").count() == 2
    nb.append(AGAIN + CALL)  # the workers are as they were
    assert "(1, 20, 10240)" in nb.cell(2).inner_text()
    assert "taxi: completed · row 10,240 of 10,240 · part 20 of 20" in nb.cell(2).inner_text()
    nb.append(CLOSE)
    nb.output(3, "closed")
