"""Link between a monitored loop and its model: name, parameters, row count, learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from aimz_lab.inference.run.rates import WHY_FIXED, learning_rate, set_learning_rate
from aimz_lab.inference.run.records import BY_HAND
from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.types import callable_name


class ModelLink:
    """The model that a loop trains, or only a name for it, or nothing.

    Args:
        model: An :class:`~aimz_lab.ImpactModel`, a kernel, a name, or ``None``.
    """

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def name(self) -> str:
        """Name of the kernel."""
        if self._model is None:
            return "loop"
        if isinstance(self._model, str):
            return self._model
        kernel = getattr(self._model, "kernel", self._model)
        return callable_name(kernel)

    @property
    def method(self) -> str:
        """Inference method and guide, if the model has any."""
        if self.guide is None:
            return BY_HAND
        return f"SVI/{callable_name(self.guide)}, {BY_HAND}"

    @property
    def guide(self) -> Callable | None:
        """The guide, if the model has one."""
        return getattr(getattr(self._model, "inference", None), "guide", None)

    def axis_labels(self) -> AxisLabels:
        """Labels along the axes of sites, if the model was trained on a table before."""
        table = getattr(self._model, "_table", None)
        if table is None or self._model._trained.schema is None:
            return {}
        return table.axis_labels(self._model._trained.spec, self._model._trained.schema)

    def share_n_obs(self, n_obs: int | None) -> int | None:
        """Give the model the number of rows unless it has one; returns the one that holds."""
        if not hasattr(self._model, "n_obs"):
            return n_obs
        if n_obs is not None and self._model.n_obs is None:
            self._model.n_obs = n_obs
        return self._model.n_obs

    def params(self) -> Mapping[str, jax.Array]:
        """The guide's current parameters; empty if there are none."""
        state = self._state
        return {} if state is None else self._model.inference.get_params(state)

    def learning_rate(self) -> float | None:
        """The optimizer's rate, if it is part of its state."""
        state = self._state
        return None if state is None else learning_rate(state.optim_state)

    def set_learning_rate(self, rate: float) -> None:
        """Train with ``rate`` from the next step on."""
        state = self._state
        changed = set_learning_rate(state.optim_state, rate)
        self._model._vi_state = state._replace(optim_state=changed)

    @property
    def why_fixed(self) -> str:
        """Error message for a rate that cannot be set."""
        if hasattr(self._model, "_vi_state"):
            return WHY_FIXED
        return "This loop sets its own learning rate; pass set_learning_rate= to monitor()."

    @property
    def _state(self) -> Any:
        return getattr(self._model, "_vi_state", None)
