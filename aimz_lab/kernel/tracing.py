"""Find a kernel's structure by abstract tracing.

The kernel runs under ``jax.eval_shape``, so nothing is computed or compiled. It runs twice, with
different numbers of rows: an axis whose size changes is an axis of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.distributions import Distribution, ImproperUniform, Unit
from numpyro.primitives import Messenger

from aimz_lab.kernel.batch_plates import refuse_taken_plate_names, refuse_too_small_plates
from aimz_lab.kernel.data_types import check_data_type, check_real
from aimz_lab.kernel.density_kind import density_kind
from aimz_lab.kernel.event_dims import with_usable_names
from aimz_lab.kernel.hidden_draws import HiddenDraws
from aimz_lab.kernel.joint_events import joint_ndim
from aimz_lab.kernel.known_means import is_ordinal, mean_kind, n_categories
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import (
    DensityKind,
    KernelSpec,
    MeanKind,
    Plate,
    ScaleCourse,
    Site,
    SiteKind,
)
from aimz_lab.kernel.tracing_lock import TracingLock
from aimz_lab.types import HasShape, Static

tracing_lock = TracingLock()
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
    density_kind: DensityKind | None
    mean_kind: MeanKind | None
    n_categories: int | None
    is_ordinal: bool
    is_drawn: bool
    is_cut: bool
    is_looped: bool
    dtype: np.dtype
    event_dim: int
    joint_ndim: int
    frames: tuple[_Frame, ...]
    scale: float | Literal["array"] | None
    is_discrete: bool
    support_is_computed: bool
    distribution_shape: tuple[int, ...] | None
    event_dims: tuple[str, ...] = ()
    argument: str | None = None


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
        KernelError: If the kernel draws from NumPy's or Python's generators.
        Exception: Whatever the kernel raises.
    """
    n_rows = next(iter(rows.values())).shape[0]

    def records_at(count: int) -> dict[str, _Record]:
        abstract = _abstract_rows(rows, count)
        noticed = _KeysTaken(kernel)
        taken.append(noticed)
        return _records(noticed, abstract, shared or {}, static or {}, values or {})

    taken: list[_KeysTaken] = []
    hidden = HiddenDraws(kernel)
    records = records_at(n_rows)
    if hidden.drawn() is not None:  # another thread may have drawn in the meantime
        records_at(n_rows)
        if (source := hidden.drawn()) is not None:
            hidden.refuse(source)
    others = _records_at_another_size(records_at, records, n_rows)
    halved = _halved(records_at, records) if others and _has_scales(records) else None
    fixed = _plates_of_fixed_rows(records, others or {})
    sites = {
        name: replace(
            _site(name, record, None if others is None else others[name], fixed),
            scale_course=_scale_course(record, [at[name] for at in (others, halved) if at]),
        )
        for name, record in records.items()
    }
    takes_keys = any(each.found for each in taken)
    return with_usable_names(KernelSpec(sites, output, n_rows, takes_keys=takes_keys))


class _KeysTaken(Messenger):
    """Notices whether a kernel calls ``numpyro.prng_key``."""

    def __init__(self, fn: Callable) -> None:
        self.found = False
        super().__init__(fn)

    def process_message(self, msg: Message) -> None:
        self.found |= msg["type"] == "prng_key"


def _records_at_another_size(
    records_at: Callable[[int], dict[str, _Record]], records: dict[str, _Record], n_rows: int
) -> dict[str, _Record] | None:
    """Trace with a few rows more or fewer; ``None`` if the kernel cannot, or has other sites."""
    for other in (n_rows + 1, n_rows + 2, n_rows - 1):
        try:
            found = records_at(other) if other > 1 else {}
        except Exception:  # noqa: BLE001  a kernel for this number of rows only: compare sizes
            continue
        if _same_sites(records, found):
            return found
    return None


def _has_scales(records: Mapping[str, _Record]) -> bool:
    return any(isinstance(record.scale, (int, float)) for record in records.values())


def _halved(
    records_at: Callable[[int], dict[str, _Record]], records: dict[str, _Record]
) -> dict[str, _Record] | None:
    """Trace with half the rows: a scale may be the same with one more, such as ``N // B``."""
    n_rows = next(iter(records.values())).n_rows
    try:
        found = records_at(n_rows // 2) if n_rows > 1 else {}
    except Exception:  # noqa: BLE001  see _records_at_another_size
        return None
    return found if _same_sites(records, found) else None


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
        drawn = seeded(handlers.substitute(kernel, data=values), key)
        checked = refuse_taken_plate_names(refuse_too_small_plates(drawn))
        sites = handlers.trace(checked).get_trace(**rows, **shared, **static)
        plates = {name: site for name, site in sites.items() if site["type"] == "plate"}
        for name, site in sites.items():
            if site["type"] == "sample":
                check_real(name, site["fn"], site["value"])
            if site["type"] == "sample" and site["is_observed"]:
                check_data_type(name, site["fn"], site["value"])
            record = _record(site, plates, n_rows)
            if record is not None:
                passed = [arg for arg, array in rows.items() if array is site["value"]]
                records[name] = record._replace(argument=passed[0] if passed else None)

    with tracing_lock:
        jax.eval_shape(run, jax.random.key(0), dict(rows), dict(shared), dict(values))
    return records


def _record(site: Message, plates: Mapping[str, Message], n_rows: int) -> _Record | None:
    """Return the facts about a site that outlive its trace; ``None`` if it is no kernel site."""
    kind = site_kind(site)
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
        density_kind=density_kind(site["fn"]) if kind == "observed" else None,
        mean_kind=mean_kind(site["fn"]) if sampled and not factor else None,
        n_categories=n_categories(site["fn"]) if sampled and not factor else None,
        is_ordinal=sampled and not factor and is_ordinal(site["fn"]),
        is_drawn=kind == "latent" and _is_drawn(site),
        is_cut=site.get("_intervener_id") is not None,
        is_looped=_is_looped(site),
        dtype=np.dtype(jax.dtypes.result_type(array)),
        event_dim=site["fn"].event_dim if sampled and not factor else 0,
        joint_ndim=joint_ndim(site["fn"]) if sampled and not factor else 0,
        frames=tuple(
            _Frame(frame.name, frame.dim, plates[frame.name]["args"][0], frame.size)
            for frame in reversed(site.get("cond_indep_stack") or [])
            if frame.name in plates
        ),
        scale=scale if scale is None or isinstance(scale, (int, float)) else "array",
        is_discrete=bool(sampled and kind == "latent" and site["fn"].support.is_discrete),
        support_is_computed=kind == "latent" and _support_is_computed(site["fn"]),
        distribution_shape=tuple(site["fn"].shape()) if kind == "observed" else None,
        event_dims=_event_dims(site.get("infer") or {}),
    )


