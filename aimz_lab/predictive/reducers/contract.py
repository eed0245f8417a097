"""The contract of reducers, and the base of reducers over draws."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped

from aimz_lab.kernel.cache_keys import ById
from aimz_lab.types import Array, Coords

Draws = Shaped[Array, "draw row ..."]
RowMask = Bool[Array, " row"]
RowValues = Shaped[Array, " row"]


@runtime_checkable
class Reducer(Protocol):
    """The contract of a reducer; a class of your own for ``reduce=`` needs these members.

    Another instance compiles another program, unless it has a hashable attribute ``key`` that is
    equal for reducers that do the same.

    Attributes:
        name: Suffix of the result: a site ``y`` gives the variable ``y_{name}``.
        over: ``"draw"`` leaves one result a row, ``"row"`` one a draw.
        on_host: Whether :meth:`block` takes NumPy arrays instead of being compiled by JAX.
        coords: Dimensions that the result has in front, with their labels.
        by_row: One value for each row of the input, handed to :meth:`block`; or ``None``.
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
            valid: Which rows are real, ``(R,)``; the others are copies that fill up the block.
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
            The result; over draws, with the rows behind ``coords``.
        """


class OverDraws:
    """One result a row."""

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
        own = {n: v for n, v in vars(self).items() if n not in ("name", "coords", "by_row")}
        values = tuple((n, type(v), _as_key(v)) for n, v in sorted(own.items()))
        return type(self), self.over, labels, values

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """The result is complete as it is."""
        del n_rows
        return total


def _as_key(value: object) -> Hashable:
    """A value as part of a key; one that cannot be hashed is equal to itself alone."""
    try:
        hash(value)
    except TypeError:
        return ById(value)
    return value
