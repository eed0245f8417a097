"""Draw from the guide of a model anew, with the densities that its diagnostics need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
from jaxtyping import Float
from numpyro.infer import SVI

from aimz_lab.errors import AimzLabError
from aimz_lab.inference.autoguides import autoguides_in, follows_density, takes_curvature
from aimz_lab.inference.feeds.kernel_structure import trace_data
from aimz_lab.inference.feeds.placement import Placement
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import Learner, SampleRequest, StepOptions
from aimz_lab.inference.svi.plan import plan_training, values_by_position
from aimz_lab.inference.svi.rows_check import RowsCheck
from aimz_lab.inference.trained import Trained
from aimz_lab.kernel.arguments import UNKNOWN_ROLES
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.log_ratios import GuideDensity, GuideDraws
from aimz_lab.trust.posterior_checks import differs
from aimz_lab.trust.report import Finding
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.types import Params, RowDependence


@dataclass(frozen=True)
class GuideExamination:
    """What draws from the guide say, or why there are none.

    Attributes:
        drawn: The draws and their densities, or ``None``.
        findings: What was found on the way.
        n_row_latents: Values of latent sites with one entry per row.
        needs_likelihood: Whether ``drawn.log_p`` lacks the likelihood of the rows, as discrete
            latent sites have to be summed out of it.
        sites: Names of the kernel's sites.
    """

    drawn: GuideDraws | None
    findings: tuple[Finding, ...] = ()
    n_row_latents: int = 0
    needs_likelihood: bool = False
    sites: frozenset[str] = frozenset()

    def has_all_of(self, posterior: Posterior) -> bool:
        """Whether there are draws of all sites of the kernel that the posterior has."""
        wanted = self.sites.intersection(posterior.draws)
        return self.drawn is not None and wanted <= set(self.drawn.draws)

    def with_likelihood(self, total: Float[np.ndarray, " draw"] | None) -> GuideExamination:
        """Add the likelihood of all rows; without it, there is no density."""
        if total is None:
            return replace(self, drawn=None, findings=(*self.findings, _unknown(_DISCRETE)))
        drawn = replace(self.drawn, log_p=self.drawn.log_p + total)
        return replace(self, drawn=drawn, needs_likelihood=False)


_RESTART = "Start anew, with a lower learning rate or scaled inputs."
_ANEW = "Draw anew: im.set_posterior_sample(im.sample(return_datatree=False))."
GIVEN = "If they are of chains, say of how many: im.set_posterior_sample(draws, num_chains=4)."
_DISCRETE_BESIDE = "it has discrete latent sites, and outcomes beside its output"
_DISCRETE = "its discrete latent sites cannot be summed out row by row"


def _unknown(why: str, advice: str = "") -> Finding:
    text = f"k-hat of the guide is not known: {why}"
    return Finding("k-hat", "amber", text, advice)


def examine_guide(
    signature: KernelSignature,
    svi: SVI,
    learner: Learner,
    trained: Trained,
    rows: ExaminedRows,
    labelled: Callable[[Posterior], xr.DataTree],
    *,
    key: jax.Array,
    num_draws: int,
    row_dependence: RowDependence,
) -> GuideExamination | None:
    """Draw from the guide, and sum the densities over all rows.

    Args:
        signature: The kernel.
        svi: Its inference object.
        learner: Its learner.
        trained: What the model has learned.
        rows: The rows of the training.
        labelled: Returns draws as a labelled tree.
        key: A typed random key.
        num_draws: Number of draws.
        row_dependence: ``"independent"`` if the user says that rows may be cut.

    Returns:
        The draws; ``None`` if the model was never trained, so that it has no guide to speak of.
    """
    params = dict(getattr(trained.vi_result, "params", None) or learner.params(trained.state))
    if not params and trained.state is None:
        return None
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        text = "the guide's parameters are not finite: there is no guide to draw from"
        return GuideExamination(None, (Finding("k-hat", "red", text, _RESTART),))
    if follows_density(svi.guide):
        why = "the guide draws by chains of its own (AutoDAIS), which have no density to compare"
        return GuideExamination(None, (_unknown(why, "Compare with diagnose of an MCMC model."),))
    if takes_curvature(svi.guide) and rows.source is not None:
        why = "its curvature takes all rows at once, which a stream does not have"
        return GuideExamination(None, (_unknown(why, "Pass arrays, or an ArrayLoader."),))
    params |= (trained.state.mutable_state if trained.state else None) or {}
    try:
        _set_up(svi, learner, trained, rows)
        spec = trace_data(signature, rows.data)
        rows = _blocks(signature, svi, spec, rows, row_dependence)
        drawn = _draw(signature, svi, spec, rows, params, key, num_draws)
    except AimzLabError as error:
        return GuideExamination(None, (_unknown(str(error).rstrip(".")),))
    except ValueError as error:  # NumPyro's, of parameters that make no distribution
        text = f"the guide cannot be drawn from: {str(error).rstrip('.')}"
        return GuideExamination(None, (Finding("k-hat", "red", text, _RESTART),))
    return _judged(drawn, spec, rows, trained, labelled)


def _judged(
    drawn: GuideDraws,
    spec: KernelSpec,
    rows: ExaminedRows,
    trained: Trained,
    labelled: Callable[[Posterior], xr.DataTree],
) -> GuideExamination:
    latents = [spec.sites[name] for name in spec.latent_sites if spec.sites[name].row_axes]
    by_row = sum(
        int(np.prod(spec.shape_at(one.name, rows.n_rows))) for one in latents if not one.is_discrete
    )
    discrete = any(spec.sites[name].is_discrete for name in spec.latent_sites)
    if discrete and spec.other_outcomes:
        return GuideExamination(None, (_unknown(_DISCRETE_BESIDE),))
    if drawn.is_point:
        text = "the guide is a point: it says nothing of how uncertain its values are"
        advice = "Train AutoNormal or AutoMultivariateNormal for a posterior."
        return GuideExamination(None, (Finding("k-hat", "amber", text, advice),))
    if not np.isfinite(drawn.log_q).any():
        text = "the guide cannot be drawn from: its density is finite at none of its own draws"
        return GuideExamination(None, (Finding("k-hat", "red", text, _RESTART),))
    posterior = trained.posterior
    shared = [name for name in posterior.draws if name in drawn.draws] if posterior else []
    if shared:
        theirs = Posterior({name: posterior.draws[name] for name in shared})
        ours = Posterior({name: drawn.draws[name] for name in shared})
        other = differs(labelled(theirs), labelled(ours))
        if other is not None:
            if posterior.num_chains > 1:
                text = "the draws are those of chains, and are judged as such"
                return GuideExamination(None, (Finding("k-hat", "unjudged", text),))
            is_given, since = trained.fitted.is_given, trained.fitted.since
            origin = "set by hand" if is_given else "drawn before more training"
            origin += f" before {since}" if is_given and since else ""
            why = f"the posterior's draws of {other} are not the guide's ({origin})"
            advice = GIVEN if is_given and not since else _ANEW
            return GuideExamination(None, (_unknown(why, advice),))
    return GuideExamination(
        drawn, (), by_row, needs_likelihood=discrete, sites=frozenset(spec.sites)
    )


def _set_up(svi: SVI, learner: Learner, trained: Trained, rows: ExaminedRows) -> None:
    """Set up a guide that has not seen this data, as it would be to draw from it."""
    guides = autoguides_in(svi.guide)
    if not takes_curvature(svi.guide) and all(one.prototype_trace is not None for one in guides):
        return
    data = rows.data
    learner.sample(
        SampleRequest(
            num_samples=1,
            key=jax.random.key(0),
            arguments={**data.rows, **data.shared, **data.static},
            roles=UNKNOWN_ROLES.after_training(data.rows, data.shared),
            spec=trained.spec,
            state=trained.state,
            params=getattr(trained.vi_result, "params", None) or {},
            posterior=trained.posterior,
            fingerprint=None,
        )
    )


def rows_finding(
    signature: KernelSignature,
    svi: SVI,
    rows: ExaminedRows,
    batch_size: int,
    *,
    has_table: bool,
) -> Finding | None:
    """Judge whether the batches of the last run could stand for all rows.

    Args:
        signature: The kernel.
        svi: Its inference object.
        rows: The rows of the training.
        batch_size: Rows of a batch of that run.
        has_table: Whether a table alone is the data.

    Returns:
        What was found; ``None`` for a stream, which cannot be tested.
    """
    if rows.source is not None or batch_size >= rows.n_rows:
        return None
    data = replace(rows.data, batch_size=batch_size)
    try:
        crossing = RowsCheck(signature, svi).crossing(trace_data(signature, data), data)
    except AimzLabError as error:
        return Finding("rows", "unjudged", f"whether rows may be cut is not known: {error}")
    if crossing is None:
        text = f"rows are independent: batches of {batch_size:,} can stand for all {rows.n_rows:,}"
        return Finding("rows", "green", text)
    level = "red" if crossing.is_tested else "amber"
    text = crossing.finding.rstrip(".")
    text = f"{text[0].lower()}{text[1:]} It was trained on batches of {batch_size:,}"
    data = "table" if has_table else f"{signature.input}, {signature.output}"
    return Finding("rows", level, text, f"Train on all rows at once: im.fit_on_batch({data}).")


def _blocks(
    signature: KernelSignature,
    svi: SVI,
    spec: KernelSpec,
    rows: ExaminedRows,
    row_dependence: RowDependence,
) -> ExaminedRows:
    """Take all rows as one block where they may not be cut."""
    if rows.is_whole:
        return rows
    crossing = None
    if row_dependence == "auto":
        crossing = RowsCheck(signature, svi).crossing(spec, rows.data)
    kept = values_by_position(svi, spec, rows.data)
    if crossing is None and not kept:
        return rows
    if rows.source is not None and crossing is not None:
        raise crossing.error()
    return replace(rows, data=replace(rows.data, batch_size=rows.n_rows))


def _draw(
    signature: KernelSignature,
    svi: SVI,
    spec: KernelSpec,
    rows: ExaminedRows,
    params: Params,
    key: jax.Array,
    num_draws: int,
) -> GuideDraws:
    data = rows.data
    if spec.n_rows != data.batch_size:
        spec = trace_data(signature, data)
    plan = plan_training(
        signature.kernel,
        svi,
        spec,
        data,
        Placement(),
        StepOptions(),
        is_mutable=False,
    )
    discrete = any(spec.sites[name].is_discrete for name in spec.latent_sites)
    if discrete and spec.other_outcomes:
        return GuideExamination(None, (_unknown(_DISCRETE_BESIDE),))
    density = GuideDensity(svi, plan, rows, params, with_likelihood=not discrete)
    return density.draw(key, num_draws)