def _is_drawn(site: Message) -> bool:
    """Whether a latent site took a random key; one that a handler of the kernel sets takes none."""
    # A loop leaves no keys behind.
    return _is_looped(site) or site["kwargs"].get("rng_key") is not None


def _is_looped(site: Message) -> bool:
    return bool(site.get("_control_flow_done"))


def _event_dims(infer: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the names of a site's dimensions after its plates, as the kernel gives them."""
    given = infer.get("event_dims")
    if given is None or "_scan_current_index" in infer:  # a loop adds an axis in front
        return ()
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _support_is_computed(distribution: Distribution) -> bool:
    """Whether the support of a flat prior is computed when the kernel runs."""
    base = distribution
    while hasattr(base, "base_dist"):
        base = base.base_dist
    leaves = jax.tree.leaves(base.support) if isinstance(base, ImproperUniform) else ()
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


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


def site_kind(site: Message) -> SiteKind | None:
    """The kind of a site by NumPyro's record of it; ``None`` for what is no site of a kernel."""
    if site["type"] == "sample":
        if not site["is_observed"]:
            return "latent"
        base = site["fn"]
        while hasattr(base, "base_dist"):
            base = base.base_dist
        return "factor" if isinstance(base, Unit) else "observed"
    return site["type"] if site["type"] in ("deterministic", "param") else None


def _scale_course(record: _Record, others: Sequence[_Record]) -> ScaleCourse | None:
    """Compare a site's scale at several numbers of rows."""
    numbers = [(1.0 if r.scale is None else r.scale, r.n_rows) for r in (record, *others)]
    if not others or any(scale == "array" for scale, _ in numbers):
        return None
    here, n_rows = numbers[0]
    if all(scale == here for scale, _ in numbers):
        return "constant"
    inverse = all(np.isclose(s * n, here * n_rows, rtol=1e-9, atol=0) for s, n in numbers)
    return "inverse" if inverse else "other"


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


def _plates_of_fixed_rows(
    records: Mapping[str, _Record], others: Mapping[str, _Record]
) -> set[str]:
    """Names of plates that take as many entries as there are rows, and always that many."""
    return {
        frame.plate
        for name, other in others.items()
        if other.kind == "observed"
        for frame in records[name].frames
        for axis in [len(other.shape) - other.event_dim + frame.dim]
        if frame.subsample_size == records[name].n_rows
        and axis >= 0
        and records[name].shape[axis] != other.shape[axis]
    }


def _site(name: str, record: _Record, other: _Record | None, fixed: set[str]) -> Site:
    """Compare the records of a site in two traces; ``fixed`` plates are of these rows only."""
    n_rows = record.n_rows
    others = {frame.plate: frame for frame in other.frames} if other else {}

    def plate(frame: _Frame) -> Plate:
        there = others.get(frame.plate)
        moved = _moved(frame.subsample_size, there and there.subsample_size, n_rows)
        grows = _moved(frame.size, there and there.size, n_rows)
        return Plate(*frame, moved or frame.plate in fixed, grows)

    return Site(
        name=name,
        kind=record.kind,
        shape=record.shape,
        dtype=record.dtype,
        event_dim=record.event_dim,
        joint_ndim=record.joint_ndim,
        plates=tuple(map(plate, record.frames)),
        row_axes=_moved_axes(record.shape, other and other.shape, n_rows),
        density_row_axes=_moved_axes(record.density_shape, other and other.density_shape, n_rows),
        density_ndim=len(record.density_shape),
        density_kind=record.density_kind,
        mean_kind=record.mean_kind,
        n_categories=record.n_categories,
        is_ordinal=record.is_ordinal,
        is_drawn=record.is_drawn,
        is_cut=record.is_cut,
        is_looped=record.is_looped,
        scale=record.scale,
        is_discrete=record.is_discrete,
        support_is_computed=record.support_is_computed,
        distribution_shape=record.distribution_shape,
        argument=record.argument,
        event_dims=record.event_dims,
    )
