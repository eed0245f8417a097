"""Draws of a model's sites, from the prior and from the posterior, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float, PyTree, Shaped
from numpyro import handlers

from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.lab.explorers.model_graph import KernelCall, ModelGraph
from aimz_lab.lab.panels.site_labels import entry_name

MOST_ENTRIES = 200
"""Entries of a site that can be looked at one by one, from its first."""

_AT_A_TIME = 4_000_000  # numbers of all sites that are computed together

Draws = Mapping[str, Shaped[np.ndarray, "draw entry"]]


@dataclass(frozen=True)
class SiteDraws:
    """Draws of sites, as columns of their first entries.

    Attributes:
        draws: Draws by site.
        missing: Why there are none of a site, by site.
    """

    draws: Draws
    missing: Mapping[str, str]


def entries_of(name: str, shape: tuple[int, ...], labels: AxisLabels) -> list[str]:
    """Return the names of a site's first entries, by the labels of its axes.

    Example:
        >>> entries_of("b", (2,), {"b": (["north", "south"],)})
        ['b[north]', 'b[south]']
    """
    count = min(math.prod(shape), MOST_ENTRIES)
    places = [tuple(map(int, np.unravel_index(at, shape))) if shape else () for at in range(count)]
    return [entry_name(name, place, shape, labels) for place in places]


def first_entries(values: Shaped[np.ndarray, "draw ..."]) -> Shaped[np.ndarray, "draw entry"]:
    """Return the first entries of each draw, one after the other."""
    return np.asarray(values).reshape(len(values), -1)[:, :MOST_ENTRIES]


def prior_draws(
    call: KernelCall, graph: ModelGraph, *, num_samples: int, rng_key: jax.Array
) -> SiteDraws:
    """Draw latent and computed sites from the prior.

    Without the values of the arguments, only sites can be drawn that do not depend on them.

    Args:
        call: The kernel and its arguments.
        graph: Its graph.
        num_samples: Number of draws.
        rng_key: Key of the draws.

    Returns:
        The draws, and for other sites the reason why there are none.
    """
    missing = {}
    for name, site in graph.sites.items():
        if site.kind not in ("latent", "deterministic"):
            missing[name] = _NO_PRIOR.get(site.kind, "")
        elif reason := _why_not(name, call, graph):
            missing[name] = reason
    names = [name for name in graph.sites if name not in missing]
    if not names:
        return SiteDraws({}, missing)
    keys = jax.random.split(rng_key, num_samples)
    return SiteDraws(_drawn(call, graph, names, (keys, {})), missing)


def posterior_draws(
    call: KernelCall,
    graph: ModelGraph,
    posterior: Mapping[str, Shaped[np.ndarray, "draw ..."]],
    *,
    why_none: str,
    rng_key: jax.Array,
) -> SiteDraws:
    """Return posterior draws of latent sites, and compute those of deterministic sites from them.

    Args:
        call: The kernel and its arguments.
        graph: Its graph.
        posterior: Posterior draws by site; empty without a posterior.
        why_none: Why there is no posterior, as a sentence.
        rng_key: Any key: nothing is drawn.

    Returns:
        The draws, and for other sites the reason why there are none.
    """
    found = {name: first_entries(posterior[name]) for name in graph.sites if name in posterior}
    missing = {name: "" for name in graph.sites if name not in found}
    if not posterior:
        return SiteDraws({}, dict.fromkeys(graph.sites, why_none))
    computed = []
    for name in missing:
        site = graph.sites[name]
        if site.kind == "latent":
            missing[name] = "The posterior has no draws of this site."
        if site.kind != "deterministic":
            continue
        latent = {one for one in graph.ancestors(name) if graph.sites[one].kind == "latent"}
        lacks = sorted(latent - posterior.keys())
        if lacks:
            missing[name] = f"The posterior has no draws of {', '.join(lacks)}."
        elif not (missing_of := _why_not(name, call, graph, prior=False)):
            computed.append(name)
        else:
            missing[name] = missing_of
    if computed:
        count = len(next(iter(posterior.values())))
        keys = jax.random.split(rng_key, count)
        found |= _drawn(call, graph, computed, (keys, dict(posterior)))
    return SiteDraws(found, {name: why for name, why in missing.items() if name not in found})


_NO_PRIOR = {
    "observed": "none, as the site is observed; sample_prior_predictive and predict draw it.",
    "factor": "A factor adds to the log density and has no value.",
    "param": "A parameter has one value and no distribution.",
}


def _why_not(name: str, call: KernelCall, graph: ModelGraph, *, prior: bool = True) -> str:
    """Return why a site cannot be computed, or an empty text."""
    around = {name, *graph.ancestors(name)}
    improper = sorted(one for one in around if not graph.sites[one].can_be_drawn)
    if prior and improper:
        return f"The distribution of {', '.join(improper)} has no sampler, so there is no prior."
    if call.has_values:
        return ""
    if not graph.is_proven:
        return "It is not known what the site is computed from: pass explore_model(im, X, y)."
    if reads := sorted(graph.read_by(name)):
        return (
            f"It depends on {', '.join(reads)}, which the model does not keep: pass the rows, "
            "explore_model(im, X, y)."
        )
    return ""


def _drawn(
    call: KernelCall,
    graph: ModelGraph,
    names: Collection[str],
    over: PyTree[Shaped[jax.Array, "draw ..."]],
) -> dict[str, Float[np.ndarray, "draw entry"]]:
    """Run the kernel for each key and draw, and return the values of some sites."""
    kernel = pin_plates(call.kernel, call.n_rows)
    rows, shared = (jax.tree.map(_value, tree) for tree in (dict(call.rows), dict(call.shared)))
    sizes = sum(math.prod(site.shape) for site in graph.sites.values()) + call.n_rows

    def run(key: jax.Array, draw: PyTree, rows: PyTree, shared: PyTree) -> dict[str, jax.Array]:
        known = handlers.substitute(kernel, data={**call.params, **draw})
        sites = handlers.trace(seeded(known, key)).get_trace(**rows, **shared, **call.static)
        return {name: sites[name]["value"].reshape(-1)[:MOST_ENTRIES] for name in names}

    @jax.jit
    def run_all(over: PyTree, rows: PyTree, shared: PyTree) -> dict[str, jax.Array]:
        size = max(1, min(_AT_A_TIME // max(sizes, 1), len(over[0])))
        return jax.lax.map(lambda one: run(*one, rows, shared), over, batch_size=size)

    with tracing_lock:
        found = run_all(over, rows, shared)
    return {name: np.asarray(values) for name, values in found.items()}


def _value(leaf: object) -> object:
    """Return zeros for a shape: what is asked for does not depend on them."""
    return np.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf
