"""The structure of a call's kernel: on the rows of a block, and on all rows."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import NamedTuple

import jax
from jaxtyping import PyTree

from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.predictive.blocks import BLOCK_ROWS, Rows
from aimz_lab.predictive.request import Request


class Structure(NamedTuple):
    """The structure of a call's kernel.

    Attributes:
        spec: Its sites, for a block of rows if these can be cut, else for all rows.
        uncuttable: Why its rows cannot be cut; ``None`` if its structure shows no reason.
    """

    spec: KernelSpec
    uncuttable: str | None


def structure_key(kernel: CodeKey, request: Request, rows: Rows) -> Hashable:
    """Return a key that is equal for calls whose kernel has the same structure."""
    one = {name: array[:1] for name, array in rows.template.items()}
    shapes = shapes_of((one, dict(request.shared), dict(request.params)))
    named = request.static_key, request.output
    return "structure", kernel, *named, request.shard_axis, rows.n_rows, shapes


def trace_structure(request: Request, rows: Rows) -> Structure:
    """Trace the kernel of a call on one block and on all rows.

    Args:
        request: The call.
        rows: Its rows.

    Raises:
        DataError: If there are more rows than a plate of a fixed size has entries.
        KernelError: If a plate takes others than the rows at random.
        Exception: What the kernel raises.
    """
    n_rows = rows.n_rows
    if request.shard_axis == "draw":
        return Structure(_traced(request, rows, n_rows, all_rows=True), None)
    try:
        if n_rows == BLOCK_ROWS:  # a kernel tied to 256 rows would pass otherwise
            _traced(request, rows, 2 * BLOCK_ROWS)
        of_block = _traced(request, rows, BLOCK_ROWS)
    except Exception:
        if n_rows is None:
            raise
        spec = _traced(request, rows, n_rows, all_rows=True)
        return Structure(spec, "The kernel does not run on another number of rows")
    if n_rows is None:
        return Structure(of_block, None)
    spec = _traced(request, rows, n_rows, all_rows=True)
    if _same_structure(of_block, spec):
        return Structure(of_block, None)
    return Structure(spec, "The kernel has other sites for another number of rows")


def check_plates(request: Request, rows: Rows) -> None:
    """Raise as :func:`trace_structure` does, once all rows of a source were read."""
    _traced(request, rows, rows.count, all_rows=True)


def _traced(request: Request, rows: Rows, n_rows: int, *, all_rows: bool = False) -> KernelSpec:
    """Trace the kernel on some number of rows, or on the number of all rows."""
    row_argument = next(iter(rows.template))

    @functools.wraps(request.kernel)
    def pinned(**arguments: PyTree) -> object:
        given = arguments[row_argument].shape[0]
        whole = all_rows and given == n_rows
        return pin_plates(request.kernel, given, all_rows=whole)(**arguments)

    return trace_spec(
        pinned,
        rows={
            name: jax.ShapeDtypeStruct((n_rows, *value.shape[1:]), value.dtype)
            for name, value in rows.template.items()
        },
        shared=request.shared,
        static=request.static,
        output=request.output,
        values=request.params,
    )


def _same_structure(of_block: KernelSpec, of_all: KernelSpec) -> bool:
    """Whether a kernel has the same sites for a block and for all rows, apart from their number."""

    def described(site: Site) -> tuple:
        return site.kind, site.dtype, site.event_dim, site.is_discrete

    return list(of_block.sites) == list(of_all.sites) and all(
        described(site) == described(of_all.sites[name])
        and of_block.shape_at(name, of_all.n_rows) == of_all.sites[name].shape
        for name, site in of_block.sites.items()
    )
