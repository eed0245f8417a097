"""Shares of whole numbers, predicted beside observed: nothing is drawn between two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from aimz_lab.lab.explorers.charts import Band, Bars, Layer, Line, Steps

_MOST_BARS = 40
_INSET = 0.01  # of a bin: what the pointer reads near an edge is of its own bin
_BESIDE = 0.15  # of the distance of two numbers: where pinned draws stand, beside the others


class Predicted(NamedTuple):
    """Predicted heights of the bins.

    Attributes:
        name: What they are called.
        interval: What the interval is called.
        heights: The heights.
        low: Lower ends of the interval.
        high: Upper ends.
    """

    name: str
    interval: str
    heights: np.ndarray
    low: np.ndarray
    high: np.ndarray


def has_bars(edges: np.ndarray) -> bool:
    """Whether each number has a bar and a name, and the places of the chart are 0, 1, ...

    Args:
        edges: Edges of equally wide bins, between whole numbers.
    """
    return len(edges) - 1 <= _MOST_BARS and edges[1] - edges[0] == 1


def share_layers(
    edges: np.ndarray,
    predicted: Predicted,
    observed: tuple[str, np.ndarray] | None = None,
    pinned: Predicted | None = None,
    levels: Sequence[str] = (),
) -> list[Layer]:
    """Draw the bins of whole numbers: bars and dots at few numbers, steps over many.

    Args:
        edges: Edges of equally wide bins, between whole numbers.
        predicted: What is predicted.
        observed: Name and heights of what was observed, if there is such.
        pinned: Earlier predictions that stay, if there are such.
        levels: What 0, 1, 2, ... stand for, if they are numbers of levels.
    """
    layers: list[Layer] = []
    if has_bars(edges):
        numbers = (edges[:-1] + 0.5).astype(int).tolist()
        known = dict(enumerate(levels))
        names = [known.get(value, str(value)) for value in numbers]
        if observed is not None:
            layers.append(Bars(names, observed[1], label=observed[0], role="data"))
        if pinned is not None:
            ends = pinned.heights, pinned.low, pinned.high
            layers.append(Bars(names, *ends, _BESIDE, label=pinned.name, role="pinned"))
        ends = predicted.heights, predicted.low, predicted.high
        label = f"{predicted.name}, {predicted.interval}"
        return [*layers, Bars(names, *ends, label=label)]
    inset = _INSET * (edges[1] - edges[0])
    sides = np.stack([edges[:-1] + inset, edges[1:] - inset], axis=1).ravel()
    heights, low, high = (np.repeat(each, 2) for each in predicted[2:])
    if observed is not None:
        layers.append(Steps(edges, observed[1], label=observed[0], role="data"))
    layers += [
        Band(sides, low, high, label=predicted.interval),
        Line(sides, heights, label=predicted.name),
    ]
    if pinned is not None:
        kept = np.repeat(pinned.heights, 2)
        layers.append(Line(sides, kept, label=pinned.name, role="pinned", dashed=True))
    return layers
