"""What a model is, in plain values and as a small table."""

from __future__ import annotations

from html import escape
from typing import Any

from numpyro.infer import MCMC, SVI

from aimz_lab.inference.inputs import KernelPorts
from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.check import parameter_names
from aimz_lab.kernel.spec import KernelSpec


def describe(
    ports: KernelPorts,
    inference: SVI | MCMC,
    spec: KernelSpec | None,
    posterior: Posterior | None,
) -> dict[str, Any]:
    """Describe a model.

    Args:
        ports: Its kernel.
        inference: Its inference object.
        spec: The kernel's structure as last trained.
        posterior: The draws it holds.

    Returns:
        Names, numbers, lists and dicts only. Each site has its ``kind``, its ``shape`` at the
        traced number of rows, its ``plates``, and ``draw_shape`` where the posterior holds it.
    """
    sites = describe_sites(spec) if spec else {}
    for name, draws in (posterior.draws if posterior else {}).items():
        sites.setdefault(name, {"kind": "latent"})["draw_shape"] = list(draws.shape[1:])
    guide = getattr(inference, "guide", None)
    return {
        "kernel": getattr(ports.kernel, "__name__", type(ports.kernel).__name__),
        "arguments": list(parameter_names(ports.kernel)),
        "param_input": ports.input,
        "param_output": ports.output,
        "inference": type(inference).__name__,
        "guide": None if guide is None else getattr(guide, "__name__", type(guide).__name__),
        "fitted": posterior is not None,
        "num_chains": posterior.num_chains if posterior else 0,
        "num_samples": posterior.num_draws if posterior else 0,
        "sites": sites,
    }


def describe_sites(spec: KernelSpec) -> dict[str, dict[str, Any]]:
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


def describe_html(described: dict[str, Any]) -> str:
    """Return what :func:`describe` found as HTML."""
    method = described["inference"] + (f" / {described['guide']}" if described["guide"] else "")
    state = "not fitted"
    if described["fitted"]:
        state = f"{described['num_samples']:,} draws in {described['num_chains']} chain(s)"
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(site['kind'])}</td>"
        f"<td>{escape(str(tuple(site.get('shape', site.get('draw_shape', [])))))}</td>"
        f"<td>{escape(', '.join(site.get('plates', [])))}</td></tr>"
        for name, site in described["sites"].items()
    )
    head = "<tr><th>site</th><th>kind</th><th>shape</th><th>plates</th></tr>"
    call = f"{described['kernel']}({', '.join(described['arguments'])})"
    return (
        f"<div><p><b>ImpactModel</b> <code>{escape(call)}</code>, {escape(method)}, {state}</p>"
        + (f"<table>{head}{rows}</table>" if rows else "")
        + "</div>"
    )
