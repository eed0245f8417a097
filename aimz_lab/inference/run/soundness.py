"""Tell a sound state of a run from one that a step has wrecked, by losses."""

from __future__ import annotations

import numpy as np

from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.smoothing import following_steps

_NEAR = 64
"""Steps before a state whose losses tell of its noise."""


def has_learned(run: Run) -> bool:
    """Whether the best state of a run is as good as the first one, but for the noise of its loss.

    Args:
        run: The run; a resumed one has its history.
    """
    best = run.best_so_far
    return best is not None and best.state is not None and is_sound(run, best.value, best.step)


def is_sound(run: Run, loss: float | None, step: int) -> bool:
    """Whether the loss of a state is not above the first one of its run by more than noise.

    Args:
        run: The run.
        loss: Loss per row of the state; ``None`` if it is not finite.
        step: The step of the state, from 1.
    """
    losses = run.losses_per_row[:step]
    finite = np.isfinite(losses)
    if loss is None or not finite.any():
        return False
    first, near = float(losses[finite.argmax()]), losses[-_NEAR:][finite[-_NEAR:]]
    noise = 4 * float(np.std(near, dtype=np.float64)) if len(near) else 0.0
    # The losses of a wrecked state vary a lot.
    return loss <= first + min(noise, abs(first) + 1)


def state_is_sound(run: Run, step: int) -> bool:
    """Whether the state after a step is sound, by its own loss: that of the next step.

    Steps that were skipped have none, and the one after them is looked at. As long as no loss of it
    is known, as of the last state of a run that goes on, it does not count as sound.

    Args:
        run: The run.
        step: The step, from 1.
    """
    after = run.losses_per_row[step : step + following_steps(run.info.steps_per_epoch)]
    if run.losses_after is not None:
        after = np.append(after, run.losses_after / (run.info.n_obs or 1))
    finite = after[np.isfinite(after)]
    return is_sound(run, float(finite[0]) if len(finite) else None, step)
