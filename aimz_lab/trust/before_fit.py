"""What would go wrong in a fit, what it would take, and whether the prior is of this world."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from aimz_lab.errors import AimzLabError, AimzLabWarning, DataTypeError
from aimz_lab.inference.feeds.kernel_structure import trace_data
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.run.constant_loss import START_ELSEWHERE, worse_than_constant
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.svi.rows_check import RowsCheck
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.output_transform import observed_values, why_not_itself
from aimz_lab.kernel.rows.kernel_influence import exchanged_in_sites
from aimz_lab.kernel.rows.kernel_statistics import (
    COMPUTE_BEFORE,
    across_rows,
    statistics_in_sites,
)
from aimz_lab.kernel.spec import KernelSpec, observed_part
from aimz_lab.number_text import number_beside
from aimz_lab.preparing import doing
from aimz_lab.system.old_jax import cost_of_old_jax
from aimz_lab.trust.columns import column_findings
from aimz_lab.trust.loss_checks import end_of
from aimz_lab.trust.report import Finding, Report, of_left_out
from aimz_lab.trust.trial_fit import (
    ENOUGH,
    PROBE_S,
    Forecast,
    Preflight,
    Probe,
    forecast_finding,
    memory_finding,
    with_prediction,
)
from aimz_lab.types import Columns, Rows

PRIOR_ROWS, PRIOR_DRAWS = 200, 1000
"""Rows whose prior predictive draws are compared with the output, and draws of each."""

PRIOR_SHARE = 0.99
"""Share of the prior predictive draws that a central range holds. A larger one would hang on the
extremes of a few draws."""

_PARTS = 5  # of the draws, that tell how far their range is known

_START_ELSEWHERE = f"Train longer, {START_ELSEWHERE}."

_SENTENCES = {
    "green": "Nothing speaks against this fit",
    "amber": "This fit may go wrong",
    "red": "This fit would not work",
}


class CheckReport(Report):
    """What :meth:`aimz_lab.ImpactModel.check` found.

    Args:
        findings: What was found.
        forecast: What fit and prediction would take.

    Attributes:
        forecast: What fit and prediction would take on this machine.
    """

    def __init__(self, findings: tuple[Finding, ...], forecast: Forecast) -> None:
        super().__init__("Preflight", findings, _SENTENCES)
        self.forecast = forecast


def check_readable_again(inputs: object) -> None:
    """Refuse rows that a check would use up.

    Raises:
        DataTypeError: If they come from a generator or another iterator.
    """
    if isinstance(inputs, Iterator):
        msg = (
            "A check reads the data, and a generator can be read only once; pass the function that "
            "makes it, a list of batches, or an ArrayLoader."
        )
        raise DataTypeError(msg)


def check(preflight: Preflight) -> CheckReport:
    """Try a fit on a copy of the model, and look at its data and prior.

    Args:
        preflight: The model and the call.
    """
    findings, forecast = _try_fit(preflight)
    findings += of_left_out(preflight.left_out)
    if forecast.fit_bytes is not None:
        findings.append(memory_finding(forecast))
    return CheckReport(tuple(findings), forecast)


def _try_fit(preflight: Preflight) -> tuple[list[Finding], Forecast]:
    """Train for a moment, and predict some rows."""
    first, probe, findings = Probe(0), Probe(PROBE_S), []
    doing("trying a fit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            preflight.first_fit([first])
        except AimzLabError as error:
            kind = type(error).__name__.removesuffix("Error").lower() or "fit"
            return [Finding(kind, "red", str(error).rstrip("."))], Forecast()
    compiled = time.monotonic()
    probe.began = compiled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what there is to say was said
        preflight.fit([probe])
        after = time.monotonic()
        columns = preflight.columns()
    run = preflight.trial.last_run
    rows, n_rows = preflight.data
    findings.append(Finding("fit", "green", f"the kernel runs, and {run.step:,} steps were tried"))
    failed = _has_failed(run)
    if failed:
        what, advice = end_of(run)
        what = what.partition("; the model ")[0]  # the model here is a copy
        findings[0] = Finding("fit", "red", f"the first steps fail: {what}", advice)
    for one in caught:
        text = str(one.message).rstrip(".")
        if issubclass(one.category, AimzLabWarning) and not failed and ENOUGH not in text:
            findings.append(Finding("warning", "amber", text))
    if run.status == "completed" and (stuck := worse_than_constant(run)):
        findings.append(Finding("loss", "amber", stuck, _START_ELSEWHERE))
    doing("checking that its rows may be cut into batches")
    findings += _of_batches(preflight, run, rows)
    findings += _of_columns(rows, columns, preflight.signature.output)
    findings += _of_statistics(preflight, run, rows)
    spec = _structure(preflight, run, rows)
    findings += _of_transform(spec)
    doing("drawing from the prior")
    findings.append(_prior_finding(preflight, spec, rows))
    if failed:
        return findings, Forecast()  # no use in its time
    fit_seconds, compile_seconds = probe.seconds(run.info.total_steps), 0.0
    if fit_seconds is not None:
        drawing = after - probe.ended
        fit_seconds += drawing
        compile_seconds = max(compiled - first.began - probe.set_up_s - drawing, 0.0)
    if cost := cost_of_old_jax():
        findings.append(Finding("jax", "green", cost))
    forecast = replace(
        with_prediction(preflight, fit_seconds, rows, n_rows),
        compile_seconds=compile_seconds,
    )
    findings.append(forecast_finding(forecast))
    return findings, forecast


def _has_failed(run: Run) -> bool:
    return run.status in ("diverged", "failed")


def _of_batches(preflight: Preflight, run: Run, rows: Rows) -> list[Finding]:
    """Judge scaling and cutting of rows into batches."""
    size, n_obs = run.info.batch_size, run.info.n_obs
    if run.info.is_sampling or size is None:
        return []
    if n_obs is not None and size >= n_obs:
        text = f"each step takes all {n_obs:,} rows: nothing is cut or scaled"
        return [Finding("batches", "green", text)]
    findings = []
    if preflight.scale == "none":
        times = f"sqrt(N / B) = {(n_obs / size) ** 0.5:.2g} times " if n_obs else ""
        text = f"a batch of {size:,} rows counts as all of them: the posterior is {times}too wide"
        advice = "Leave scale='none' out, unless the kernel scales its batches itself."
        findings.append(Finding("scaling", "red", text, advice))
    elif run.info.scaled:
        findings.append(Finding("scaling", "green", f"in the ELBO, {run.info.scaled}"))
    text = f"rows are independent in batches of {size:,}, as {_how_known(preflight, run, rows)}"
    findings.append(Finding("rows", "green", text))
    return findings


def _how_known(preflight: Preflight, run: Run, rows: Rows) -> str:
    """Say how it is known that rows may be cut; what is not known is refused by the fit."""
    request, size = preflight.request("log_likelihood"), run.info.batch_size
    data = TrainingData(rows, request.shared, request.static, run.info.n_obs, size)
    spec = trace_data(preflight.signature, data)
    many = run.info.n_obs or 2 * size
    if RowsCheck(preflight.signature, preflight.inference).is_proven(spec, data, size, many):
        return "its program proves"
    return "you say" if preflight.rows == "independent" else "a test on all rows shows"


def _of_statistics(preflight: Preflight, run: Run, rows: Rows) -> list[Finding]:
    """Find statistics of the rows in the kernel, which belong to the rows of one call."""
    request, signature = preflight.request("log_likelihood"), preflight.signature
    size = len(next(iter(rows.values())))
    data = TrainingData(rows, request.shared, request.static, run.info.n_obs, size)
    spec = trace_data(signature, data)
    site = spec.sites.get(signature.output)
    if site is None or site.joins_rows:  # these rows are one unit
        return []
    asked = signature.kernel, spec, (site.name, observed_part(site.name))
    constants = {"shared": request.shared, "static": request.static, "params": request.params}
    found = statistics_in_sites(*asked, rows=rows, fixed=spec.latent_sites, **constants)
    found = found or exchanged_in_sites(
        *asked,
        asked=rows.keys() - {signature.output},
        rows=rows,
        draws=[{}],
        given={},
        **constants,
    )
    return [
        Finding("rows", "amber", across_rows(site.name, names), COMPUTE_BEFORE)
        for names in found.values()
    ]


def _of_columns(rows: Rows, columns: Columns, output: str) -> list[Finding]:
    found = column_findings(rows, columns, output)
    if found:
        return found
    return [Finding("columns", "green", "no column is constant, collinear or of another scale")]


def _of_transform(spec: KernelSpec) -> list[Finding]:
    """Say that results are of a function of the output, where the kernel observes one."""
    if not (transform := spec.output_transform):
        return []
    text = f"the kernel observes {transform}: predictions and effects are of that"
    return [Finding("output", "green", text, why_not_itself(spec.output, transform))]


def _structure(preflight: Preflight, run: Run, rows: Rows) -> KernelSpec:
    request = preflight.request("log_likelihood")
    size = run.info.batch_size or len(next(iter(rows.values())))
    data = TrainingData(rows, request.shared, request.static, run.info.n_obs, size)
    return trace_data(preflight.signature, data)


def _prior_finding(preflight: Preflight, spec: KernelSpec, rows: Rows) -> Finding:
    """Compare the prior predictive range with the observed output; Gelman et al. (2017)."""
    try:
        found = preflight.first_rows("prior_predictive", PRIOR_ROWS)
    except AimzLabError as error:
        return Finding("prior", "unjudged", f"the prior cannot be drawn from: {error}")
    if found is None:
        return Finding("prior", "unjudged", "the prior is not compared with a stream")
    drawn = np.asarray(found, np.float64)
    seen = _observed(preflight, spec, rows)
    if seen is None:
        text = "the prior is not compared with values that depend on what the kernel draws"
        return Finding("prior", "unjudged", text)
    seen = seen[np.isfinite(seen)]
    if not len(seen) or not np.isfinite(drawn).any():
        return Finding("prior", "amber", "prior predictive draws are not finite", _PRIOR)
    low, high, noise = _range_of(drawn)
    outside = float(((seen < low) | (seen > high)).mean())
    ends = (number_beside(float(end), float(high - low), 3) for end in (low, high))
    text = f"{PRIOR_SHARE:.0%} of prior predictions are within {' and '.join(ends)}"
    if noise >= 0.01:
        text += f", a range that {len(drawn):,} draws tell to {noise:.0%}"
    wide = (high - low) / np.ptp(seen) if np.ptp(seen) > 0 else 0.0  # one value has no range
    if outside > 0.1:
        level = "red" if outside > 0.5 else "amber"
        return Finding(
            "prior", level, f"{text}, and {outside:.0%} of the output is outside", _PRIOR
        )
    if wide > 1000:
        text = f"{text}, {wide:,.0f} times the range of the output"
        return Finding("prior", "amber", text, _PRIOR)
    return Finding("prior", "green", f"{text}, and so is the output")


def _observed(preflight: Preflight, spec: KernelSpec, rows: Rows) -> np.ndarray | None:
    """Return the output as the kernel observes it; ``None`` if that depends on what it draws."""
    if not spec.output_transform:
        return np.asarray(rows[spec.output], np.float64)
    request = preflight.request("log_likelihood")
    arguments = KernelArguments(rows, request.shared, request.static)
    found = observed_values(preflight.signature.kernel, spec, request.params, arguments)
    return None if found is None else np.asarray(found, np.float64)


def _range_of(drawn: Float[np.ndarray, "draw ..."]) -> tuple[float, float, float]:
    """Return the ends of a central range, and the standard error of its width over its width.

    Rows of one draw share its parameters, so that the error is that of whole draws.

    Args:
        drawn: Prior predictions.
    """
    tails = [(1 - PRIOR_SHARE) / 2, (1 + PRIOR_SHARE) / 2]
    parts = [one[np.isfinite(one)] for one in (drawn, *np.array_split(drawn, _PARTS))]
    (low, high), *others = (np.quantile(part, tails) for part in parts if len(part))
    widths = [end - begin for begin, end in others]
    if len(widths) < 2 or high == low:
        return low, high, 0.0
    return low, high, float(np.std(widths, ddof=1) / np.sqrt(len(widths)) / (high - low))


_PRIOR = "Choose priors on the scale of the output, or standardise input and output."
