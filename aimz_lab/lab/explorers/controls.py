"""Move the controls of an explorer, exactly or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from aimz_lab.errors import ArgumentError
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import shown

if TYPE_CHECKING:
    from ipywidgets import Widget

_MOST_CHOICES = 40
_SEEN_AT_ONCE = 4  # numbers among which a reader finds the nearest


class RefusedValuesError(ArgumentError):
    """Controls have values that their explorer refuses.

    Args:
        by_control: Why, as a sentence by the name of the control.

    Attributes:
        by_control: The same.
    """

    def __init__(self, by_control: Mapping[str, str]) -> None:
        super().__init__("\n".join(by_control.values()))
        self.by_control = dict(by_control)


def named(controls: Mapping[str, Widget], name: str) -> Widget:
    """Return a control.

    Args:
        controls: The controls by name.
        name: The name asked for.

    Raises:
        ArgumentError: If there is none of that name.
    """
    if name in controls:
        return controls[name]
    known = list(controls)
    msg = f"No control is called {shown(name)}.{did_you_mean(name, known)}"
    raise ArgumentError(f"{msg} There are: {', '.join(known)}.")


def move(control: Widget, name: str, value: Any) -> None:
    """Set the value of a control.

    Args:
        control: The control.
        name: Its name.
        value: Its new value.

    Raises:
        ArgumentError: If the control does not take the value, or would take another in its place.
    """
    try:
        control.value = value
    except Exception as error:  # noqa: BLE001 - traitlets', or the control's own
        if (choices := _choices(control)) is not None:
            raise ArgumentError(_not_a_choice(name, value, choices)) from None
        why = f".{_numbers_of(control)}" if _is_of_numbers(control) else f": {error}"
        msg = f"The control {name!r} does not take {shown(value)}{why}"
        raise ArgumentError(msg) from None
    if not _is_alike(control.value, value):
        ends = [getattr(control, end, None) for end in ("min", "max")]
        between = "" if None in ends else f" It goes from {ends[0]} to {ends[1]}."
        whole = " It takes whole numbers." if type(control.value) is int and not between else ""
        msg = f"The control {name!r} does not take {shown(value)}.{between}{whole}"
        raise ArgumentError(msg)


def _is_of_numbers(control: Widget) -> bool:
    return type(control.value) in (int, float)


def _numbers_of(control: Widget) -> str:
    """Write which numbers a control takes."""
    ends = [getattr(control, end, None) for end in ("min", "max")]
    kind = "whole numbers" if type(control.value) is int else "numbers"
    return (
        f" It takes {kind}." if None in ends else f" It takes {kind} from {ends[0]} to {ends[1]}."
    )


def _not_a_choice(name: str, value: Any, choices: list[Any]) -> str:
    listed = ", ".join(map(shown, choices[:_MOST_CHOICES]))
    more = f", and {left:,} more" if (left := len(choices) - _MOST_CHOICES) > 0 else ""
    near = did_you_mean(value, choices) if isinstance(value, str) else _nearest(value, choices)
    return f"The control {name!r} does not take {shown(value)}.{near} It takes {listed}{more}."


def _nearest(value: Any, choices: list[Any]) -> str:
    """Name the number of a long list that is nearest to a number."""
    numbers = [one for one in choices if _is_finite(one)]
    if not _is_finite(value) or len(numbers) <= _SEEN_AT_ONCE:
        return ""
    return f" The nearest that it takes is {shown(min(numbers, key=lambda one: abs(one - value)))}."


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _choices(control: Widget) -> list[Any] | None:
    """Return the values to choose from; ``None`` of a control that is no list of them."""
    options = getattr(control, "options", None)
    if options is None:
        return None
    return [option[1] if isinstance(option, tuple) else option for option in options]


def _is_alike(got: Any, asked: Any) -> bool:
    if isinstance(got, list | tuple) and isinstance(asked, list | tuple):
        return tuple(got) == tuple(asked)
    return got is asked or bool(got == asked)
