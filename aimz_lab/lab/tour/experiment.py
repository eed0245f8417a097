"""A job-training experiment, and a model of what people earned.

The data are the 445 men that Dehejia and Wahba (1999) took from LaLonde's experiment (1986). The
first tutorial explains the model step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
import xarray as xr
from jax import random
from jaxtyping import Float
from numpyro.infer import SVI, Trace_ELBO, init_to_mean
from numpyro.infer.autoguide import AutoMultivariateNormal

from aimz_lab.effects import summarize_effect
from aimz_lab.errors import OptionalDependencyError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.system.imports import late_import

PROB = 0.95
"""Share of the draws, or of repeated experiments, that an interval holds."""

N_PEOPLE = 445
BATCH_SIZE = 89
"""A fifth of the people, so that every batch is full."""

EPOCHS = 6_000


@dataclass(frozen=True)
class Experiment:
    """The data of the programme.

    Attributes:
        X: Standardised covariates.
        treat: 1 for those who were in the programme, 0 for the others.
        y: Earnings in 1978 in thousands of dollars.
    """

    X: Float[np.ndarray, "person covariate"]
    treat: Float[np.ndarray, " person"]
    y: Float[np.ndarray, " person"]


@dataclass(frozen=True)
class Estimate:
    """A quantity and the ends of its interval, in one unit."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """The model's averages over all people, in thousands of dollars and shares.

    Attributes:
        without: Summary of ``works_p`` and ``expected`` if nobody were in the programme.
        with_it: The same if everybody were.
        effect: The same of the difference, draw by draw.
    """

    without: xr.Dataset
    with_it: xr.Dataset
    effect: xr.Dataset


def load_experiment() -> Experiment:
    """Load the experiment from the ``causaldata`` package.

    Raises:
        OptionalDependencyError: If the package is missing.
    """
    try:
        nsw_mixtape = late_import("causaldata").nsw_mixtape
    except ImportError as error:
        msg = "The tour's data come with causaldata: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg) from error
    people = nsw_mixtape.load_pandas().data
    return Experiment(
        X=_covariates(people),
        treat=people["treat"].to_numpy(np.float32),
        y=people["re78"].to_numpy(np.float32) / 1000,
    )


def _covariates(people: pd.DataFrame) -> np.ndarray:
    """Covariates before the programme; earnings as logarithms, with a column for none."""
    before = people[["age", "educ", "black", "hisp", "marr", "nodegree"]].assign(
        pay_74=np.log1p(people["re74"] / 1000),
        pay_75=np.log1p(people["re75"] / 1000),
        no_pay_74=people["re74"] == 0,
        no_pay_75=people["re75"] == 0,
    )
    before = before.astype(float)
    return ((before - before.mean()) / before.std()).to_numpy(np.float32)


def earnings(X: jax.Array, treat: jax.Array, y: jax.Array | None = None) -> None:
    """Model whether people earn at all, and how much those earn who do.

    Args:
        X: Standardised covariates, shape ``(n, k)``.
        treat: 1 for those who were in the programme, 0 for the others, shape ``(n,)``.
        y: Earnings in thousands of dollars, shape ``(n,)``.
    """
    k = X.shape[1]
    work_base = numpyro.sample("work_base", dist.Normal(0.0, 1.5))
    work_effect = numpyro.sample("work_effect", dist.Normal(0.0, 1.0))
    work_slopes = numpyro.sample("work_slopes", dist.Normal(0.0, 0.5).expand([k]).to_event(1))
    pay_base = numpyro.sample("pay_base", dist.Normal(2.0, 1.0))
    pay_effect = numpyro.sample("pay_effect", dist.Normal(0.0, 1.0))
    pay_slopes = numpyro.sample("pay_slopes", dist.Normal(0.0, 0.5).expand([k]).to_event(1))
    shape = numpyro.sample("shape", dist.LogNormal(0.0, 0.5))

    side = treat - 0.5
    log_odds = work_base + work_effect * side + X @ work_slopes
    pay = jnp.exp(pay_base + pay_effect * side + X @ pay_slopes)
    works_p = jax.nn.sigmoid(log_odds)
    with numpyro.plate("person", X.shape[0]):
        has_pay = None if y is None else (y > 0).astype(int)
        works = numpyro.sample("works", dist.Bernoulli(logits=log_odds), obs=has_pay)
        # y is the pay of those who work; the mask leaves the others out.
        amount = numpyro.sample("y", dist.Gamma(shape, shape / pay).mask(works > 0), obs=y)
        numpyro.deterministic("works_p", works_p)
        numpyro.deterministic("expected", works_p * pay)
        numpyro.deterministic("earned", works * amount)


def make_model(epochs: int = EPOCHS) -> ImpactModel:
    """Make the untrained model, with a learning rate that falls to zero over its training.

    The guide is one normal distribution of all parameters. With a normal for each parameter alone,
    the intervals of correlated parameters would be too narrow.

    Args:
        epochs: Passes over the data that it will be trained for.
    """
    rate = optax.cosine_decay_schedule(0.01, decay_steps=epochs * (N_PEOPLE // BATCH_SIZE))
    guide = AutoMultivariateNormal(earnings, init_loc_fn=init_to_mean)
    svi = SVI(earnings, guide, numpyro.optim.Adam(rate), Trace_ELBO())
    return ImpactModel(earnings, rng_key=random.key(1978), svi=svi)


def ask(im: ImpactModel, experiment: Experiment) -> Answer:
    """Predict all people without the programme and with it, from the same draws, and compare.

    Args:
        im: The fitted model.
        experiment: The data, of which only the covariates are used.
    """
    without, with_it = (
        im.predict(
            experiment.X,
            treat=np.full_like(experiment.treat, side),
            return_sites=["works_p", "expected"],
            rng_key=random.key(0),
            progress=False,
        )
        for side in (0, 1)
    )
    effect = im.estimate_effect(without, with_it)
    return Answer(*(_average(tree) for tree in (without, with_it, effect)))


def _average(tree: xr.DataTree) -> xr.Dataset:
    people = tree["posterior_predictive"].to_dataset()
    people.attrs.setdefault("contrast", "average")  # of a prediction
    return summarize_effect(people.mean("person"), prob=PROB)


def difference_in_means(experiment: Experiment) -> Estimate:
    """Estimate the effect by the experiment alone: mean in the programme minus mean of the others.

    Args:
        experiment: The data.

    Returns:
        The difference in thousands of dollars, with Welch's standard error and normal quantiles.
    """
    others, trained = (experiment.y[experiment.treat == side].astype(np.float64) for side in (0, 1))
    difference = trained.mean() - others.mean()
    error = np.sqrt(sum(group.var(ddof=1) / len(group) for group in (others, trained)))
    half = NormalDist().inv_cdf(0.5 + PROB / 2) * error
    return Estimate(float(difference), float(difference - half), float(difference + half))
