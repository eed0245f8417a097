"""Checks of numbers on a device: against closed forms, against the CPU, and against themselves.

Each check is a function of :class:`Sizes` that yields measured deviations with the most that is
right. ``gpu_check.py`` runs them on a GPU, a test runs them at tiny size on the CPU.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal

from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel
from aimz_lab.inference.checkpoint.checkpoint import next_path, save_checkpoint
from tests.kernels import regression, regression_data, regression_posterior
from tests.runs import refit

ROUNDING = 2e-5
"""Most that float32 sums in another order differ, as a share of the largest value. Products in
TF32, which a GPU may take for float32, differ by 5e-4."""

AFTER_STEPS = 1e-3
"""Most that losses differ after some steps, which make more of such a difference. A wrong row
would be seen."""

HIDDEN = 64


class Sizes(NamedTuple):
    """Sizes of the checks.

    Attributes:
        rows: Rows of the data; not a multiple of the batch.
        batch: Rows of a batch.
        steps: Steps of the fit that is compared with the closed form.
        draws: Posterior draws, and those of a chain.
        columns: Columns of the data of predictions.
    """

    rows: int = 20_011
    batch: int = 256
    steps: int = 6_000
    draws: int = 500
    columns: int = 100


TINY = Sizes(rows=307, batch=50, steps=1_000, draws=100, columns=8)


class Check(NamedTuple):
    """One deviation.

    Attributes:
        what: What was compared.
        value: The deviation.
        most: The largest that is right.
        note: What else is to be said.
    """

    what: str
    value: float
    most: float
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the deviation is small enough."""
        return bool(self.value <= self.most)


def cpu_device() -> jax.Device | None:
    """Return the CPU, or ``None`` where JAX was told to leave it out."""
    with contextlib.suppress(RuntimeError):
        return jax.local_devices(backend="cpu")[0]
    return None


def _model(kernel=regression, device=None, rate=0.01, particles=1) -> ImpactModel:
    # A short memory of squared gradients: the first ones are much larger than the last.
    optimizer = optax.adam(rate, b2=0.98)
    svi = SVI(kernel, AutoNormal(kernel), optimizer, Trace_ELBO(num_particles=particles))
    return ImpactModel(kernel, jax.random.key(0), svi=svi, device=device)


def _apart(one, other) -> float:
    """Return the largest difference as a share of the largest value."""
    one, other = (np.asarray(values, np.float64) for values in (one, other))
    return float(np.abs(one - other).max() / np.abs(other).max())


def _alike(what: str, one, other, most: float = ROUNDING) -> Check:
    same = np.array_equal(np.asarray(one), np.asarray(other))
    return Check(what, _apart(one, other), most, "bitwise" if same else "to rounding")


def posterior_of_minibatches(sizes: Sizes) -> Iterator[Check]:
    """SVI on padded minibatches, and NUTS on all rows, against the closed form."""
    X, y = regression_data(sizes.rows, 3)
    exact = regression_posterior(X, y)
    rate = optax.cosine_decay_schedule(0.05, sizes.steps, 1e-3, exponent=2)
    im = _model(rate=rate, particles=16)
    epochs = sizes.steps // -(-sizes.rows // sizes.batch)
    im.fit(X, y, batch_size=sizes.batch, epochs=epochs, num_samples=4_000, progress=False)
    draws = np.asarray(im.posterior["beta"])
    yield Check(
        "SVI: posterior mean, in its sds",
        float(np.abs((draws.mean(0) - exact.mean) / exact.sd).max()),
        0.25,
    )
    yield Check(
        "SVI: posterior sd, as a share",
        float(np.abs(draws.std(0) / exact.mean_field_sd - 1).max()),
        0.12,
    )
    mcmc = MCMC(
        NUTS(regression),
        num_warmup=sizes.draws,
        num_samples=sizes.draws,
        num_chains=4,
        chain_method="vectorized",
        progress_bar=False,
    )
    im = ImpactModel(regression, jax.random.key(0), inference=mcmc)
    im.fit_on_batch(X, y, progress=False)
    draws = np.asarray(im.posterior["beta"])
    # Standard errors of the mean and of the sd of 400 draws or more: 0.05 and 3.5%.
    yield Check(
        "NUTS: posterior mean, in its sds",
        float(np.abs((draws.mean(0) - exact.mean) / exact.sd).max()),
        0.25,
    )
    yield Check(
        "NUTS: posterior sd, as a share", float(np.abs(draws.std(0) / exact.sd - 1).max()), 0.2
    )


def network(X, y=None):
    """A neural network with one hidden layer, and Poisson counts beside it."""
    w = numpyro.sample("w", dist.Normal(0, 1).expand([X.shape[1], HIDDEN]).to_event(2))
    v = numpyro.sample("v", dist.Normal(0, 1).expand([HIDDEN]).to_event(1))
    mean = numpyro.deterministic("mean", jnp.tanh(X @ w) @ v)
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(mean, 1.0), obs=y)


