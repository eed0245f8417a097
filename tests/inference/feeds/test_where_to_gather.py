"""Where the rows of a batch are gathered, and the buffers of streams."""

from __future__ import annotations

import jax
import numpy as np
import numpyro
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ImpactModel
from aimz_lab.data import as_source
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.stream_feed import StreamFeed
from tests import kernels

pytestmark = pytest.mark.allow_rank_promotion

N, LARGE = 5_000, 2_100
X, Y = kernels.regression_data(N, 3, seed=5)


def batches():
    for start in range(0, N, LARGE):
        yield {"X": X[start : start + LARGE], "y": Y[start : start + LARGE]}


def run_of(*data, **options):
    kernel = kernels.regression
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.05), Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.fit(*data, epochs=2, num_samples=1, progress=False, **options).last_run


@pytest.mark.slow
def test_large_batches_stay_on_the_device_and_train_as_those_of_a_stream_do():
    in_order = {"batch_size": LARGE, "shuffle": False}
    whole = run_of(X, Y, **in_order)
    cut = run_of(X, Y, **in_order, steps_per_call=1)
    stream = run_of(batches, n_obs=N)
    np.testing.assert_array_equal(cut.losses, whole.losses)
    np.testing.assert_allclose(stream.losses, whole.losses, rtol=1e-5)
    padded, rows = 6 * LARGE, X.nbytes + Y.nbytes
    assert whole.transferred_bytes == rows + 4 * padded  # once, and the numbers of the rows
    assert stream.transferred_bytes == padded * rows // N


def test_a_stream_fills_the_same_buffers_again_and_gives_the_rows_of_its_batches():
    feed = StreamFeed(as_source(batches), batch_size=LARGE, epochs=4, placement=Placement())
    chunks, places = 0, set()
    while chunk := feed.next(2, 0):
        chunks += 1
        places.add(chunk.feed["X"].unsafe_buffer_pointer())
        number = chunk.begin.batch
        for i, valid in enumerate(chunk.valid[: len(chunk)]):
            start = LARGE * ((number + i) % 3)
            rows = np.asarray(chunk.feed["X"])[i]
            np.testing.assert_array_equal(rows[:valid], X[start : start + LARGE])
            assert (rows[valid:] == rows[valid - 1]).all()  # padding
    assert chunks == 6
    assert len(places) == 2
