"""Describe a model in plain values, in a line and as an HTML table."""

from __future__ import annotations

from dataclasses import dataclass

from numpyro.infer import MCMC, SVI

from aimz_lab.data.html import html_table
from aimz_lab.inference.feeds.ranges import plain_ranges
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import DRAWS_OF_GUIDE, Posterior
from aimz_lab.inference.run.chain_words import r_hat_words
from aimz_lab.inference.run.loss_words import loss_of_model
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.run.run_words import STATUS_WORDS, method_words, position, skipped, time_now
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.number_text import count
from aimz_lab.types import JsonObject, callable_name

MOST_COLUMNS = 64
"""Fields with more columns are described without the range of each."""


def describe(
    signature: KernelSignature,
    inference: SVI | MCMC,
    spec: KernelSpec | None,
    posterior: Posterior | None,
    schema: InputSchema | None = None,
    ending: str = "",
    *,
    is_fitted: bool,
) -> JsonObject:
    """Describe a model.

    Args:
        signature: Its kernel.
        inference: Its inference object.
        spec: The kernel's structure as last trained.
        posterior: Its draws.
        schema: Schema of the last training data.
        ending: How the last training ended, if it was interrupted or diverged.
        is_fitted: Whether it has draws that may be used.

    Returns:
        Names, numbers, lists and dicts only. Each site has its ``kind``, its ``shape`` at the rows
        of the training data (``None`` where their number is unknown), its ``dtype``, its
        ``plates``, ``dims`` (its named dimensions, or ``None``), and ``draw_shape`` where the
        posterior holds it. ``trained_on`` has the number of rows, the size of a batch, and by field
        the shape and type of a row and, of up to 64 columns, the smallest and largest value of each
        (``low``, ``high``); it is ``None`` before training. ``ending`` says how the last training
        ended, if it was interrupted or diverged.
    """
    sites = describe_sites(spec) if spec else {}
    for name in sites:  # the trace is that of a batch
        sites[name]["shape"] = list(spec.shape_at(name, schema.n_obs if schema else None))
    for name, draws in (posterior.draws if posterior else {}).items():
        sites.setdefault(name, {"kind": "latent"})["draw_shape"] = list(draws.shape[1:])
    output = sites.setdefault(signature.output, {}) if sites else {}
    if output.get("kind") != "factor":
        output["kind"] = "observed"  # also where a call without data drew it
    for name, site in sites.items():
        events = spec.sites[name].event_dims if spec and name in spec.sites else ()
        site["dims"] = [*site.get("plates", ()), *events] or None
    guide = getattr(inference, "guide", None)
    return {
        "kernel": callable_name(signature.kernel),
        "arguments": list(parameter_names(signature.kernel)),
        "param_input": signature.input,
        "param_output": signature.output,
        "inference": type(inference).__name__,
        "guide": None if guide is None else callable_name(guide),
        "trained_on": _training(schema),
        "ending": ending,
        "fitted": is_fitted,
        "num_chains": posterior.num_chains if posterior else 0,
        "num_samples": posterior.num_draws if posterior else 0,
        "sites": sites,
    }


def describe_sites(spec: KernelSpec) -> dict[str, JsonObject]:
    """Describe the sites of a kernel: kind, shape at the traced number of rows, type, plates."""
    return {
        name: {
            "kind": site.kind,
            "shape": list(site.shape),
            "dtype": str(site.dtype),
            "plates": [plate.name for plate in site.plates],
        }
        for name, site in spec.sites.items()
    }


def _training(schema: InputSchema | None) -> JsonObject | None:
    if schema is None:
        return None
    short = {name: each for name, each in schema.ranges.items() if each.low.size <= MOST_COLUMNS}
    ranges = plain_ranges(short)
    fields = {
        name: {"shape": list(row.shape), "dtype": str(row.dtype), **ranges.get(name, {})}
        for name, row in schema.rows.items()
    }
    return {"n_obs": schema.n_obs, "batch_size": schema.batch_size, "fields": fields}


@dataclass(frozen=True)
class Standing:
    """What a model has been through; it is no part of what is saved.

    Attributes:
        run: Its last training in this process, or ``None``.
        loaded_from: The folder that it was loaded from, if nothing was trained since.
        draws_of_before: What changed its state since its draws; empty if nothing did.
        has_given_draws: Whether its draws were set by the user.
        has_diverged: Whether its last training diverged.
        reads_tables: Whether its rows come as tables.
        divergent: Its draws that are at the end of a divergent transition.
        steps_by_hand: Steps of ``train_on_batch`` since the last ``fit``.
    """

    run: Run | None = None
    loaded_from: str = ""
    draws_of_before: str = ""
    has_given_draws: bool = False
    has_diverged: bool = False
    reads_tables: bool = False
    divergent: int = 0
    steps_by_hand: int = 0


def describe_in_a_line(described: JsonObject, standing: Standing) -> str:
    """Return the result of :func:`describe` in a line."""
    return f"<ImpactModel {_call(described)}: {', '.join(_facts(described, standing).values())}>"


