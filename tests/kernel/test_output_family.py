"""Which family an output has, and which of its parameters are learned."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.output_family import OutputFamily, output_family
from aimz_lab.kernel.tracing import trace_spec

ROWS = {"X": np.ones((6, 2), np.float32), "y": np.ones(6, np.float32)}
FAMILIES = {"Normal": ("loc", "scale"), "Poisson": ("rate",)}


def learned(X, y=None):
    level = numpyro.sample("level", dist.Normal())
    sd = numpyro.sample("sd", dist.HalfNormal())
    with numpyro.plate("rows", len(X)):
        mean = numpyro.deterministic("mean", level + X[:, 0])
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def same_for_all(X, y=None):
    level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", dist.Normal(level, 0.5), obs=y)


def by_params(X, y=None):
    rate = numpyro.param("rate", 1.0)
    numpyro.sample("y", dist.Poisson(jnp.full(len(X), rate)).to_event(1), obs=y)


def given(X, y=None):
    level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("rows", len(X)):
        numpyro.sample("y", dist.Normal(X[:, 0], jnp.exp(X[:, 1]) + 0 * level.size), obs=y)


def masked(X, y=None):
    with numpyro.handlers.mask(mask=X[:, 0] > 0):
        learned(X, y)


def other(X, y=None):
    level = numpyro.sample("level", dist.Normal())
    numpyro.sample("y", dist.Cauchy(level, jnp.ones(len(X))), obs=y)


def by_value(X, y=None):
    level = numpyro.sample("level", dist.Normal())
    if y is not None and float(level) > 0:
        return
    numpyro.sample("y", dist.Normal(level, jnp.ones(len(X))), obs=y)


CASES = {
    learned: OutputFamily("Normal", frozenset({"loc", "scale"})),
    same_for_all: OutputFamily("Normal", frozenset({"loc"})),
    by_params: OutputFamily("Poisson", frozenset({"rate"})),
    given: OutputFamily("Normal"),
    masked: OutputFamily(),
    other: OutputFamily(),
}


def family_of(kernel, spec):
    params = {"rate": jnp.ones(())} if kernel is by_params else {}
    return output_family(kernel, spec, KernelArguments(ROWS), params, FAMILIES)


@pytest.mark.parametrize("kernel", CASES)
def test_families_and_what_is_learned_of_them(kernel):
    assert family_of(kernel, trace_spec(kernel, rows=ROWS)) == CASES[kernel]


def test_a_kernel_that_cannot_be_traced_has_none():
    assert family_of(by_value, trace_spec(learned, rows=ROWS)) == OutputFamily()
