"""The loss of a run: one number everywhere, per row, with the total beside it."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.inference.run.loss_words import loss_per_row, loss_words, with_total
from tests.lab.runs import begun, feed


def run_with(losses, **info):
    run = begun(**{"n_obs": 10, **info})
    if len(losses):
        feed(run, losses)
    return run


def test_the_loss_is_the_mean_of_the_last_steps_per_row():
    losses = np.random.default_rng(0).normal(100.0, 5.0, 500)
    losses[490] = np.nan
    run = run_with(losses, steps_per_epoch=4)
    of_these = np.float32(losses[500 - 60 :])  # an eighth, in whole epochs
    assert loss_per_row(run) == pytest.approx(np.nanmean(of_these) / 10, rel=1e-6)
    before = loss_per_row(run)
    feed(run, [1.0] * 500)
    assert loss_per_row(run, 500) == before


@pytest.mark.parametrize(
    ("losses", "info", "words", "both"),
    [
        ([30.0], {}, "3 per row", "3 per row, 30 for all 10 rows"),
        ([30.0], {"n_obs": None}, "30", "30"),
        ([np.nan], {}, "not finite", "not finite"),
        ([], {}, "", ""),
        ([30.0], {"is_sampling": True}, "", ""),
    ],
)
def test_the_loss_has_the_total_beside_it(losses, info, words, both):
    run = run_with(losses, **info)
    assert (loss_words(run), with_total(run)) == (words, both)
