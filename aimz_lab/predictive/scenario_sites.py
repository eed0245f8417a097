"""Refuse scenarios that hold a site as it was although what they differ in changes it.

A site between treatment and outcome, a mediator, carries part of an effect. Where its data is
passed with each scenario, or the posterior holds its draws, it is the same in all of them, and
their contrast lacks that part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.argument_changes import (
    data_made_otherwise,
    sites_computed_otherwise,
    sites_made_otherwise,
)
from aimz_lab.kernel.argument_leaves import named_leaves
from aimz_lab.kernel.drawn_arguments import sites_drawn_without
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.predictive.blocks import Rows
from aimz_lab.predictive.scenario_refusals import (
    refuse_data,
    refuse_draws,
    refuse_fixed,
    refuse_given_to_some,
    refuse_joint_data,
    refuse_own_causes,
    refuse_term,
)
from aimz_lab.predictive.site_links import Compared, SiteLinks, site_links
from aimz_lab.predictive.structure import trace_structure

OBSERVED = "observed"
"""Attribute of results: the observed sites beside the output, which have the values given."""


GraphOf = Callable[[Compared], SiteGraph]
"""Returns which sites of a scenario are computed from which."""


def sites_to_draw_anew(
    scenarios: Sequence[Compared], wanted: Collection[str], graph_of: GraphOf
) -> set[str]:
    """Return the latent sites whose posterior draws do not know what the scenarios differ in.

    Args:
        scenarios: The scenarios.
        wanted: The sites to return.
        graph_of: Returns which sites are computed from which.

    Returns:
        Under ``held="redraw"``, these sites; otherwise none.

    Raises:
        ArgumentError: If an observed site, or its data, depends on what the scenarios differ in,
            and a wanted site on it; or if only some of them give its data. Also if a factor
            depends on it, and may be the log density of an argument that a wanted site depends on
            too, but for ``held="keep"``; or if some have ``held="keep"`` and others ``"redraw"``.
        SiteError: If a latent site with draws does, under ``held="refuse"``; or one that a handler
            of the kernel sets, but for ``held="keep"``.
    """
    requests = [one.request for one in scenarios]
    set_here = {name for one in requests for name in (*one.intervention, *one.condition)}
    held = {name: one for one in scenarios for name in one.spec.other_outcomes}
    latents = {
        name: one
        for one in scenarios
        for name in one.spec.latent_sites
        if name in (one.request.draws or {}) and one.request.held != "keep"
    }
    differ = _differences(scenarios)
    linked: list[tuple[Compared, SiteLinks]] = []
    by_text: list[tuple[Compared, set[str] | None]] = []

    def links_of(one: Compared) -> SiteLinks:
        found = [links for each, links in linked if each is one]
        if not found:
            found = [site_links(one, graph_of(one), set_here)]
            linked.append((one, *found))
        return found[0]

    def untraced_in(one: Compared, site: str) -> frozenset[str]:
        if not differ.untraced:
            return frozenset()
        found = [reached for each, reached in by_text if each is one]
        if not found:
            found = [_reached_untraced(one, scenarios, links_of(one))]
            by_text.append((one, *found))
        return differ.untraced if found[0] is None or site in found[0] else frozenset()

    if differ.names and {"keep", "redraw"} <= {one.held for one in requests}:
        msg = "Some scenarios have held='keep', and others held='redraw'. Pass one to all of them."
        raise ArgumentError(msg)
    found = set()
    for name, one in held.items():
        if name in set_here or not differ.names:
            continue
        links = links_of(one)
        own = links.arguments_of(name)
        if links.reached(name, own).isdisjoint(wanted):
            continue
        if not all(name in other.spec.other_outcomes for other in scenarios):
            refuse_given_to_some(name, own)
        if causes := links.causes(name, differ.names - own, untraced_in(one, name)):
            refuse_data(name, _left_out_to_draw(one, name, own) or own, causes)
        if both := links.causes(name, own & differ.names, ()):
            _check_own_causes(one, name, links, both, scenarios)
        moved = own & differ.names | _moved_untraced(one, name, differ, scenarios)
        if moved:
            _check_joint_data(one, name, links, moved, own - moved, wanted)
    for one in scenarios if differ.names else ():
        if one.request.held != "keep":
            _check_terms(one, links_of, differ, wanted)
            _check_set_by_kernel(one, links_of, differ, untraced_in, wanted, set_here)
    for name, one in latents.items():
        if name in set_here or not differ.names:
            continue
        links = links_of(one)
        causes = links.causes(name, differ.names, untraced_in(one, name))
        if not causes or links.reached(name, ()).isdisjoint(wanted):
            continue
        if all(request.held != "redraw" for request in requests):
            refuse_draws(name, causes)
        found.add(name)
    return found


def _check_own_causes(
    one: Compared,
    site: str,
    links: SiteLinks,
    both: Collection[str],
    scenarios: Sequence[Compared],
) -> None:
    """Refuse an array with data of a site and with causes of it, if these differ.

    One that is observed as it is holds no other causes than the site's own earlier values.
    """
    if not links.graph.is_proven or one.spec.sites[site].argument is not None:
        return
    for other in (each for each in scenarios if each is not one):
        made = None
        if not (one.rows.streams or other.rows.streams):
            given = one.arguments, other.arguments
            made = sites_computed_otherwise(
                one.request.kernel, one.spec, *given, one.request.params
            )
        if made is None or site in links.changed_with(made):
            refuse_own_causes(site, both)


def _moved_untraced(
    one: Compared, site: str, differ: _Differences, scenarios: Sequence[Compared]
) -> frozenset[str]:
    """Return the arguments that are no arrays, if the data of a site is computed from them."""
    if not differ.untraced or one.spec.sites[site].argument is not None:
        return frozenset()
    for other in scenarios:
        given = one.arguments, other.arguments
        kernel, params = one.request.kernel, one.request.params
        if site in data_made_otherwise(kernel, one.spec, *given, params):
            return differ.untraced
    return frozenset()


def _check_joint_data(
    one: Compared,
    site: str,
    links: SiteLinks,
    moved: Collection[str],
    held: Collection[str],
    wanted: Collection[str],
) -> None:
    """Refuse data of a site that follows from what differs and from a mediator that is held.

    A gain over a baseline, ``obs=m - pre``, moves against the baseline where ``m`` is held. The
    mediator is in what is asked for by itself, or by the site.
    """
    beside = {each for each in held if not links.read_by(each).isdisjoint(wanted)}
    drawn = _left_out_to_draw(one, site, {*moved, *held}) if held else set()
    if not links.reached(site, ()).isdisjoint(wanted):
        arrays, n_rows = _arrays(one), one.rows.n_shown
        by_row = {each for each in held if _may_be_data(arrays.get(each), n_rows)}
        beside |= by_row & drawn if drawn else by_row
    if beside:
        refuse_joint_data(site, moved, beside & drawn or beside, beside & drawn)


def _may_be_data(array: Any, n_rows: int) -> bool:
    """Whether an array may be data of rows, and no scale for all of them, nor a mask."""
    return n_rows in np.shape(array) and array.dtype != bool


def _left_out_to_draw(one: Compared, site: str, arrays: Collection[str]) -> set[str]:
    """Return those of some arrays without which the kernel draws an observed site."""
    request = one.request
    given = one.arguments, request.params
    return {
        each
        for each in arrays
        if site in sites_drawn_without(request.kernel, one.spec, each, *given)
    }


def _check_terms(
    one: Compared,
    links_of: Callable[[Compared], SiteLinks],
    differ: _Differences,
    wanted: Collection[str],
) -> None:
    """Refuse a factor, or an observed site of no argument, that is the density of a mediator."""
    trained = _as_in_training(one)
    terms = [*trained.spec.of_kind("factor"), *trained.spec.other_outcomes]
    if not terms:
        return
    links, here = links_of(trained), links_of(one)
    by_row = {name for name, value in _arrays(one).items() if np.ndim(value)}
    for name in terms:
        if links.arguments_of(name):
            continue
        data = links.graph.modelled.get(name, frozenset()) & by_row
        for each in sorted(data):
            causes = links.causes(name, differ.names - {each}, differ.untraced)
            if causes and not here.read_by(each).isdisjoint(wanted):
                kind = "factor" if trained.spec.sites[name].kind == "factor" else "site"
                refuse_term(name, kind, causes, each)


def _check_set_by_kernel(
    one: Compared,
    links_of: Callable[[Compared], SiteLinks],
    differ: _Differences,
    untraced_in: Callable[[Compared, str], frozenset[str]],
    wanted: Collection[str],
    set_here: Collection[str],
) -> None:
    """Refuse a mediator that a handler of the kernel gives a value."""
    for site in map(one.spec.sites.get, one.spec.latent_sites):
        if not (site.is_cut or not site.is_drawn) or site.name in set_here:
            continue
        links = links_of(one)
        names = differ.names - {site.argument}
        causes = links.causes(site.name, names, untraced_in(one, site.name))
        # Nothing is computed from what a site draws that is cut.
        if causes and (site.is_cut or not links.reached(site.name, ()).isdisjoint(wanted)):
            refuse_fixed(site.name, causes)


def _as_in_training(one: Compared) -> Compared:
    """Return a scenario with some data of its output, if the kernel has more sites with it."""
    name, n_rows = one.request.output, one.rows.n_shown
    has_all = one.spec.sites.keys() >= {*one.request.trained_sites}
    if has_all or one.spec.sites[name].row_axes[:1] != (0,):
        return one
    output = np.zeros(one.spec.shape_at(name, n_rows), one.spec.sites[name].dtype)
    rows = Rows({**one.rows.template, name: output})
    try:
        return one._replace(rows=rows, spec=trace_structure(one.request, rows).spec)
    except Exception:  # noqa: BLE001  the kernel takes no such data
        return one


class _Differences(NamedTuple):
    """What scenarios differ in.

    Attributes:
        names: Arrays in arguments by the names of :mod:`aimz_lab.kernel.argument_leaves`, other
            arguments, and sites with a value of their own.
        untraced: Those of them that are no arrays in all scenarios: programs differ by them.
    """

    names: frozenset[str]
    untraced: frozenset[str]


def _differences(scenarios: Sequence[Compared]) -> _Differences:
    requests = [one.request for one in scenarios]
    streamed = {n for one in scenarios if one.rows.streams for n in one.rows.template}
    given = [
        {
            **({} if one.rows.streams else one.request.rows),
            **one.request.shared,
            **one.request.static,
        }
        for one in scenarios
    ]
    changed = _changed(given) | streamed
    moved = _changed([{**one.intervention, **one.condition} for one in requests])
    arrays = set.intersection(*({*_arrays(one)} for one in scenarios))
    return _Differences(frozenset(changed | moved), frozenset(changed - arrays))


def _reached_untraced(
    one: Compared, scenarios: Sequence[Compared], links: SiteLinks
) -> set[str] | None:
    """Return the sites of a scenario that others make otherwise; ``None`` if that is unknown."""
    found: set[str] = set()
    for other in scenarios:
        made = sites_made_otherwise(
            one.request.kernel, one.spec, one.arguments, other.arguments, one.request.params
        )
        if made is None:
            return None
        found |= links.changed_with(made)
    return found


def _arrays(one: Compared) -> dict[str, Any]:
    return named_leaves({**one.rows.template, **one.request.shared})


def changed_between(scenarios: Sequence[Compared]) -> frozenset[str]:
    """Return the arrays in arguments, and the sites with values, in which scenarios differ.

    Args:
        scenarios: The scenarios.
    """
    return _differences(scenarios).names


def _changed(given: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the arrays in arguments that differ; an argument where only their structure does."""
    found: set[str] = set()
    for name in {name for one in given for name in one}:
        values = [one.get(name) for one in given]
        if _same(values):
            continue
        leaves = [named_leaves({name: value}) for value in values]
        parts = {part for one in leaves for part in one} - {name}
        unlike = {part for part in parts if not _same([one.get(part) for one in leaves])}
        found |= unlike or {name}
    return found


def _same(values: Sequence[Any]) -> bool:
    """Whether trees of arrays are equal, entry by entry."""
    (first, structure), *others = map(jax.tree.flatten, values)
    return all(its == structure and all(map(_are_equal, one, first)) for one, its in others)


def _are_equal(one: Any, two: Any) -> bool:
    if one is two:
        return True
    one, two = _as_computed(one), _as_computed(two)
    return np.array_equal(one, two, equal_nan=one.dtype.kind == two.dtype.kind == "f")


def _as_computed(value: Any) -> np.ndarray:
    """Return an array in the digits that the kernel sees: a rounding is no difference."""
    if jax.dtypes.issubdtype(getattr(value, "dtype", None), jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.asarray(value)
    is_number = array.dtype.kind in "biuf"
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype)) if is_number else array