def _predicted(im: ImpactModel, X, **options) -> dict[str, np.ndarray]:
    options = {"rng_key": jax.random.key(7), "store": "memory", "progress": False} | options
    tree = im.predict(X, return_sites=["mean", "y"], **options)
    return {name: tree.posterior_predictive[name].values for name in ("mean", "y")}


def _likely(im: ImpactModel, X) -> np.ndarray:
    tree = im.log_likelihood(X, X[:, 0], store="memory", progress=False)
    return tree.log_likelihood["y"].values


def predictions(sizes: Sizes) -> Iterator[Check]:
    """Predictions beside those of the CPU, and of other batch sizes."""
    rng = np.random.default_rng(1)
    rows = sizes.rows // 8
    X = rng.normal(size=(rows, sizes.columns)).astype(np.float32)
    shapes = {"beta": (sizes.columns,)}, {"w": (sizes.columns, HIDDEN), "v": (HIDDEN,)}
    for kernel, sites in zip((regression, network), shapes, strict=True):
        draws = {
            name: jnp.asarray(rng.normal(size=(sizes.draws, *shape)) / np.sqrt(shape[0]))
            for name, shape in sites.items()
        }
        im, name = _model(kernel), kernel.__name__
        im.set_posterior_sample(draws)
        here = _predicted(im, X)
        others = _predicted(im, X, batch_size=256)
        for site in ("mean", "y"):
            yield _alike(f"{name}: {site} of another batch size", others[site], here[site])
        if (cpu := cpu_device()) is None:
            yield Check(f"{name}: as on the CPU", np.nan, ROUNDING, "JAX has no CPU here")
            continue
        there = _model(kernel, cpu)
        there.set_posterior_sample(draws)
        for site, values in _predicted(there, X).items():
            yield _alike(f"{name}: {site} as on the CPU", here[site], values)
        yield _alike(f"{name}: log likelihood as on the CPU", _likely(im, X), _likely(there, X))


def padding(sizes: Sizes) -> Iterator[Check]:
    """The loss of a padded batch beside that of its rows alone."""
    X, y = regression_data(sizes.batch, 3)
    losses = []
    for n_pad in (0, 13):
        rows = np.arange(sizes.batch + n_pad).clip(max=sizes.batch - 1)
        im = _model()
        _, loss = im.train_on_batch(X[rows], y[rows], n_pad=n_pad, n_obs=10 * sizes.batch)
        losses.append(float(loss))
    yield _alike("loss of a padded batch", *losses)


def groups(X, group, n_groups, y=None):
    """A slope and an effect for each group: its gradient adds up rows of the same group."""
    slope = numpyro.sample("slope", dist.Normal(0, 1))
    effects = numpyro.sample("effects", dist.Normal(0, 1).expand([n_groups]).to_event(1))
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(slope * X + effects[group], 1.0), obs=y)


class _Saved(Callback):
    """Writes a checkpoint after each epoch, without the packages of a notebook."""

    kind = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_epoch_end(self, run, epoch):
        save_checkpoint(next_path(self._folder, run.step), run)


def runs(sizes: Sizes) -> Iterator[Check]:
    """One run cut otherwise, resumed, from rows on the device, and on the CPU."""
    rng = np.random.default_rng(2)
    n = 4 * sizes.batch + 3
    fields = {
        "X": rng.normal(size=n).astype(np.float32),
        "group": rng.integers(0, 20, n).astype(np.int32),
        "y": rng.normal(size=n).astype(np.float32),
    }

    def fit(im, data=fields, **options):
        options = {"n_groups": 20, "epochs": 6, "batch_size": sizes.batch, **options}
        inputs = (data["X"], data["y"]) if data is fields else (data, None)
        if data is fields:
            options["group"] = data["group"]
        return np.asarray(refit(im, *inputs, **options).last_run.losses)

    def loader(**options):
        return ArrayLoader(
            ArrayDataset(**fields, **options), jax.random.key(3), batch_size=sizes.batch
        )

    im = _model(groups)
    whole = fit(im)
    # A chunk that ends elsewhere runs the same steps. Sums into groups may take any order on a GPU.
    yield _alike("losses of single steps", fit(im, steps_per_call=1), whole, AFTER_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        fit(im, epochs=3, callbacks=[_Saved(Path(folder))])
        resumed = fit(im, resume=folder)
    yield _alike("losses of a run that was resumed", resumed, whole, AFTER_STEPS)
    hosted, resident = (fit(im, loader(to_jax=x), batch_size=None) for x in (False, True))
    yield _alike("losses of rows on the device", resident, hosted, AFTER_STEPS)
    if (cpu := cpu_device()) is not None:
        first = fit(_model(groups, cpu), epochs=1)[:1]
        yield _alike("loss of the first step as on the CPU", whole[:1], first)
        with jax.default_device(cpu):
            fit(im := _model(groups), epochs=1)
        used = {device for leaf in im.vi_result.params.values() for device in leaf.devices()}
        yield Check("devices other than jax.default_device", len(used - {cpu}), 0)


CHECKS: tuple[Callable[[Sizes], Iterator[Check]], ...] = (
    predictions,
    padding,
    runs,
    posterior_of_minibatches,
)
