"""Which posterior of a model numbers were made of, and whether the model still has it."""

from __future__ import annotations

import weakref
from typing import Any

from aimz_lab.inference.running_fit import Moment


class UsedPosterior:
    """The posterior that numbers were made of; it keeps neither this nor the model in memory.

    Args:
        model: The model.
        moment: What its predictions read, with a posterior.
    """

    def __init__(self, model: Any, moment: Moment) -> None:
        self._model = weakref.ref(model)
        self._posterior = weakref.ref(moment.trained.fitted.posterior)

    @property
    def is_outdated(self) -> bool:
        """Whether the model has been trained since, or its draws were set."""
        model = self._model()
        if model is None:
            return False
        run, fitted = model.last_run, model._trained.fitted
        if run is not None and not run.finished:  # it has gone on since, or begun
            return True
        return fitted is None or fitted.is_outdated or fitted.posterior is not self._posterior()
