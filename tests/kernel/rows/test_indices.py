"""Indices out of range are refused wherever a kernel computes them, but not inside its loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.errors import DataError
from aimz_lab.kernel.rows.indices import check_indices

GROUPS = 4


@jax.custom_jvp
def looked_up(effects, group):
    return effects[group]


looked_up.defjvp(
    lambda primals, tangents: (looked_up(*primals), looked_up(tangents[0], primals[1]))
)

LOOK_UPS = {
    "plain": lambda effects, group: effects[group],
    "arithmetic": lambda effects, group: effects[(group + 1) * 2 - group - 2],
    "a call": lambda effects, group: jax.jit(lambda a, b: a[b])(effects, group),
    "a checkpoint": lambda effects, group: jax.checkpoint(lambda a, b: a[b])(effects, group),
    "a derivative of its own": looked_up,
    "of a call's result": lambda effects, group: effects[jax.jit(lambda b: b + 1)(group) - 1],
}


def kernel_of(look_up):
    def kernel(group, y=None):
        effects = numpyro.sample("effects", dist.Normal().expand([GROUPS]).to_event(1))
        with numpyro.plate("rows", group.shape[0]):
            numpyro.sample("y", dist.Normal(look_up(effects, group), 1.0), obs=y)

    return kernel


@pytest.mark.parametrize("how", LOOK_UPS)
def test_an_index_in_range_passes(how):
    assert check_indices(kernel_of(LOOK_UPS[how]), rows={"group": np.array([0, 3, 1])})


@pytest.mark.parametrize("how", LOOK_UPS)
def test_an_index_out_of_range_is_refused_with_its_row(how):
    with pytest.raises(DataError, match=r"'group' points at entry 4 in row 12.* \(0 to 3\)"):
        check_indices(kernel_of(LOOK_UPS[how]), rows={"group": np.array([0, 3, 4])}, first_row=10)


def test_an_argument_that_indexes_nothing_needs_no_further_check():
    kernel = kernel_of(lambda effects, group: effects.sum() * group)
    assert not check_indices(kernel, rows={"group": np.array([0, 9])})


def test_clipped_indices_are_meant():
    kernel = kernel_of(lambda effects, group: effects.at[group].get(mode="clip"))
    assert check_indices(kernel, rows={"group": np.array([0, 9])})


def test_indices_within_loops_are_not_followed():
    def loop(effects, group):
        return jax.lax.fori_loop(0, 2, lambda i, total: total + effects[group], jnp.zeros(2))

    assert not check_indices(kernel_of(loop), rows={"group": np.array([0, 9])})
