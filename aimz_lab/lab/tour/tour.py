"""The tour: a first model on real data, from a terminal, in about a minute.

The data are the 445 men that Dehejia and Wahba (1999) took from LaLonde's experiment (1986). The
first tutorial explains the model step by step.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
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
from numpyro.infer import SVI, Trace_ELBO, init_to_mean
from numpyro.infer.autoguide import AutoMultivariateNormal

from aimz_lab.effects import summarize_effect
from aimz_lab.errors import FitWarning, OptionalDependencyError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.lab import formatting
from aimz_lab.lab.callbacks import ProgressLine
from aimz_lab.lab.tour.tutorial import check_target, live_command, notebook_path, write_html
from aimz_lab.progress import StatusLine

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
        X: Standardised covariates, shape ``(445, 10)``.
        treat: 1 for those who were in the programme, 0 for the others, shape ``(445,)``.
        y: Earnings in 1978 in thousands of dollars, shape ``(445,)``.
    """

    X: np.ndarray
    treat: np.ndarray
    y: np.ndarray


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
        from causaldata import nsw_mixtape
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


def tour(out: Path, *, epochs: int = EPOCHS) -> None:
    """Fit, ask, print the answer, and write the first tutorial; progress goes to standard error.

    Args:
        out: Where to write the tutorial as HTML.
        epochs: Passes over the data.

    Raises:
        ArgumentError: If the file cannot be written.
        AimzLabError: If the tutorial fails.
        KeyboardInterrupt: If the fit was interrupted.
        OptionalDependencyError: If a package of the ``lab`` extra is missing.
    """
    began = time.monotonic()
    check_target(out)
    notebook = notebook_path()
    experiment = load_experiment()
    print(_QUESTION, flush=True)
    im = make_model(epochs)
    with warnings.catch_warnings():
        # The line of progress reports it, and the tour ends.
        warnings.filterwarnings("ignore", ".*interrupted", FitWarning)
        im.fit(
            experiment.X,
            experiment.y,
            treat=experiment.treat,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            callbacks=[ProgressLine()],
        )
    if im.last_run.status == "interrupted":
        raise KeyboardInterrupt
    print(report(ask(im, experiment), difference_in_means(experiment)), flush=True)
    _write_tutorial(notebook, out)
    took = formatting.duration(time.monotonic() - began)
    print(_FAREWELL.format(out, live_command(notebook), took))


_QUESTION = """\
Did a job programme raise earnings?

In the National Supported Work experiment, 445 men without steady work took part
in a lottery: 185 of them got a job for about a year, 260 did not. The model
learns who earned anything in 1978, and how much those earned who did.
"""

_FAREWELL = """
Look at the tutorial, which tells the whole story, in a browser:

    {}

Open it in JupyterLab, watch its fit live, and change its model:

    {}

All that took {}.
"""


def report(answer: Answer, difference: Estimate) -> str:
    """Put the model's answer next to the experiment's, in at most 80 columns.

    Args:
        answer: The model's.
        difference: The difference in means, in thousands of dollars.
    """
    rows = [
        ("", "without", "with", "effect", f"{PROB:.0%} interval"),
        ("share who earn", *_cells(answer, "works_p", _percent)),
        ("mean earnings", *_cells(answer, "expected", _dollars)),
        ("difference in means", "", "", *_effect(difference, _dollars)),
    ]
    table = "\n".join(f"  {a:<20}{b:>9}{c:>9}{d:>10}  {e:>18}" for a, b, c, d, e in rows)
    return f"""
The programme's effect, by the model and by the experiment alone:

{table}

The model compares men of like age, schooling and earlier earnings; the
difference in means takes the two groups as the lottery made them.
"""


def _cells(answer: Answer, site: str, write: Callable[[float], str]) -> list[str]:
    without, with_it, effect = (
        Estimate(*(float(part[site].sel(summary=s)) for s in ("mean", "hdi_low", "hdi_high")))
        for part in (answer.without, answer.with_it, answer.effect)
    )
    return [write(without.mean), write(with_it.mean), *_effect(effect, write)]


def _effect(estimate: Estimate, write: Callable[[float], str]) -> tuple[str, str]:
    sign = "+" if estimate.mean > 0 else ""
    return sign + write(estimate.mean), f"{write(estimate.low)} to {write(estimate.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _dollars(thousands: float) -> str:
    return f"{'-' if thousands < 0 else ''}${1000 * abs(thousands):,.0f}"


def _write_tutorial(notebook: Path, out: Path) -> None:
    line = StatusLine()

    def show(cell: int, cells: int) -> None:
        if line.rewrite:
            line.write(f"Executing the tutorial: cell {cell} of {cells}")
        elif cell == 1:
            line.write("Executing the tutorial ...")

    write_html(notebook, out, show)
    line.close(f"The tutorial was executed and written to {out}")
