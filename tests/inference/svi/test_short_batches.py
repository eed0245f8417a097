"""A last batch that is much shorter than the others, and the size that a note proposes."""

from __future__ import annotations

import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta

from aimz_lab import ImpactModel
from aimz_lab.errors import FitWarning
from aimz_lab.inference.svi.short_batches import ShortBatches, short_batch_note
from tests import kernels
from tests.runs import STILL


@given(st.integers(1, 5_000), st.integers(1, 600))
def test_a_note_proposes_a_size_whose_last_batch_is_not_short(n_rows, size):
    note, rest = short_batch_note(n_rows, size), n_rows % size
    assert (note is not None) == (n_rows > size and 0 < rest <= size / 16)
    if note:
        better, left = map(int, re.search(r"batch_size=([\d,]+) it has ([\d,]+)", note).groups())
        assert better < size
        assert left == (n_rows % better or better)
        assert left >= better / 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "noted"),
    [
        ({}, True),
        ({"shuffle": False}, False),
        ({"scale": "none"}, False),
        ({"batch_size": 18}, False),
        ({"batch_size": None}, False),
    ],
)
def test_a_run_in_random_order_notes_it(options, noted):
    X, y = kernels.regression_data(101, 2)
    svi = SVI(kernels.regression, AutoDelta(kernels.regression), STILL, Trace_ELBO())
    im = ImpactModel(kernels.regression, jax.random.key(1), svi=svi)
    im.fit(X, y, num_samples=1, progress=False, **{"batch_size": 20, "epochs": 1, **options})
    assert (
        any("The last batch of each epoch has 1 row" in one for one in im.last_run.notes) is noted
    )


def test_a_row_that_is_last_twice_may_be_so_by_chance():
    seen, rng = ShortBatches(), np.random.default_rng(0)
    for _ in range(1_000):
        order = rng.permutation(101)
        for first in range(0, 101, 20):
            rows = order[first : first + 20]
            seen.see({"X": rows}, len(rows), 101)
    last = {"X": np.array([100])}
    for _ in range(3):
        seen.see(last, 1, 101)
    with pytest.warns(FitWarning, match="batch of 1 row comes again"):
        seen.see(last, 1, 101)
