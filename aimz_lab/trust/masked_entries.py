"""Entries that a mask takes out of the density: they are no observations, and no latent values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int, Shaped
from numpyro import handlers

from aimz_lab.kernel.argument_reach import depends_on
from aimz_lab.kernel.masks import mask_of
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import imputed_part, observed_part
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.types import SAMPLE_DIMS, Params

Counted = Mapping[str, Bool[np.ndarray, "..."]]
"""For sites with a mask, which entries count."""


def counted_entries(
    kernel: Callable, output: str, params: Params | None, rows: ExaminedRows
) -> Counted:
    """Return which entries of the masked outcomes of a kernel count.

    Args:
        kernel: The kernel.
        output: Name of its output.
        params: Values of its ``param`` sites, if there are some.
        rows: The data.

    Returns:
        The entries by site, rows first: of the output those that were observed, and of the site
        that NumPyro draws for ``obs_mask=`` those that were not. A site without a mask, or with
        one that depends on latent sites, is left out.
    """

    def masks(trace: Mapping[str, Message]) -> dict[str, jax.Array]:
        names = {output, observed_part(output), *map(imputed_part, trace)}.intersection(trace)
        found = {n: mask_of(trace[n]) for n in sorted(names) if trace[n]["type"] == "sample"}
        return {name: mask for name, mask in found.items() if mask is not None}

    return by_entry(kernel, params, rows, masks)


def by_entry(
    kernel: Callable,
    params: Params | None,
    rows: ExaminedRows,
    read: Callable[[Mapping[str, Message]], dict[str, jax.Array]],
) -> dict[str, Shaped[np.ndarray, ...]]:
    """Return what the distributions of a kernel say of the entries of its data.

    Args:
        kernel: The kernel.
        params: Values of its ``param`` sites, if there are some.
        rows: The data.
        read: Returns arrays by site, rows first, from a trace.

    Returns:
        The arrays; without those that depend on latent sites.
    """
    kernel = handlers.substitute(kernel, data=dict(params or {}))
    static = rows.data.static

    def run(key: jax.Array, given: Mapping[str, Any]) -> dict[str, jax.Array]:
        return read(handlers.trace(seeded(kernel, key)).get_trace(**given, **static))

    key, shared = jax.random.key(0), dict(rows.data.shared)
    blocks = [rows.data.rows] if rows.source is None else [b for b, _ in rows.blocks(padded=False)]
    found: dict[str, list[np.ndarray]] = {}
    with tracing_lock:
        for block in blocks:
            given = {**block, **shared}
            if not found and not jax.eval_shape(run, key, given):
                return {}
            for name, array in jax.jit(run)(key, given).items():
                found.setdefault(name, []).append(np.asarray(array))
    given = {**blocks[0], **shared}
    return {
        name: np.concatenate(parts)
        for name, parts in found.items()
        if not depends_on(lambda key, given, name=name: run(key, given)[name], key, given)
    }


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
