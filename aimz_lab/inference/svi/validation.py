"""Evaluate the held-out loss, with the same data and noise each time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import numpy as np
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical, pad_rows
from aimz_lab.errors import DataError, GuideError
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.svi.compiled_steps import StepEngine
from aimz_lab.inference.svi.plan import TrainingPlan, values_by_position
from aimz_lab.inference.svi.step import Batch
from aimz_lab.kernel.scaling import DataSize
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Rows, Shared

_VALIDATION_ROWS = 4096
"""Rows evaluated at a time, if a step takes no more."""


@dataclass(frozen=True)
class HeldOut:
    """Data to validate on.

    Attributes:
        rows: Arrays by kernel argument, output included.
        every: Epochs between two evaluations.
        is_whole: Whether all rows are evaluated at once: nothing shows that they may be cut.
    """

    rows: Rows
    every: int = 1
    is_whole: bool = False

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return next(iter(self.rows.values())).shape[0]

    def block_rows(self, data: TrainingData) -> int:
        """Rows that are evaluated at a time, beside this training data."""
        at_once = self.n_rows if self.is_whole else max(_VALIDATION_ROWS, data.batch_size)
        return min(self.n_rows, at_once)


def check_held_out(svi: SVI, spec: KernelSpec, data: TrainingData, held_out: HeldOut) -> None:
    """Refuse held-out rows that are not like the training's, or that the guide has no values for.

    Raises:
        DataError: If the rows of a field have more or fewer axes than in training: a column
            broadcasts against a vector, and the loss would be that of all pairs of rows.
        GuideError: If it keeps one value per row, and these are other rows than the training's.
    """
    for name, array in held_out.rows.items():
        if name in data.rows and array.ndim != data.rows[name].ndim:
            msg = (
                f"validation= takes rows like those that are trained on; {name!r} has rows of "
                f"shape {array.shape[1:]} here and of {data.rows[name].shape[1:]} in training."
            )
            raise DataError(msg)
    if data.is_minibatch:
        return
    kept = values_by_position(svi, spec, data)
    if not kept:
        return
    what = (
        f"The model keeps one value per row for {', '.join(map(repr, kept))}: those of the "
        f"{data.batch_size} rows that it trains on, and none for"
    )
    advice = (
        "Leave validation= out, or write a guide that computes them from the row (an amortised "
        "guide)."
    )
    if held_out.n_rows != data.batch_size:
        raise GuideError(f"{what} the {held_out.n_rows} held-out rows. {advice}")
    if not _are_observed_again(held_out.rows, data, spec.output):
        # Each would be judged with the value of the training row at its position.
        msg = (
            f"{what} the held-out rows, which are others. {advice} If they are the same rows, "
            "observed again, add an argument that tells the rows apart, such as their number."
        )
        raise GuideError(msg)


def _are_observed_again(held_out: Rows, data: TrainingData, output: str) -> bool:
    """Whether held-out rows have the inputs of the training rows, or some that tell them apart."""
    trained = TrainingFingerprint.of(data.rows, output, by_column=True)
    if trained is None:  # too large for checksums
        inputs = {name: canonical(rows, name) for name, rows in held_out.items() if name != output}
        return all(np.array_equal(rows, data.rows[name]) for name, rows in inputs.items())
    return trained.is_of(held_out, output) or trained.is_of_changed(held_out)


def held_out_loss(
    engine: StepEngine,
    plan: TrainingPlan,
    held_out: HeldOut,
    shared: Shared,
    data: TrainingData,
    key: jax.Array,
    state: SVIState,
) -> Callable[[SVIState], float]:
    """The held-out loss in nats per row, comparable with the training loss per row.

    Each block is scaled to all ``n_obs`` rows, so that the prior weighs as in training. The result
    is the mean of the blocks' losses, weighted by rows. The noise is the same each time.

    Raises:
        DataError: If it cannot be computed at ``state``, where training begins.
    """
    rows = {name: canonical(array, name) for name, array in held_out.rows.items()}
    n_rows = held_out.n_rows
    n_obs = data.n_obs or n_rows
    size = held_out.block_rows(data)
    blocks = []
    for start in range(0, n_rows, size):
        block = {name: array[start : start + size] for name, array in rows.items()}
        valid = next(iter(block.values())).shape[0]
        if plan.step.padded:
            multiple = -(-size // plan.placement.row_multiple) * plan.placement.row_multiple
            block, _ = pad_rows(block, multiple)
        blocks.append(Batch(plan.placement.put_rows(block), valid, shared, DataSize(n_obs)))
    put = plan.placement.put_everywhere
    noise, at_first = put(jax.random.fold_in(key, 1)), put(state)
    with _refusing(data.rows, rows):
        for block in {block.valid: block for block in blocks}.values():
            engine.compile_loss(at_first, noise, block)

    def loss(state: SVIState) -> float:
        placed = put(state)
        losses = [engine.loss(placed, noise, block) for block in blocks]
        weights = [block.valid for block in blocks]
        found = jax.device_get(plan.placement.team.wait(losses))
        return float(np.average(found, weights=weights)) / n_obs

    return loss


@contextlib.contextmanager
def _refusing(trained: Rows, held_out: Rows) -> Iterator[None]:
    """Turn errors of kernel and guide into one that says how the rows differ."""
    try:
        yield
    except Exception as error:
        others = [
            f"{name!r} has rows of shape {array.shape[1:]} here and of "
            f"{trained[name].shape[1:]} in training"
            for name, array in held_out.items()
            if name in trained and array.shape[1:] != trained[name].shape[1:]
        ]
        what = str(error).partition("\n")[0]
        msg = (
            f"The loss of the held-out rows cannot be computed: {type(error).__name__}: {what}. "
            "validation= takes rows like those that are trained on"
            f"{'; ' + ', '.join(others) if others else ''}."
        )
        raise DataError(msg) from error
