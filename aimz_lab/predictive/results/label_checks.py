"""Check the names in a result before it is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.checks.names import check_name, same_but_for_case
from aimz_lab.kernel.spec import variable_name
from aimz_lab.predictive.reducers import Reducer


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
