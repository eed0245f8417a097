"""The evidence lower bound of rows that a guide was not trained on."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from numpyro.infer import SVI

from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.trust.examined_model import Examined, likelihood_or_why_not
from aimz_lab.trust.rows_to_examine import examined_rows


class HeldOutElbo(NamedTuple):
    """The evidence lower bound per held-out row.

    Attributes:
        per_row: In nats; NaN where it is not known.
        se: Its standard error by the draws of the guide; other draws differ by about as much.
        why_not: Why it is not known.
    """

    per_row: float
    se: float = np.nan
    why_not: str = ""


def held_out_elbo(
    model: Examined, n_obs: int | None, key: jax.Array, num_draws: int
) -> HeldOutElbo:
    """Estimate the lower bound from draws of the guide, as ``fit(validation=...)`` means it.

    It is the mean log-likelihood of a row less the divergence of guide and prior, of which each of
    the ``n_obs`` trained rows bears its part. The held-out loss per row estimates its negative from
    fewer draws: those of the loss, usually one for each 4,096 rows.

    Args:
        model: The model, with a request for the held-out rows; no factor adds to their density.
        n_obs: Rows of the training.
        key: A typed random key.
        num_draws: Draws of the guide.
    """
    if not isinstance(model.inference, SVI):
        return HeldOutElbo(np.nan, why_not="chains have no lower bound")
    if n_obs is None:
        return HeldOutElbo(np.nan, why_not="the number of trained rows is not known: set im.n_obs")
    posterior = model.fitted.posterior
    request = model.request(posterior, "log_likelihood", None)
    rows = examined_rows(request, None, model.signature.output)
    guide = model.guide(rows, key=key, num_draws=num_draws, row_dependence="auto")
    if guide is None or guide.drawn is None or guide.n_row_latents:
        why = guide.findings[-1].text if guide is not None and guide.findings else "no guide"
        return HeldOutElbo(np.nan, why_not=why)
    if not guide.has_all_of(posterior):
        return HeldOutElbo(
            np.nan, why_not="the posterior has draws of sites that the guide has not"
        )
    drawn = Posterior(guide.drawn.draws)
    likelihood, why_not = likelihood_or_why_not(model, drawn, rows.n_rows)
    if likelihood is None:
        return HeldOutElbo(np.nan, why_not=why_not)
    if others := _beside_output(model.spec):
        why = f"the kernel has {others} beside its output, whose rows are not told apart"
        return HeldOutElbo(np.nan, why_not=why)
    total = likelihood.total
    of_prior = guide.drawn.log_ratios - (0.0 if guide.needs_likelihood else total)
    by_draw = total / rows.n_rows + of_prior / n_obs
    se = by_draw.std(ddof=1) / np.sqrt(len(by_draw)) if len(by_draw) > 1 else np.nan
    return HeldOutElbo(float(by_draw.mean()), float(se))


def _beside_output(spec: KernelSpec) -> str:
    """Return the further sites whose density the rows add to, as a phrase; empty for none."""
    names = spec.other_outcomes
    return f"the site{'s' * (len(names) > 1)} {', '.join(map(repr, names))}" if names else ""
