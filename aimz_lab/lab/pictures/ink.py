"""Colours of pictures on transparent paper, which are read on light pages and on dark ones.

A picture does not know the theme of its page. By itself, text has a contrast of at least 4.1 on
white and on JupyterLab's dark paper, and lines one of at least 3.4 (WCAG 2); where the page says
its theme, :mod:`~aimz_lab.lab.pictures.encoding` makes that of text 4.5 or more. The hues are
Okabe and Ito's, as on the live page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, BROWN = "#0f7fc2", "#cc5500", "#008564", "#b2508a", "#946a12"
LINES = (BLUE, ORANGE, GREEN, PINK, BROWN, "#5b7fb8", "#808080", "#cc4437")
OTHER = "#808080"
TEXT = "#767676"
SHADE = "#8080801f"
PAPER = "none"

_INKS = {(0.0, 0.0, 0.0): TEXT}
_PAPERS = {(1.0, 1.0, 1.0)}


def adapt(figure: Figure) -> None:
    """Give a figure of others transparent paper, and grey for what is black.

    Args:
        figure: The figure; colours that its author chose are left as they are.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_color(_ink(text.get_color()))
    for line in figure.findobj(Line2D):
        line.set_color(_ink(line.get_color()))
        line.set_markeredgecolor(_ink(line.get_markeredgecolor()))
        line.set_markerfacecolor(_ink(line.get_markerfacecolor()))
    for patch in figure.findobj(Patch):
        if _rgb(patch.get_edgecolor()) in _INKS:
            patch.set_edgecolor(_ink(patch.get_edgecolor()))
    for paper in (figure.patch, *(axes.patch for axes in figure.axes)):
        if _rgb(paper.get_facecolor()) in _PAPERS:
            paper.set_facecolor(PAPER)
    of_axes = filter(None, (axes.get_legend() for axes in figure.axes))
    for legend in (*figure.legends, *of_axes):
        legend.get_frame().set_alpha(0.0)
    for axes in figure.axes:
        for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            if _rgb(axis.get_tick_params().get("labelcolor", "black")) in _INKS:
                axes.tick_params(axis=name, which="both", colors=TEXT)


def _rgb(color: object) -> tuple[float, ...]:
    from matplotlib.colors import to_rgba

    try:
        red, green, blue, alpha = to_rgba(color)
    except ValueError:
        return ()
    return (red, green, blue) if alpha else ()


def _ink(color: object) -> object:
    return _INKS.get(_rgb(color), color)
