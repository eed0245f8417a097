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

from aimz_lab.errors import ArgumentError, SiteError
from aimz_lab.kernel.argument_changes import sites_made_otherwise
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.predictive.blocks import Rows
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
        ArgumentError: If an observed site depends on what the scenarios differ in, and a wanted
            site on it; or if only some of them give its data. Also if a factor depends on it, and
            may be the log density of an argument that a wanted site depends on too, but for
            ``held="keep"``; or if some have ``held="keep"`` and others ``"redraw"``.
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
            _refuse_given_to_some(name, own)
        if causes := links.causes(name, differ.names - own, untraced_in(one, name)):
            _refuse_data(name, own, causes)
        beside = {each for each in own - differ.names if not links.read_by(each).isdisjoint(wanted)}
        if beside and (moved := own & differ.names):
            _refuse_joint_data(name, moved, beside)
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
            _refuse_draws(name, causes)
        found.add(name)
    return found


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
    arrays = {**one.rows.template, **one.request.shared}
    by_row = {n for n, value in arrays.items() if any(map(np.ndim, jax.tree.leaves(value)))}
    for name in terms:
        if links.arguments_of(name):
            continue
        data = links.graph.modelled.get(name, frozenset()) & by_row
        for each in sorted(data):
            causes = links.causes(name, differ.names - {each}, differ.untraced)
            if causes and not here.read_by(each).isdisjoint(wanted):
                kind = "factor" if trained.spec.sites[name].kind == "factor" else "site"
                _refuse_term(_differ(causes, name, kind), each)


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
            _refuse_fixed(site.name, causes)


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
        names: Arguments, and sites with a value of their own.
        untraced: Those of the arguments that are no arrays in all scenarios: programs differ by
            them.
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
    arrays = set.intersection(*({*one.rows.template, *one.request.shared} for one in scenarios))
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


def changed_between(scenarios: Sequence[Compared]) -> frozenset[str]:
    """Return the arguments, and the sites with a value of their own, in which scenarios differ.

    Args:
        scenarios: The scenarios.
    """
    return _differences(scenarios).names


def _changed(given: Sequence[Mapping[str, Any]]) -> set[str]:
    names = {name for one in given for name in one}
    return {name for name in names if not _same([one.get(name) for one in given])}


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


def _differ(causes: Sequence[str], site: str, kind: str = "site") -> str:
    verbs = ("differs", "changes") if len(causes) == 1 else ("differ", "change")
    names = ", ".join(map(repr, causes))
    return f"{names} {verbs[0]} between the scenarios and {verbs[1]} {kind} {site!r}"


def _refuse_data(site: str, arguments: Collection[str], causes: Sequence[str]) -> None:
    names = ", ".join(map(repr, sorted(arguments)))
    msg = (
        f"{_differ(causes, site)}, which they hold at its data{', ' * bool(names)}{names}: the "
        f"effect that goes through {site!r} would be missing. For the whole effect, leave "
        f"{names or 'that data'} out of all scenarios (of a table, its column); {site!r} is then "
        f"drawn. For the part that does not go through {site!r}, pass "
        f"intervention={{{site!r}: ...}} in all of them, in the kernel's units."
    )
    raise ArgumentError(msg)


def _refuse_joint_data(site: str, changed: Collection[str], held: Collection[str]) -> None:
    names, others = (", ".join(map(repr, sorted(each))) for each in (changed, held))
    msg = (
        f"The data of site {site!r} is computed from {names}, which differs between the scenarios, "
        f"and from {others}, which they hold: how {others} follows {names} would be missing. Leave "
        f"{others} out of all scenarios, or write it as a sample site that depends on {names}."
    )
    raise ArgumentError(msg)


def _refuse_given_to_some(site: str, arguments: Collection[str]) -> None:
    names = ", ".join(map(repr, sorted(arguments))) or "its data"
    msg = (
        f"Some scenarios hold site {site!r} at its data, and others draw it, so that they differ "
        f"in more than you ask. Give {names} to all scenarios, or to none (in a table, its column)."
    )
    raise ArgumentError(msg)


def _refuse_term(change: str, data: str) -> None:
    msg = (
        f"{change}, which may be the log density of {data!r}, and what you ask for is computed "
        f"from {data!r} too. The effect that goes through {data!r} would be missing: what only a "
        f"log density describes cannot be drawn. Write numpyro.sample(..., obs={data}) in place of "
        "it, for data that may be None. For the whole effect, leave it out of all scenarios; for "
        "the part that does not go through it, set that site by intervention=. If it stays as it "
        "is whatever differs, as an offset or a limit does, pass held='keep' with each scenario."
    )
    raise ArgumentError(msg)


def _refuse_fixed(site: str, causes: Sequence[str]) -> None:
    msg = (
        f"{_differ(causes, site)}, which the kernel sets to a value of its own by a handler such "
        f"as numpyro.handlers.do or substitute: the effect that goes through {site!r} would be "
        "missing. For the whole effect, take that handler out of the kernel. For the part that "
        f"does not go through {site!r}, pass held='keep' with each scenario."
    )
    raise SiteError(msg)


def _refuse_draws(site: str, causes: Sequence[str]) -> None:
    msg = (
        f"{_differ(causes, site)}, of which the posterior holds draws that do not know of it: the "
        f"effect that goes through {site!r} would be missing. Pass held='redraw' with each "
        f"scenario to draw {site!r} from the kernel, for the whole effect; or held='keep' to keep "
        "the draws, for the part that does not go through it."
    )
    raise SiteError(msg)
