"""Name the axes of sites by columns and levels of the table.

An axis belongs to the columns of a matrix, or to the levels of a category, if it grows by one when
the kernel is traced with one more of them. Equal sizes alone say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.types import SAMPLE_DIMS, Columns, Static

if TYPE_CHECKING:
    from aimz_lab.tables.encoder import TableEncoder


class SiteNames(NamedTuple):
    """Names of axes.

    Attributes:
        dims: Names of a site's dimensions without rows, by site.
        coords: Columns and levels by dimension.
    """

    dims: dict[str, tuple[str, ...]]
    coords: dict[str, np.ndarray]

    def in_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return options of a prediction with these names, where the user gave no others.

        Args:
            options: The options; what is no mapping there is left to be refused.
        """
        given = [options.get(name) or {} for name in ("dims", "coords")]
        if not self.dims or not all(isinstance(each, Mapping) for each in given):
            return dict(options)
        dims = {**self.dims, **given[0]}
        used = {dim for each in dims.values() for dim in each}
        coords = {dim: labels for dim, labels in self.coords.items() if dim in used}
        return {**options, "dims": dims, "coords": {**coords, **given[1]}}


class Arguments(NamedTuple):
    """The kernel's arguments as they were trained on.

    Attributes:
        rows: Shapes and types of a batch, by argument.
        shared: Shapes and types of shared arguments.
        static: Plain values.
    """

    rows: Mapping[str, jax.ShapeDtypeStruct]
    shared: Mapping[str, jax.ShapeDtypeStruct]
    static: Static


def name_sites(
    kernel: Callable, spec: KernelSpec, encoder: TableEncoder, arguments: Arguments
) -> SiteNames:
    """Find the axes of latent and computed sites that are columns or levels of the table.

    Args:
        kernel: The kernel.
        spec: Its structure with these arguments.
        encoder: The encoder of the table.
        arguments: The arguments.

    Returns:
        The names; those that the user gave in ``TableSpec(dims=...)`` come first.

    Raises:
        ArgumentError: If the user named a site that does not exist, or an axis after something else
            than a matrix or a category, or of another length.
    """
    unknown = [name for name in encoder.spec.dims if name not in spec.sites]
    if unknown:
        msg = (
            f"TableSpec(dims=...) names {', '.join(map(repr, unknown))}, and the kernel's sites "
            f"are {', '.join(spec.sites)}."
        )
        raise ArgumentError(msg)
    axes: dict[tuple[str, int], str] = {}
    for dim, larger in _one_more(encoder, arguments):
        for name, axis in _grown_axes(kernel, spec, larger, len(encoder.names[dim])):
            axes.setdefault((name, axis), dim)
    dims, coords = {}, {}
    for name, site in spec.sites.items():
        said = encoder.spec.dims.get(name)
        found = {axis: dim for (other, axis), dim in axes.items() if other == name}
        if said is not None:
            found |= _said(name, said, site, spec, encoder)
        if found:
            dims[name] = _dims(site, spec, found)
            free = [axis for axis in range(len(site.shape)) if axis != spec.row_axis(name)]
            for axis, dim in found.items():
                coords[dims[name][free.index(axis)]] = np.asarray(encoder.names[dim])
    return SiteNames(dims, coords)


def _one_more(encoder: TableEncoder, arguments: Arguments) -> Iterator[tuple[str, Arguments]]:
    """Yield the arguments with one more column or level, for each dimension."""
    for name, part in encoder.spec.parts.items():
        if part.kind == "levels" and name in arguments.static:
            more = {**arguments.static, name: arguments.static[name] + 1}
            yield part.columns[0], arguments._replace(static=more)
        elif part.is_matrix and name in arguments.rows:
            yield name, _one_column_more(name, arguments)


def _one_column_more(name: str, arguments: Arguments) -> Arguments:
    row = arguments.rows[name]
    wider = jax.ShapeDtypeStruct((row.shape[0], row.shape[1] + 1), row.dtype)
    return arguments._replace(rows={**arguments.rows, name: wider})


def axes_of_columns(
    kernel: Callable, spec: KernelSpec, columns: Columns, arguments: Arguments
) -> dict[str, dict[int, np.ndarray]]:
    """Find the axes of sites that are the columns of a data frame, where there is no encoder.

    Args:
        kernel: The kernel.
        spec: Its structure with these arguments.
        columns: Names of the columns of each argument that came as a frame.
        arguments: The arguments.

    Returns:
        The names of the columns by axis, by site.
    """
    found: dict[str, dict[int, np.ndarray]] = {}
    for argument, names in columns.items():
        row = arguments.rows.get(argument)
        if row is None or len(row.shape) != 2 or row.shape[1] != len(names):
            continue
        larger = _one_column_more(argument, arguments)
        for site, axis in _grown_axes(kernel, spec, larger, len(names)):
            found.setdefault(site, {}).setdefault(axis, np.asarray(list(map(str, names))))
    return found


def _grown_axes(
    kernel: Callable, spec: KernelSpec, larger: Arguments, size: int
) -> Iterator[tuple[str, int]]:
    try:
        grown = trace_spec(
            kernel,
            rows=larger.rows,
            shared=larger.shared,
            static=larger.static,
            output=spec.output,
        )
    except Exception:  # noqa: BLE001  a kernel may be written for one number of columns
        return
    for name, site in spec.sites.items():
        other = grown.sites.get(name)
        if other is None or len(other.shape) != len(site.shape):
            continue
        for axis, (before, after) in enumerate(zip(site.shape, other.shape, strict=True)):
            if before == size and after == size + 1 and axis not in site.row_axes:
                yield name, axis


def _said(
    name: str, said: tuple[str, ...], site: Site, spec: KernelSpec, encoder: TableEncoder
) -> dict[int, str]:
    """Return the axes that the user named."""
    free = [axis for axis in range(len(site.shape)) if axis != spec.row_axis(name)]
    if len(said) != len(free):
        msg = (
            f"TableSpec(dims=...) names {len(said)} dimensions of the site {name!r}, which has "
            f"{len(free)} beside chain, draw and rows."
        )
        raise ArgumentError(msg)
    for axis, dim in zip(free, said, strict=True):
        if dim not in encoder.names:
            msg = (
                f"TableSpec(dims=...) names {dim!r}, which is neither a matrix nor a category of "
                f"the table; these are {', '.join(encoder.names)}."
            )
            raise ArgumentError(msg)
        if len(encoder.names[dim]) != site.shape[axis]:
            msg = (
                f"The site {name!r} has {site.shape[axis]} entries where TableSpec(dims=...) names "
                f"{dim!r}, which has {len(encoder.names[dim])}."
            )
            raise ArgumentError(msg)
    return dict(zip(free, said, strict=True))


def _dims(site: Site, spec: KernelSpec, found: Mapping[int, str]) -> tuple[str, ...]:
    """Return the names of all dimensions but the rows: of a plate, of the table, or numbered."""
    plates = {site.batch_ndim + plate.dim: plate.name for plate in site.plates if not plate.is_rows}
    taken = {*SAMPLE_DIMS, *spec.sites, spec.row_dim}
    names = []
    for axis in range(len(site.shape)):
        if axis == spec.row_axis(site.name):
            continue
        default = f"{site.name.replace('/', '.')}_dim_{axis}"
        plate = plates.get(axis)
        name = plate if plate is not None and plate not in taken else found.get(axis, default)
        names.append(f"{name}_level" if name in taken else name)
    return tuple(names)
