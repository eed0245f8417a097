"""What is done over and over in a notebook compiles once: other rows, sizes, values, scenarios."""

from __future__ import annotations

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from aimz_lab.predictive.programs import sizes
from tests.runs import compilations, mean_field_model

X = np.random.default_rng(0).normal(size=(3_000, 3)).astype(np.float32)
Y = 2.0 * X[:, 0]
QUIET = {"progress": False}


def sales(X, y=None):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", X.shape[0]):
        shop = numpyro.sample("shop", dist.Poisson(2.0)) if y is None else 2
        price = numpyro.sample("price", dist.Normal(0.0, 1.0)) if y is None else 0.0
        numpyro.sample("y", dist.Normal(slope * X[:, 0] + price + shop, 1.0), obs=y)


@pytest.fixture(scope="module")
def im():
    im = mean_field_model(sales)
    im.fit(X, Y, batch_size=256, epochs=1, num_samples=60, **QUIET)
    im.predict(X, store="memory", **QUIET)
    return im


def test_fits_of_other_lengths_and_epochs_compile_nothing(im):
    with compilations() as seen:
        im.fit(X[:2_000], Y[:2_000], batch_size=256, epochs=2, num_samples=60, **QUIET)
        assert not seen


@pytest.mark.slow
def test_predictions_of_other_lengths_batches_and_places_compile_nothing(im):
    with compilations() as seen:
        for n_rows in (2_999, 2_700):
            im.predict(X[:n_rows], store="memory", **QUIET)
        im.predict(X, **QUIET)
        im.predict(X.astype(np.float64), store="memory", **QUIET)
        im.predict(X, batch_size=4_096, store="memory", **QUIET)
        assert not seen


@pytest.mark.slow
def test_few_programs_serve_all_lengths(im):
    with compilations() as seen:
        for n_rows in (1, 300, 700, 1_100, 2_560):
            im.predict(X[:n_rows], store="memory", **QUIET)
        assert len(seen) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("site", ["price", "shop"])
def test_values_to_set_compile_once_however_they_are_written(im, site):
    im.predict(X, intervention={site: 3.0}, store="memory", **QUIET)
    ways = (3, 4, np.int64(3), np.float32(3), np.array(3.0), np.array(3))
    ways = ways if site == "price" else (3, 4, np.int64(3), np.array(3, np.int8))
    im.predict(X, intervention={site: ways[0]}, store="memory", **QUIET)
    with compilations() as seen:
        for value in ways:
            im.predict(X, intervention={site: value}, store="memory", **QUIET)
        assert not seen


@pytest.mark.slow
def test_scenarios_summaries_and_scores_of_other_rows_compile_once(im):
    def calls(rows):
        sides = {
            "args_baseline": {"X": rows, **QUIET},
            "args_intervention": {"X": rows + 1, **QUIET},
        }
        im.estimate_effect(**sides)
        im.predict(rows, reduce="mean", **QUIET)
        im.log_likelihood(rows, Y[: len(rows)], store="memory", **QUIET)

    calls(X)
    with compilations() as seen:
        calls(X[:2_500])
        assert not seen


@pytest.mark.parametrize("row_bytes", [4, 400, 4_000, 10**6])
@pytest.mark.parametrize("batch_size", [None, 256, 1_000, 10**5])
def test_calls_are_of_few_sizes_and_pad_little(row_bytes, batch_size):
    found = set()
    for n_rows in {int(1.3**power) for power in range(1, 62)}:
        blocks = sizes.count_blocks(n_rows)
        size = sizes.blocks_per_call(n_rows, row_bytes, batch_size, 1)
        found.add(size)
        computed = -(-blocks // size) * size
        assert computed < 2 * blocks  # at most as many again, and that of little
        if batch_size is None and blocks * row_bytes * sizes.BLOCK_ROWS > 10 * sizes.CALL_BYTES:
            assert computed < 1.13 * blocks
        assert batch_size is None or size * sizes.BLOCK_ROWS <= max(batch_size, sizes.BLOCK_ROWS)
    assert len(found) <= 7
