"""How hard the compiler tries, and preparing what will be needed while something else goes on."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import jax

FULL = 3
"""LLVM's effort on the CPU for a program with much to compute; compiling takes twice as long."""

QUICK = 1
"""For other programs: what they compute takes a quarter longer at most."""

QUICKEST = 0
"""For a program that runs once, on little."""

VECTOR_BITS = 512
"""Width of vectors, where the CPU has them. LLVM prefers 256 bits; noise then takes 1.4 times as
long."""


def compiler_options(effort: int, platform: str | None = None) -> dict[str, Any]:
    """Return options for ``jax.jit`` that fit the work.

    Args:
        effort: :data:`FULL`, :data:`QUICK` or :data:`QUICKEST`.
        platform: Where the program runs; by default, on JAX's default backend. All but the CPU
            compile as ever.
    """
    if (platform or jax.default_backend()) != "cpu":
        return {}
    options: dict[str, Any] = {"xla_backend_optimization_level": effort}
    if effort == QUICKEST:
        return options | {"xla_llvm_disable_expensive_passes": True}
    return options | {"xla_cpu_prefer_vector_width": VECTOR_BITS}


def compile_in_background(*lowered: jax.stages.Lowered) -> Future[list[jax.stages.Compiled]]:
    """Compile programs on a thread; a call of their functions then finds them compiled.

    Returns:
        The compiled programs, when they are; or what a compilation raised, which a call of its
        function will raise as well.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="aimz_lab-compile")
    done = pool.submit(lambda: [program.compile() for program in lowered])
    pool.shutdown(wait=False)
    return done


def import_in_background(module: str) -> None:
    """Import a module on a thread: a compiler holds no lock of Python's, and leaves cores idle."""
    if module not in sys.modules:
        threading.Thread(target=_try_import, args=(module,), name="aimz_lab-import").start()


def _try_import(module: str) -> None:
    # What fails here fails again where it is needed, which is nowhere if the program is ending.
    with suppress(Exception):
        importlib.import_module(module)


def named(name: str, function: Callable) -> Callable:
    """The function under a name that means something to who reads what was compiled."""

    def call(*args: Any) -> Any:
        return function(*args)

    call.__name__ = call.__qualname__ = name
    return call
