"""Test statistics of the reader's own: functions that give one number for each value."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Shaped

from aimz_lab.errors import ArgumentError
from aimz_lab.types import shown

Statistic = Callable[[np.ndarray], np.ndarray]
"""A function of values that returns one value for each, such as ``lambda y: y > 10``."""

BUILT_IN = ("mean", "sd", "minimum", "maximum", "share of zeros")
"""Names of the statistics that are always there."""


class OwnStatistic:
    """A function of values whose mean over the rows is a test statistic.

    Args:
        name: Its name.
        function: The function.

    Raises:
        ArgumentError: If it cannot be called, or has the name of another statistic.
    """

    def __init__(self, name: object, function: object) -> None:
        if not isinstance(name, str) or not name or name in BUILT_IN:
            msg = (
                f"statistics= names a function {shown(name)}; give it a name in words, other than "
                f"{', '.join(BUILT_IN)}."
            )
            raise ArgumentError(msg)
        if not callable(function):
            msg = f"statistics={{{name!r}: ...}} takes a function of values; got {shown(function)}."
            raise ArgumentError(msg)
        self.name, self._function = name, function

    def __call__(self, values: Shaped[np.ndarray, ...]) -> Float[np.ndarray, ...]:
        """Return the number of each value.

        Args:
            values: The values.

        Raises:
            ArgumentError: If the function fails, or does not give one finite number for each.
        """
        flat = np.asarray(values, np.float64).ravel()
        try:
            found = np.asarray(self._function(flat.copy()))
        except Exception as error:
            msg = f"The statistic {self.name!r} fails: {type(error).__name__}: {error}"
            raise ArgumentError(msg) from error
        if found.shape != flat.shape or found.dtype.kind not in "fiub":
            msg = (
                f"The statistic {self.name!r} gives {found.dtype} of shape {found.shape} for "
                f"values of shape {flat.shape}. It has to give one number for each value, such as "
                "lambda y: y > 10; the mean over the rows is taken here."
            )
            raise ArgumentError(msg)
        if not np.isfinite(found).all():
            at = flat[np.argmin(np.isfinite(found))]
            msg = f"The statistic {self.name!r} is infinite or not a number at {at:g}."
            raise ArgumentError(msg)
        return found.astype(np.float64).reshape(np.shape(values))

    def check_alone(self, values: Float[np.ndarray, " row"]) -> None:
        """Refuse a function whose number of one value depends on the others: it is read in pieces.

        Args:
            values: The observed values.

        Raises:
            ArgumentError: If it does.
        """
        found = self(values)
        ends = (int(values.argmin()), int(values.argmax()))
        if not all(np.allclose(self(values[at : at + 1]), found[at], rtol=1e-6) for at in ends):
            msg = (
                f"The statistic {self.name!r} gives a value another number when other values are "
                "beside it, and predictions are read in pieces. Use numbers that are fixed, such "
                "as lambda y: y > 10."
            )
            raise ArgumentError(msg)


def own_statistics(given: Mapping[str, object] | None) -> tuple[OwnStatistic, ...]:
    """Return test statistics of the reader's own.

    Args:
        given: Functions by name.

    Raises:
        ArgumentError: If these are no functions by name.
    """
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        msg = (
            "statistics= are functions by name, {'above 10': lambda y: y > 10}; got "
            f"{shown(given)}."
        )
        raise ArgumentError(msg)
    return tuple(OwnStatistic(name, function) for name, function in given.items())
