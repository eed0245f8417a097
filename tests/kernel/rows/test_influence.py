"""Statistics and fixed rows show as rows are exchanged; what goes along rows, or apart, not."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.experimental.ode import odeint
from numpyro.contrib.control_flow import scan

from aimz_lab.kernel.rows import kernel_influence
from aimz_lab.kernel.tracing import trace_spec
from tests import kernels

pytestmark = pytest.mark.allow_rank_promotion
N = 160
RNG = np.random.default_rng(0)
ROWS = {
    "X": RNG.gamma(3, 1, N).astype(np.float32),
    "g": RNG.integers(0, 30, N).astype(np.int32),
}


def n(X):
    return X.shape[0]


def scanned(X, decay, start=0.0):
    return jax.lax.scan(lambda carry, one: (decay * carry + one,) * 2, start, X)[1]


def same(g):
    return (g[:, None] == g) * 1.0


def mean_by_segment(X, g):
    sums, counts = (jax.ops.segment_sum(one, g, 30) for one in (X, jnp.ones_like(X)))
    return (sums / jnp.maximum(counts, 1))[g]


def in_order(X, time):
    order = jnp.argsort(time)
    return jnp.cumsum(X[order])[jnp.argsort(order)]


def solved(X):
    return odeint(lambda state, time: -X * state, X, jnp.array([0.0, 1.0]))[1]


def neighbours(X):
    return (jnp.eye(n(X), k=1) + jnp.eye(n(X), k=-1)) @ X


def process(X):
    return jnp.linalg.cholesky(jnp.exp(-((X[:, None] - X) ** 2)) + jnp.eye(n(X))) @ jnp.ones(n(X))


def mean_outside(X):
    one = jax.ShapeDtypeStruct((), jnp.float32)
    return jax.pure_callback(lambda rows: np.float32(np.mean(rows)), one, X)


ACROSS = {
    "first row": (lambda X, g: X / X[0], "X"),
    "last row": (lambda X, g: X / X[-1], "X"),
    "row in the middle": (lambda X, g: X / X[30], "X"),
    "first row beside a lag": (lambda X, g: X / X[0] + jnp.roll(X, 1), "X"),
    "first rows": (lambda X, g: X - X[:20].mean(), "X"),
    "nearly all rows": (lambda X, g: X - X[:55].mean(), "X"),
    "greatest": (lambda X, g: X / jnp.take(X, jnp.argmax(X)), "X"),
    "matrix": (lambda X, g: (jnp.eye(n(X)) - 1 / n(X)) @ X, "X"),
    "matrix and trend": (lambda X, g: (jnp.eye(n(X)) - 1 / n(X)) @ X + jnp.arange(n(X)), "X"),
    "end of a cumulative sum": (lambda X, g: X - jnp.cumsum(X)[-1] / n(X), "X"),
    "end of a cumulative maximum": (lambda X, g: X / jax.lax.cummax(X)[-1], "X"),
    "end of a scan": (lambda X, g: X - jax.lax.scan(lambda c, x: (c + x, None), 0.0, X)[0], "X"),
    "loop": (lambda X, g: X - jax.lax.fori_loop(0, n(X), lambda i, c: c + X[i], 0.0), "X"),
    "mean before a scan": (lambda X, g: scanned(X - jnp.cumsum(X)[-1] / n(X), 0.5), "X"),
    "padded": (lambda X, g: X - jnp.pad(X, (0, 64)).sum() / n(X), "X"),
    "Fourier transform": (lambda X, g: X - jnp.fft.fft(X)[0].real / n(X), "X"),
    "convolution": (lambda X, g: X - jnp.convolve(X, jnp.ones(n(X)), "valid")[0], "X"),
    "window": (
        lambda X, g: X - jax.lax.reduce_window(X, 0.0, jax.lax.add, (n(X),), (1,), "VALID")[0],
        "X",
    ),
    "associative scan": (lambda X, g: X - jax.lax.associative_scan(jnp.add, X)[-1], "X"),
    "outside of JAX": (lambda X, g: X - mean_outside(X), "X"),
    "ranks by pairs": (lambda X, g: (X[:, None] > X).mean(1), "X"),
    "attention": (lambda X, g: jax.nn.softmax(-((X[:, None] - X) ** 2), axis=1) @ g, "Xg"),
    "segments": (lambda X, g: X - mean_by_segment(X, g), "Xg"),
    "pairs of a group": (lambda X, g: X - same(g) @ X / same(g).sum(1), "Xg"),
    "size of a group": (lambda X, g: X * jnp.bincount(g, length=30)[g], "g"),
    "spread": (lambda X, g: X.std(), "X"),
}

ALONG = {
    "row by row": lambda X, g: jnp.exp(-X) + jnp.sin(jnp.arange(30.0))[g],
    "constant": lambda X, g: jnp.float32(2.0),
    "trend": lambda X, g: X + jnp.arange(n(X)) / n(X),
    "adstock": lambda X, g: jnp.tanh(scanned(X, 0.8)),
    "long memory": lambda X, g: scanned(X, 0.99),
    "smoothing from the first row": lambda X, g: scanned(0.05 * X, 0.95, X[0]),
    "backwards": lambda X, g: scanned(X[::-1], 0.95)[::-1],
    "cumulative sum": lambda X, g: jnp.cumsum(X),
    "cumulative maximum": lambda X, g: jax.lax.cummax(X),
    "in groups": lambda X, g: (same(g) * jnp.tri(n(X))) @ X,
    "in the order of time": lambda X, g: in_order(g, X),
    "lags": lambda X, g: sum(0.5**lag * jnp.pad(X, (lag, 0))[: n(X)] for lag in range(3)),
    "differences": lambda X, g: jnp.diff(X, prepend=X[0]),
    "window around": lambda X, g: jnp.convolve(X, jnp.ones(9) / 9, "same"),
    "neighbours": lambda X, g: X + 0.3 * neighbours(X),
    "neighbours of neighbours": lambda X, g: jnp.linalg.solve(
        jnp.eye(n(X)) - 0.2 * neighbours(jnp.eye(n(X))), X
    ),
    "Gaussian process": lambda X, g: process(X),
    "a step at one row": lambda X, g: X + (jnp.arange(n(X)) > 30),
    "cumulative product": lambda X, g: jnp.cumprod(4 * X),
    "adaptive solver": lambda X, g: solved(X),
    "not a number": lambda X, g: jnp.where(X > 2, jnp.nan, X),
}


def run(kernel, rows=ROWS, sites=("y",), **options):
    spec = trace_spec(kernel, rows=rows, shared={}, static={}, output="y", values={})
    return kernel_influence.exchanged_in_sites(
        kernel,
        spec,
        sites,
        rows=rows,
        shared={},
        static={},
        params={},
        **{"asked": rows, "draws": [{}], "given": {}, **options},
    )


@functools.cache
def found():
    """What is found of all forms, which are compiled together."""
    forms = {name: form for name, (form, _) in ACROSS.items()} | ALONG

    def kernel(X, g, y=None):
        for name, form in forms.items():
            numpyro.deterministic(name, 1 + 2 * form(X, g))
        numpyro.sample("y", dist.Normal(X, 1.0), obs=y)

    return run(kernel, sites=tuple(forms))


@pytest.mark.parametrize("form", ACROSS)
def test_a_statistic_or_a_fixed_row_is_found(form):
    assert found()[form] == {*ACROSS[form][1]}


@pytest.mark.parametrize("form", ALONG)
def test_what_goes_along_rows_or_apart_is_not(form):
    assert form not in found()


def of_first(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    z = numpyro.sample("z", dist.Normal(0, 1).expand([len(X)]).to_event(1))
    numpyro.sample("y", dist.Normal(slope * X / X[0] + z, 1), obs=y)


@pytest.mark.parametrize("partner", [np.arange(N) - 1, RNG.permutation(N)], ids=["last", "any"])
def test_rows_that_others_point_to_raise_no_alarm(partner):
    def kernel(X, partner, y=None):
        numpyro.sample("y", dist.Normal(X + X[partner], 1), obs=y)

    assert not run(kernel, {"X": ROWS["X"], "partner": partner.clip(0).astype(np.int32)})


@pytest.mark.parametrize("kernel_of", [scanned, lambda X, decay: X / X[0]])
def test_first_rows_that_are_not_finite_raise_no_alarm(kernel_of):
    def kernel(X, y=None):
        numpyro.sample("y", dist.Normal(kernel_of(X, 0.99), 1, validate_args=False), obs=y)

    assert not run(kernel, {"X": np.where(np.arange(N) > 0, ROWS["X"], np.nan)})


@pytest.mark.parametrize(
    "values",
    [np.float32([3.0]), np.full(5, 9, np.float32), np.zeros(9, np.float32), np.arange(1, 7)],
    ids=["one row", "alike", "zeros", "few whole numbers"],
)
def test_few_rows_or_rows_that_are_alike_are_enough(values):
    assert run(of_first, {"X": values + (values == 0)}) == {"y": {"X"}}


def autoregression(X, g, y=None):
    spread = numpyro.sample("spread", dist.HalfNormal(1))

    def step(level, x):
        level = numpyro.sample("level", dist.Normal(0.9 * level + x, spread))
        return level, level

    levels = scan(step, 0.0, X)[1]
    with numpyro.plate("row", len(X)):
        numpyro.sample("y", dist.Normal(levels, 1), obs=y)


def walk(X, g, y=None):
    steps = numpyro.sample("steps", dist.Normal(0, 1).expand([len(X)]).to_event(1))
    with numpyro.plate("row", len(X)):
        numpyro.sample("y", dist.Normal(jnp.cumsum(steps) + X, 1), obs=y)


def process_of_latents(X, g, y=None):
    z = numpyro.sample("z", dist.Normal(0, 1).expand([len(X)]).to_event(1))
    root = jnp.linalg.cholesky(jnp.exp(-((X[:, None] - X) ** 2)) + 1e-3 * jnp.eye(len(X)))
    numpyro.sample("y", dist.Normal(root @ z, 1), obs=y)


def levels_of_groups(X, g, y=None):
    with numpyro.plate("groups", 30):
        level = numpyro.sample("level", dist.Normal(0, 1))
    with numpyro.plate("row", len(X)):
        numpyro.sample("y", dist.Poisson(jnp.exp(level[g])), obs=y)


def media(X, g, y=None):
    decay = numpyro.sample("decay", dist.Beta(2, 2))
    stock = scanned(X, decay)
    part = numpyro.deterministic("part", stock / (1 + stock))
    with numpyro.plate("row", len(X)):
        numpyro.sample("y", dist.Normal(part + jnp.sin(jnp.arange(len(X))), 1), obs=y)


def subsampled(X, g, y=None):
    with numpyro.plate("row", 2 * N, subsample_size=len(X)):
        numpyro.sample("y", dist.Normal(jnp.cumsum(X), 1), obs=y)


def of_few(X, g, y=None):
    with numpyro.plate("row", N, subsample_size=N // 2) as rows:
        numpyro.sample("y", dist.Normal(X[rows], 1), obs=y)


def with_penalty(X, g, y=None):
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    numpyro.factor("penalty", -((slope * X.mean()) ** 2))
    numpyro.sample("y", dist.Normal(slope * X + jnp.asarray(ROWS["X"]), 1), obs=y)


SOUND = [
    autoregression,
    walk,
    process_of_latents,
    levels_of_groups,
    media,
    subsampled,
    of_few,
    with_penalty,
]


@pytest.mark.parametrize("kernel", SOUND)
def test_sound_kernels_raise_no_alarm(kernel):
    assert not run(kernel, sites=("y", "part"), draws=[{}, {}])


OF_TESTS = [
    kernels.regression,
    kernels.regression_without_plate,
    kernels.regression_by_event,
    kernels.normal_mean,
    kernels.local_latents,
    kernels.poisoned,
    kernels.mixture,
]


@pytest.mark.parametrize("kernel", OF_TESTS)
def test_rows_apart_raise_no_alarm_without_a_proof_either(kernel, monkeypatch):
    monkeypatch.setattr(kernel_influence, "rows_are_independent", lambda *_: False)
    rows = {"X": RNG.normal(size=(N, 3)).astype(np.float32)}
    assert not run(kernel, rows, sites=("y", "mean"))


def test_a_kernel_with_side_effects_is_not_run(capsys):
    def kernel(X, g, y=None):
        jax.debug.print("seen")
        numpyro.sample("y", dist.Normal(X / X[0], 1), obs=y)

    assert not run(kernel)
    assert "seen" not in capsys.readouterr().out


def test_latent_sites_by_row_and_set_sites_keep_the_values_of_their_rows():
    def kernel(X, g, y=None):
        z = numpyro.sample("z", dist.Normal(0, 1).expand([len(X)]).to_event(1))
        index = numpyro.deterministic("index", 2 * X)
        numpyro.sample("y", dist.Normal(same(g) @ index + z, 1), obs=y)

    draw = {"z": RNG.normal(size=N).astype(np.float32)}
    assert run(kernel, draws=[draw]) == {"y": {"X", "g"}}
    given = {"index": ROWS["X"]}
    found = run(kernel, draws=[draw], given=given, asked=["index", "g"])
    assert found == {"y": {"index", "g"}}
