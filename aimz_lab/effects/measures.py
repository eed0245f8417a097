"""Measures of an effect: difference, ratio, percent, odds ratio, or a function of your own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.predictive.request import Expected
from aimz_lab.types import shown

Named = Literal["difference", "ratio", "percent", "odds_ratio"]

Contrast: TypeAlias = Named | Callable[[Any, Any], Any]
"""A named measure, or a function of the baseline and the intervention."""

NO_EFFECT = {"difference": 0.0, "ratio": 1.0, "percent": 0.0, "odds_ratio": 1.0}
"""The value of each measure where the intervention changes nothing."""

UNIT_WORDS = {"percent": " (%)", "ratio": " (times)", "odds_ratio": " (odds ratio)"}
"""What stands behind the name of an effect that is no difference."""

AVERAGE = "average"
"""In place of a measure: averages of the outcome itself, which are compared with nothing."""

_FORMULAS: dict[str, Callable] = {
    "difference": lambda before, after: after - before,
    "ratio": lambda before, after: after / before,
    "percent": lambda before, after: 100 * (after / before - 1),
    "odds_ratio": lambda before, after: after / (1 - after) * ((1 - before) / before),
}


def expected_for(contrast: Contrast) -> Expected:
    """Return what is averaged before it is contrasted: odds need flags or shares."""
    return "probabilities" if contrast == "odds_ratio" else "means"


def check_contrast(contrast: object) -> Contrast:
    """Return a contrast.

    Raises:
        ArgumentError: If it is neither a known name nor a function.
    """
    if (isinstance(contrast, str) and contrast in NO_EFFECT) or (
        callable(contrast) and not isinstance(contrast, type)
    ):
        return contrast
    msg = (
        f"contrast={shown(contrast)} is not known; use {', '.join(map(repr, get_args(Named)))}, or "
        "a function of the baseline and the intervention."
    )
    raise ArgumentError(msg)


def name_of(contrast: Contrast) -> str:
    """Return the name of a contrast, for results."""
    if isinstance(contrast, str):
        return contrast
    name = getattr(contrast, "__name__", type(contrast).__name__)
    return "own contrast" if name == "<lambda>" else name


@dataclass(frozen=True)
class Measure:
    """Contrasts values of the baseline with those of the intervention, on the host.

    Attributes:
        contrast: The measure.
        of: What is contrasted, for messages.
    """

    contrast: Contrast
    of: str = "averages"

    def __call__(self, name: str, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the contrast of values of one site.

        Args:
            name: Name of the site.
            before: Values of the baseline, ``(S, ...)``.
            after: Values of the intervention, of the same shape.

        Raises:
            DataError: If the measure is not defined for some of them.
            ArgumentError: If a function returns another shape.
        """
        before, after = (np.asarray(each, np.float64) for each in (before, after))
        if self.contrast in ("ratio", "percent"):
            self._check_signs(name, before)
        if self.contrast == "odds_ratio":
            self._check_shares(name, before, after)
        if isinstance(self.contrast, str):
            return _FORMULAS[self.contrast](before, after)
        return self._own(name, before, after)

    def _own(self, name: str, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        try:
            found = np.asarray(self.contrast(before, after))
        except Exception as error:
            msg = f"contrast={name_of(self.contrast)} of {name!r} failed: {error}."
            raise ArgumentError(msg) from error
        if found.shape != before.shape or found.dtype.kind not in "biuf":
            msg = (
                f"contrast={name_of(self.contrast)} of {name!r} gave {found.dtype} of shape "
                f"{found.shape}, and the {self.of} have shape {before.shape}; return one number "
                "for each of them."
            )
            raise ArgumentError(msg)
        bad = ~np.isfinite(found) & np.isfinite(before) & np.isfinite(after)
        if bad.any():
            msg = (
                f"contrast={name_of(self.contrast)} of {name!r} is not finite for {bad.sum():,} of "
                f"{bad.size:,} {self.of}."
            )
            raise DataError(msg)
        return found.astype(np.float64)

    def _check_signs(self, name: str, before: np.ndarray) -> None:
        signs = np.sign(before)
        most = np.sign(np.where(np.isnan(before), 0, signs).sum(0))
        unlike = ((signs == 0) | (signs != most)) & ~np.isnan(before)
        if unlike.any():
            msg = (
                f"contrast={self.contrast!r} of {name!r} divides by the {self.of} of the baseline, "
                f"and {unlike.sum():,} of {before.size:,} are zero or of another sign than the "
                "rest. Use contrast='difference', or 'return_sites' among the arguments of the "
                "scenarios, with sites above zero."
            )
            raise DataError(msg)

    def _check_shares(self, name: str, *sides: np.ndarray) -> None:
        for side in sides:
            if np.isnan(side).any():
                msg = (
                    f"contrast='odds_ratio' of {name!r} needs flags or probabilities, and some of "
                    "its values are not between 0 and 1. Use contrast='difference' or 'ratio', or "
                    "'return_sites' among the arguments of the scenarios, with probabilities."
                )
                raise DataError(msg)
            bad = ~((side > 0) & (side < 1))
            if bad.any():
                msg = (
                    f"contrast='odds_ratio' of {name!r} needs {self.of} between 0 and 1, of flags "
                    f"or probabilities; {bad.sum():,} of {bad.size:,} are not, such as "
                    f"{side[bad].flat[0]:.4g}. Use contrast='difference' or 'ratio', or "
                    "'return_sites' among the arguments of the scenarios, with probabilities."
                )
                raise DataError(msg)


class Both:
    """Keeps both scenarios, on a new last axis; combines the results of a compiled pass."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Both)

    def __hash__(self) -> int:
        return hash(Both)

    def __call__(
        self,
        before: dict[str, Shaped[Array, ...]],
        after: dict[str, Shaped[Array, ...]],
    ) -> dict[str, Shaped[Array, "... 2"]]:
        """Stack the scenarios site by site."""
        return {name: _stacked(before[name], after[name]) for name in after}


def _stacked(before: jax.Array, after: jax.Array) -> jax.Array:
    return jnp.stack([_signed(before), _signed(after)], axis=-1)


class ByRow:
    """Contrasts the scenarios row by row, within a compiled pass.

    Args:
        contrast: The measure; a function takes and returns arrays of JAX.
    """

    def __init__(self, contrast: Contrast) -> None:
        self.contrast = contrast
        self._key = contrast if isinstance(contrast, str) else CodeKey(contrast)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByRow) and other._key == self._key

    def __hash__(self) -> int:
        return hash((ByRow, self._key))

    def __call__(
        self,
        before: dict[str, Shaped[Array, ...]],
        after: dict[str, Shaped[Array, ...]],
    ) -> dict[str, Shaped[Array, ...]]:
        """Contrast site by site.

        Raises:
            ArgumentError: If a function fails, or returns another shape.
        """
        pairs = {name: (_signed(before[name]), _signed(after[name])) for name in after}
        if isinstance(self.contrast, str):
            return {name: _FORMULAS[self.contrast](*pair) for name, pair in pairs.items()}
        called = f"contrast={name_of(self.contrast)}"
        return {name: traced(called, self.contrast, *pair) for name, pair in pairs.items()}


def traced(called: str, function: Callable, *values: jax.Array) -> jax.Array:
    """Return what a function of the user makes of values, within a compiled pass.

    Args:
        called: The argument that it was given by, for messages.
        function: The function.
        *values: Arrays of one shape.

    Raises:
        ArgumentError: If it fails, or returns another shape.
    """
    try:
        found = jnp.asarray(function(*values))
    except Exception as error:
        said = str(error).split("\n", 1)[0]
        why = _why_not_compiled(error) or f"failed ({type(error).__name__}: {said})"
        msg = (
            f"{called} {why}. It is compiled, and takes arrays of JAX: write it with functions of "
            "jax.numpy."
        )
        raise ArgumentError(msg) from error
    if found.shape != values[0].shape:
        msg = (
            f"{called} returned shape {found.shape} for values of shape {values[0].shape}; return "
            "one number for each of them."
        )
        raise ArgumentError(msg)
    return found


def _why_not_compiled(error: Exception) -> str:
    """Say what of a function cannot be compiled; empty for another error."""
    if isinstance(error, jax.errors.TracerArrayConversionError):
        return "calls a function of NumPy, such as np.where, and not of jax.numpy, jnp.where"
    if isinstance(error, jax.errors.TracerIntegerConversionError):
        return "looks up a list by an outcome; make it an array, jnp.array([...])[level]"
    if isinstance(error, jax.errors.ConcretizationTypeError):
        return (
            "decides by the values of an array, as if, min and float do; write jnp.where(y > 0, a, "
            "b), or jnp.minimum"
        )
    return ""


def _signed(values: jax.Array) -> jax.Array:
    return values.astype(np.int32) if values.dtype.kind in "bu" else values
