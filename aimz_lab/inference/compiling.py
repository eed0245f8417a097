"""XLA's compiler options, by effort, and compilation on a thread."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

FULL = 3
"""LLVM's optimization level for programs with much to compute; they compile twice as long."""

QUICK = 1
"""The level for other programs, which run up to a quarter longer. A cold fit and prediction of
1,000 rows takes 0.3 to 1 s less of CPU time (JAX 0.10.2 and 0.12.0)."""

QUICKEST = 0
"""The level for a program that runs once, on little data; it saves another 0.4 to 1 s."""

VECTOR_BITS = 512
"""Width of vectors, on CPUs that have them. LLVM prefers 256 bits; noise then takes 1.4 times as
long."""


def compiler_options(effort: int, platform: str | None = None) -> dict[str, Any]:
    """Return options for ``jax.jit``; none where the program does not run on a CPU.

    What ``XLA_FLAGS`` says goes before: it is a choice for all programs.

    Args:
        effort: :data:`FULL`, :data:`QUICK` or :data:`QUICKEST`.
        platform: Where the program runs; by default, on JAX's default backend.
    """
    if (platform or jax.default_backend()) != "cpu":
        return {}
    options: dict[str, Any] = {"xla_backend_optimization_level": effort}
    if effort == QUICKEST:
        options["xla_llvm_disable_expensive_passes"] = True
    else:
        options["xla_cpu_prefer_vector_width"] = VECTOR_BITS
    said = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if f"--{name}=" not in said}


def on_host() -> contextlib.AbstractContextManager[Any]:
    """Compute on the host what a run asks for meanwhile: on a GPU it would wait for the steps.

    It changes nothing where the steps run on the CPU, or JAX was told to leave the CPU out.
    """
    if jax.default_backend() == "cpu":
        return contextlib.nullcontext()
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return contextlib.nullcontext()


def compiling(what: str) -> str:
    """Write that something is compiled, or loaded where JAX keeps programs on disk and may have it.

    Args:
        what: What is compiled.
    """
    return f"compiling{' or loading' if jax.config.jax_compilation_cache_dir else ''} {what}"


def compile_on_thread(compiler: Callable[[], Any]) -> Future:
    """Compile on a thread of its own, since XLA compiles without the GIL.

    Args:
        compiler: Compiles, such as ``jax.jit(function).lower(...).compile``.

    Returns:
        What it returns, in the future.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="aimz_lab-compiling")
    # The thread compiles for the call that it is begun by.
    compiled = pool.submit(contextvars.copy_context().run, compiler)
    pool.shutdown(wait=False)  # as a context manager, the pool would wait for the compiler
    return compiled


def named(name: str, function: Callable) -> Callable:
    """Give a function a name that says what it computes, in profiles and dumps of programs."""

    def call(*args: Any, **static: Any) -> Any:
        return function(*args, **static)

    call.__name__ = call.__qualname__ = name
    return call
