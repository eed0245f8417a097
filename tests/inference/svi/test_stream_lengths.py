"""Streams whose epochs are longer or shorter than ``n_obs`` says: what is told, what is planned."""

from __future__ import annotations

import itertools
import warnings

import jax
import pytest
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoDelta

from aimz_lab import ImpactModel
from aimz_lab.errors import FitWarning
from aimz_lab.inference.feeds.first_pass import FirstPass, contradiction
from aimz_lab.inference.run.events import Callback
from aimz_lab.kernel.scaling import DataSize
from tests import kernels
from tests.runs import STILL

BATCH = 10
X, Y = kernels.regression_data(60, 2, seed=3)


def batches(n_batches=6):
    return ({"X": X[i : i + BATCH], "y": Y[i : i + BATCH]} for i in range(0, BATCH * n_batches, 10))


def endless():
    while True:
        yield from batches()


@pytest.fixture(scope="module")
def im():
    svi = SVI(kernels.regression, AutoDelta(kernels.regression), STILL, Trace_ELBO())
    return ImpactModel(kernels.regression, jax.random.key(1), svi=svi)


class Plans(Callback):
    """Keeps what is planned after each step, and stops a run that is too long."""

    def __init__(self):
        self.planned = []

    def on_steps_end(self, run, steps):
        self.planned.append(run.planned_steps)
        if run.step >= 40:
            run.control.stop()


def fitted(im, data, **options):
    """The run of a stream, the plans after each step, and the warnings of its length."""
    plans = Plans()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", FitWarning)
        im.fit(data, num_samples=1, steps_per_call=1, callbacks=[plans], progress=False, **options)
    told = [str(one.message) for one in caught if "n_obs" in str(one.message)]
    return im.last_run, plans.planned, told


@pytest.mark.parametrize(
    ("size", "seen", "words"),
    [
        (DataSize(600, 60), (60, 6), ["has 60 rows", "600 rows make it", "n_obs=60.", "is right"]),
        (DataSize(40, 4), (60, 6), ["has 60 rows", "40 rows make it", "repeats, this is right"]),
        (DataSize(15, 2), (60, 6), ["20 rows make it", "n_obs=60.", "again with scale=1.5."]),
        (DataSize(61, 7), (60, 6), ["has 60 rows, but n_obs is 61", "as 70 rows", "n_obs=60."]),
        (DataSize(60, 6), (60, 18), ["weighed as 20 rows", "in 18 batches", "scale=18."]),
    ],
)
def test_an_epoch_that_contradicts_n_obs_says_what_follows_and_what_to_do(size, seen, words):
    told = contradiction(size, FirstPass(*seen, is_over=True))
    assert all(word in told for word in words), told


def test_a_kernel_that_scales_itself_is_told_the_number_too():
    over = FirstPass(60, 6, is_over=True)
    told = contradiction(DataSize(600, 60), over, by_kernel=True)
    assert "n_obs=60, the number in the kernel too." in told
    told = contradiction(DataSize(15, 2), over, by_kernel=True)
    assert "without the kernel's own scale and with scale=1.5." in told


def test_a_small_difference_and_an_epoch_under_way_say_nothing():
    assert not contradiction(DataSize(10_050, 100), FirstPass(10_000, 100, is_over=True))
    assert not contradiction(DataSize(60, 6), FirstPass(60, 6))
    assert "gone beyond n_obs=60 rows" in contradiction(DataSize(60, 6), FirstPass(70, 7))


@pytest.mark.slow
@pytest.mark.parametrize("n_obs", [600, 15])
def test_a_stream_of_another_length_is_told_of_once_and_planned_anew(im, n_obs):
    run, planned, told = fitted(im, batches, n_obs=n_obs, epochs=3)
    assert run.status == "completed"
    assert run.step == run.planned_steps == run.info.total_steps == 18
    assert planned[5:] == 13 * [18]
    assert set(planned[:5]) == ({180} if n_obs == 600 else {6, None})
    assert told[-1:] == run.notes
    assert f"has 60 rows, but n_obs is {n_obs}" in run.notes[0]
    assert sum("has 60 rows" in one for one in told) == 1


@pytest.mark.slow
def test_an_endless_stream_is_told_of_once_and_promises_no_end(im):
    run, planned, told = fitted(im, endless, n_obs=60)
    assert (run.status, run.planned_steps, run.eta_s) == ("stopped", None, None)
    assert repr(run).split("stopped, ")[1].startswith("step 40, ")
    assert planned[:5] == 5 * [6]
    assert set(planned[5:]) == {None}
    assert told == run.notes
    assert len(told) == 1


@pytest.mark.slow
def test_epochs_of_several_lengths_end_with_the_steps_that_they_had(im):
    lengths = itertools.cycle([4, 6, 3])
    run, planned, told = fitted(im, lambda: batches(next(lengths)), n_obs=40, epochs=3)
    assert (run.status, run.step, run.planned_steps, told) == ("completed", 13, 13, [])
    # Beyond the four steps of the first epoch, nobody knows how many the second has.
    assert planned == 4 * [12] + 3 * [12] + 2 * [None] + 3 * [14] + [13]


@pytest.mark.slow
def test_a_stream_of_unknown_length_has_a_plan_after_its_first_epoch(im):
    _, planned, _ = fitted(im, batches, scale="none", epochs=2)
    assert planned == 5 * [None] + 7 * [12]


@pytest.mark.slow
def test_a_list_is_planned_by_its_batches(im):
    _, planned, _ = fitted(im, list(batches()), n_obs=600, epochs=2)
    assert set(planned) == {12}
