"""Rows that fit stay on a GPU; the batches are the same."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from aimz_lab.inference.feeds import where_to_gather
from aimz_lab.inference.feeds.index_feed import IndexFeed
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.feeds.where_to_gather import room_for_rows
from tests.kernels import regression_data
from tests.runs import refit, regression_model

pytestmark = pytest.mark.allow_rank_promotion

GIB = 2**30


def gpu(gigabytes):
    stats = None if gigabytes is None else {"bytes_limit": gigabytes * GIB, "bytes_in_use": 0}
    return SimpleNamespace(platform="gpu", memory_stats=lambda: stats)


CPU = SimpleNamespace(platform="cpu", memory_stats=lambda: {"bytes_limit": 64 * GIB})


@pytest.mark.parametrize(
    ("devices", "room"),
    [
        ([gpu(8)], GIB),
        ([gpu(140)], 4 * GIB),
        ([gpu(140), gpu(16)], 2 * GIB),
        ([gpu(None)], 0),
        ([CPU], 0),
        ([gpu(8), CPU], 0),
    ],
)
def test_rows_take_at_most_an_eighth_of_a_gpu_and_stay_on_no_cpu(devices, room):
    assert room_for_rows(devices) == room


def test_rows_that_fit_are_moved_once_and_train_the_same(monkeypatch):
    X, y = regression_data(103)
    im = regression_model()
    options = {"epochs": 4, "steps_per_call": 5}
    moved = refit(im, X, y, **options).last_run
    monkeypatch.setattr(where_to_gather, "room_for_rows", lambda devices: X.nbytes + y.nbytes)
    stayed = refit(im, X, y, **options).last_run
    np.testing.assert_array_equal(stayed.losses, moved.losses)
    padded = 4 * 120  # rows of 24 steps
    assert moved.transferred_bytes == padded * (X[0].nbytes + y[0].nbytes)
    assert stayed.transferred_bytes == X.nbytes + y.nbytes + 4 * padded  # and the rows' numbers
    assert stayed.transferred_bytes < moved.transferred_bytes / 2
    monkeypatch.setattr(where_to_gather, "room_for_rows", lambda devices: X.nbytes + y.nbytes - 1)
    again = refit(im, X, y, **options).last_run
    assert again.transferred_bytes == moved.transferred_bytes


@pytest.mark.parametrize(
    ("batch_size", "steps"), [(64, 16_384), (4096, 256), (65_536, 64), (2**20, 4)]
)
def test_a_chunk_of_large_batches_on_a_device_has_many_steps(batch_size, steps):
    order = np.arange(2**20 + 1)
    feed = IndexFeed(
        {"x": np.zeros(len(order), np.int8)},
        lambda epoch: order,
        batch_size=batch_size,
        epochs=1,
        placement=Placement(),
        resident=True,
    )
    assert feed.max_steps == steps
