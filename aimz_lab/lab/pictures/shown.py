"""Show a figure in a notebook, with words for those who cannot see it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aimz_lab.calls import public
from aimz_lab.data.options import check_text
from aimz_lab.errors import ArgumentError, DataTypeError
from aimz_lab.lab.environment import kernel
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.pictures.encoding import png, shown_bundle
from aimz_lab.system.notebook_output import show_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@public
def show_figure(figure: Figure, alt: str | None = None) -> None:
    """Show a figure of matplotlib in a notebook, with words for those who cannot see it.

    Use it for a picture in the middle of a cell; at the end of a cell, the pictures of this package
    show themselves. The words become the alternative text, which JupyterLab, nbconvert and screen
    readers use. The background and what is drawn in black follow the page, light or dark; colours
    that you chose stay as they are.

    Args:
        figure: The figure. It is not shown a second time at the end of the cell.
        alt: What the picture shows, in a sentence or two: the alternative text. By default, the
            words that a picture of this package has.

    Raises:
        ArgumentError: If ``alt`` is no text, or is missing and the figure has no words of its own.
        DataTypeError: If ``figure`` is no figure of matplotlib.

    Example:
        >>> from aimz_lab.lab import loss_figure
        >>> show_figure(loss_figure(im.last_run))
        >>> show_figure(loss_figure(im.last_run), "The loss falls, and levels off.")
    """
    if alt is not None:
        check_text("alt", alt)
    modules = sys.modules.get("matplotlib.figure")
    if modules is None or not isinstance(figure, modules.Figure):
        msg = f"figure= takes a figure of matplotlib; got {type(figure).__name__}."
        raise DataTypeError(msg)
    words = getattr(figure, "alt", None) if alt is None else alt
    if words is None:
        msg = "The figure has no words of its own; say what it shows: show_figure(figure, alt)."
        raise ArgumentError(msg)
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close(figure)  # else the notebook shows it twice
    if not hasattr(figure.canvas, "buffer_rgba"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(figure)
    ink.adapt(figure)
    width, follows = getattr(figure, "shown_width", None), getattr(figure, "follows", False)
    bundle, metadata = shown_bundle(png(figure), words, width, follows=follows)
    if kernel() is not None:
        show_output(bundle, metadata)
