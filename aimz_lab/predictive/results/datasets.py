"""Label draws as datasets: chain and draw first, other dimensions named by plates."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Set
from datetime import UTC, datetime
from typing import TypeAlias

import jax
import numpy as np
import numpyro
from jax.typing import ArrayLike
from jaxtyping import Shaped

from aimz_lab.data import AxisLabels, RowCoord, as_coord
from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.spec import KernelSpec, Site, variable_name
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS, Coords
from aimz_lab.version import __version__

MOST_NUMBERED = 10**6
"""Most entries of a dimension that is numbered. Numbers and their index take 16 bytes a row,
in memory even if the draws are in a store."""

_MOST_COUNTED = 4096
"""Longest dimension whose index is kept, so that all of those kept take a few megabytes."""

Variable: TypeAlias = "xr.Variable | tuple[tuple[str, ...], np.ndarray]"
"""A labelled array, or its dimensions and values."""


def site_dims(
    spec: KernelSpec | None,
    name: str,
    ndim: int,
    *,
    row_axis: int | None = None,
    named: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[str, ...]:
    """Name the dimensions of a site, without chain and draw.

    Args:
        spec: The kernel's structure; ``None`` if it is not known.
        name: The site.
        ndim: Number of dimensions of its value; a log likelihood has the site's batch dimensions.
        row_axis: Its axis of rows, if any.
        named: Names given by the user, by site; for all dimensions of its value or of its batch, or
            for all but the rows. A log likelihood takes the first of them.

    Returns:
        For each dimension the name that the user gave; else the rows' name; else the name of its
        plate; else that of ``infer={"event_dims": ...}``; else ``{site}_dim_{i}``, as in ArviZ.
    """
    dims: list[str | None] = [None] * ndim
    site = spec.sites.get(name) if spec else None
    taken = {*SAMPLE_DIMS, *map(variable_name, spec.sites if spec else ())}
    for plate in site.plates if site else ():
        axis = min(site.batch_ndim, ndim) + plate.dim
        if plate.is_rows and axis not in site.row_axes:
            continue  # a computed site may have as many columns as a block has rows
        if 0 <= axis < ndim and site.shape[axis] == plate.subsample_size:
            label = variable_name(plate.name)
            dims[axis] = None if label in taken else label
    for axis, label in enumerate(site.event_dims if site else (), len(site.plates) if site else 0):
        if axis < ndim and dims[axis] is None:
            dims[axis] = variable_name(label)
    if row_axis is not None:
        dims[row_axis] = spec.row_dim
    given = list((named or {}).get(name, ()))
    has_rows = _names_rows(len(given), site, ndim)
    free = [axis for axis in range(ndim) if has_rows or axis != row_axis]
    dims = [*dims]
    for axis, label in zip(free, given, strict=False):
        dims[axis] = label
    return tuple(
        _default_dim(name, axis, ndim, taken) if label is None else label
        for axis, label in enumerate(dims)
    )


def _names_rows(n_names: int, site: Site | None, ndim: int) -> bool:
    """Whether the names given of a site include that of its rows."""
    if site is None:
        return n_names == ndim
    whole = len(site.shape)
    return n_names == whole or (n_names == site.batch_ndim and n_names != whole - 1)


def _default_dim(site: str, axis: int, ndim: int, taken: Set[str]) -> str:
    """Number a dimension by its axis, as ArviZ does; further on if a site has that name."""
    numbers = itertools.count(axis, ndim)
    names = (f"{variable_name(site)}_dim_{number}" for number in numbers)
    return next(name for name in names if name not in taken)


def sample_dataset(
    arrays: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]],
    dims: Mapping[str, tuple[str, ...]],
    num_chains: int,
    coords: Coords | None = None,
    attrs: Mapping[str, object] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> xr.Dataset:
    """Label arrays whose leading axis is draws, chain by chain.

    Args:
        arrays: Arrays ``(S, ...)`` by variable; they are not copied.
        dims: Names of the dimensions after the draws, by variable.
        num_chains: Chains; divides ``S``.
        coords: Labels by dimension; the default counts from 0.
        attrs: Attributes.
        sizes: Sizes of further dimensions to label.

    Returns:
        A dataset with dimensions ``chain``, ``draw`` and those named.
    """
    variables = {
        variable_name(name): labelled_draws(array, dims[name], num_chains)
        for name, array in arrays.items()
    }
    sizes = dict(sizes or {})
    for names, values in variables.values():
        sizes.update(zip(names, values.shape, strict=True))
    return with_coords(variables, sizes, coords or {}, attrs or {})


def posterior_dataset(
    draws: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]],
    num_chains: int = 1,
    *,
    spec: KernelSpec | None = None,
    dims: Mapping[str, tuple[str, ...]] | None = None,
    coords: Coords | None = None,
    attrs: Mapping[str, object] | None = None,
    rows: RowCoord | None = None,
) -> xr.Dataset:
    """Label posterior draws.

    Args:
        draws: Draws by site, ``(S, ...)``, chain by chain.
        num_chains: Number of chains.
        spec: The kernel's structure, whose plates name dimensions.
        dims: Names given by the user, by site.
        coords: Labels by dimension.
        attrs: Attributes.
        rows: Labels of the rows, if they are known; taken if each row has its own.

    Returns:
        The dataset, in host memory. Rows have labels only from ``rows`` or ``coords``.

    Example:
        >>> dict(posterior_dataset({"b": np.zeros((8, 3))}, num_chains=2).sizes)
        {'chain': 2, 'draw': 4, 'b_dim_0': 3}
    """
    arrays = {name: np.asarray(values) for name, values in draws.items()}
    named, coords = posterior_dims(draws, spec, dims), dict(coords or {})
    if rows is not None and spec is not None and _are_of(rows, spec.row_dim, arrays, named):
        coords = row_coords(rows, spec.row_dim) | coords
    found = sample_dataset(arrays, named, num_chains, coords, attrs)
    if spec is None or spec.row_dim in coords:
        return found
    # Numbers in place of the training rows' labels would be taken for those of a prediction.
    return found.drop_vars(spec.row_dim, errors="ignore")


def _are_of(
    rows: RowCoord,
    row_dim: str,
    arrays: Mapping[str, np.ndarray],
    dims: Mapping[str, tuple[str, ...]],
) -> bool:
    """Whether each row of the draws has a label of its own."""
    sizes = {
        size
        for name, values in arrays.items()
        for dim, size in zip(dims[name], values.shape[1:], strict=True)
        if dim == row_dim
    }
    return sizes == {len(rows.labels)} and len(np.unique(rows.labels)) == len(rows.labels)


def posterior_dims(
    draws: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]],
    spec: KernelSpec | None,
    dims: Mapping[str, tuple[str, ...]] | None,
) -> dict[str, tuple[str, ...]]:
    """Name the dimensions of posterior draws, without chain and draw; see :func:`site_dims`."""
    names = {}
    for name, array in draws.items():
        ndim = np.ndim(array) - 1
        site = spec.sites.get(name) if spec else None
        fits = site is not None and len(site.shape) == ndim
        row_axis = spec.row_axis(name) if fits else None
        names[name] = site_dims(spec, name, ndim, row_axis=row_axis, named=dims)
    return names


def posterior_tree(
    draws: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]],
    num_chains: int = 1,
    *,
    stats: Mapping[str, ArrayLike] | None = None,
    spec: KernelSpec | None = None,
    dims: Mapping[str, tuple[str, ...]] | None = None,
    coords: Coords | None = None,
    attrs: Mapping[str, object] | None = None,
    rows: RowCoord | None = None,
) -> xr.DataTree:
    """Label posterior draws as a tree, with the sampler's statistics.

    Args:
        draws: As for :func:`posterior_dataset`.
        num_chains: Likewise.
        stats: Values of each draw by name; the group ``sample_stats``.
        spec: As for :func:`posterior_dataset`.
        dims: Likewise.
        coords: Likewise.
        attrs: Likewise.
        rows: Likewise.
    """
    posterior = posterior_dataset(
        draws, num_chains, spec=spec, dims=dims, coords=coords, attrs=attrs, rows=rows
    )
    groups = {"posterior": posterior}
    return xr.DataTree.from_dict({**groups, **stats_group(stats or {}, num_chains)})


def stats_group(stats: Mapping[str, ArrayLike], num_chains: int) -> dict[str, xr.Dataset]:
    """Label a sampler's statistics of each draw; without any, there is no group."""
    if not stats:
        return {}
    arrays = {name: np.asarray(values) for name, values in stats.items()}
    return {"sample_stats": sample_dataset(arrays, dict.fromkeys(arrays, ()), num_chains)}


