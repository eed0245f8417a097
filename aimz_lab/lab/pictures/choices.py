"""What a reader of the live page chose to see, and so what its saved picture shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

_NAMES_ON_THE_PAGE = {"perRow": "per_row", "half": "last_half", "wasLog": "was_log"}


@dataclass(frozen=True)
class Choices:
    """How the curve of a run is shown.

    Attributes:
        curve: Its name: ``"loss"``, ``"learning_rate"`` or a metric.
        log: Whether the vertical axis is logarithmic.
        whole: Whether a linear one has the whole range, with a start far above the rest.
        last_half: Whether only the second half of the steps is shown.
        per_row: Whether the loss is divided by the number of rows, if it is known.
        smooth: Whether the moving average is drawn as well.
        was_log: Whether the data chose the logarithmic axis on the page.
    """

    curve: str = "loss"
    log: bool = False
    whole: bool = False
    last_half: bool = False
    per_row: bool = True
    smooth: bool = True
    was_log: bool = False

    @classmethod
    def of_page(cls, sent: Any) -> Self:
        """Return the choices that a page sent; what it does not say, or says wrongly, is left out.

        Example:
            >>> Choices.of_page({"log": True, "half": "yes"})
            Choices(curve='loss', log=True, whole=False, last_half=False, per_row=True, ...)
        """
        sent = sent if isinstance(sent, Mapping) else {}
        kinds = {field.name: type(field.default) for field in fields(cls)}
        named = {_NAMES_ON_THE_PAGE.get(name, name): value for name, value in sent.items()}
        return cls(**{name: v for name, v in named.items() if type(v) is kinds.get(name)})

    def as_sent(self) -> dict[str, Any]:
        """Return them as a page names them."""
        names = {ours: theirs for theirs, ours in _NAMES_ON_THE_PAGE.items()}
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {names.get(name, name): value for name, value in own.items()}
