"""Speeds on a device, beside the bare programs and the peer's loop, in turns.

Each section is a function that tells ``report`` one row at a time, so that what was measured stays
when a later row fails. ``gpu_check.py`` runs them, each in a process of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.inference.svi import plan
from tests.benchmarks.turns import seconds, take_turns

COLUMNS = 20


class Report(Protocol):
    """Takes one row of the table."""

    def __call__(self, what: str, value: float, unit: str, **more: object) -> None: ...


class Work(NamedTuple):
    """How much to compute.

    Attributes:
        rows: By rows of a batch, rows of the data.
        turn_s: Least seconds of a turn, where more steps make it longer.
        predicted: Rows of a prediction.
        network: Rows of a prediction by a neural network.
        draws: Draws of a prediction.
        chain: Iterations of a chain, in the warm-up and after it.
        turns: Turns of each comparison.
        megabytes: Size of an array that is moved.
    """

    rows: dict[int, int]
    turn_s: float = 0.7
    predicted: int = 100_000
    network: int = 10_000
    draws: int = 1_000
    chain: int = 500
    turns: int = 3
    megabytes: int = 256


WHOLE = Work({256: 200_000, 4_096: 1_000_000, 65_536: 2_000_000})
TINY = Work({16: 200, 64: 500}, 0.02, 300, 100, 20, 20, 1, 1)


@contextlib.contextmanager
def kept_going(report: Report, what: str) -> Iterator[None]:
    """Report a failure as a row, and go on with the next one."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  whatever it is, the other rows are wanted
        traceback.print_exc()
        report(what, float("nan"), "", ok=False, note=f"{type(error).__name__}: {error}"[:200])


def kernel(X, n, y=None):
    """A linear model that the peer can train too: scaled by hand, which both leave alone."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("obs", n, subsample_size=X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ beta, sigma), obs=y)


def plain_kernel(X, y=None):
    """The same without a number of all rows."""
    kernel(X, X.shape[0], y)


def make_svi(model=kernel) -> SVI:
    """An inference object, the same for all ways."""
    return SVI(model, AutoNormal(model), numpyro.optim.Adam(1e-3), Trace_ELBO())


def regression_rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a regression."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, COLUMNS), dtype=np.float32)
    return X, X @ np.ones(COLUMNS, np.float32) + rng.standard_normal(n, dtype=np.float32)


class Fit:
    """Steps per second of ``fit``, of a library.

    Args:
        library: Its name.
        data: The rows.
        size: Rows of a batch.
        room: Bytes of rows that may stay on the device: 0 gathers batches on the host.
    """

    def __init__(self, library: str, data: tuple, size: int, room: int | None = None) -> None:
        self._im = importlib.import_module(library).ImpactModel(
            kernel, jax.random.key(0), make_svi()
        )
        self._data, self._n, self._size, self._room = data, len(data[1]), size, room

    def __call__(self, epochs: int) -> float:
        options = {"n": self._n, "num_samples": 2, "progress": False, "batch_size": self._size}
        placed = contextlib.nullcontext()
        if self._room is not None:
            placed = mock.patch.object(plan, "room_for_rows", lambda devices: self._room)
        with placed:
            took = seconds(lambda: self._im.fit(*self._data, epochs=epochs, **options))
        return epochs * -(-self._n // self._size) / took

    @property
    def spent(self) -> str:
        """Where the last run's seconds went; what overlaps with the steps is not waited for."""
        run = self._im.last_run
        spent = ", ".join(f"{what} {s:.2f}" for what, s in run.seconds_in.items())
        return f"{spent} of {run.elapsed_s:.2f} s; {run.transferred_bytes / 1e6:,.0f} MB moved"


class Scan:
    """Steps per second of a bare scan, or loop with a condition, that gathers rows by number."""

    def __init__(self, data: tuple, size: int, *, checked: bool = False) -> None:
        self._X, self._y = (jax.device_put(array) for array in data)
        self._n, self._size, self._svi = len(self._y), size, make_svi()
        self._rng = np.random.default_rng(0)
        self._run = jax.jit(self._checked if checked else self._scanned)
        self._state = self._svi.init(jax.random.key(0), self._X[:size], self._n, self._y[:size])

    def _step(self, state, rows):
        return self._svi.update(state, self._X[rows], self._n, self._y[rows])

    def _scanned(self, state, order):
        return jax.lax.scan(self._step, state, order)

    def _checked(self, state, order):
        def body(carry):
            i, state, losses, _ = carry
            state, loss = self._step(state, order[i])
            return i + 1, state, losses.at[i].set(loss), jnp.isfinite(loss)

        start = 0, state, jnp.zeros(len(order)), jnp.ones((), bool)
        end = jax.lax.while_loop(lambda carry: (carry[0] < len(order)) & carry[3], body, start)
        return end[1], end[2]

    def __call__(self, epochs: int) -> float:
        full = self._n // self._size

        def run():
            for _ in range(epochs):
                order = self._rng.permutation(self._n)[: full * self._size]
                order = order.astype(np.int32).reshape(full, self._size)
                self._state, losses = self._run(self._state, order)
            jax.block_until_ready(losses)

        return epochs * full / seconds(run)


