"""A kernel's structure, found by tracing it abstractly.

The kernel runs under ``jax.eval_shape``, so that nothing is computed and nothing compiles. It runs
twice, with different numbers of rows: an axis that follows is an axis of rows, whatever its size
happens to be.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from numpyro import handlers
from numpyro.distributions import Unit

from aimz_lab.kernel.spec import KernelSpec, Plate, Site, SiteKind

tracing_lock = threading.RLock()
"""Held wherever NumPyro code may be traced: its handler stack is one list for all threads."""


def trace_spec(
    kernel: Callable,
    *,
    rows: Mapping[str, Any],
    shared: Mapping[str, Any] | None = None,
    static: Mapping[str, Any] | None = None,
    output: str = "y",
    values: Mapping[str, Any] | None = None,
) -> KernelSpec:
    """Trace a kernel, or a guide, abstractly.

    Args:
        kernel: A callable with NumPyro primitives.
        rows: Arrays with the rows on their leading axis, all of the same length; only their shapes
            and dtypes matter, so ``jax.ShapeDtypeStruct`` will do.
        shared: Arrays that do not follow the rows.
        static: Values that are not arrays.
        output: Name of the output site.
        values: Values of sites to substitute, such as learned ``param`` sites.

    Returns:
        The spec; shapes are of the rows as given.

    Raises:
        Exception: What the kernel itself raises.
    """
    n_rows = next(iter(rows.values())).shape[0]

    def records_at(count: int) -> dict[str, dict[str, Any]]:
        abstract = _abstract_rows(rows, count)
        return _records(kernel, abstract, shared or {}, static or {}, values or {})

    traced = [records_at(n_rows)]
    for other in (n_rows + 1, n_rows + 2):
        try:
            traced.append(records_at(other))
        except Exception:  # noqa: BLE001  a kernel tied to this very number of rows: sizes must do
            break
        if _same_sites(traced[0], traced[-1]):
            break
        traced.pop()
    follows = traced[1] if len(traced) > 1 else None
    sites = {
        name: _site(name, record, follows and follows[name], n_rows)
        for name, record in traced[0].items()
    }
    return KernelSpec(sites, output, n_rows)


def _abstract_rows(rows: Mapping[str, Any], n_rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        name: jax.ShapeDtypeStruct(
            (n_rows, *value.shape[1:]), jax.dtypes.canonicalize_dtype(value.dtype)
        )
        for name, value in rows.items()
    }


def _records(
    kernel: Callable,
    rows: Mapping[str, Any],
    shared: Mapping[str, Any],
    static: Mapping[str, Any],
    values: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    records: dict[str, dict[str, Any]] = {}

    n_rows = next(iter(rows.values())).shape[0]

    def run(key: jax.Array, rows: Any, shared: Any, values: Any) -> None:
        seeded = handlers.seed(handlers.substitute(kernel, data=values), key)
        sites = handlers.trace(seeded).get_trace(**rows, **shared, **static)
        plates = {name: site for name, site in sites.items() if site["type"] == "plate"}
        for name, site in sites.items():
            record = _record(site, plates)
            if record is not None:
                records[name] = record | {"n_rows": n_rows}

    with tracing_lock:
        jax.eval_shape(run, jax.random.key(0), dict(rows), dict(shared), dict(values))
    return records


def _record(site: Mapping[str, Any], plates: Mapping[str, Any]) -> dict[str, Any] | None:
    """What outlives the trace of a site: no tracers."""
    kind = _kind(site)
    if kind is None or site["value"] is None:
        return None
    value = site["value"]
    sampled = site["type"] == "sample"
    scale = site.get("scale")
    array = _parameter(value) if kind == "param" else value
    if array is None:
        return None
    # A factor has no value worth its name; where it has rows, its batch shape shows them.
    factor = kind == "factor"
    return {
        "kind": kind,
        "shape": tuple(site["fn"].batch_shape) if factor else tuple(np.shape(array)),
        "density_shape": _density_shape(site, array),
        "dtype": np.dtype(jax.dtypes.result_type(array)),
        "event_dim": site["fn"].event_dim if sampled and not factor else 0,
        "frames": [
            (frame.name, frame.dim, plates[frame.name]["args"][0], frame.size)
            for frame in reversed(site.get("cond_indep_stack") or [])
            if frame.name in plates
        ],
        "scale": scale if scale is None or isinstance(scale, (int, float)) else "array",
        "is_discrete": bool(sampled and kind == "latent" and site["fn"].support.is_discrete),
    }


def _parameter(value: Any) -> Any:
    """The array that a parameter is; of a network, a vector as long as it has weights."""
    leaves = jax.tree.leaves(value)
    if not leaves:  # a network all of whose weights are latent sites
        return None
    if len(leaves) == 1:
        return leaves[0]
    count = sum(np.size(leaf) for leaf in leaves)
    return jax.ShapeDtypeStruct((count,), jax.dtypes.result_type(leaves[0]))


def _density_shape(site: Mapping[str, Any], value: Any) -> tuple[int, ...]:
    """Shape of the log density of observed data: what data and distribution broadcast to."""
    if not site.get("is_observed"):
        return ()
    shape = tuple(np.shape(value))
    try:
        return np.broadcast_shapes(
            shape[: len(shape) - site["fn"].event_dim], site["fn"].batch_shape
        )
    except ValueError:  # computing the density will say what does not fit
        return ()


def _kind(site: Mapping[str, Any]) -> SiteKind | None:
    if site["type"] == "sample":
        if not site["is_observed"]:
            return "latent"
        base = site["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        return "factor" if isinstance(base, Unit) else "observed"
    return site["type"] if site["type"] in ("deterministic", "param") else None


def _inverse_to_rows(record: dict[str, Any], other: dict[str, Any], n_rows: int) -> bool:
    here, there = record["scale"], other["scale"]
    if not isinstance(here, (int, float)) or not isinstance(there, (int, float)) or here == there:
        return False
    return bool(np.isclose(here * n_rows, there * other["n_rows"]))


def _same_sites(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        len(one[name]["shape"]) == len(other[name]["shape"]) for name in one
    )


def _moved(here: int, there: int | None, n_rows: int) -> bool:
    """Whether a size follows the rows; without a second trace, by being their number."""
    return here == n_rows if there is None else there != here


def _moved_axes(
    here: tuple[int, ...], there: tuple[int, ...] | None, n_rows: int
) -> tuple[int, ...]:
    sizes = there if there is not None and len(there) == len(here) else (None,) * len(here)
    return tuple(
        axis
        for axis, (one, other) in enumerate(zip(here, sizes, strict=True))
        if _moved(one, other, n_rows)
    )


def _site(name: str, record: dict[str, Any], other: dict[str, Any] | None, n_rows: int) -> Site:
    shape, frames = record["shape"], record["frames"]
    other_sizes = {frame[0]: frame[3] for frame in other["frames"]} if other else {}
    return Site(
        name=name,
        kind=record["kind"],
        shape=shape,
        dtype=record["dtype"],
        event_dim=record["event_dim"],
        plates=tuple(
            Plate(plate, dim, size, seen, _moved(seen, other_sizes.get(plate), n_rows))
            for plate, dim, size, seen in frames
        ),
        row_axes=_moved_axes(shape, other and other["shape"], n_rows),
        density_row_axes=_moved_axes(
            record["density_shape"], other and other["density_shape"], n_rows
        ),
        scale=record["scale"],
        scale_follows_rows=bool(other) and _inverse_to_rows(record, other, n_rows),
        is_discrete=record["is_discrete"],
    )
