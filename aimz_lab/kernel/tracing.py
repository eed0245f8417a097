"""Find a kernel's structure by abstract tracing.

The kernel runs under ``jax.eval_shape``, so nothing is computed or compiled. It runs twice, with
different numbers of rows: an axis whose size changes is an axis of rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import Unit

from aimz_lab.kernel.spec import KernelSpec, Plate, Site, SiteKind
from aimz_lab.types import HasShape, Static

tracing_lock = threading.RLock()
"""Hold it while tracing NumPyro code: all threads share NumPyro's handler stack."""

Message: TypeAlias = Mapping[str, Any]
"""NumPyro's record of a site, as in the result of ``handlers.trace``."""


class _Frame(NamedTuple):
    """A plate around a site: its name, dimension, full size, and the size of one call."""

    plate: str
    dim: int
    size: int
    subsample_size: int


class _Record(NamedTuple):
    """A site in one trace, without tracers; the fields are those of :class:`Site`."""

    n_rows: int
    kind: SiteKind
    shape: tuple[int, ...]
    density_shape: tuple[int, ...]
    dtype: np.dtype
    event_dim: int
    frames: tuple[_Frame, ...]
    scale: float | Literal["array"] | None
    is_discrete: bool
    distribution_shape: tuple[int, ...] | None


def trace_spec(
    kernel: Callable,
    *,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]] | None = None,
    static: Static | None = None,
    output: str = "y",
    values: Mapping[str, PyTree[HasShape]] | None = None,
) -> KernelSpec:
    """Trace a kernel or a guide abstractly.

    Args:
        kernel: A function with NumPyro primitives.
        rows: Per-row arguments, of shape ``(row, ...)``; only shapes and types matter, so
            ``jax.ShapeDtypeStruct`` will do.
        shared: Shared arguments.
        static: Arguments without arrays.
        output: Name of the output site.
        values: Values to substitute for sites, such as learned ``param`` sites.

    Returns:
        The spec, with shapes at the given number of rows.

    Raises:
        Exception: Whatever the kernel raises.
    """
    n_rows = next(iter(rows.values())).shape[0]

    def records_at(count: int) -> dict[str, _Record]:
        abstract = _abstract_rows(rows, count)
        return _records(kernel, abstract, shared or {}, static or {}, values or {})

    records = records_at(n_rows)
    others = _records_at_another_size(records_at, records, n_rows)
    sites = {
        name: _site(name, record, None if others is None else others[name])
        for name, record in records.items()
    }
    return KernelSpec(sites, output, n_rows)


def _records_at_another_size(
    records_at: Callable[[int], dict[str, _Record]], records: dict[str, _Record], n_rows: int
) -> dict[str, _Record] | None:
    """Trace with one or two rows more; ``None`` if the kernel cannot, or has other sites then."""
    for other in (n_rows + 1, n_rows + 2):
        try:
            found = records_at(other)
        except Exception:  # noqa: BLE001  a kernel for this number of rows only: compare sizes
            return None
        if _same_sites(records, found):
            return found
    return None


def _abstract_rows(rows: Mapping[str, HasShape], n_rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        name: jax.ShapeDtypeStruct(
            (n_rows, *value.shape[1:]), jax.dtypes.canonicalize_dtype(value.dtype)
        )
        for name, value in rows.items()
    }


def _records(
    kernel: Callable,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
    values: Mapping[str, PyTree[HasShape]],
) -> dict[str, _Record]:
    records: dict[str, _Record] = {}
    n_rows = next(iter(rows.values())).shape[0]

    def run(key: jax.Array, rows: PyTree, shared: PyTree, values: PyTree) -> None:
        seeded = handlers.seed(handlers.substitute(kernel, data=values), key)
        sites = handlers.trace(seeded).get_trace(**rows, **shared, **static)
        plates = {name: site for name, site in sites.items() if site["type"] == "plate"}
        for name, site in sites.items():
            record = _record(site, plates, n_rows)
            if record is not None:
                records[name] = record

    with tracing_lock:
        jax.eval_shape(run, jax.random.key(0), dict(rows), dict(shared), dict(values))
    return records


