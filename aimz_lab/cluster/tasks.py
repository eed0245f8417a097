"""What a worker does: take a call, once, and compute parts of it."""

from __future__ import annotations

import contextlib
import pickle
import platform
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jaxlib
import numpy as np
import numpyro
import zarr

from aimz_lab.cluster.part_sinks import Collected, Written
from aimz_lab.data import BatchSource
from aimz_lab.data.ranged_source import check_zarr_there, rows_between
from aimz_lab.errors import AimzLabError, ClusterError, DataError
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.predictive.blocks import BLOCK_ROWS, Piece, Rows
from aimz_lab.predictive.engine import Drawn, Engine
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.programs.compiled_programs import Programs
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.reducers.reduction import Reduced, Reduction
from aimz_lab.predictive.request import Quantity, Request
from aimz_lab.predictive.results.regions import StoreRegions
from aimz_lab.system.forks import check_can_compute
from aimz_lab.version import __version__

_KEPT = 2
"""Calls, and kernels with their programs, that a worker keeps."""

_one_part = threading.Lock()
"""A part uses all cores of a worker; its warnings are collected for all of the process."""

_calls: OrderedDict[str, Call] = OrderedDict()
_kernels: OrderedDict[str, tuple[tuple[Callable, ...], Programs]] = OrderedDict()


@dataclass(frozen=True)
class Header:
    """What a worker checks before it reads a call.

    Attributes:
        call: Identifies the call.
        kernel: Identifies its kernels.
        versions: Versions of packages and of Python, by name.
        settings: Settings of JAX that change numbers, by name.
    """

    call: str
    kernel: str
    versions: Mapping[str, str]
    settings: Mapping[str, object]


@dataclass(frozen=True)
class Side:
    """One scenario of a call, without its rows.

    Attributes:
        request: The request; its values set by hand have no rows.
        plan: The plan.
        quantity: Values of sites, or their log likelihood.
        source: Where workers read the rows; ``None`` if they come with the part.
        rows: All rows, for a call that is cut into draws.
    """

    request: Request
    plan: Plan
    quantity: Quantity
    source: BatchSource | None = None
    rows: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class Call:
    """A call, as each worker gets it once.

    Attributes:
        sides: Its scenarios.
        combine: Combines their results.
        n_blocks: Blocks of a compiled call; 0 for a call that is cut into draws.
        drawn: By scenario, the sites without rows that blocks need.
        reduction: Reduces the draws, with the values by row of each part; ``None`` to return or to
            write them.
        regions: Where to write the draws; ``None`` to return them.
        stores: Arrays of Zarr that the rows are read from, also within arrays of Dask.
    """

    sides: tuple[Side, ...]
    combine: Callable
    n_blocks: int
    drawn: Drawn = ()
    reduction: Reduction | None = None
    regions: StoreRegions | None = None
    stores: tuple[zarr.Array, ...] = ()


@dataclass(frozen=True)
class Part:
    """A part of a call: some rows with all draws, or some draws with all rows.

    Attributes:
        first: Number of the first row or draw.
        count: Number of rows or draws.
        pieces: The rows by scenario, and values set by hand for them; empty for draws.
        by_row: Values of these rows for reducers, by name.
    """

    first: int
    count: int
    pieces: tuple[Piece, ...] = ()
    by_row: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class PartResult:
    """The result of a part.

    Attributes:
        values: Sites with rows, ``(S, P, ...)``; empty if they were written or reduced.
        single: Sites without rows of a part of the draws, ``(S, ...)``.
        reduced: The reduced draws, if asked for.
        warned: Warnings that came up, by category and text.
        worker: The worker's name.
        seconds: Seconds that the worker computed and wrote.
    """

    values: Mapping[str, np.ndarray]
    single: Mapping[str, np.ndarray]
    reduced: Reduced | None
    warned: tuple[tuple[type[Warning], str], ...]
    worker: str
    seconds: float = 0.0


_SETTINGS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_numpy_dtype_promotion",
    "jax_random_seed_offset",
    "jax_threefry_partitionable",
)
"""Settings of JAX that change numbers."""


def here(platform_: str) -> tuple[dict[str, str], dict[str, object]]:
    """Return what of this process changes numbers: versions, and settings of JAX, by name.

    Args:
        platform_: The kind of device that computes: ``"cpu"``.
    """
    versions = {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "aimz_lab": __version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "numpyro": numpyro.__version__,
    }
    settings = {name: getattr(jax.config, name, None) for name in _SETTINGS}
    return versions, settings | {"devices of the kind": platform_}


def held(call: bytes) -> bytes:
    """Return a pickled call, for a task whose result the workers pass on to one another."""
    return call


def run_part(header: Header, call: bytes, part: Part) -> PartResult:
    """Compute a part on this worker.

    Args:
        header: Identifies the call.
        call: The call, pickled by the process that made it.
        part: The part.

    Raises:
        ClusterError: If this worker differs from the process that made the call.
        ForkedProcessError: If it was forked after JAX had been used, and could not compute.
    """
    check_can_compute(f"A part of the call, on the worker {_name()},")
    _check_alike(header)
    with _one_part, warnings.catch_warnings(record=True) as caught, _bare_errors():
        warnings.simplefilter("always")
        began = time.perf_counter()
        values, single, reduced = _computed(*_known(header, call), part)
        seconds = time.perf_counter() - began
    warned = tuple(dict.fromkeys((one.category, str(one.message)) for one in caught))
    return PartResult(values, single, reduced, warned, _name(), seconds)


def without_sums(result: PartResult) -> PartResult:
    """Return what a call is told of a part whose sums stay on their worker."""
    return replace(result, reduced=None)


