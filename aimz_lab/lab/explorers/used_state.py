"""Which state of a model numbers were made of, and whether the model still has it."""

from __future__ import annotations

import weakref
from typing import Any

from aimz_lab.inference.trained import Trained


class UsedState:
    """The state that numbers were made of; it keeps neither this nor the model in memory.

    Args:
        model: The model.
        trained: What was read of it.
    """

    def __init__(self, model: Any, trained: Trained) -> None:
        self._model = weakref.ref(model)
        self._trained = weakref.ref(trained)
        posterior = trained.posterior
        self._posterior = None if posterior is None else weakref.ref(posterior)

    @property
    def has_other_posterior(self) -> bool:
        """Whether the model has been trained since, or its draws were set."""
        model = self._model()
        if model is None:
            return False
        fitted = model._trained.fitted
        if _is_training(model) or fitted is None or fitted.is_outdated:
            return True
        return self._posterior is None or fitted.posterior is not self._posterior()

    @property
    def has_changed(self) -> bool:
        """The same, or whether its parameters were set."""
        model = self._model()
        return model is not None and (_is_training(model) or model._trained is not self._trained())


def _is_training(model: Any) -> bool:
    """Whether a training has gone on since, or begun."""
    return model.last_run is not None and not model.last_run.finished
