"""Whether a kernel observes its output itself, or a function of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab import ImpactModel
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.output_transform import observed_values, output_transform
from aimz_lab.kernel.tracing import trace_spec
from tests.runs import mean_field

X = np.linspace(0.5, 2.0, 6, dtype=np.float32)
GAPS = np.where(np.arange(6) < 2, np.nan, X).astype(np.float32)


def observing(made, **options):
    def kernel(X, pre=None, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        given = None if y is None else made(y, pre, slope)
        given, mask = given if isinstance(given, tuple) else (given, None)
        with numpyro.plate("row", X.shape[0], dim=-1):
            numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=given, obs_mask=mask, **options)

    return kernel


def traced(made, y):
    rows = {"X": X, "pre": X + 1, "y": y}
    kernel = observing(made)
    batch = KernelArguments(rows)
    return kernel, trace_spec(kernel, rows=rows, output="y"), batch


@pytest.mark.parametrize(
    ("made", "y"),
    [
        (lambda y, *_: y, X),
        (lambda y, *_: y.astype(int), np.round(X)),
        (lambda y, *_: y[:, 0], X[:, None]),
        (lambda y, *_: jnp.clip(y, 0.1, 9.0), X),
        (lambda y, *_: jnp.clip(y, 0.5005, 2.0) + 1e-5, X),
        (lambda y, *_: (jnp.nan_to_num(y), ~jnp.isnan(y)), GAPS),
        (lambda y, *_: y[::-1][jnp.arange(len(y) - 1, -1, -1)], X),
    ],
)
def test_an_output_in_another_type_or_shape_is_the_output_itself(made, y):
    assert output_transform(*traced(made, y)) == ""


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda y, *_: jnp.log(y), "log(y)"),
        (lambda y, *_: jnp.log1p(y), "log1p(y)"),
        (lambda y, pre, _: y - pre, "y - pre"),
        (lambda y, pre, _: jnp.log(y / pre), "log(y / pre)"),
        (lambda y, *_: (y - 4.0) / 2, "(y - 4) / 2"),
        (lambda y, *_: y + jnp.arange(6), "a function of y"),
        (lambda y, *_: y + 0.01, "y + 0.01"),
        (lambda y, *_: 1 - y, "1 - y"),
        (lambda y, *_: y**2, "y ** 2"),
        (lambda y, *_: (y - y.mean()) / y.std(), "a function of y"),
        (lambda y, *_: jnp.clip(y, 1.0, 1.5), "a function of y"),
        (lambda y, _, slope: y + slope, "a function of y"),
        (lambda y, *_: (jnp.log(y), y > 1), "log(y)"),
    ],
)
def test_a_function_of_the_output_is_named_if_it_is_short(made, name):
    assert output_transform(*traced(made, X)) == name


def test_all_rows_in_memory_are_asked_and_not_the_first_batch_alone():
    def kernel(X, y=None):
        slope = numpyro.sample("slope", dist.Normal())
        with numpyro.plate("row", X.shape[0]):
            capped = None if y is None else jnp.minimum(y, 1.5)
            numpyro.sample("y", dist.Normal(slope * X, 1.0), obs=capped)

    im = ImpactModel(kernel, jax.random.key(0), svi=mean_field(kernel))
    im.fit(X, X, batch_size=3, shuffle=False, epochs=1, num_samples=2, progress=False)
    assert im.kernel_spec.output_transform


def test_what_is_observed_is_computed_by_the_kernel_unless_it_depends_on_draws():
    kernel, spec, batch = traced(lambda y, pre, _: jnp.log(y) - pre, X)
    np.testing.assert_allclose(observed_values(kernel, spec, {}, batch), np.log(X) - X - 1, 1e-6)
    kernel, spec, batch = traced(lambda y, _, slope: y * slope, X)
    assert observed_values(kernel, spec, {}, batch) is None
