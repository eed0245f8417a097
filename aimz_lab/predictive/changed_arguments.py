"""Refuse draws of sites that depend on arguments unlike those of the training.

The posterior's draws of such a site, the level of a group or a value by row, were made with the
arguments of the training. With other ones, a prediction from these draws would be half old, half
new.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Sequence

import jax
import numpy as np

from aimz_lab.errors import OutputWarning, SiteError
from aimz_lab.kernel.argument_changes import sites_made_otherwise
from aimz_lab.kernel.argument_leaves import named_leaves, with_leaves
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.predictive.request import Quantity
from aimz_lab.predictive.site_links import Compared, SiteLinks, site_links
from aimz_lab.predictive.structure import structure_key
from aimz_lab.predictive.unknown_training import sites_of_unknown
from aimz_lab.tracebacks import warn


def sites_of_changed(
    call: Compared,
    quantity: Quantity,
    wanted: Collection[str],
    latents: Sequence[str],
    graph_of: Callable[[], SiteGraph],
    remembered: Callable,
) -> set[str]:
    """Return the latent sites to draw anew, as their draws do not know the arguments of a call.

    Args:
        call: The call.
        quantity: Values of sites, or their log likelihood.
        wanted: The sites that it returns.
        latents: The latent sites whose draws the posterior holds.
        graph_of: Returns which sites are computed from which.
        remembered: As in :func:`aimz_lab.predictive.plan.make_plan`.

    Returns:
        Under ``held="redraw"``, the sites that depend on an argument unlike that of the training,
        or on any where nothing is known of a training, and all with one value per row if the rows
        are others; otherwise none.

    Raises:
        SiteError: Under ``held="refuse"``, if there is one that changes a wanted site.

    Warns:
        OutputWarning: If it cannot be told whether there is one, also as nothing is known of a
            training; or under ``held="refuse"``, if a
            site without rows is computed from rows, and these are not those of the training.
    """
    request = call.request
    if request.draws is None or request.held == "keep":
        return set()
    if request.trained is None:
        return sites_of_unknown(call, quantity, wanted, latents, graph_of, remembered)
    found = set()
    if request.held == "redraw":
        found = {name for name in latents if _is_of_other_rows(name, call)}
    set_here = {*request.intervention, *request.condition}
    others = [name for name in latents if name not in {*found, *set_here, *request.anew}]
    if not request.changed or not others:
        return found
    kind = structure_key(CodeKey(request.kernel), request, call.rows)
    links = remembered(
        ("links", kind, frozenset(set_here)), lambda: site_links(call, graph_of(), set_here)
    )
    others = [name for name in others if not links.reached(name, ()).isdisjoint(wanted)]
    causes = _Causes(call, links, kind, remembered)
    unknown = []
    for name in others:
        of_site = causes.of(name)
        if of_site is None:
            unknown.append(name)
        elif of_site and request.held == "refuse":
            _refuse(name, of_site, quantity)
        elif of_site:
            found.add(name)
        elif quantity == "values" and (arguments := causes.by_row_of(name)):
            if request.held == "redraw":
                found.add(name)
            else:
                _warn_of_rows(name, arguments)
    if unknown:
        _warn_of_unknown(unknown, causes.plain or sorted(request.changed), quantity)
    return found


class _Causes:
    """Which of the changed arguments a site depends on.

    Attributes:
        plain: Those that are no arrays here and in training.

    Args:
        call: The call.
        links: What its sites and arguments lead to.
        kind: A key of the call's structure.
        remembered: As in :func:`sites_of_changed`.
    """

    def __init__(
        self, call: Compared, links: SiteLinks, kind: Hashable, remembered: Callable
    ) -> None:
        request, rows, spec = call
        trained = request.trained
        now = {*rows.template, *named_leaves(request.shared)}
        before = {*trained.rows, *named_leaves(trained.shared)}
        self._sites, self._links = spec.sites, links
        self._others = spec.other_outcomes
        self._given = {*request.draws, *request.condition, *request.intervention}
        self._arrays = request.changed & now & before
        self.plain = sorted(request.changed - self._arrays)
        self._by_row = {*rows.template}
        self._with_plain: set[str] | None = set()
        if not links.graph.is_proven:
            self._with_plain = None
        elif self.plain:
            shapes = shapes_of((dict(trained.rows), dict(trained.shared)))
            key = "otherwise", kind, trained.static_key, shapes, trained.n_obs
            made = remembered(key, lambda: _made_otherwise(call))
            self._with_plain = None if made is None else links.changed_with(made)

    def of(self, site: str) -> list[str] | None:
        """Return those that a site depends on; ``None`` if that is unknown.

        Args:
            site: The site. One without rows is known from those of the training, and keeps its
                draws for other rows.
        """
        arrays = self._arrays if self._sites[site].row_axes else self._arrays - self._by_row
        if self._with_plain is None:
            return None if arrays or self.plain else []
        found = {*self._links.causes(site, arrays, ())}
        if site in self._with_plain:
            found.update(self.plain)
        if self._sites[site].row_axes:
            found |= arrays & self._data_below(site)
        return sorted(found)

    def _data_below(self, site: str) -> set[str | None]:
        """Return the arguments of observed sites that depend on a site: they tell of it."""
        below = self._links.graph.reached_from(site, self._given)
        return {self._sites[name].argument for name in self._others if name in below}

    def by_row_of(self, site: str) -> list[str]:
        """Return the arguments by row that a site without rows depends on.

        Args:
            site: The site.
        """
        if self._sites[site].row_axes or not self._links.graph.is_proven:
            return []
        return self._links.causes(site, self._arrays & self._by_row, ())


def _made_otherwise(call: Compared) -> frozenset[str] | None:
    """Return the sites that the kernel makes otherwise than with the training's arguments."""
    request, rows, spec = call
    trained = request.trained
    by_row = {
        name: rows.template.get(name, jax.ShapeDtypeStruct((1, *each.shape), each.dtype))
        for name, each in trained.rows.items()
        if name in rows.template or name != request.output
    }
    shared = with_leaves(trained.shared, named_leaves(request.shared))
    return sites_made_otherwise(
        request.kernel,
        spec,
        call.arguments,
        KernelArguments(by_row, shared, trained.static),
        request.params,
        n_rows=trained.n_obs,
    )


