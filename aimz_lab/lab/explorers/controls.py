"""Move the controls of an explorer, exactly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aimz_lab.errors import ArgumentError
from aimz_lab.spelling import did_you_mean
from aimz_lab.types import shown

if TYPE_CHECKING:
    from ipywidgets import Widget


_MOST_OFFERED = 40


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
        offered = _offered(control)
        why = f"; it takes {offered}." if offered else f": {error}"
        msg = f"The control {name!r} does not take {shown(value)}{why}"
        raise ArgumentError(msg) from None
    if not _is_alike(control.value, value):
        ends = [getattr(control, end, None) for end in ("min", "max")]
        between = "" if None in ends else f" It goes from {ends[0]} to {ends[1]}."
        whole = " It takes whole numbers." if type(control.value) is int and not between else ""
        msg = f"The control {name!r} does not take {shown(value)}.{between}{whole}"
        raise ArgumentError(msg)


def _offered(control: Widget) -> str:
    """Return the values that a list, or a slider of values, offers; nothing of other controls."""
    options = getattr(control, "options", ())
    values = [one[1] if isinstance(one, tuple) else one for one in options]
    listed = [repr(value) for value in values[:_MOST_OFFERED]]
    return ", ".join([*listed, "..."] if len(values) > _MOST_OFFERED else listed)


def _is_alike(got: Any, asked: Any) -> bool:
    if isinstance(got, list | tuple) and isinstance(asked, list | tuple):
        return tuple(got) == tuple(asked)
    return got is asked or bool(got == asked)
