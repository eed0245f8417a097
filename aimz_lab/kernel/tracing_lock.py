"""One thread at a time traces NumPyro code, and its float32 products are of float32.

On GPUs and TPUs, JAX computes products of float32 in TF32 or bfloat16 unless it is told otherwise:
three digits instead of seven. A density that is the sum over a million rows, or a prediction that
is to be the CPU's, needs all seven. CPUs compute in float32 anyway, and are left alone.
"""

from __future__ import annotations

import contextlib
import threading

import jax

from aimz_lab.system.compile_time import waiting_for_threads


class TracingLock:
    """A reentrant lock; while it is held, products are traced in the precision of their type.

    ``jax.default_matmul_precision`` and the config of that name go first, as does a precision that
    the kernel names itself.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._entered: list[contextlib.AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            with waiting_for_threads():
                self._lock.acquire()
        try:
            precision = _precision()
            precision.__enter__()
        except BaseException:
            self._lock.release()
            raise
        self._entered.append(precision)

    def __exit__(self, *error: object) -> None:
        try:
            self._entered.pop().__exit__(*error)
        finally:
            self._lock.release()


def _precision() -> contextlib.AbstractContextManager[None]:
    if jax.config.jax_default_matmul_precision is not None or jax.default_backend() == "cpu":
        return contextlib.nullcontext()
    return jax.default_matmul_precision("float32")
