"""One run on several devices is the run on one, to the order in which sums are taken."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # the probe trains on eight devices, which share the cores here

N, B = 90, 20


@pytest.fixture(scope="module")
def report(request):
    """What the probe reports, from a process of its own: the number of devices is set once."""
    root = request.config.rootpath
    done = subprocess.run(
        [sys.executable, "-m", "tests.inference.svi.device_probe"],
        capture_output=True,
        text=True,
        cwd=root,
        env=dict(os.environ, PYTHONPATH=str(root), JAX_PLATFORMS="cpu"),
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(report):
    """Its fits by SVI."""
    others = ("chains", "chains on", "spread", "copies")
    return {name: run for name, run in report.items() if name not in others}


def test_chains_run_on_a_device_each_as_in_numpyro(report):
    chains = report["chains"]
    draws = np.array(chains["ours"])
    assert draws.shape == (2, 4, 3)
    # Compiled together with their beginning there: equal up to rounding.
    np.testing.assert_allclose(draws, chains["theirs"], rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(draws, chains["kept"])


def test_chains_run_on_the_device_of_their_model(report):
    assert report["chains on"] == [5]


def test_a_fit_uses_the_default_device_that_is_set(runs):
    assert runs["default"]["ids"] == [3]
    assert runs["default"]["losses"] == runs["one"]["losses"]


def test_chains_on_rows_that_are_spread_are_those_on_one_device(report):
    spread = report["spread"]
    np.testing.assert_allclose(spread["eight"], spread["one"], rtol=1e-3, atol=1e-3)
    assert spread["uneven"].startswith("83 rows do not divide among 8 devices")
    assert 'use chain_method="vectorized"' in spread["parallel"]


def test_devices_with_a_copy_of_each_batch_read_it_before_the_next_is_written_there(report):
    assert report["copies"] == {"devices": 8, "apart": 0.0}


@pytest.mark.parametrize("name", ["all", "three"])
def test_losses_and_draws_do_not_depend_on_the_devices(runs, name):
    np.testing.assert_allclose(runs[name]["losses"], runs["one"]["losses"], rtol=1e-4)
    np.testing.assert_allclose(runs[name]["draws"], runs["one"]["draws"], atol=1e-3)


def test_a_fit_uses_all_local_devices_unless_told_otherwise(runs):
    assert {name: run["devices"] for name, run in runs.items()} == {
        "one": 1,
        "all": 8,
        "default": 1,
        "three": 3,
        "full": 8,
        "full on one": 1,
        "loader on one": 1,
        "loader on two": 2,
        "model before loader": 2,
        "resident": 8,
    }


@pytest.mark.parametrize(("name", "rows"), [("one", 20), ("all", 24), ("three", 21)])
def test_batches_are_padded_to_the_shards_and_the_short_one_to_the_others(runs, name, rows):
    per_epoch = [rows - 20] * 4 + [rows - 10]
    assert runs[name]["n_pad"] == per_epoch * 7


def test_all_rows_at_once_are_padded_to_the_devices(runs):
    assert set(runs["full"]["n_pad"]) == {96 - N}
    np.testing.assert_allclose(runs["full"]["losses"], runs["full on one"]["losses"], rtol=1e-4)


def test_a_loaders_device_counts_and_the_models_goes_first(runs):
    for name in ("loader on two", "model before loader", "resident"):
        np.testing.assert_allclose(runs[name]["losses"], runs["loader on one"]["losses"], rtol=1e-4)