def _is_of_other_rows(name: str, call: Compared) -> bool:
    """Whether a site has one value per row, and the draws' rows are not those of the call."""
    request, rows, spec = call
    if not spec.sites[name].row_axes:
        return False
    shape = np.shape(request.draws[name])[1:]
    return request.labels.differ is not None or shape != spec.shape_at(name, rows.n_rows)


def _are_unlike(names: Sequence[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"{', '.join(map(repr, names))} {verb} not as in training"


def _refuse(site: str, causes: Sequence[str], quantity: Quantity) -> None:
    it = "it" if len(causes) == 1 else "them"
    changes = "changes" if len(causes) == 1 else "change"
    msg = (
        f"{_are_unlike(causes)} and {changes} site {site!r}, of which the posterior holds draws "
        f"that do not know of {it}."
    )
    if quantity == "log_likelihood":
        msg += (
            f" Pass {', '.join(map(repr, causes))} as in training, or fit the model to this data."
        )
    else:
        msg += (
            f" Pass held='redraw' to draw {site!r} from the kernel with {it}; or held='keep' to "
            f"keep the draws, so that {'it has' if it == 'it' else 'they have'} no effect through "
            f"{site!r}."
        )
    raise SiteError(msg)


def _warn_of_unknown(sites: Sequence[str], changed: Sequence[str], quantity: Quantity) -> None:
    names = ", ".join(map(repr, sites))
    one = len(sites) == 1
    msg = (
        f"{_are_unlike(changed)}, and it cannot be told whether site{'s' * (not one)} {names} "
        f"depend{'s' * one} on that: the posterior's draws of {'it' if one else 'them'} are used."
    )
    if quantity == "values":
        msg += " Pass held='keep' if that is right."
    warn(msg, OutputWarning)


def _warn_of_rows(site: str, arguments: Sequence[str]) -> None:
    names = ", ".join(map(repr, arguments))
    warn(
        f"Site {site!r} is computed from {names} of all rows, and these are not the rows of the "
        "training. Its posterior draws are used: they hold for new rows, and not for the same rows "
        f"with other values of {names}. Pass held='redraw' to draw {site!r} from the kernel, or "
        "held='keep' if the draws are to stay.",
        OutputWarning,
    )
