"""Programs that were compiled once are read the next time."""

from __future__ import annotations

import os
import subprocess
import sys

import jax
import pytest

from aimz_lab.lab import cache

PROGRAM = """
import jax, jax.numpy as jnp
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
jnp.ones(3).block_until_ready()  # something was compiled before
from aimz_lab.lab import enable_compilation_cache
print(enable_compilation_cache())
jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda i, c: jnp.linalg.inv(c + i), x))(jnp.eye(7))
print(sum("cache_hits" in event for event in events))
"""


def run(folder):
    env = dict(os.environ, **{cache.VARIABLE: str(folder), "JAX_PLATFORMS": "cpu"})
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    env.pop("XLA_FLAGS", None)  # with less effort, programs are compiled too quickly to be kept
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, text=True, capture_output=True, check=True
    )
    where, hits = done.stdout.split()
    return where, int(hits)


@pytest.mark.slow
def test_a_second_session_reads_what_the_first_compiled(tmp_path):
    assert run(tmp_path / "kept") == (str(tmp_path / "kept"), 0)
    assert run(tmp_path / "kept")[1] > 0
    assert any((tmp_path / "kept").iterdir())


@pytest.fixture
def restored():
    """JAX's setting as it was, afterwards."""
    before = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_it_can_be_switched_off(monkeypatch, restored):
    monkeypatch.setenv(cache.VARIABLE, "off")
    jax.config.update("jax_compilation_cache_dir", None)
    assert cache.enable_compilation_cache() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_the_folder_that_jax_was_told_of_stays_the_one(tmp_path, restored):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert cache.enable_compilation_cache() == tmp_path


def test_a_folder_that_is_named_goes_before_all_others(tmp_path, restored):
    named = tmp_path / "named"
    assert cache.enable_compilation_cache(named) == named
    assert jax.config.jax_compilation_cache_dir == str(named)


def test_a_folder_that_cannot_be_written_is_not_used(tmp_path, monkeypatch, restored):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "file" / "below"))
    jax.config.update("jax_compilation_cache_dir", None)
    assert cache.enable_compilation_cache() is None
