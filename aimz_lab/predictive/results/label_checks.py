"""Check the names in a result before it is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aimz_lab.errors import ArgumentError, SiteError
from aimz_lab.kernel.checks.names import check_name, same_but_for_case
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.reducers import Reducer
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import Coords


def check_dims(dims: Mapping[str, tuple[str, ...]]) -> None:
    """Check the names of dimensions, which are the user's or follow from those of sites.

    Args:
        dims: Names of the dimensions of each site, without chain and draw.

    Raises:
        ArgumentError: If one cannot stand in results, is there twice, or is that of a site.
    """
    variables = {variable_name(name): name for name in dims}
    for site, names in dims.items():
        for name in names:
            check_name(f"a dimension of {site!r}", name, ArgumentError)
            if name in variables or names.count(name) > 1:
                other = f"the site {variables[name]!r}" if name in variables else "another one"
                msg = (
                    f"A dimension of the site {site!r} would be called {name!r}, like {other}. "
                    f"Name its dimensions: dims={{{site!r}: [...]}}."
                )
                raise ArgumentError(msg)


def check_known(
    dims: Mapping[str, tuple[str, ...]],
    coords: Coords,
    spec: KernelSpec,
    trained_sites: Iterable[str],
    named: Iterable[str],
) -> None:
    """Check that the kernel has what ``dims`` and ``coords`` name.

    Args:
        dims: Names of dimensions, by site.
        coords: Labels, by dimension.
        spec: The kernel's structure in this call.
        trained_sites: Its sites in training.
        named: All dimensions of the call's results, data and posterior.

    Raises:
        SiteError: If there is no such site.
        ArgumentError: If a site has another number of dimensions, or there is no such dimension.
    """
    sites = list(dict.fromkeys([*spec.sites, *trained_sites]))
    for name, given in dims.items():
        if name not in sites:
            msg = (
                f"dims names {name!r}, which the kernel does not have; its sites are "
                f"{', '.join(map(repr, sites))}.{did_you_mean(name, sites)}"
            )
            raise SiteError(msg)
        site = spec.sites.get(name)
        if site is None:
            continue
        ndim, rows = len(site.shape), int(spec.row_axis(name) is not None)
        if len(given) not in (ndim, ndim - rows, site.batch_ndim, site.batch_ndim - rows):
            of_rows = ", or all but that of the rows" if rows else ""
            msg = (
                f"dims names {len(given)} dimensions of the site {name!r}, which has {ndim}, of "
                f"shape {site.shape}, beside chain and draw; name all of them{of_rows}."
            )
            raise ArgumentError(msg)
    known = list(dict.fromkeys([*named, *(dim for names in dims.values() for dim in names)]))
    for dim in coords:
        if dim not in known:
            msg = (
                f"coords names the dimension {dim!r}, which the result does not have; it has "
                f"{', '.join(map(repr, known))}.{did_you_mean(dim, known)}"
            )
            raise ArgumentError(msg)


def check_reduced(
    single: Iterable[str],
    sites: Iterable[str],
    reducers: Mapping[str, Reducer],
    dims: Mapping[str, tuple[str, ...]],
) -> None:
    """Check the names of summaries, ``{site}_{reducer}``, and of their dimensions.

    Args:
        single: The sites whose draws stand beside the summaries.
        sites: The sites that are summarised.
        reducers: The reducers, by name.
        dims: Names of the dimensions of each site.

    Raises:
        ArgumentError: If two variables, or a variable and a dimension, have the same name.
    """
    for name in reducers:
        check_name("a reducer", name, ArgumentError)
    taken = {variable_name(name) for name in single}
    taken |= {dim for names in dims.values() for dim in names}
    taken |= {dim for one in reducers.values() for dim in one.coords}
    for site in sites:
        for name in reducers:
            summary = f"{variable_name(site)}_{name}"
            if summary in taken:
                msg = (
                    f"The summary {name!r} of {site!r} would be called {summary!r}, which a site "
                    f"or dimension is called already. Name it: reduce={{'other_name': ...}}."
                )
                raise ArgumentError(msg)
            taken.add(summary)


def check_case(names: Iterable[str], path: str) -> None:
    """Check names for a store on a file system that does not tell upper from lower case.

    Args:
        names: Names of the sites in one group.
        path: The store, for the message.

    Raises:
        ArgumentError: If two differ in that alone.
    """
    same = same_but_for_case(variable_name(name) for name in names)
    if same:
        msg = (
            f"The sites {same[0]!r} and {same[1]!r} would be one folder at {path}, where upper and "
            "lower case are the same. Rename one, or pass store='memory'."
        )
        raise ArgumentError(msg)
