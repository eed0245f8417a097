"""The time in which a thread waits for compilations: its own, and those of another thread."""

from __future__ import annotations

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.system.compile_time import compiled_s


def test_functions_within_a_function_count_once_and_a_compiled_one_not_at_all():
    @jax.jit
    def inner(x):
        time.sleep(0.1)  # a long trace
        return jnp.tanh(x)

    outer = jax.jit(lambda x: inner(x) + 1)
    before, began = compiled_s(), time.monotonic()
    outer(1.0).block_until_ready()
    assert 0.1 <= compiled_s() - before <= time.monotonic() - began
    before = compiled_s()
    outer(2.0)
    assert compiled_s() == before


@pytest.mark.parametrize("compiles", [True, False])
def test_waiting_for_the_lock_counts_while_another_thread_compiles(compiles):
    held = threading.Event()

    def hold():
        with tracing_lock:
            held.set()
            if compiles:
                jax.jit(lambda x: (time.sleep(0.1), x + 3)[1]).lower(1.0)
            else:
                time.sleep(0.1)

    thread = threading.Thread(target=hold)
    before = compiled_s()
    thread.start()
    held.wait()
    with tracing_lock:
        waited = compiled_s() - before
    thread.join()
    assert (waited > 0.05) == compiles
