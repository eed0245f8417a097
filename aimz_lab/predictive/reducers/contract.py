"""The protocol of reducers, and the base class of reducers over draws."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped

from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.types import Array, Coords

Draws = Shaped[Array, "draw row ..."]
RowMask = Bool[Array, " row"]
RowValues = Shaped[Array, "row ..."]


@runtime_checkable
class Reducer(Protocol):
    """Protocol of reducers; your own class for ``reduce=`` needs these members.

    Each instance compiles a program of its own, unless it has a hashable attribute ``key`` that is
    equal for equal reducers.

    Attributes:
        name: Suffix of the result: a site ``y`` gives the variable ``y_{name}``.
        over: ``"draw"`` for one result per row, ``"row"`` for one per draw.
        on_host: Whether :meth:`block` takes NumPy arrays instead of being compiled by JAX.
        coords: Leading dimensions of the result, with their labels.
        by_row: A value for each row of the input, or several, for :meth:`block`; or ``None``.
    """

    name: str
    over: Literal["draw", "row"]
    on_host: bool
    coords: Coords
    by_row: np.ndarray | None

    def block(
        self,
        values: Draws,
        valid: RowMask,
        by_row: RowValues | None,
    ) -> Array:
        """Reduce some rows.

        Args:
            values: Draws, ``(S, R, ...)``.
            valid: Which rows are real, ``(R,)``; the others fill up the block.
            by_row: The rows' part of ``by_row``, or ``None``.

        Returns:
            Over draws: ``(*coords, R, ...)``. Over rows: sums ``(S, *coords, ...)``.
        """

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Turn the joined or summed results of the blocks into the result.

        Args:
            total: The results of the blocks, joined (over draws) or summed (over rows).
            n_rows: Rows of the input.

        Returns:
            The result; over draws, the rows follow ``coords``.
        """


class OverDraws:
    """Base class of reducers with one result per row.

    Attributes:
        estimates_loo: Whether it estimates, by a log-likelihood, what the model predicts of a row
            that was left out.
    """

    estimates_loo = False
    over = "draw"
    on_host = False
    by_row = None

    def __init__(self, name: str, coords: Coords | None = None) -> None:
        self.name, self.coords = name, dict(coords or {})

    @property
    def key(self) -> Hashable:
        """Equal for reducers that compute the same, so that they share a compiled program.

        All attributes count but the name, the labels and the values by row, which are no part of
        the program.
        """
        labels = tuple((dim, len(values)) for dim, values in self.coords.items())
        left = ("name", "coords", "by_row", "row_labels")
        own = {n: v for n, v in vars(self).items() if n not in left}
        values = tuple((n, type(v), _as_key(v)) for n, v in sorted(own.items()))
        return type(self), self.over, labels, values

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Return the result unchanged."""
        del n_rows
        return total


def _as_key(value: object) -> Hashable:
    """Return a value as part of a key: what can change, with its content as it is now."""
    try:
        hash(value)
    except TypeError:
        return CodeKey(value)
    return CodeKey(value) if callable(value) else value
