"""Draw a model's graph as SVG, in colours that are read on light pages and on dark ones."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from aimz_lab.lab.explorers.graph_layout import NODE_HEIGHT, NODE_WIDTH, Box, Layout, Point, lay_out
from aimz_lab.lab.explorers.model_graph import GraphSite, ModelGraph
from aimz_lab.lab.pictures import ink

MOST_LETTERS = 15
"""Letters of a name that fit into a node."""

_MOST_BELOW = 20
"""Letters of the smaller line below it that fit."""

COLOURS = {
    "latent": ink.BLUE,
    "observed": ink.OTHER,
    "deterministic": ink.GREEN,
    "param": ink.BROWN,
    "factor": ink.PINK,
}
"""Colour of the outline, by kind of site."""

FILL_OF_OBSERVED = "#80808033"
"""So pale that the text of the page can be read on it, on light pages and on dark ones."""

_FONT = "font-family:var(--jp-ui-font-family,system-ui,sans-serif)"
_ARROW = 6.0

_LEAST_SCALE = 0.7
"""A graph is made smaller where the page is narrow, up to where its text can still be read."""


def model_layout(graph: ModelGraph) -> Layout:
    """Return the places of a model's sites, plates and edges."""
    paths = {name: site.plates for name, site in graph.sites.items()}
    return lay_out(paths, edges_of(graph))


def edges_of(graph: ModelGraph) -> list[tuple[str, str]]:
    """Return the pairs of a site and one that is computed from it.

    Of two sites that are computed from each other, as in a loop, the one that comes first in the
    kernel is the first.
    """
    order = {name: at for at, name in enumerate(graph.sites)}
    return [
        (parent, name)
        for name, site in graph.sites.items()
        for parent in site.parents
        if order[parent] < order[name]
    ]


def graph_svg(graph: ModelGraph, layout: Layout, selected: str | None = None) -> str:
    """Return the graph as SVG.

    Args:
        graph: The graph.
        layout: The places.
        selected: Name of the site to mark, with its edges.

    Returns:
        Markup with all text escaped. Each site is a group with ``data-pick``, its name.

    Example:
        >>> sites = {"a<b": GraphSite("a<b", "latent", "Normal(0, 1)", ())}
        >>> graph = ModelGraph(sites, {}, 10)
        >>> svg = graph_svg(graph, model_layout(graph), "a<b")
        >>> svg.count("data-pick"), "a&lt;b" in svg, "a<b" in svg
        (1, True, False)
    """
    parts = [_box(box, graph) for box in layout.boxes]
    near = sorted(layout.edges, key=lambda edge: selected in edge)
    parts += [_edge(layout.edges[edge], marked=selected in edge) for edge in near]
    parts += [
        _node(site, layout.nodes[name], marked=name == selected)
        for name, site in graph.sites.items()
    ]
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    label = escape(describe_graph(graph))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="group" aria-label="{label}" '
        f'style="display:block;width:100%;max-width:{width}px;height:auto;'
        f'min-width:{_LEAST_SCALE * layout.width:.0f}px;{_FONT}">{"".join(parts)}</svg>'
    )


