"""Draws that were set by hand, of a model without a training: of which arguments is not known."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from aimz_lab.errors import OutputWarning
from aimz_lab.kernel.argument_leaves import named_leaves
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.site_graph import SiteGraph
from aimz_lab.predictive.request import Quantity
from aimz_lab.predictive.site_links import Compared, site_links
from aimz_lab.predictive.structure import structure_key
from aimz_lab.tracebacks import warn

NOTHING_KNOWN = "Nothing is known of a training"
"""How its warning begins."""


def sites_of_unknown(
    call: Compared,
    quantity: Quantity,
    wanted: Collection[str],
    latents: Sequence[str],
    graph_of: Callable[[], SiteGraph],
    remembered: Callable,
) -> set[str]:
    """Return the latent sites to draw anew, as their draws may be of other arguments.

    Args:
        call: A call of a model without a training.
        quantity: Values of sites, or their log likelihood.
        wanted: The sites that it returns.
        latents: The latent sites whose draws the posterior holds.
        graph_of: Returns which sites are computed from which.
        remembered: As in :func:`aimz_lab.predictive.plan.make_plan`.

    Returns:
        Under ``held="redraw"``, the sites that depend on an argument; otherwise none.

    Warns:
        OutputWarning: If there is such a site, and it changes a wanted one; under
            ``held="redraw"`` if sites are set, too.
    """
    request = call.request
    set_here = {*request.intervention, *request.condition}
    # A site without rows is known from those of its training, and holds for others.
    by_row, shared = {*call.rows.template}, named_leaves(request.shared)
    asked = {
        name: {*shared, *(by_row if call.spec.sites[name].row_axes else ())}
        for name in latents
        if name not in {*set_here, *request.anew}
    }
    if quantity != "values" or not any(asked.values()):
        return set()
    kind = structure_key(CodeKey(request.kernel), request, call.rows)
    links = remembered(
        ("links", kind, frozenset(set_here)), lambda: site_links(call, graph_of(), set_here)
    )
    found = {}
    for name, arguments in asked.items():
        causes = links.causes(name, arguments, ())
        if causes and not links.reached(name, ()).isdisjoint(wanted):
            found[name] = causes
    if request.held != "redraw":
        _warn(
            found,
            "The draws are taken to be of these as passed here. If they are, pass "
            "held='keep'; if not, held='redraw' draws anew from the kernel.",
        )
        return set()
    if set_here:  # what was asked may have been the sites below these alone
        _warn(found, "held='redraw' draws anew, and the draws that were set are not used.")
    return {*found}


def _warn(causes: dict[str, list[str]], what: str) -> None:
    if not causes:
        return
    arguments = " and ".join(map(repr, sorted({one for its in causes.values() for one in its})))
    sites = f"site{'s' * (len(causes) > 1)} {', '.join(map(repr, causes))}"
    verb = f"depend{'s' * (len(causes) == 1)}"
    warn(f"{NOTHING_KNOWN}, and {sites} {verb} on {arguments}. {what}", OutputWarning)
