"""What every test runs under: one device, strict numerics, repeatable randomness."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.compiler import quick_flags

# Read by the libraries when they are first imported, and inherited by the kernels and subprocesses.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")
# What a shell runs in the background ignores interrupts, as would what it starts; tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests compile the same small programs again and again, on every worker and in subprocesses: once a
# run is enough. Name a folder of your own, and once for all runs is.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="aimz_lab-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = quick_flags()

import hypothesis
import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from nbmake.pytest_items import NotebookItem

# Tracing makes garbage by the million; a tenth of a run went into looking for it so often.
gc.set_threshold(20_000, 20, 20)

STRICT = "raise"
jax.config.update("jax_numpy_rank_promotion", STRICT)

# The same examples on every run and every machine. `HYPOTHESIS_PROFILE=explore` looks for new ones.
hypothesis.settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, max_examples=50, print_blob=True
)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1_000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


TUTORIAL_LIMIT_S = 60
BROWSER_TESTS = Path(__file__).with_name("browser")
NOT_QUICK = ("slow", "browser", "notebook")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tutorials, the browser's tests, and those that are quick.

    A tutorial is held to its limit as a whole; nbmake's own is for one cell.
    """
    for item in items:
        if isinstance(item, NotebookItem):
            item.add_marker(pytest.mark.notebook)
            item.add_marker(pytest.mark.timeout(TUTORIAL_LIMIT_S))
        if item.path.is_relative_to(BROWSER_TESTS):
            item.add_marker(pytest.mark.browser)
        if not any(item.get_closest_marker(name) for name in NOT_QUICK):
            item.add_marker(pytest.mark.quick)


def pytest_collection_finish() -> None:
    """Leave modules and tests out of later garbage collections: a tenth of a run's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def compiled_anew() -> Iterator[None]:
    """Compile without the cache on disk: what it has is loaded, and not compiled."""
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.fixture(autouse=True)
def _rank_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forbid implicit broadcasting over ranks, except where NumPyro's own code relies on it.

    It does in mixtures, in categorical draws, and in multivariate normals drawn with a sample
    shape: tests of such kernels are marked ``allow_rank_promotion``.
    """
    allowed = request.node.get_closest_marker("allow_rank_promotion") is not None
    # Set for the process, not for this thread: a fit may trace on a worker.
    jax.config.update("jax_numpy_rank_promotion", "allow" if allowed else STRICT)
    yield
    jax.config.update("jax_numpy_rank_promotion", STRICT)


@pytest.fixture
def rng() -> np.random.Generator:
    """A NumPy generator, the same in every test."""
    return np.random.default_rng(20_240_229)


@pytest.fixture
def key() -> jax.Array:
    """A JAX key, the same in every test."""
    return jax.random.key(20_240_229)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium, for the tests that drive one.

    Without one they are skipped, unless ``AIMZ_LAB_REQUIRE_BROWSER`` is set.
    """
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    message = "needs a Chromium on the PATH (Debian: apt-get install chromium)"
    if os.environ.get("AIMZ_LAB_REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)