def _record(site: Message, plates: Mapping[str, Message], n_rows: int) -> _Record | None:
    """Return the facts about a site that outlive its trace; ``None`` if it is no kernel site."""
    kind = _kind(site)
    if kind is None or site["value"] is None:
        return None
    value = site["value"]
    sampled = site["type"] == "sample"
    scale = site.get("scale")
    array = _parameter(value) if kind == "param" else value
    if array is None:
        return None
    # The value of a factor is empty; its batch shape shows whether it has rows.
    factor = kind == "factor"
    return _Record(
        n_rows=n_rows,
        kind=kind,
        shape=tuple(site["fn"].batch_shape) if factor else tuple(np.shape(array)),
        density_shape=_density_shape(site, array),
        dtype=np.dtype(jax.dtypes.result_type(array)),
        event_dim=site["fn"].event_dim if sampled and not factor else 0,
        frames=tuple(
            _Frame(frame.name, frame.dim, plates[frame.name]["args"][0], frame.size)
            for frame in reversed(site.get("cond_indep_stack") or [])
            if frame.name in plates
        ),
        scale=scale if scale is None or isinstance(scale, (int, float)) else "array",
        is_discrete=bool(sampled and kind == "latent" and site["fn"].support.is_discrete),
        distribution_shape=tuple(site["fn"].shape()) if kind == "observed" else None,
    )


def _parameter(value: PyTree[HasShape]) -> HasShape | None:
    """Return the array of a parameter; for a network, a vector as long as its weights."""
    leaves = jax.tree.leaves(value)
    if not leaves:  # a network all of whose weights are latent sites
        return None
    if len(leaves) == 1:
        return leaves[0]
    count = sum(np.size(leaf) for leaf in leaves)
    return jax.ShapeDtypeStruct((count,), jax.dtypes.result_type(leaves[0]))


def _density_shape(site: Message, value: HasShape) -> tuple[int, ...]:
    """Return the shape of observed data's log density: data and distribution broadcast."""
    if not site.get("is_observed"):
        return ()
    shape = tuple(np.shape(value))
    try:
        return np.broadcast_shapes(
            shape[: len(shape) - site["fn"].event_dim], site["fn"].batch_shape
        )
    except ValueError:  # computing the density will raise the better error
        return ()


def _kind(site: Message) -> SiteKind | None:
    if site["type"] == "sample":
        if not site["is_observed"]:
            return "latent"
        base = site["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        return "factor" if isinstance(base, Unit) else "observed"
    return site["type"] if site["type"] in ("deterministic", "param") else None


def _inverse_to_rows(record: _Record, other: _Record) -> bool:
    here, there = record.scale, other.scale
    if not isinstance(here, (int, float)) or not isinstance(there, (int, float)) or here == there:
        return False
    return bool(np.isclose(here * record.n_rows, there * other.n_rows))


def _same_sites(one: Mapping[str, _Record], other: Mapping[str, _Record]) -> bool:
    return one.keys() == other.keys() and all(
        len(one[name].shape) == len(other[name].shape) for name in one
    )


def _moved(here: int, there: int | None, n_rows: int) -> bool:
    """Return whether a size follows the rows; without a second trace, whether it equals them."""
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


def _site(name: str, record: _Record, other: _Record | None) -> Site:
    """Compare the records of a site in two traces."""
    n_rows = record.n_rows
    other_sizes = {frame.plate: frame.subsample_size for frame in other.frames} if other else {}
    return Site(
        name=name,
        kind=record.kind,
        shape=record.shape,
        dtype=record.dtype,
        event_dim=record.event_dim,
        plates=tuple(
            Plate(*frame, _moved(frame.subsample_size, other_sizes.get(frame.plate), n_rows))
            for frame in record.frames
        ),
        row_axes=_moved_axes(record.shape, other and other.shape, n_rows),
        density_row_axes=_moved_axes(record.density_shape, other and other.density_shape, n_rows),
        scale=record.scale,
        scale_follows_rows=other is not None and _inverse_to_rows(record, other),
        is_discrete=record.is_discrete,
        distribution_shape=record.distribution_shape,
    )
