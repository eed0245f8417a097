"""Train in several processes on shares of rows, and print what each has found."""

import json
import os
import resource
import signal
import sys
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import zarr
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, lab
from aimz_lab.cluster import own_share

N_ROWS, BATCH, EPOCHS = 203, 20, 3
UNEVEN, EMPTY, EVEN, HALVES = (
    (0, 60, N_ROWS),
    (0, 0, N_ROWS),
    (0, 102, N_ROWS),
    (0, N_ROWS // 2, N_ROWS),
)
rank, size = jax.process_index(), jax.process_count()


def linear(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)


def one_event(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    numpyro.sample("y", dist.Normal(X @ slopes, 1.0).to_event(1), obs=y)


def made():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, 3)).astype(np.float32)
    return X, (X @ [1.0, 2.0, 3.0] + rng.normal(size=N_ROWS)).astype(np.float32)


def share(cuts, of):
    """The batches of one process: rows from one cut to the next."""
    first, stop = cuts[of], cuts[of + 1]
    X, y = made()
    for start in range(first, stop, BATCH):
        rows = slice(start, min(start + BATCH, stop))
        yield {"X": X[rows], "y": y[rows]}


def model(kernel=linear):
    svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())
    return ImpactModel(kernel, jax.random.key(0), svi=svi)


def fitted(im, data, *, epochs=EPOCHS, **options):
    """What a fit of a model has found, which goes on where it is; or why it was refused."""
    try:
        im.fit(data, epochs=epochs, progress=False, **options)
    except Exception as error:  # noqa: BLE001  the test reads it
        return f"{type(error).__name__}: {error}"
    run = im.last_run
    return {
        "losses": np.asarray(im.vi_result.losses).tolist(),
        "padded": int(run.column("n_pad").sum()),
        "end": [run.status, run.reason, run.step],
        "rates": [[change.step, change.after] for change in run.rate_changes],
        "validation": [float(loss) for loss in run.validation.losses],
    }


class Asks(Callback):
    """Asks for something after an epoch, in one process alone."""

    def __init__(self, epoch, ask, of=1):
        self.epoch, self.ask, self.of = epoch, ask, of

    def on_epoch_end(self, run, epoch):
        if rank == self.of and epoch == self.epoch:
            self.ask(run)


class Stops(Callback):
    """Stops within an epoch, in one process alone."""

    def on_steps_end(self, run, steps):
        if rank == 1 and run.step == 5:
            run.control.stop()


class Resumes(Callback):
    """Ends a pause, in one process alone."""

    def on_pause(self, run):
        if rank == 0:
            run.control.resume()


def stored(folder):
    """All rows in arrays of Zarr, of which each process reads its share."""
    group = zarr.open_group(folder / f"{rank}.zarr", mode="w")
    for name, values in zip("Xy", made(), strict=True):
        group.create_array(name, data=values, chunks=(BATCH, *values.shape[1:]))
    return {name: group[name] for name in "Xy"}


def own_file(folder):
    """This process's share, in a Parquet file of its own."""
    X, y = (rows[rank::size] for rows in made())
    table = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=y)
    table.to_parquet(folder / f"{rank}.parquet")

    def of_parquet():
        read = pd.read_parquet(folder / f"{rank}.parquet")
        for start in range(0, len(read), BATCH):
            rows = read.iloc[start : start + BATCH]
            yield {"X": rows[["a", "b", "c"]], "y": rows["y"]}

    return of_parquet


def streams(folder):
    """One model trains on all that is allowed, so that its steps compile once."""
    im = model()

    def uneven():
        return share(UNEVEN, rank)

    def empty():
        return share(EMPTY, rank)

    def narrow():
        return ({"X": one["X"][:, : 3 - rank], "y": one["y"]} for one in uneven())

    saved = lab.ModelCheckpoint(folder / "stream")
    return {
        "uneven": fitted(im, uneven, n_obs=N_ROWS),
        "empty": fitted(im, empty, n_obs=N_ROWS),
        "counted": fitted(im, list(uneven())),
        "once": fitted(im, share(EVEN, rank), epochs=1, n_obs=N_ROWS),
        "zarr": fitted(im, own_share(stored(folder), batch_size=BATCH)),
        "parquet": fitted(im, own_file(folder), n_obs=N_ROWS),
        "cut": fitted(im, uneven, n_obs=N_ROWS, steps_per_call=1, callbacks=[Stops(), saved]),
        "resumed": fitted(im, uneven, n_obs=N_ROWS, resume=folder / "stream"),
        "unknown": fitted(im, uneven),
        "other n_obs": fitted(im, uneven, n_obs=N_ROWS + rank),
        "other fields": fitted(model(), narrow, n_obs=N_ROWS),
        "one event": fitted(model(one_event), uneven, n_obs=N_ROWS),
        "nothing": fitted(im, lambda: iter(()), n_obs=N_ROWS),
    }


def steering(folder):
    """What is asked of one process alone, and at last what all hear of one that fails."""
    im = model()
    X, y = made()

    def fit(*callbacks, seen=y, **options):
        dataset = ArrayDataset(X=X, y=seen)
        loader = ArrayLoader(dataset, jax.random.key(1), batch_size=40, process_shard=True)
        options = {"validation": (X[:50], y[:50]), "epochs": 5} | options
        return fitted(im, loader, callbacks=callbacks, **options)

    def interrupt(run):
        os.kill(os.getpid(), signal.SIGINT)

    def interrupt_launcher(run):
        os.kill(int(os.environ["AIMZ_LAB_LAUNCHER"]), signal.SIGINT)

    def full(run):
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    return {
        "whole": fit(),
        "interrupted": fit(Asks(2, interrupt), on_interrupt="continue"),
        "ctrl-c": fit(Asks(2, interrupt_launcher), on_interrupt="continue", epochs=10**6),
        "stopped": fit(Asks(2, lambda run: run.control.stop("seen enough"))),
        "rate": fit(Asks(2, lambda run: run.control.set_learning_rate(0.5))),
        "paused": fit(Asks(2, lambda run: run.control.pause()), Resumes()),
        "early": fit(lab.EarlyStopping("validation", patience=1, min_delta=1e9)),
        "other rows": fit(seen=y + rank),
        "full": fit(Asks(2, full, of=0), lab.ModelCheckpoint(folder / "runs", every_epochs=1)),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print("RESULT", json.dumps({**streams(folder), **steering(folder)}))
