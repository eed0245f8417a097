"""What is asked of an effect: an interval, a direction, a region of practical equivalence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from aimz_lab.data.options import real_number
from aimz_lab.effects.measures import NO_EFFECT
from aimz_lab.errors import ArgumentError
from aimz_lab.types import check_choice, shown

Direction = Literal["greater", "less"]


@dataclass(frozen=True)
class Asked:
    """What a summary has to answer.

    Attributes:
        prob: Share of the draws in the interval.
        contrast: Name of the measure.
        delta: What the effect is compared with.
        direction: ``"greater"``, ``"less"``, or ``None``.
        rope: Ends of the region of practical equivalence, or ``None``.
    """

    prob: float
    contrast: str
    delta: float
    direction: Direction | None = None
    rope: tuple[float, float] | None = None

    @classmethod
    def checked(
        cls, prob: float, contrast: str, direction: object, delta: object, rope: object
    ) -> Asked:
        """Return what is asked.

        Raises:
            ArgumentError: If a value is not allowed.
        """
        none = NO_EFFECT.get(contrast, 0.0)
        if direction is not None:
            check_choice("direction", direction, Direction)
        if delta is not None and not math.isfinite(real_number(delta)):
            msg = f"delta={shown(delta)} is not allowed; use a number in the units of the effect."
            raise ArgumentError(msg)
        if delta is not None and direction is None:
            msg = "delta= is what direction= compares with; pass direction='greater' or 'less'."
            raise ArgumentError(msg)
        at = none if delta is None else real_number(delta)
        return cls(prob, contrast, at, direction, _region(rope, none))

    @property
    def labels(self) -> list[str]:
        """Labels along the dimension of summaries."""
        found = ["mean", "sd", "hdi_low", "hdi_high"]
        found += [] if self.direction is None else [f"p_{self.direction}"]
        return found + ([] if self.rope is None else ["p_rope"])

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes of a summary."""
        found: dict[str, Any] = {"prob": self.prob, "contrast": self.contrast}
        if self.direction is not None:
            found |= {"direction": self.direction, "delta": self.delta}
        return found if self.rope is None else {**found, "rope": list(self.rope)}


def _region(rope: object, none: float) -> tuple[float, float] | None:
    """Return the ends of a region, which are given, or lie around no effect."""
    if rope is None:
        return None
    half = real_number(rope)
    if math.isfinite(half) and half > 0:
        return none - half, none + half
    try:
        low, high = map(real_number, rope)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        msg = (
            f"rope={shown(rope)} is not allowed; use its ends, the lower one first, as in (-0.1, "
            "0.1), or the half of its width around no effect."
        )
        raise ArgumentError(msg)
    return low, high
