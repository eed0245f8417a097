"""A picture of uplift: what is gained by treating the rows with the largest effects first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.calls import public
from aimz_lab.effects import Uplift
from aimz_lab.errors import ArgumentError
from aimz_lab.lab import environment
from aimz_lab.lab.pictures import ink
from aimz_lab.number_text import number_beside
from aimz_lab.types import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@public
def plot_uplift(found: Uplift) -> Figure:
    """Draw an uplift: the gain by fraction treated, and observed against predicted effects.

    Args:
        found: The result of :func:`aimz_lab.effects.uplift`.

    Returns:
        A matplotlib figure. It shows itself at the end of a cell; elsewhere, pass it to
        :func:`~aimz_lab.lab.show_figure`.

    Raises:
        ArgumentError: If this is no uplift.
        OptionalDependencyError: If matplotlib is missing.

    Example:
        >>> from aimz_lab.effects import uplift
        >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
        >>> len(plot_uplift(uplift(effect, y, X > 0, bins=4)).axes)
        2
    """
    if not isinstance(found, Uplift):
        msg = (
            f"plot_uplift draws the result of uplift(effect, outcome, treated), not {shown(found)}."
        )
        raise ArgumentError(msg)
    environment.require_matplotlib()
    from aimz_lab.lab.pictures.figure_layout import figure_of_axes

    figure = figure_of_axes(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    _gain(left, found)
    _bins(right, found)
    for axes in (left, right):
        axes.set_facecolor(ink.PAPER)
        axes.spines[["top", "right"]].set_visible(False)
    qini = number_beside(found.qini, float(np.std(found.qini_draws)), 3)
    figure.alt = (
        f"Left, the gain per row by the fraction treated, largest effects first, with the "
        f"{found.prob:.0%} band; a straight line is a random order. The Qini area is "
        f"{qini}. Right, the observed effect of each bin of rows against the "
        "predicted one."
    )
    ink.adapt(figure)
    return figure


def _gain(axes: Axes, found: Uplift) -> None:
    curve = found.curve
    at = 100 * curve["fraction"].values
    axes.fill_between(at, curve["low"], curve["high"], color=ink.BLUE, alpha=0.25, linewidth=0)
    axes.plot(at, curve["gain"], color=ink.BLUE, label="largest effects first")
    axes.plot(at, curve["random"], color=ink.OTHER, linestyle="--", label="at random")
    axes.set_xlabel("% of rows treated")
    axes.set_ylabel("gain per row of all")
    axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _bins(axes: Axes, found: Uplift) -> None:
    table = found.calibration
    predicted, observed = (table[name].to_numpy() for name in ("predicted", "observed"))
    width = [predicted - table["hdi_low"], table["hdi_high"] - predicted]
    axes.errorbar(
        predicted, observed, 2 * table["observed_se"], width, fmt="o", color=ink.BLUE, markersize=4
    )
    axes.axline((predicted[0], predicted[0]), slope=1, color=ink.OTHER, linewidth=1, linestyle="--")
    axes.set_xlabel("predicted effect, by bin")
    axes.set_ylabel("observed effect, ± 2 se")
