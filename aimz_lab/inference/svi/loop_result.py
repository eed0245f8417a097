"""Parameters of the state of a hand-written loop, computed when they are read."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpyro.infer.svi import SVIState

from aimz_lab.types import Params


class LoopResult:
    """What a hand-written loop has learned; no step waits for it.

    Args:
        state: The SVI state.
        params_of: The compiled function from a state to constrained parameters.

    Attributes:
        state: The SVI state.
    """

    def __init__(self, state: SVIState, params_of: Callable[[SVIState], Params]) -> None:
        self.state = state
        self._params_of = params_of

    @functools.cached_property
    def params(self) -> Params:
        """Constrained parameters by name."""
        return self._params_of(self.state)

    @property
    def losses(self) -> Float[np.ndarray, " step"]:
        """None, as the loop has them."""
        return np.zeros(0, np.float32)
