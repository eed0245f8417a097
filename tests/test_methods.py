"""The table of methods and kinds of input, on one device and on three."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import method_table

pytestmark = pytest.mark.allow_rank_promotion  # NumPyro's Normal, drawn with a sample shape


@pytest.mark.parametrize(("method", "kind"), method_table.CELLS)
@pytest.mark.slow
def test_on_one_device(method, kind):
    method_table.run(method, kind)


@pytest.fixture(scope="module")
def on_three(repository):
    out = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.method_table"],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "3"},
        check=True,
        timeout=280,
        capture_output=True,
        text=True,
        cwd=repository,
    )
    found = json.loads(out.stdout)
    assert found["devices"] == 3
    return found["failed"]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "kind"), method_table.ON_DEVICES)
def test_on_three_devices(method, kind, on_three):
    assert f"{method}: {kind}" not in on_three, on_three[f"{method}: {kind}"]
