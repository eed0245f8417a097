"""The time in which a thread compiles, and in which it waits for another thread that traces."""

from __future__ import annotations

import threading
import time

import jax
import jax.numpy as jnp
import pytest

from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.system.compile_time import compiled_programs, compiled_s, waited_s


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


@pytest.mark.usefixtures("compiled_anew")
def test_a_program_counts_once_it_is_compiled_and_not_as_it_is_traced():
    lowered = jax.jit(lambda x: x * 5 - 2).lower(1.0)
    before, seconds = compiled_programs(), compiled_s()
    lowered = jax.jit(lambda x: x * 5 - 2).lower(1.0)
    assert compiled_programs() == before
    assert compiled_s() > seconds
    lowered.compile()
    assert compiled_programs() == before + 1
    jax.monitoring.record_event_duration_secs(
        "/jax/compilation_cache/cache_retrieval_time_sec", 0.1
    )
    jax.monitoring.record_event_duration_secs("/jax/core/compile/backend_compile_duration", 0.1)
    assert compiled_programs() == before + 1


def test_waiting_for_the_lock_counts_apart_from_compiling():
    held = threading.Event()

    def hold():
        with tracing_lock:
            held.set()
            jax.jit(lambda x: (time.sleep(0.1), x + 3)[1]).lower(1.0)

    thread = threading.Thread(target=hold)
    before = compiled_s(), waited_s()
    thread.start()
    held.wait()
    with tracing_lock:
        assert waited_s() - before[1] > 0.05
    thread.join()
    assert compiled_s() == before[0]
