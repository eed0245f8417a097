"""The operations of random kernels are what they are filed as, by JAX alone."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from tests.property.operations import ACROSS, BY_ROW, LEVELS, Known
from tests.property.recipes import NUMBERS


def known(n, seed=0):
    rng = np.random.default_rng(seed)
    return Known(
        X=jnp.asarray(rng.normal(size=(n, 2)), jnp.float32),
        g=jnp.asarray(rng.integers(LEVELS, size=n)),
        a=jnp.asarray(rng.normal(size=LEVELS), jnp.float32),
        w=jnp.asarray(rng.normal(size=2), jnp.float32),
        u=jnp.asarray(rng.normal(size=9), jnp.float32),
        i=jnp.asarray(rng.integers(9, size=n)),
    )


def rows_of(everything, rows):
    return everything._replace(X=everything.X[rows], g=everything.g[rows], i=everything.i[rows])


def is_changed(operation, n, number):
    """Whether a half on its own has other values than as a part of all rows."""
    everything = known(n)
    values = everything.X.sum(axis=1)
    whole = operation(values, everything, number)
    for half in (slice(n // 2, n), slice(n // 2)) if n > 1 else (jnp.zeros(2, int),):
        alone = operation(values[half], rows_of(everything, half), number)
        if not np.allclose(whole[half], alone, atol=1e-4):
            return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_ROW)
def test_rows_alone_have_the_same_values(name):
    assert not is_changed(BY_ROW[name], 300, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACROSS)
def test_rows_alone_have_other_values_for_some_size_and_number(name):
    tried = ((n, number) for n in (300, 150, 1, 2, 4, 256, 512) for number in NUMBERS)
    assert any(is_changed(ACROSS[name], n, number) for n, number in tried)
