"""Padding and placement on 1, 3 and 8 devices, simulated in a process each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.test_order import PINNED

slow = pytest.mark.slow
PROBE = Path(__file__).with_name("device_probe.py")


@pytest.fixture(scope="module", params=[3, *(pytest.param(n, marks=slow) for n in (1, 8))])
def probed(request):
    out = subprocess.run(
        [sys.executable, PROBE, str(request.param)],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
    )
    return request.param, json.loads(out.stdout)


@pytest.mark.slow
def test_the_order_of_an_epoch_does_not_depend_on_the_devices(probed):
    count, report = probed
    assert report["devices"] == count
    assert report["order"] == PINNED[1]


@pytest.mark.slow
def test_the_rows_of_every_batch_divide_among_the_devices(probed):
    count, results = probed[0], probed[1]["sent"]
    shards = {
        "device": count,  # even for a single device, as the guide has it
        "last device": count,
        "rows": count,
        "replicated": 1,
        "some axes": count if count % 2 else count // 2,
        "all axes": count,
    }
    assert {result["to"] for result in results} == set(shards)
    for result in results:
        multiple, n, size = shards[result["to"]], result["n"], result["batch_size"]
        sizes = [size] * (n // size) + [n % size] * (n % size > 0)
        assert result["multiple"] == multiple
        assert result["n_pad"] == [-rows % multiple for rows in sizes], result
        assert result["rows"] == [rows + -rows % multiple for rows in sizes], result


def test_padding_repeats_the_last_row_and_adds_nothing_else(probed):
    results = probed[1]["sent"]
    assert all(result["edge"] and result["data"] for result in results)


def test_batches_live_where_they_were_sent(probed):
    results = probed[1]["sent"]
    assert all(result["placed"] for result in results)


@slow
def test_the_guides_example():
    """8 local devices, batch_size=10, device=jax.devices()[0]: 16 rows, n_pad == 6."""
    code = """
import jax
from jax import random
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from aimz_lab.utils.data import ArrayDataset, ArrayLoader

X, y = np.random.default_rng(0).normal(size=(1000, 4)), np.arange(1000.0)
loader = ArrayLoader(
  ArrayDataset(X=X, y=y),
  rng_key=random.key(0),
  batch_size=10,
  shuffle=True,
  device=jax.devices()[0],  # or a Sharding spec
)
assert jax.local_device_count() == 8
batches = 0
for batch, n_pad in loader:
    assert n_pad == 6
    assert batch["X"].shape == (16, 4) and batch["y"].shape == (16,)
    assert (batch["y"][10:] == batch["y"][9]).all()
    batches += 1
assert batches == 100
html = loader._repr_html_()
assert "6 rows a batch, 600 an epoch: 37.5% of the rows computed" in html, html
assert "batch_size=10 on 8 devices wastes 37.5% of the rows computed; 16 wastes" in html, html

# The same loader keeps all data on one device if told to.
batch, n_pad = next(iter(ArrayLoader(
  ArrayDataset(X=X, y=y, to_jax=True), rng_key=random.key(0), batch_size=10, device=jax.devices()[0]
)))
assert n_pad == 6 and batch["X"].shape == (16, 4)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