class StepByStep:
    """Steps per second of a loop that dispatches each step and reads its loss, as the peer's."""

    def __init__(self, data: tuple, size: int) -> None:
        self._data, self._size, self._svi = data, size, make_svi()
        self._n = len(data[1])
        self._update = jax.jit(lambda state, X, y: self._svi.update(state, X, self._n, y))
        X, y = (array[:size] for array in data)
        self._state = self._svi.init(jax.random.key(0), X, self._n, y)

    def __call__(self, epochs: int) -> float:
        X, y = self._data
        full = self._n // self._size

        def run():
            for epoch in range(epochs):
                order = np.random.default_rng(epoch).permutation(self._n)
                for first in range(0, full * self._size, self._size):
                    rows = order[first : first + self._size]
                    self._state, loss = self._update(self._state, X[rows], y[rows])
                    float(loss)

        return epochs * full / seconds(run)


def peer_of(data: tuple, size: int) -> tuple[str, Callable[[int], float]]:
    """Return the peer, or a loop like its own where it is not installed."""
    if importlib.util.find_spec("aimz") is None:
        return "step by step", StepByStep(data, size)
    return "aimz", Fit("aimz", data, size)


def fits(report: Report, work: Work, deadline: float) -> None:
    """``fit`` that gathers on the host or the device, beside a bare scan and the peer's loop."""
    began = time.perf_counter()
    for number, (size, n) in enumerate(work.rows.items(), 1):
        until = began + (deadline - began) * number / len(work.rows)
        with kept_going(report, f"fit, B = {size:,}"):
            _fits_of(report, work, size, n, until)


def _fits_of(report: Report, work: Work, size: int, n: int, until: float) -> None:
    data = regression_rows(n)
    name, peer = peer_of(data, size)
    ours = {
        "ours": Fit("aimz_lab", data, size),
        "ours, gathered on the host": Fit("aimz_lab", data, size, room=0),
        "ours, gathered on the device": Fit("aimz_lab", data, size, room=2**62),
    }
    ways = {
        **ours,
        "bare scan": Scan(data, size),
        "bare loop with a condition": Scan(data, size, checked=True),
        name: peer,
    }
    epochs = {}
    for way, run in ways.items():
        run(1)  # compiles
        epochs[way] = max(1, int(work.turn_s * run(1) * size / n))
    turns = take_turns(
        {way: lambda way=way, run=run: run(epochs[way]) for way, run in ways.items()},
        work.turns,
        deadline=until,
    )
    for way, run in ways.items():
        report(
            f"fit, B = {size:,}, N = {n:,}: {way}",
            turns.median(way),
            "steps/s",
            beside="bare scan",
            ratio=turns.ratio(way, "bare scan"),
            note=run.spent if way in ours else "",
        )


def network(X, y=None):
    """Three layers of 128."""
    z, sizes = X, [X.shape[1], 128, 128, 128, 1]
    for i, shape in enumerate(itertools.pairwise(sizes)):
        w = numpyro.sample(f"w{i}", dist.Normal(0.0, 0.1).expand(shape).to_event(2))
        z = jnp.tanh(z @ w) if i < 3 else z @ w
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(z[..., 0], 1.0), obs=y)


def _linear_floor(draws: dict, X: jax.Array) -> Callable[[], jax.Array]:
    """The products and the noise of all draws, left on the device."""

    @jax.jit
    def run(key, beta, X):
        return beta @ X.T + jax.random.normal(key, (len(beta), len(X)))

    return lambda: jax.block_until_ready(run(jax.random.key(0), draws["beta"], X))


def _network_floor(draws: dict, X: jax.Array) -> Callable[[], jax.Array]:
    def mean(draw, X):
        for i in range(3):
            X = jnp.tanh(X @ draw[f"w{i}"])
        return (X @ draw["w3"])[:, 0]

    @jax.jit
    def run(key, draws, X):
        means = jax.lax.map(lambda draw: mean(draw, X), draws, batch_size=16)
        return means + jax.random.normal(key, means.shape)

    return lambda: jax.block_until_ready(run(jax.random.key(0), draws, X))