def describe_graph(graph: ModelGraph) -> str:
    """Return the graph in a sentence."""
    kinds: dict[str, int] = {}
    for site in graph.sites.values():
        kinds[site.kind] = kinds.get(site.kind, 0) + 1
    counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    arrows = _counted(sum(len(site.parents) for site in graph.sites.values()), "arrow")
    plates = f", in {_counted(len(graph.plates), 'plate')}" if graph.plates else ""
    unknown = (
        ""
        if graph.is_proven
        else (
            " What is computed from what could not be read from the kernel's program: there are no "
            "arrows."
        )
    )
    return (
        f"Graph of {_counted(len(graph.sites), 'site')} ({counted}) with {arrows}{plates}.{unknown}"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def describe_site(site: GraphSite) -> str:
    """Return what a site is, in a line."""
    parts = [f"{site.kind} site {site.name}"]
    parts += [site.distribution] if site.distribution else []
    parts += [f"shape {shape_words(site)}"]
    parts += [f"plates {', '.join(site.plates)}"] if site.plates else []
    parts += [f"from {', '.join(site.parents)}"] if site.parents else []
    parts += [f"reads {', '.join(site.arguments)}"] if site.arguments else []
    return "; ".join(parts)


def shape_words(site: GraphSite) -> str:
    """Return the shape of a site, as the table of a model has it."""
    return f"({', '.join(map(str, site.shown_shape))})"


def plate_label(name: str, graph: ModelGraph) -> str:
    """Return the name of a plate with its size, and the entries of one call if fewer."""
    if (sizes := graph.plates[name]) is None:
        return f"{name}: all rows"
    size, taken = sizes
    return f"{name}: {size:,}" if taken == size else f"{name}: {taken:,} of {size:,}"


def _box(box: Box, graph: ModelGraph) -> str:
    letters = max(int(box.width / 6.5) - 2, 8)
    label = plate_label(box.path[-1], graph)
    return (
        f'<g><title>plate {escape(label)}</title><rect x="{box.left:.1f}" y="{box.top:.1f}" '
        f'width="{box.width:.1f}" height="{box.height:.1f}" rx="8" fill="#80808014" '
        f'stroke="#80808099" stroke-width="1"/><text x="{box.left + 8:.1f}" '
        f'y="{box.top + box.height - 7:.1f}" font-size="11" fill="currentColor">'
        f"{escape(shortened(label, letters))}</text></g>"
    )


def _edge(points: Sequence[Point], *, marked: bool) -> str:
    (x, y), *others = points
    path = f"M{x:.1f} {y:.1f}"
    for number, (to_x, to_y) in enumerate(others, 1):
        to_y -= _ARROW * (number == len(others))
        middle = (y + to_y) / 2
        path += f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        x, y = to_x, to_y
    colour, width = (ink.ORANGE, 2.2) if marked else (ink.OTHER, 1.2)
    tip = f"M{x - 3.5:.1f} {y:.1f}L{x + 3.5:.1f} {y:.1f}L{x:.1f} {y + _ARROW:.1f}Z"
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
        f'<path d="{tip}" fill="{colour}"/>'
    )


def _node(site: GraphSite, centre: Point, *, marked: bool) -> str:
    x, y = centre
    left, top = x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2
    colour = COLOURS[site.kind]
    outline = f'stroke="{ink.ORANGE if marked else colour}" stroke-width="{3 if marked else 1.5}"'
    if site.kind == "deterministic":
        outline += ' stroke-dasharray="5 3"'
    radius = 4 if site.kind == "param" else 18
    fill = FILL_OF_OBSERVED if site.kind == "observed" else f"{colour}1f"
    name, words = escape(site.name), escape(describe_site(site))
    pressed = "true" if marked else "false"
    below = escape(second_line(site))
    return (
        f'<g data-pick="{name}" tabindex="0" role="button" aria-pressed="{pressed}" '
        f'aria-label="{words}" style="cursor:pointer"><title>{words}</title>'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{NODE_WIDTH:.0f}" height="{NODE_HEIGHT:.0f}" '
        f'rx="{radius}" fill="{fill}" {outline}/>'
        f'<text x="{x:.1f}" y="{y - 2:.1f}" text-anchor="middle" font-size="13" font-weight="600" '
        f'fill="currentColor">{escape(shortened(site.name, MOST_LETTERS))}</text>'
        f'<text x="{x:.1f}" y="{y + 13:.1f}" text-anchor="middle" font-size="10.5" '
        f'fill="currentColor">{below}</text></g>'
    )


def second_line(site: GraphSite) -> str:
    """Return the distribution of a site, or its kind, and its shape where there is room."""
    head = site.distribution.partition("(")[0] or site.kind
    shape = f" {shape_words(site)}" if site.shape else ""
    whole = head + shape
    return whole if len(whole) <= _MOST_BELOW else shortened(head, _MOST_BELOW)


def shortened(text: str, letters: int) -> str:
    """Cut a text in its middle, so that beginning and end are read.

    Example:
        >>> shortened("coefficients_of_region", 12)
        'coeffi…egion'
    """
    if len(text) <= letters:
        return text
    end = (letters - 1) // 2
    return f"{text[: letters - 1 - end]}…{text[-end:]}"
