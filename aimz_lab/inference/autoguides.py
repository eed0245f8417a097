"""Find NumPyro's autoguides inside a guide, and what their draws depend on."""

from __future__ import annotations

from collections.abc import Callable

from numpyro.infer.autoguide import (
    AutoDAIS,
    AutoGuide,
    AutoGuideList,
    AutoLaplaceApproximation,
    AutoSemiDAIS,
)


def autoguides_in(guide: Callable | None) -> list[AutoGuide]:
    """Return the autoguides among a guide and its parts.

    Example:
        >>> from numpyro.infer.autoguide import AutoNormal
        >>> guide = AutoGuideList(lambda: None)
        >>> guide.append(AutoNormal(lambda: None))
        >>> [type(one).__name__ for one in autoguides_in(guide)]
        ['AutoGuideList', 'AutoNormal']
    """
    parts: list[Callable | None] = []
    if isinstance(guide, AutoGuideList):
        parts = list(guide)
    elif isinstance(guide, AutoSemiDAIS):
        parts = [guide.global_guide, guide.local_guide]
    own = [guide] if isinstance(guide, AutoGuide) else []
    return own + [one for part in parts for one in autoguides_in(part)]


def takes_curvature(guide: Callable) -> bool:
    """Whether draws depend on the curvature of the density of the set-up's data."""
    return any(isinstance(one, AutoLaplaceApproximation) for one in autoguides_in(guide))


def follows_density(guide: Callable) -> bool:
    """Whether draws follow the gradient of the density of the set-up's data."""
    return any(isinstance(one, AutoDAIS) for one in autoguides_in(guide))