def predictions(report: Report, work: Work, deadline: float) -> None:
    """``predict`` to memory, to a store and to means, beside one bare program."""
    rng = np.random.default_rng(0)
    sizes = [100, 128, 128, 128, 1]
    layers = {f"w{i}": shape for i, shape in enumerate(itertools.pairwise(sizes))}
    cases = {
        f"linear, {work.predicted:,} x {COLUMNS}": (
            plain_kernel,
            {"beta": (COLUMNS,), "sigma": ()},
            (work.predicted, COLUMNS),
            _linear_floor,
        ),
        f"network, {work.network:,} x 100": (
            network,
            layers,
            (work.network, 100),
            _network_floor,
        ),
    }
    began = time.perf_counter()
    for number, (name, (model, shapes, shape, floor)) in enumerate(cases.items(), 1):
        with kept_going(report, f"predict, {name}"):
            draws = {
                site: np.abs(rng.standard_normal((work.draws, *one), dtype=np.float32)) * 0.1
                for site, one in shapes.items()
            }
            X = rng.standard_normal(shape, dtype=np.float32)
            im = ImpactModel(model, jax.random.key(0), svi=make_svi(model))
            im.set_posterior_sample({site: jnp.asarray(one) for site, one in draws.items()})
            until = began + (deadline - began) * number / len(cases)
            bare = floor(jax.device_put(draws), jax.device_put(X))
            _predictions_of(report, work, im, X, name, bare, until)


def _predictions_of(
    report: Report,
    work: Work,
    im: ImpactModel,
    X: np.ndarray,
    name: str,
    bare: Callable[[], jax.Array],
    until: float,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        def stored():
            im.predict(X, progress=False, output_dir=f"{folder}/{next(numbers)}")

        calls = {
            "to memory": lambda: im.predict(X, progress=False, store="memory"),
            "to a store": stored,
            "to means": lambda: im.predict(X, progress=False, reduce="mean"),
            "bare, left on the device": bare,
            "bare, to memory": lambda: np.asarray(bare()),
        }
        turns = take_turns(
            {way: lambda call=call: seconds(call) for way, call in calls.items()},
            work.turns,
            deadline=until,
        )
    for way in calls:
        floor = "bare, left on the device" if way == "to means" else "bare, to memory"
        values = len(X) * work.draws
        report(
            f"predict, {name} x {work.draws:,}: {way}",
            turns.median(way),
            "s",
            beside=floor,
            ratio=turns.ratio(floor, way),
            note=f"{values / turns.median(way) / 1e9:.2f}e9 values/s",
        )


def schools(X, y=None):
    """Eight schools, not centred; ``X`` holds the standard errors."""
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    with numpyro.plate("school", X.shape[0]):
        effect = numpyro.sample("effect", dist.Normal(0, 1))
        numpyro.sample("y", dist.Normal(mu + tau * effect, X), obs=y)


def logistic(X, y=None):
    """A logistic regression."""
    beta = numpyro.sample("beta", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=X @ beta), obs=y)


def chains(report: Report, work: Work, deadline: float) -> None:
    """``fit_on_batch`` with NUTS beside NumPyro's own run, after the compilation of both."""
    X, y = regression_rows(work.network)
    se = np.array([15, 10, 16, 11, 9, 11, 10, 18], np.float32)
    effects = np.array([28, 8, -3, 7, -1, 1, 18, 12], np.float32)
    cases = {
        "eight schools": (schools, se, effects, work.chain),
        f"logistic {work.network:,} x {COLUMNS}": (
            logistic,
            X,
            (y > 0).astype(np.int32),
            max(work.chain // 5, 2),
        ),
    }
    began = time.perf_counter()
    for number, (name, (model, X, y, count)) in enumerate(cases.items(), 1):
        until = began + (deadline - began) * number / len(cases)
        with kept_going(report, f"NUTS, {name}"):
            _chains_of(report, work, name, model, (X, y), count, until)


def _chains_of(
    report: Report, work: Work, name: str, model: Callable, data: tuple, count: int, until: float
) -> None:
    def sampler():
        return MCMC(
            NUTS(model),
            num_warmup=count,
            num_samples=count,
            num_chains=4,
            chain_method="vectorized",
            progress_bar=False,
        )

    im, theirs = ImpactModel(model, jax.random.key(0), inference=sampler()), sampler()

    def run_theirs():
        theirs.run(jax.random.key(0), X=data[0], y=data[1])
        jax.block_until_ready(theirs.get_samples())

    ways = {
        "ours": lambda: im.fit_on_batch(*data, progress=False, rng_key=jax.random.key(0)),
        "NumPyro": run_theirs,
    }
    turns = take_turns(
        {way: lambda call=call: seconds(call) for way, call in ways.items()},
        work.turns,
        deadline=until,
    )
    for way in ways:
        report(
            f"NUTS, {name}, 4 chains x {2 * count:,}: {way}",
            turns.median(way),
            "s",
            beside="NumPyro",
            ratio=turns.ratio("NumPyro", way),
        )


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


SECTIONS = {"hardware": hardware, "fit": fits, "predict": predictions, "mcmc": chains}
