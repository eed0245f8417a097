"""A process that trains and writes a checkpoint after each chunk, until it is killed or done."""

from __future__ import annotations

import sys

import jax
import numpy as np

from aimz_lab import ArrayDataset, ArrayLoader
from aimz_lab.lab.callbacks import ModelCheckpoint
from tests.kernels import regression_data
from tests.runs import regression_model

X, Y = regression_data(n=103)
EPOCHS = 1000


def train(way, *, folder=None, resume=None, im=None):
    """Train a model from arrays or from a loader; returns it."""
    rows = (X, Y)
    if way == "loader":
        dataset = ArrayDataset(X=X, y=Y)
        rows = (ArrayLoader(dataset, jax.random.key(5), batch_size=20, shuffle=True),)
    return (im or regression_model()).fit(
        *rows,
        batch_size=20,
        epochs=EPOCHS,
        steps_per_call=7 if folder else "auto",
        num_samples=10,
        rng_key=jax.random.key(3),
        progress=False,
        callbacks=[ModelCheckpoint(folder, every_s=0.0)] if folder else [],
        resume=resume,
    )


if __name__ == "__main__":
    way, folder, resume = sys.argv[1:]
    im = train(way, folder=folder, resume=folder if resume == "resume" else None)
    np.save(f"{folder}/losses.npy", im.vi_result.losses)
