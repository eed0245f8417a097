"""Apply reducers piece by piece, on devices or the host, and join their results."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import jax
import numpy as np

from aimz_lab.errors import DataError
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.predictive.blocks import BLOCK_ROWS
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.pairwise_sums import PairwiseSums
from aimz_lab.types import Arrays

REST_ROWS = 4096
"""Rows reduced at a time if all draws of all rows are kept."""


@dataclass
class Reduced:
    """What is known of consecutive rows, without the reducers.

    Attributes:
        parts: By site and reducer, the results over draws of some rows after others.
        sums: By site and reducer, the sums over rows.
        n_rows: Number of rows up to the last of these.
    """

    parts: dict[tuple[str, str], list[np.ndarray]] = field(default_factory=dict)
    sums: dict[tuple[str, str], PairwiseSums] = field(default_factory=dict)
    n_rows: int = 0

    def join(self, following: Reduced) -> None:
        """Take what is known of the rows that follow."""
        for place, parts in following.parts.items():
            self.parts.setdefault(place, []).extend(parts)
        for place, sums in following.sums.items():
            self.sums.setdefault(place, PairwiseSums()).join(sums)
        self.n_rows = following.n_rows


class Reduction:
    """Reduces a result piece by piece; a ``Finish`` of the engine.

    Args:
        reducers: Reducers by name.
        first_piece: Number of the first piece, of those of a whole call.
        first: Number of the first row that ``by_row`` has.
        by_row: Values by row, by reducer; by default those that the reducers have of all rows.

    Attributes:
        found: What is known of the rows so far.

    Raises:
        DataError: If a reducer lacks values by row.
    """

    def __init__(
        self,
        reducers: Mapping[str, Reducer],
        first_piece: int = 0,
        first: int = 0,
        by_row: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._reducers = dict(reducers)
        self._first_piece, self._first = first_piece, first
        all_rows = {n: one.by_row for n, one in self._reducers.items() if one.by_row is not None}
        self._given = all_rows if by_row is None else dict(by_row)
        self.found = Reduced()

    def check_rows(self, n_rows: int | None) -> None:
        """Raise :class:`DataError` if there are values for more or fewer rows than the data has."""
        for name, one in self._reducers.items():
            if n_rows is not None and one.by_row is not None and len(one.by_row) != n_rows:
                raise _other_length(_given(name, one), one.by_row, n_rows)

    @property
    def key(self) -> Hashable:
        """Identifies its program: the reducers themselves."""
        on_device = [(name, one) for name, one in self._reducers.items() if not one.on_host]
        keys = tuple((name, getattr(one, "key", None) or CodeKey(one)) for name, one in on_device)
        return keys, self._keeps_values

    @property
    def _keeps_values(self) -> bool:
        return any(one.on_host for one in self._reducers.values())

    def row_values(self, first: int, n_rows: int, n_blocks: int) -> dict[str, np.ndarray]:
        """Return values by row for the program: which are real, and those of reducers."""
        size = n_blocks * BLOCK_ROWS
        given = {"": np.arange(size) < n_rows}
        for name, part in self.by_row(first, n_rows).items():
            fill = np.zeros((size - n_rows, *part.shape[1:]), part.dtype)
            given[name] = np.concatenate([part, fill])
        return {
            name: array.reshape(n_blocks, BLOCK_ROWS, *array.shape[1:])
            for name, array in given.items()
        }

    def on_device(self, values: Arrays, rows: Arrays) -> dict[str, dict[str, jax.Array]]:
        """Reduce ``(S, G, B, ...)`` inside a program; keep the values if the host needs them."""
        found: dict[str, dict[str, jax.Array]] = {}
        for site, draws in values.items():
            flat = draws.reshape(draws.shape[0], -1, *draws.shape[3:])
            found[site] = {
                name: one.block(flat, rows[""].ravel(), _flat(rows.get(name)))
                for name, one in self._reducers.items()
                if not one.on_host
            }
            if self._keeps_values:
                found[site][""] = flat
        return found

    def by_row(self, first: int, n_rows: int) -> dict[str, np.ndarray]:
        """Return the values by row of some rows, by reducer.

        Raises:
            DataError: If there are fewer.
        """
        return {name: self._by_row(name, first, n_rows) for name in self._given}

    @property
    def row_bytes(self) -> int:
        """Bytes of the values of a row."""
        return sum(values.nbytes // max(len(values), 1) for values in self._given.values())

    def without_rows(self) -> Reduction:
        """Return one whose reducers have no values by row, to be given those of some rows.

        A reducer of the user's keeps them: its code may read all of them.
        """
        return Reduction({name: _without_rows(one) for name, one in self._reducers.items()})

    def of_part(self, first_piece: int, first: int, by_row: Mapping[str, np.ndarray]) -> Reduction:
        """Return one with the same reducers for some rows of the call.

        Args:
            first_piece: Number of their first piece.
            first: Number of their first row.
            by_row: Their values by row, by reducer.
        """
        return Reduction(self._reducers, first_piece, first, by_row)

    @property
    def is_of_sums(self) -> bool:
        """Whether nothing but sums over rows is kept."""
        return all(one.over == "row" for one in self._reducers.values())

    @property
    def most_groups(self) -> int:
        """The most sums over rows that a reducer keeps for a value of a draw."""
        sizes = [[len(labels) for labels in one.coords.values()] for one in self._reducers.values()]
        return max(map(math.prod, sizes), default=1)

    def take(self, first: int, n_rows: int, found: Mapping[str, Arrays]) -> None:
        """Take the results of :meth:`on_device` for some rows."""
        for site, results in found.items():
            for name, one in self._reducers.items():
                if one.on_host:
                    by_row = self._by_row(name, first, n_rows) if name in self._given else None
                    values = np.asarray(results[""])[:, :n_rows]
                    result = one.block(values, np.ones(n_rows, bool), by_row)
                else:
                    result = np.asarray(results[name])
                self._add(site, name, one, result, n_rows)
        self.found.n_rows = first + n_rows

    def reduce_all(
        self, values: Mapping[str, np.ndarray], compiled: Callable | None = None
    ) -> None:
        """Take all draws of all rows, ``(S, N, ...)``.

        Args:
            values: The draws by site.
            compiled: :meth:`on_device`, compiled before; ``None`` to compile it.
        """
        reduce = compiled or jax.jit(self.on_device)
        n_rows = next(iter(values.values())).shape[1] if values else 0
        for first in range(0, n_rows, REST_ROWS):
            count = min(REST_ROWS, n_rows - first)
            part = {name: array[:, None, first : first + count] for name, array in values.items()}
            rows = {"": np.ones((1, count), bool)}
            rows |= {name: given[None] for name, given in self.by_row(first, count).items()}
            self.take(first, count, reduce(part, rows))

    def results(self) -> dict[str, dict[str, np.ndarray]]:
        """The results by site and reducer: over draws ``(*coords, N, ...)``, else ``(S, ...)``.

        Raises:
            DataError: If a reducer has values for more rows than there were.
        """
        found: dict[str, dict[str, np.ndarray]] = {}
        for (site, name), parts in self.found.parts.items():
            axis = len(self._reducers[name].coords)
            found.setdefault(site, {})[name] = np.concatenate(parts, axis=axis)
        for (site, name), sums in self.found.sums.items():
            found.setdefault(site, {})[name] = sums.total
        for results in found.values():
            for name, total in results.items():
                results[name] = self._finished(name, total)
        return found

    def _finished(self, name: str, total: np.ndarray) -> np.ndarray:
        one = self._reducers[name]
        if one.by_row is not None and len(one.by_row) != self.found.n_rows:
            raise _other_length(_given(name, one), one.by_row, self.found.n_rows)
        return one.finish(total, self.found.n_rows)

    def _add(self, site: str, name: str, one: Reducer, result: np.ndarray, n_rows: int) -> None:
        if one.over == "draw":
            where = (slice(None),) * len(one.coords) + (slice(n_rows),)
            self.found.parts.setdefault((site, name), []).append(result[where])
        else:
            # Sums of single precision over a piece, of double precision over the pieces.
            sums = self.found.sums.setdefault((site, name), PairwiseSums(self._first_piece))
            sums.add(np.asarray(result, dtype=np.float64))

    def _by_row(self, name: str, first: int, n_rows: int) -> np.ndarray:
        given = np.asarray(self._given[name])
        part = given[first - self._first : first - self._first + n_rows]
        if len(part) < n_rows:
            what = _given(name, self._reducers[name])
            msg = f"The values of {what} are for {len(given)} rows; the data has more."
            raise DataError(msg)
        return part


def _without_rows(one: Reducer) -> Reducer:
    is_own = type(one).block.__module__.startswith("aimz_lab.")
    return one.without_rows() if is_own and hasattr(one, "without_rows") else one


def _given(name: str, reducer: Reducer) -> str:
    """Return the arguments that the values by row come from, for messages."""
    return getattr(reducer, "given", name)


def _other_length(given: str, by_row: np.ndarray, n_rows: int) -> DataError:
    msg = (
        f"The values of {given} are for {len(by_row)} rows; the data has {n_rows}. If rows of the "
        "table are left out because of missing values, leave these out beforehand, of the table "
        "and of the values: df.dropna(). by= of a prediction does so by itself."
    )
    return DataError(msg)


def _flat(values: jax.Array | None) -> jax.Array | None:
    return None if values is None else values.reshape(-1, *values.shape[2:])
