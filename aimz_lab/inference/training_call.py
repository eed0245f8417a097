"""How a model was trained: the call that trains a copy of it alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class TrainingCall:
    """A call of ``fit`` or ``fit_on_batch`` without its data.

    Attributes:
        on_batch: Whether it is ``fit_on_batch``.
        options: Its settings by keyword; the length is that of the state which the model has.
        begins_anew: Whether it does not go on from a state of before.
        was_steered: Whether the learning rate was changed meanwhile, by hand or by a callback.
        num_steps: Steps of SVI up to that state; of chains 0.
    """

    on_batch: bool
    options: Mapping[str, Any]
    begins_anew: bool = False
    was_steered: bool = False
    num_steps: int = 0
