"""What guide and optimizer were set up with: data, or stand-ins for data that is not at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoDAIS, AutoGuide, AutoLaplaceApproximation
from numpyro.infer.svi import SVIState

from aimz_lab.errors import CallError
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.svi.plan import setup_arguments
from aimz_lab.inference.svi.setup import initial_state
from aimz_lab.types import callable_name

KEEPS_DATA = (AutoDAIS, AutoLaplaceApproximation)
"""Autoguides whose draws depend on the data that they were set up with."""


class GuideSetup:
    """Sets guide and optimizer up, and knows what with.

    Args:
        svi: The inference object.

    Attributes:
        schema: What the data was like; ``None`` before there was any.
        by_stand_ins: Whether there were stand-ins in its place, so that it has to be done again.
    """

    def __init__(self, svi: SVI) -> None:
        self.schema: InputSchema | None = None
        self.by_stand_ins = False
        self._svi = svi
        self._example: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the data."""
        return {**self.__dict__, "_example": {}}

    def see(self, data: TrainingData) -> None:
        """Remember a batch of data, for guides that ask for their arguments again."""
        batch = data.first_batch
        self._example = {**batch.rows, **batch.shared, **batch.static}
        self.schema = InputSchema.of(data)

    def with_data(
        self,
        key: jax.Array,
        data: TrainingData,
        meanwhile: Callable[[SVIState], object] = lambda _: None,
    ) -> SVIState:
        """Set up with training data; see :func:`initial_state`."""
        self._forget_stand_ins()
        arguments = setup_arguments(self._svi, data)
        return initial_state(self._svi, key, arguments, data.static, meanwhile)

    def with_stand_ins(self, schema: InputSchema) -> SVIState:
        """Set up without data; the next training does it again, with its data.

        Args:
            schema: What the data was like.

        Returns:
            A state with the structure, shapes and types of theirs.
        """
        self.schema, self._example, self.by_stand_ins = schema, {}, True
        return initial_state(self._svi, jax.random.key(0), schema.stand_ins(), schema.static)

    def ready_to_draw(
        self, key: jax.Array, arrays: Mapping[str, Any], static: Mapping[str, Any]
    ) -> None:
        """Replace stand-ins by the arguments of a draw, where the draw depends on them."""
        if self.by_stand_ins and isinstance(self._svi.guide, KEEPS_DATA):
            self._forget_stand_ins()
            initial_state(self._svi, key, arrays, static)

    def arguments(self) -> dict[str, Any]:
        """Return arguments for the guide: the last batch, else stand-ins that will do.

        Raises:
            CallError: If the guide may read data, and there is none yet since the model was loaded.
        """
        return self._example or self._stand_ins()

    def _stand_ins(self) -> dict[str, Any]:
        """Arguments for a guide that reads nothing of them but their shapes."""
        guide = self._svi.guide
        if not isinstance(guide, AutoGuide) or isinstance(guide, KEEPS_DATA):
            msg = (
                f"The guide {callable_name(guide)} may read the data, which is not stored with a "
                "model; pass it: sample(X=..., y=..., ...)."
            )
            raise CallError(msg)
        return {**self.schema.stand_ins(), **self.schema.static} if self.schema else {}

    def _forget_stand_ins(self) -> None:
        """Let an autoguide that was set up without data set itself up once more."""
        if self.by_stand_ins and isinstance(self._svi.guide, AutoGuide):
            self._svi.guide.prototype_trace = None
        self.by_stand_ins = False
