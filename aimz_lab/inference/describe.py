"""Describe a model in plain values, in a line and as an HTML table."""

from __future__ import annotations

from html import escape

from numpyro.infer import MCMC, SVI

from aimz_lab.inference.feeds.ranges import plain_ranges
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
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
) -> JsonObject:
    """Describe a model.

    Args:
        signature: Its kernel.
        inference: Its inference object.
        spec: The kernel's structure as last trained.
        posterior: Its draws.
        schema: Schema of the last training data.
        ending: How the last training ended, if it was interrupted or diverged.

    Returns:
        Names, numbers, lists and dicts only. Each site has its ``kind``, its ``shape`` at the
        traced number of rows, its ``dtype``, its ``plates``, ``dims`` (its named dimensions, or
        ``None``), and ``draw_shape`` where the posterior holds it. ``trained_on`` has the number of
        rows, the size of a batch, and by field the shape and type of a row and, of up to 64
        columns, the smallest and largest value of each (``low``, ``high``); it is ``None`` before
        training. ``ending`` says how the last training ended, if it was interrupted or diverged.
    """
    sites = describe_sites(spec) if spec else {}
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
        "fitted": posterior is not None,
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


def describe_in_a_line(described: JsonObject) -> str:
    """Return the result of :func:`describe` in a line."""
    call = f"{described['kernel']}({', '.join(described['arguments'])})"
    parts = [call, _method(described), *_state(described)]
    return f"<ImpactModel {', '.join(parts)}>"


def _method(described: JsonObject) -> str:
    return "/".join(filter(None, (described["inference"], described["guide"])))


def _state(described: JsonObject) -> list[str]:
    # A model whose training diverged is never just "trained".
    parts = [described["ending"]] if described["ending"] else []
    trained = described["trained_on"]
    if trained:
        rows = "rows" if trained["n_obs"] is None else f"{trained['n_obs']:,} rows"
        parts.append(f"trained on {rows} of {' and '.join(trained['fields'])}")
    if described["fitted"]:
        chains = described["num_chains"]
        several = f" in {chains} chains" if chains > 1 else ""
        parts.append(f"{described['num_samples']:,} draws{several}")
    return parts or ["not fitted"]


def describe_html(described: JsonObject) -> str:
    """Return the result of :func:`describe` as HTML."""
    call = f"{described['kernel']}({', '.join(described['arguments'])})"
    heads = ("site", "kind", "shape", "type", "plates", "draws")
    rows = "".join(_row(name, site, described) for name, site in described["sites"].items())
    head = "".join(f"<th>{name}</th>" for name in heads)
    state = ", ".join([_method(described), *_state(described)])
    return (
        f"<div><p><b>ImpactModel</b> <code>{escape(call)}</code>, {escape(state)}</p>"
        + (f"<table><tr>{head}</tr>{rows}</table>" if rows else "")
        + _fields(described["trained_on"])
        + "</div>"
    )


def _row(name: str, site: JsonObject, described: JsonObject) -> str:
    drawn = "draw_shape" in site
    cells = (
        f"<code>{escape(name)}</code>",
        escape(site["kind"]),
        escape(_shape(site.get("shape", site.get("draw_shape", [])))),
        escape(site.get("dtype", "")),
        escape(", ".join(site.get("plates", []))),
        f"{described['num_samples']:,} x {_shape(site['draw_shape'])}" if drawn else "",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _fields(trained: JsonObject | None) -> str:
    if not trained:
        return ""
    listed = ", ".join(
        f"<code>{escape(name)}</code> {_shape(row['shape'])} {row['dtype']}"
        for name, row in trained["fields"].items()
    )
    return f"<p>A row: {listed}; {trained['batch_size']:,} rows in a batch</p>"


def _shape(shape: list[int]) -> str:
    return f"({', '.join(map(str, shape))})"
