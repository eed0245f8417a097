"""What a device can do at best: copies, products by precision, and an empty program."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tests.benchmarks.gpu_work import Report, Work, kept_going
from tests.benchmarks.turns import seconds, take_turns


def hardware(report: Report, work: Work, deadline: float) -> None:
    """Bandwidths between host and device, and products in the precisions that JAX knows."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    report(
        "memory that JAX may take on the device",
        stats.get("bytes_limit", 0) / 1e9,
        "GB",
        note="" if stats else "the device does not tell",
    )
    host = np.ones((work.megabytes, 2**18), np.float32)
    there = jax.device_put(host)
    fresh = jax.jit(lambda x: x + 1)

    def fetched():
        # An array keeps what was fetched: each turn needs one of its own.
        array = jax.block_until_ready(fresh(there))
        return seconds(lambda: np.asarray(array))

    def sent():
        return seconds(lambda: jax.block_until_ready(jax.device_put(host)))

    turns = take_turns({"to the device": sent, "to the host": fetched}, 3)
    for way in turns.figures:
        report(f"copy {way}", host.nbytes / turns.median(way) / 1e9, "GB/s")
    with kept_going(report, "copy of pinned memory"):
        pinned = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
        plain = jax.sharding.SingleDeviceSharding(device)
        held = jax.block_until_ready(jax.device_put(host, pinned))
        copies = {"": lambda: seconds(lambda: jax.block_until_ready(jax.device_put(held, plain)))}
        turns = take_turns(copies, 3)
        report("copy of pinned memory", host.nbytes / turns.median("") / 1e9, "GB/s")
    _products(report, work)
    with kept_going(report, "an empty program"):
        empty = jax.jit(lambda x: x + 1)
        one = jnp.ones(())
        many = 50 * work.megabytes

        def dispatched():
            x = one
            for _ in range(many):
                x = empty(x)
            jax.block_until_ready(x)

        took = take_turns({"": lambda: seconds(dispatched)}, 2).median("")
        report("an empty program", took / many * 1e6, "us")
    del deadline


def _products(report: Report, work: Work) -> None:
    """How far products are from float64, and how long they take: TF32 counts as float32 in JAX."""
    n = 16 * work.megabytes if work.megabytes > 1 else 64
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    exact = A[:8].astype(np.float64) @ B.astype(np.float64)
    on_device = [jax.device_put(a) for a in (A, B)]
    for precision in (None, "tensorfloat32", "float32"):
        with kept_going(report, f"products, precision {precision}"):
            product = jax.jit(partial(jnp.dot, precision=precision))

            def run(product=product):
                return jax.block_until_ready(product(*on_device))

            apart = np.abs(np.asarray(run())[:8] - exact).max() / np.abs(exact).max()
            report(
                f"products of {n:,} x {n:,}, precision {precision}",
                2 * n**3 / min(seconds(run) for _ in range(3)) / 1e12,
                "TFLOP/s",
                note=f"{apart:.1e} from float64",
            )
