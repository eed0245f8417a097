"""Data with published effects: LaLonde's experiment, survey controls, people who quit smoking."""

from __future__ import annotations

import jax
import numpyro
import numpyro.distributions as dist
import optax
import pandas as pd
from numpyro.infer import SVI, Trace_ELBO, init_to_median
from numpyro.infer.autoguide import AutoLaplaceApproximation

from aimz_lab import ImpactModel, TableSpec

PEOPLE = "scale(age) + scale(educ) + black + hisp + marr + nodegree + scale(re74)"
"""Covariates of Dehejia and Wahba (1999), but the earnings of 1975."""

_CURVED = {"age": 45, "wt71": 70, "smokeintensity": 20, "smokeyrs": 25}
SMOKERS = "1 + qsmk + qsmk:scale(smokeintensity) + sex + race" + "".join(
    # Squares of centred values hardly correlate with the values, so that training is quick.
    f" + scale({name}) + scale(({name} - {center})**2)"
    for name, center in _CURVED.items()
)
SMOKERS += " + C(education) + C(exercise) + C(active)"
"""The outcome model of Hernan and Robins, "Causal Inference: What If", program 13.1."""


def experiment():
    """LaLonde (1986), the sample of Dehejia and Wahba (1999); earnings in thousands of dollars."""
    from causaldata import nsw_mixtape

    return _earnings(nsw_mixtape)


def with_survey_controls():
    """The treated of the experiment beside people of a survey (CPS) in place of its controls."""
    from causaldata import cps_mixtape

    people = experiment()
    return pd.concat([people[people.treat == 1], _earnings(cps_mixtape)], ignore_index=True)


def smokers():
    """NHEFS: smokers in 1971, whether they quit, and the weight they gained by 1982, in kg."""
    from causaldata import nhefs_complete

    frame = nhefs_complete.load_pandas().data
    columns = ["qsmk", "sex", "race", "age", "wt71", "smokeintensity", "smokeyrs", "wt82_71"]
    groups = ["education", "exercise", "active"]
    return pd.concat([frame[columns].astype(float), frame[groups].astype(str)], axis=1)


def _earnings(module):
    frame = module.load_pandas().data.drop(columns="data_id").astype(float)
    return frame.assign(**{name: frame[name] / 1000 for name in ("re74", "re75", "re78")})


def linear(X, y=None):
    """A linear regression whose priors hardly matter."""
    b = numpyro.sample("b", dist.Normal(0, 100).expand([X.shape[1]]).to_event(1))
    sd = numpyro.sample("sd", dist.HalfNormal(100))
    with numpyro.plate("row", X.shape[0]):
        mean = numpyro.deterministic("mean", X @ b)
        numpyro.sample("y", dist.Normal(mean, sd), obs=y)


def linear_model(formula, outcome, num_steps=1500):
    """A regression of a table; fits of ``num_steps`` begin with the same learning rate."""

    def rate(step):
        return 0.5 * 0.5 ** ((step % num_steps) / num_steps * 8)

    guide = AutoLaplaceApproximation(linear, init_loc_fn=init_to_median)
    svi = SVI(linear, guide, optax.adam(rate, b2=0.98), Trace_ELBO())
    table = TableSpec(X=formula, y=outcome)
    return ImpactModel(linear, jax.random.key(0), svi=svi, table=table)


def sides(frame, treatment):
    """Arguments of ``estimate_effect``: all rows without the treatment, and with it."""
    levels = {"baseline": 0.0, "intervention": 1.0}
    return {
        f"args_{side}": {"X": frame.assign(**{treatment: level}), "return_sites": ["mean"]}
        for side, level in levels.items()
    }