def joined(*results: PartResult) -> PartResult:
    """Return the sums of neighbouring parts, given in order, as those of one part."""
    total = Reduced()
    for result in results:
        total.join(result.reduced)
    return replace(results[0], reduced=total, warned=())


@contextlib.contextmanager
def _bare_errors() -> Iterator[None]:
    """Let our errors leave without what caused them, which may not be picklable.

    Their messages say it. Dask would replace the whole chain by a plain ``Exception``.
    """
    try:
        yield
    except AimzLabError as error:
        error.__cause__ = error.__context__ = None
        raise


def wait_until_idle(timeout_s: float) -> None:
    """Wait until this worker computes no part."""
    if _one_part.acquire(timeout=timeout_s):
        _one_part.release()


def _check_alike(header: Header) -> None:
    versions, settings = here(jax.default_backend())
    for mine, theirs in ((versions, header.versions), (settings, header.settings)):
        for name, value in theirs.items():
            if mine.get(name) != value:
                raise other_version(_name(), name, mine.get(name), value)


def other_version(worker: str, name: str, found: object, expected: object) -> ClusterError:
    """Return the error for a worker that differs from the process that made a call.

    Args:
        worker: The worker, as it follows "The worker".
        name: What differs.
        found: What the worker has.
        expected: What the process has.
    """
    msg = (
        f"The worker {worker} has {name} {found}, and this process {expected}; the numbers could "
        "differ. Give all workers the same versions and settings."
    )
    return ClusterError(msg)


def _known(header: Header, call: bytes) -> tuple[Call, Programs]:
    """Return a call, and the programs of its kernels; they are kept from part to part."""
    if header.call not in _calls:
        loaded = pickle.loads(call)
        _check_sources(loaded)
        _keep(_calls, header.call, loaded)
    known = _calls[header.call]
    if header.kernel not in _kernels:
        kernels = tuple(side.request.kernel for side in known.sides)
        _keep(_kernels, header.kernel, (kernels, Programs()))
    kernels, programs = _kernels[header.kernel]
    sides = tuple(map(_with_kernel, known.sides, kernels))
    return replace(known, sides=sides), programs


def _check_sources(call: Call) -> None:
    """Raise :class:`ClusterError` if this worker does not see what it is to read."""
    try:
        for side in call.sides:
            if side.source is not None:
                side.source.check_there()
        for array in call.stores:
            check_zarr_there("The Zarr array of the rows", array)
    except DataError as error:
        msg = f"The worker {_name()} cannot read the rows: {error}"
        raise ClusterError(msg) from error


def _keep(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    while len(kept) >= _KEPT:
        kept.popitem(last=False)
    kept[name] = value


def _with_kernel(side: Side, kernel: Callable) -> Side:
    """Return a scenario with a kernel that is known here: programs are found by the object."""
    return replace(
        side,
        request=replace(side.request, kernel=kernel),
        plan=replace(side.plan, kernel=CodeKey(kernel)),
    )


def _computed(
    call: Call, programs: Programs, part: Part
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Reduced | None]:
    if not part.pieces:
        scenarios = tuple(_with_all_rows(side) for side in call.sides)
        collected = Collected()
        only = range(part.first, part.first + part.count)
        single = Engine(programs, scenarios, call.combine).by_draws(collected, only)
        return collected.arrays(0), single, None
    scenarios = tuple(map(_with_rows, call.sides, part.pieces))
    engine = Engine(programs, scenarios, call.combine)
    if call.reduction is not None:
        first_piece = part.first // (call.n_blocks * BLOCK_ROWS)
        reduction = call.reduction.of_part(first_piece, part.first, part.by_row)
        engine.part(call.drawn, reduction, call.n_blocks)
        return {}, {}, reduction.found
    if call.regions is not None:
        engine.part(call.drawn, Written(call.regions), call.n_blocks)
        return {}, {}, None
    collected = Collected()
    engine.part(call.drawn, collected, call.n_blocks)
    return collected.arrays(1), {}, None


def _with_all_rows(side: Side) -> Scenario:
    return Scenario(side.request, side.plan, Rows(side.rows, side.request.fields), side.quantity)


def _with_rows(side: Side, piece: Piece) -> Scenario:
    """Return the scenario of a part's rows."""
    rows = piece.rows
    if side.source is not None:
        fields = side.request.fields
        rows = _read(side.source, piece)
        rows = {name: rows[name] for name in fields or rows if name in rows}
    given = {"intervention": dict(side.request.intervention)}
    given["condition"] = dict(side.request.condition)
    roles = {"do": "intervention", "condition": "condition"}
    for (role, name), values in piece.aligned.items():
        given[roles[role]][name] = np.moveaxis(values, 0, side.plan.row_wise[name])
    request = replace(side.request, **given)
    return Scenario(request, side.plan, Rows(rows, first=piece.first), side.quantity)


def _read(source: BatchSource, piece: Piece) -> Mapping[str, np.ndarray]:
    """Read the rows of a part.

    Raises:
        ClusterError: If they are in files that this worker does not see.
    """
    try:
        [rows] = rows_between(source, piece.first, piece.n_rows).epoch(0)
    except OSError as error:
        last = piece.first + piece.n_rows - 1
        msg = (
            f"The worker {_name()} cannot read rows {piece.first:,} to {last:,}: {error}. Put the "
            "files where all workers see them: on a network file system, or at a URL such as "
            "s3://bucket/folder."
        )
        raise ClusterError(msg) from error
    return rows


def _name() -> str:
    """Name of this worker: its address in Dask, else its process."""
    if worker := _dask_worker():
        return str(worker.address if worker.name is None else worker.name)
    return f"process {platform.node()}:{threading.get_native_id()}"


def _dask_worker() -> Any:
    try:
        from distributed import get_worker
    except ImportError:
        return None
    try:
        return get_worker()
    except ValueError:
        return None
