"""Name entries of sites by the labels of their axes, where these are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aimz_lab.errors import AimzLabError
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run import AxisLabels


def labels_of(run: Run) -> AxisLabels:
    """Return the labels of the axes of a run's sites; finding them may trace the kernel."""
    try:
        return run.axis_labels()
    except AimzLabError:  # the names of a TableSpec that do not fit are told elsewhere
        return {}


def entry_name(
    site: str, index: Sequence[int], shape: Sequence[int], labels: AxisLabels | None = None
) -> str:
    """Write a site and a position: by the labels of the axes, if they have as many entries.

    Args:
        site: Name of the site.
        index: Position in it.
        shape: Its shape.
        labels: Labels along the axes of sites, by site.

    Example:
        >>> entry_name("lift", (1,), (2,)), entry_name("sd", (), ())
        ('lift[1]', 'sd')
        >>> entry_name("lift", (1,), (2,), {"lift": (["north", "south"],)})
        'lift[south]'
    """
    axes = (labels or {}).get(site, ())
    if len(axes) != len(index):
        axes = [None] * len(index)
    return site + bracketed(
        of[at] if of is not None and len(of) == size else str(at)
        for at, size, of in zip(index, shape, axes, strict=True)
    )


def bracketed(parts: Iterable[str]) -> str:
    """Write a position in brackets; nothing for that of a single value."""
    text = ", ".join(parts)
    return f"[{text}]" if text else ""
