"""Draw a model's graph with matplotlib, in the places of its SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aimz_lab.lab.explorers.graph_layout import NODE_HEIGHT, NODE_WIDTH, Layout
from aimz_lab.lab.explorers.graph_svg import (
    COLOURS,
    MOST_LETTERS,
    plate_label,
    second_line,
    shortened,
)
from aimz_lab.lab.explorers.model_graph import ModelGraph
from aimz_lab.lab.pictures import ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILLS = {
    "latent": "#09598b",
    "observed": "#565656",
    "deterministic": "#006149",
    "param": "#704f0a",
    "factor": "#873a64",
}
"""Colour of a node, by kind of site; :data:`LETTERS` are read on each.

A node is opaque: no colour of letters has enough contrast with light pages and with dark ones. Its
colour is so dark that the letters are read also where a dark page makes the picture brighter.
"""

LETTERS = "#ffffff"
_PER_INCH = 110.0  # pixels of the page


def picture_inches(layout: Layout) -> float:
    """Return the height that a picture of the graph needs, in inches."""
    return min(max(layout.height / _PER_INCH, 1.5), 11.0)


def draw_graph(axes: Axes, graph: ModelGraph, layout: Layout, selected: str | None) -> None:
    """Draw a graph.

    Args:
        axes: Where to draw.
        graph: The graph.
        layout: Its places.
        selected: Name of the site to mark, with its edges.
    """
    from matplotlib.patches import FancyBboxPatch

    for box in layout.boxes:
        style = "round,pad=0,rounding_size=8"
        place = (box.left, box.top)
        look = {"fc": ink.SHADE, "ec": ink.OTHER, "lw": 0.7}
        axes.add_patch(FancyBboxPatch(place, box.width, box.height, boxstyle=style, **look))
        label = plate_label(box.path[-1], graph).replace("$", r"\$")
        low = box.top + box.height - 11
        chip = {"boxstyle": "round,pad=0.2", "fc": FILLS["observed"], "ec": "none"}
        axes.text(box.left + 8, low, label, fontsize=7.5, color=LETTERS, va="center", bbox=chip)
    for edge, points in layout.edges.items():
        colour = ink.ORANGE if selected in edge else ink.OTHER
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, color=colour, lw=1.4 if selected in edge else 0.8, zorder=1)
        axes.plot(xs[-1], ys[-1], "v", color=colour, ms=4, zorder=1)
    for name, (x, y) in layout.nodes.items():
        site = graph.sites[name]
        colour = ink.ORANGE if name == selected else COLOURS[site.kind]
        radius = 4 if site.kind == "param" else 18
        axes.add_patch(
            FancyBboxPatch(
                (x - NODE_WIDTH / 2, y - NODE_HEIGHT / 2),
                NODE_WIDTH,
                NODE_HEIGHT,
                boxstyle=f"round,pad=0,rounding_size={radius}",
                fc=FILLS[site.kind],
                ec=colour,
                lw=2.2 if name == selected else 1.2,
                ls="--" if site.kind == "deterministic" else "-",
            )
        )
        lines = (shortened(name, MOST_LETTERS), -8, 9.0), (second_line(site), 9, 7.5)
        for text, down, size in lines:
            shown = text.replace("$", r"\$")
            axes.text(x, y + down, shown, fontsize=size, color=LETTERS, ha="center", va="center")
    axes.set(xlim=(0, layout.width), ylim=(layout.height, 0), aspect="equal")
    axes.set_axis_off()
