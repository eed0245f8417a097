"""Draws are read while a run goes on, and reading leaves the run alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aimz_lab.inference.mcmc.draws import read_draws
from tests.runs import compilations

AT = np.array([5, 0, 2])
LAYOUTS = {  # axes of 3 chains, 20 draws and values of 2 x 3, as samplers keep them
    None: lambda draws: draws[0],
    0: lambda draws: draws,
    1: lambda draws: draws.swapaxes(0, 1),
}


@pytest.fixture
def draws():
    return np.random.default_rng(0).normal(size=(3, 20, 2, 3)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int32", "bool", "bfloat16"])  # NumPy lacks the last
@pytest.mark.parametrize("chain_axis", LAYOUTS)
@pytest.mark.parametrize("rows", [range(14), range(0, 14, 3), range(0)])
def test_chosen_values_of_chosen_draws_are_read(draws, chain_axis, rows, dtype):
    kept = jnp.asarray(LAYOUTS[chain_axis](draws)).astype(dtype)
    read = read_draws(kept, np.array(rows, int), AT, chain_axis=chain_axis)
    expected = jnp.asarray(draws).astype(dtype).reshape(3, 20, 6)[:, np.array(rows, int)][:, :, AT]
    if chain_axis is None:
        expected = expected[:1]
    assert read.shape == expected.shape
    np.testing.assert_array_equal(read, expected)


def test_values_without_axes_are_read(draws):
    read = read_draws(jnp.asarray(draws[..., 0, 0]), np.arange(4), np.array([0]), chain_axis=0)
    np.testing.assert_array_equal(read, draws[:, :4, 0, :1])


def test_reading_compiles_nothing_and_the_draws_are_still_written_in_place(draws):
    write = jax.jit(lambda kept: kept.at[:, 3].add(1.0), donate_argnums=0)
    kept = write(jnp.asarray(draws))
    place = kept.unsafe_buffer_pointer()
    with compilations() as compiled:
        read = [
            read_draws(kept, np.arange(n), AT[:m], chain_axis=0) for n in (8, 9) for m in (1, 3)
        ]
    assert compiled == []
    before = [values.copy() for values in read]
    kept = write(kept)
    assert kept.unsafe_buffer_pointer() == place
    assert (read_draws(kept, np.arange(8), AT, chain_axis=0) != before[1]).any()
    for values, copied in zip(read, before, strict=True):
        np.testing.assert_array_equal(values, copied)


def test_on_a_device_lengths_that_grow_compile_a_program_for_each_doubling(draws):
    kept = jnp.asarray(draws).astype(jnp.bfloat16)  # read as on a device that is not the CPU
    with compilations() as compiled:
        for length in range(9, 17):
            read_draws(kept, np.arange(length), np.arange(length % 2 + 5), chain_axis=0)
    assert len(compiled) == 1
