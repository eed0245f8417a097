"""Compiled programs draw cheap bits with the keys of draws, and JAX's own with a kernel's keys."""

from __future__ import annotations

import jax
import numpy as np
from jax import random

from aimz_lab.predictive.programs.compiled_programs import Program, Programs
from aimz_lab.predictive.programs.own_keys import wrapped_keys

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
