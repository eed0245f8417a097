"""Entries of an output that a mask leaves out, or that are bounds of what was not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Int, Shaped
from numpyro import handlers

from aimz_lab.kernel.argument_reach import depends_on
from aimz_lab.kernel.censoring import sides_of
from aimz_lab.kernel.masks import mask_of
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import imputed_part, observed_part
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.types import SAMPLE_DIMS, Params

Counted = Mapping[str, Bool[np.ndarray, "..."]]
"""For sites with a mask, which entries count."""

CENSORED = "some of its values are bounds of what was not seen, and predictions are not censored"
"""Why values of the output cannot be held against predictions."""

NONE_COUNTS = "a mask leaves out all rows, or what the kernel observes depends on what it draws"
"""Why no row can be judged."""

NO_INTERVALS = "values of the output are intervals, and predictions are single values"
"""Why intervals cannot be."""


class OutputEntries(NamedTuple):
    """What a kernel says of the entries of its outcomes.

    Attributes:
        counted: Which entries of masked outcomes count, by site, rows first: of the output those
            that were observed, and of the site that NumPyro draws for ``obs_mask=`` those that were
            not. A site without a mask, or with one that depends on latent sites, is left out.
        sides: What the distribution takes each entry of the output for, rows first: -1 for an upper
            bound, 0 for a value that was seen, 1 for a lower bound, and 2 for an end of an
            interval. ``None`` if the distribution is not censored, or by flags that depend on
            latent sites.
    """

    counted: Counted
    sides: Int[np.ndarray, "row ..."] | None

    @property
    def censored(self) -> Int[np.ndarray, "row ..."] | None:
        """The sides, if an entry is censored."""
        return self.sides if self.sides is not None and self.sides.any() else None


def output_entries(
    kernel: Callable, output: str, params: Params | None, rows: ExaminedRows
) -> OutputEntries:
    """Return which entries of the outcomes of a kernel are masked or censored.

    Args:
        kernel: The kernel.
        output: Name of its output.
        params: Values of its ``param`` sites, if there are some.
        rows: The data.
    """
    kernel = handlers.substitute(kernel, data=dict(params or {}))
    static = rows.data.static

    def run(key: jax.Array, given: Mapping[str, Any]) -> dict[str, dict[str, jax.Array]]:
        trace = handlers.trace(seeded(kernel, key)).get_trace(**given, **static)
        return {"counted": _masks(trace, output), "sides": _sides(trace, output)}

    key, shared = jax.random.key(0), dict(rows.data.shared)
    blocks = [rows.data.rows] if rows.source is None else [b for b, _ in rows.blocks(padded=False)]
    first = {**blocks[0], **shared}
    with tracing_lock:
        if not jax.tree.leaves(jax.eval_shape(run, key, first)):
            return OutputEntries({}, None)
        compute = jax.jit(run)
        found = [jax.tree.map(np.asarray, compute(key, {**one, **shared})) for one in blocks]

    def known(kind: str) -> dict[str, np.ndarray]:
        """Join the blocks; leave out what depends on latent sites."""
        return {
            name: np.concatenate([block[kind][name] for block in found])
            for name in found[0][kind]
            if not depends_on(lambda key, given, name=name: run(key, given)[kind][name], key, first)
        }

    return OutputEntries(known("counted"), known("sides").get(output))


def _masks(trace: Mapping[str, Message], output: str) -> dict[str, jax.Array]:
    names = {output, observed_part(output), *map(imputed_part, trace)}.intersection(trace)
    found = {n: mask_of(trace[n]) for n in sorted(names) if trace[n]["type"] == "sample"}
    return {name: mask for name, mask in found.items() if mask is not None}


def _sides(trace: Mapping[str, Message], output: str) -> dict[str, jax.Array]:
    site = trace.get(output, {"type": None})
    found = sides_of(site) if site["type"] == "sample" else None
    return {} if found is None else {output: found}


def observed_output(
    outputs: Shaped[np.ndarray, "row ..."], output: str, counted: Counted
) -> Shaped[np.ndarray, "row ..."]:
    """Return outputs with NaN in place of masked ones, whose values are placeholders.

    Args:
        outputs: The output of all rows.
        output: Its name.
        counted: Which entries of sites count.
    """
    mask = counted.get(output, counted.get(observed_part(output)))
    if mask is None or mask.all() or mask.shape != outputs.shape:
        return outputs
    return np.where(mask, np.asarray(outputs, np.float64), np.nan)


def scored_rows(outputs: Shaped[np.ndarray, "row ..."]) -> Int[np.ndarray, " row"]:
    """Return the numbers of the rows with an observed value, by :func:`observed_output`."""
    is_scored = np.isfinite(np.asarray(outputs, np.float64)).reshape(len(outputs), -1).any(1)
    return np.flatnonzero(is_scored)


def without_uncounted(tree: xr.DataTree, counted: Counted) -> xr.DataTree:
    """Leave out the entries of a posterior that no density holds.

    Args:
        tree: A tree with the group ``posterior``.
        counted: Which entries of sites count.
    """
    dataset = tree["posterior"].to_dataset()
    for name in counted.keys() & dataset.data_vars.keys():
        dims = [dim for dim in dataset[name].dims if dim not in SAMPLE_DIMS]
        values = dataset[name].transpose(*SAMPLE_DIMS, *dims)
        if values.shape[2:] != counted[name].shape:
            continue
        at = np.nonzero(counted[name])
        labels = [values[dim].values[own] for dim, own in zip(dims, at, strict=True)]
        coords = {dim: values[dim].values for dim in SAMPLE_DIMS}
        coords[f"{name}_entry"] = [", ".join(map(str, one)) for one in zip(*labels, strict=True)]
        dataset[name] = xr.DataArray(values.values[..., counted[name]], coords, [*coords])
    return xr.DataTree.from_dict({"posterior": dataset})
