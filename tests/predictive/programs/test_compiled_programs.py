"""Compiled programs draw cheap bits with the keys of draws, and JAX's own with a kernel's keys."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax import random

from aimz_lab.predictive.programs.compiled_programs import Program, Programs
from aimz_lab.predictive.programs.own_keys import wrapped_keys
from tests.runs import mean_field_model

DATA = np.array([3, 4], np.uint32)


def of_the_draw(key_data):
    return random.bits(wrapped_keys(key_data), (8,))


def with_own_key(key_data):
    return random.bits(wrapped_keys(key_data), (8,)), random.bits(random.key(7), (8,))


def run(function):
    program = Program(function.__name__, lambda: function, (DATA,), (jax.devices()[0],), (False,))
    [compiled] = Programs().compiled(program)
    return compiled(DATA)


def test_bits_of_a_draws_key_do_without_independence_of_the_sharding():
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(run(of_the_draw), of_the_draw(DATA))
    with jax.threefry_partitionable(True):
        default = of_the_draw(DATA)
        assert not np.array_equal(run(of_the_draw), default)


def test_a_kernels_own_key_draws_what_it_draws_outside():
    drawn, own = run(with_own_key)
    np.testing.assert_array_equal(own, random.bits(random.key(7), (8,)))
    np.testing.assert_array_equal(drawn, random.bits(random.wrap_key_data(DATA), (8,)))


GAIN = {"number": 1.0, "list": [1.0]}


class Curve:
    """A callable object, which a kernel gets as an argument."""

    def __init__(self, gain):
        self.gain = gain

    def __call__(self, x):
        return self.gain * x


def by_number(x):
    return GAIN["number"] * x


def by_list(x):
    return GAIN["list"][0] * x


def bent(X, curve, y=None):
    level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + curve(X), 1e-6), obs=y)


@pytest.mark.parametrize("curve", [by_number, by_list, Curve(1.0)])
def test_a_function_that_is_an_argument_is_read_anew(monkeypatch, curve):
    im = mean_field_model(bent).set_posterior_sample({"level": np.zeros(3, np.float32)})

    def mean():
        tree = im.predict_on_batch(np.full(4, 2.0, np.float32), curve=curve)
        return float(tree.posterior_predictive.y.mean())

    GAIN["list"][0] = 1.0
    assert mean() == pytest.approx(2.0, rel=1e-4)
    monkeypatch.setitem(GAIN, "number", 3.0)
    GAIN["list"][0] = 3.0
    if isinstance(curve, Curve):
        monkeypatch.setattr(curve, "gain", 3.0)
    assert mean() == pytest.approx(6.0, rel=1e-4)