def describe_html(described: JsonObject, standing: Standing) -> str:
    """Return the result of :func:`describe` as HTML, in the colours of the page."""
    found = _facts(described, standing)
    if (run := standing.run) is not None:
        # What became of the model is said already.
        why, _, _ = run.reason.partition("; the model ")
        if not described["ending"]:
            found["training"] += f" ({why})" if why and why not in found["training"] else ""
        found |= {"loss": words} if (words := loss_of_model(run, total=True)) else {}
    if run is not None and (words := _skipped(described, run)):
        found["skipped"] = words
    if "chains" in found:
        found["chains"] += ": diagnose() says whether to trust these draws"
    if not described["fitted"] and (run is None or run.finished):
        if described["num_samples"]:
            found["posterior"] += ", not to be used"
        found["next"] = _next(described, standing)
    table = html_table(f"ImpactModel {_call(described)}", (), list(found.items()))
    heads = ("site", "kind", "shape", "plates", "posterior draws")
    rows = [_row(name, site, described) for name, site in described["sites"].items()]
    return f"<div>{table}{html_table('Sites', heads, rows) if rows else ''}</div>"


def _next(described: JsonObject, standing: Standing) -> str:
    """Say what gives a model draws."""
    data = "df" if standing.reads_tables else "X, y"
    if standing.steps_by_hand or standing.draws_of_before:
        return f"{DRAWS_OF_GUIDE} draws from its guide"
    if described["inference"] == "MCMC":
        return f"fit_on_batch({data}) runs its chains"
    calls = f"fit({data})" if standing.reads_tables else f"fit({data}) or fit_on_batch({data})"
    lower = " at a lower learning rate" if standing.has_diverged else ""
    return f"{calls} trains it{lower}"


def _call(described: JsonObject) -> str:
    return f"{described['kernel']}({', '.join(described['arguments'])})"


def _facts(described: JsonObject, standing: Standing) -> dict[str, str]:
    """Return what a person wants to know of a model, by name."""
    run, own = standing.run, filter(None, (described["inference"], described["guide"]))
    method = " with ".join(own) if run is None else method_words(run.info.method)
    found = {"method": method, "training": _training_words(described, standing)}
    if run is not None and (words := loss_of_model(run)):
        found["loss"] = f"loss {words}"
    if run is not None and (words := _skipped(described, run)):
        found["skipped"] = f"{words} skipped"
    if described["num_samples"]:
        chains = described["num_chains"]
        several = f" in {chains} chains" if chains > 1 else ""
        before = f" before {standing.draws_of_before}" if standing.draws_of_before else ""
        origin = f" set by hand{before}" if standing.has_given_draws else before and f" of{before}"
        found["posterior"] = f"{count(described['num_samples'])} posterior draws{several}{origin}"
        if words := _trouble(standing):
            found["chains"] = words
    elif described["trained_on"]:
        found["posterior"] = "no posterior draws yet"
    return found


def _skipped(described: JsonObject, run: Run) -> str:
    """Say how many steps were skipped, unless the ending does."""
    words = skipped(run)
    return "" if words in described["ending"] else words


def _trouble(standing: Standing) -> str:
    """Say what shows that chains failed; empty if nothing is known to."""
    run, found = standing.run, []
    if standing.divergent:
        found.append(f"{count(standing.divergent)} divergent")
    if run is not None and not standing.has_given_draws and (words := r_hat_words(run)):
        found.append(words)
    return ", ".join(found)


def _training_words(described: JsonObject, standing: Standing) -> str:
    """Say whether a model is trained, on what, and how far the last training came."""
    run, trained = standing.run, described["trained_on"]
    data = f" on {_data_words(trained)}" if trained else ""
    if run is not None and run.status not in ("completed", "early_stopped"):
        if not run.finished:
            training = "paused in training" if run.status == "paused" else "training"
            return f"was {training} at {time_now()}, {position(run)}"
        # How it ended is no longer so once single steps or a result from elsewhere followed.
        can_follow = run.chains is None and run.status in ("interrupted", "diverged")
        if not described["ending"] and not can_follow:
            return f"training {STATUS_WORDS[run.status]} at {position(run)}{data}"
    if described["ending"]:
        return f"{described['ending']},{' trained' if described['fitted'] else ''}{data}"
    if not trained:
        return "not trained yet"
    if steps := standing.steps_by_hand:
        return f"{count(steps)} step{'s' * (steps > 1)} of train_on_batch{data}"
    loaded = f"loaded from {standing.loaded_from}, " if standing.loaded_from else ""
    return f"{loaded}trained{data}"


def _data_words(trained: JsonObject) -> str:
    rows = "rows" if trained["n_obs"] is None else f"{count(trained['n_obs'])} rows"
    *others, last = trained["fields"]
    return f"{rows} of {', '.join(others)} and {last}" if others else f"{rows} of {last}"


def _row(name: str, site: JsonObject, described: JsonObject) -> tuple[str, ...]:
    drawn = "draw_shape" in site
    return (
        name,
        site["kind"],
        _shape(site.get("shape", site.get("draw_shape", []))),
        ", ".join(site.get("plates", [])),
        f"{count(described['num_samples'])} of shape {_shape(site['draw_shape'])}" if drawn else "",
    )


def _shape(shape: list[int | None]) -> str:
    return f"({', '.join('rows' if size is None else str(size) for size in shape)})"
