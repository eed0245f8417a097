"""What stateful transforms learned, as JSON values and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from aimz_lab.errors import ArtifactError
from aimz_lab.types import JsonObject


def plain_state(state: Any) -> Any:
    """Return a state of mappings, sequences, numbers and arrays as JSON values.

    Mappings become lists of pairs, because some have numbers as keys.

    Example:
        >>> plain_state({"scale(age)": {"center": np.float64(3.5), "knots": np.ones(2)}})
        {'pairs': [['scale(age)', {'pairs': [['center', 3.5], ['knots', {'array': [1.0, 1.0]}]]}]]}
    """
    if isinstance(state, Mapping):
        return {"pairs": [[plain_state(key), plain_state(value)] for key, value in state.items()]}
    if isinstance(state, np.ndarray):
        return {"array": state.tolist()}
    if isinstance(state, (list, tuple)):
        return [plain_state(value) for value in state]
    if isinstance(state, np.generic):
        return state.item()
    if state is None or isinstance(state, (str, int, float)):
        return state
    msg = f"A formula learned a {type(state).__name__}, which cannot be saved."
    raise ArtifactError(msg)


def of_plain_state(plain: JsonObject | Any) -> Any:
    """Return the state from its JSON values.

    Example:
        >>> of_plain_state(plain_state({0: [1.5], "a": np.ones(2)}))
        {0: [1.5], 'a': array([1., 1.])}
    """
    if isinstance(plain, Mapping):
        if "array" in plain:
            return np.asarray(plain["array"], np.float64)
        return {of_plain_state(key): of_plain_state(value) for key, value in plain["pairs"]}
    if isinstance(plain, list):
        return [of_plain_state(value) for value in plain]
    return plain