def labelled_draws(
    values: np.ndarray, dims: tuple[str, ...], num_chains: int
) -> tuple[tuple[str, ...], np.ndarray]:
    """Split draws into chains; return the dimensions and the values of a variable."""
    shape = (num_chains, len(values) // num_chains, *values.shape[1:])
    return (*SAMPLE_DIMS, *dims), in_known_type(values).reshape(shape)


def known_type(dtype: np.dtype) -> np.dtype:
    """Return the type that results have: float32 for bfloat16 and others that NumPy lacks.

    xarray leaves arrays of such types out of means, and Zarr cannot store them. float32 holds each
    of their values.
    """
    is_foreign = dtype.kind == "V" and jax.dtypes.issubdtype(dtype, np.floating)
    return np.dtype(np.float32) if is_foreign else dtype


def in_known_type(values: np.ndarray) -> np.ndarray:
    """Return an array as :func:`known_type`; unless it is of another, the array itself."""
    return values.astype(known_type(values.dtype), copy=False)


def check_coords(coords: Coords, sizes: Mapping[str, int]) -> None:
    """Raise :class:`ArgumentError` if a dimension has more or fewer labels than entries."""
    for dim, labels in coords.items():
        if dim in sizes and len(labels) != sizes[dim]:
            msg = (
                f"coords[{dim!r}] has {len(labels):,} labels, and the dimension {dim!r} has "
                f"{sizes[dim]:,} entries; give each a label."
            )
            raise ArgumentError(msg)


def with_coords(
    variables: Mapping[str, Variable],
    sizes: Mapping[str, int],
    coords: Coords,
    attrs: Mapping[str, object],
) -> xr.Dataset:
    """Return a dataset with the given labels; other dimensions count from 0.

    A dimension of more than :data:`MOST_NUMBERED` entries that only count is left without labels,
    which xarray counts itself.

    Raises:
        ArgumentError: If there are more or fewer labels than entries.
    """
    check_coords(coords, sizes)
    attrs = {**origin_attrs(), **attrs}
    labels = {dim: value for dim, value in coords.items() if dim in sizes}
    levels = {
        name: value
        for name, value in coords.items()
        if isinstance(value, xr.Variable) and name not in {*sizes, *variables}
        if value.attrs.get(LEVEL_OF) in sizes
    }
    if not labels and not levels and max(sizes.values(), default=0) <= _MOST_COUNTED:
        return xr.Dataset(variables, _counted(sizes), attrs)
    numbers = {dim: np.arange(size) for dim, size in sizes.items() if size <= MOST_NUMBERED}
    labels = numbers | labels
    return with_levels(xr.Dataset(variables, {**labels, **levels}, attrs))


def _counted(sizes: Mapping[str, int]) -> xr.Coordinates:
    """Return dimensions that count from 0; their indexes are those of all groups and calls."""
    indexes = {dim: _index(dim, size) for dim, size in sizes.items()}
    variables = {dim: index.create_variables()[dim] for dim, index in indexes.items()}
    return xr.Coordinates(variables, indexes)


@functools.lru_cache(maxsize=256)
def _index(dim: str, size: int) -> xr.indexes.PandasIndex:
    values = np.arange(size)
    values.flags.writeable = False
    return xr.indexes.PandasIndex(values, dim)


def tree_of(groups: Mapping[str, xr.Dataset]) -> xr.DataTree:
    """Return a tree of groups; unlike ``DataTree.from_dict``, it copies each of them once.

    Args:
        groups: Datasets by name; a name has no ``/``.
    """
    tree = xr.DataTree()
    tree.children = {name: xr.DataTree(dataset) for name, dataset in groups.items()}
    return tree


LEVEL_OF = "level_of"
"""Attribute of a coordinate that is a level of a multi-index: the dimension of that index."""


def row_coords(rows: RowCoord, dim: str) -> dict[str, ArrayLike | xr.Variable]:
    """Return the labels of a dimension of rows as coordinates: its own, and the levels beside it.

    Args:
        rows: The labels.
        dim: The dimension.
    """
    levels = {
        name: xr.Variable((dim,), level.labels, {LEVEL_OF: dim, **_zone(level)})
        for name, level in rows.levels.items()
    }
    own = xr.Variable((dim,), rows.labels, _zone(rows)) if rows.time_zone else rows.labels
    return {**levels, dim: own}


def posterior_rows(labels: AxisLabels | None) -> RowCoord | None:
    """Return the labels of training rows as one coordinate, also those that only count.

    Args:
        labels: The labels, if they are known.
    """
    if labels is None:
        return None
    # ArviZ summarises no dimension with further indexes, such as those of levels.
    return as_coord(labels._replace(counts=False))._replace(levels={})


def _zone(rows: RowCoord) -> dict[str, str]:
    return {} if rows.time_zone is None else {"time_zone": rows.time_zone}


def with_levels(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose levels of a multi-index can be selected by: ``y.sel(state="TX")``."""
    levels = [name for name, coord in dataset.coords.items() if LEVEL_OF in coord.attrs]
    for name in levels:
        if name not in dataset.xindexes:
            dataset = dataset.set_xindex(name)
    return dataset


def origin_attrs() -> dict[str, str]:
    """Return when and by what a group is made; the names are those of ArviZ, and our own.

    Example:
        >>> sorted(origin_attrs())[:2]
        ['aimz_lab_version', 'created_at']
    """
    return {
        "created_at": datetime.now(UTC).isoformat(),
        "creation_library": "aimz_lab",
        "creation_library_version": __version__,
        "creation_library_language": "Python",
        "inference_library": "numpyro",
        "inference_library_version": numpyro.__version__,
        "aimz_lab_version": __version__,
    }
