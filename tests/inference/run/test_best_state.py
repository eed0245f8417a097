"""Windows of losses, and the best state of a run."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.inference.run.best_state import MonitorWindows, offer_best
from aimz_lab.inference.run.smoothing import window_steps
from tests.runs import tell, told_run


def test_windows_do_not_depend_on_the_chunks():
    losses = np.arange(1000.0)
    seen = []
    for chunk in (1, 7, 64, 1000):
        run, readings = told_run(n_obs=4), MonitorWindows("loss", 30)
        readings.begin(run)
        read = []
        for start in range(0, 1000, chunk):
            tell([], losses[start : start + chunk], run, chunk=chunk)
            read.extend(readings.new(run))
        seen.append(np.array(read))
    assert seen[0].shape == (33, 30)
    np.testing.assert_array_equal(seen[0].ravel(), losses[:990] / 4)
    for other in seen[1:]:
        np.testing.assert_array_equal(seen[0], other)


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 63, 64, 65, 256])
def test_windows_are_whole_epochs(steps_per_epoch):
    window = window_steps(steps_per_epoch)
    assert window % steps_per_epoch == 0
    assert 64 <= window < 64 + steps_per_epoch


def test_the_best_state_is_the_one_of_the_lowest_value():
    run = told_run()
    for value in (3.0, 1.0, np.nan, 2.0):
        tell([], [value], run)
        offer_best(run, "loss", value)
    best = run.best["loss"]
    assert (best.value, best.step, best.state.after) == (1.0, 2, 2)
    assert not offer_best(run, "loss", 5.0)
    assert offer_best(run, "validation", 9.0)
