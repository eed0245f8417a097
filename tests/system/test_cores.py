"""How many cores a process uses: those that it may use."""

from __future__ import annotations

import os

import jax
import pytest

from aimz_lab.predictive.pipeline import calls_at_once

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="the system keeps no process to some cores"
)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="an accelerator has no such cores")
def test_a_process_that_is_kept_to_a_core_computes_one_call_at_a_time():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert calls_at_once(tuple(jax.devices()[:1]), 1) == 1
    finally:
        os.sched_setaffinity(0, before)
