"""Recognise the training rows by checksum."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from aimz_lab.data import AxisLabels, canonical
from aimz_lab.files import Malformed, Value
from aimz_lab.types import JsonObject, Rows

_LARGEST = 256 << 20
"""Rows up to this size in bytes get a checksum, which takes about 0.1 s; larger ones get none."""

_LARGEST_BY_ROW = 64 << 20
"""Rows up to this size in bytes get a checksum each."""

_MOST_EARLIER = 1 << 23
"""Most rows of earlier trainings that are kept, by their checksums of 8 bytes."""

_LEAST_DISTINCT = 0.95
"""Share of distinct training rows below which a new row may equal one of them by chance."""

_ROW_SUMS, _EARLIER_SUMS, _COLUMN_SUMS = "row_sums", "earlier_sums", "column_sums"
"""Names of the checksums of rows and of columns in a file."""

_HALF_A_STEP = np.uint32(2**10)
"""Rows are compared with 11 bits less than single precision: to 4 digits."""

_MIXER = np.uint64(0xBF58476D1CE4E5B9)
"""An odd number with well-mixed bits; Steele et al. (2014), SplitMix64."""


class Likeness(NamedTuple):
    """How like training rows some rows are, with their outputs.

    Attributes:
        count: How many of them look like training rows, each of which counts once; 0 where as many
            new rows may do so by chance.
        are_alike: Whether each of them looks like a training row.
        are_trained: Whether they are training rows, beyond chance.
    """

    count: int = 0
    are_alike: bool = False
    are_trained: bool = False


class _Found(NamedTuple):
    """How many of some rows have the checksum of a training row.

    Attributes:
        number: How many.
        each_once: How many, where each training row counts once.
        n_rows: How many rows there are.
    """

    number: int
    each_once: int
    n_rows: int


@dataclass(frozen=True)
class TrainingFingerprint:
    """Checksums of the training rows, with their outputs while these are at hand.

    Attributes:
        n_rows: Their number.
        inputs: Checksums of the per-row arguments except the output, by name.
        output: Checksum of the output.
        outputs: The outputs; ``None`` in a model that was loaded.
        labels: Labels of the rows, if a field had some.
        row_sums: A checksum of each row, in ascending order; ``None`` of more than 64 MiB of rows,
            and in a model that was pickled.
        earlier_sums: Those of the rows of earlier trainings that went on, each once; ``None`` where
            there was none, and in a model that was pickled.
        column_sums: A checksum of each column of inputs and output; ``None`` unless they were
            asked for, and of more than 64 MiB of rows.
    """

    n_rows: int
    inputs: Mapping[str, int]
    output: int
    outputs: Shaped[np.ndarray, "row ..."] | None = None
    labels: AxisLabels | None = None
    row_sums: Shaped[np.ndarray, " row"] | None = None
    earlier_sums: Shaped[np.ndarray, " earlier"] | None = None
    column_sums: Shaped[np.ndarray, " column"] | None = None

    @classmethod
    def of(
        cls,
        rows: Rows,
        output: str,
        labels: AxisLabels | None = None,
        *,
        by_column: bool = False,
    ) -> TrainingFingerprint | None:
        """Return the fingerprint of rows, or ``None`` if they are too large for a checksum.

        Args:
            rows: Arrays by kernel argument, output included.
            output: Name of the output.
            labels: Labels of the rows, if a field has some.
            by_column: Whether to keep a checksum of each column, so that the training rows are
                known again where some of their columns were changed.
        """
        size = sum(array.nbytes for array in rows.values())
        if output not in rows or size > _LARGEST:
            return None
        outputs = np.array(rows[output])
        inputs = {name: array for name, array in rows.items() if name != output}
        is_small = size <= _LARGEST_BY_ROW
        sums = np.sort(_row_sums(rows)) if is_small else None
        columns = _column_sums(rows) if by_column and is_small else {}
        return cls(
            len(outputs),
            _checksums(inputs),
            _checksum("", outputs),
            outputs,
            labels,
            sums,
            column_sums=np.concatenate([*columns.values()]) if columns else None,
        )

    def is_of(
        self,
        rows: Rows,
        output: str,
        labels: AxisLabels | None = None,
        *,
        unchanged: frozenset[str] | None = None,
    ) -> bool:
        """Return whether these are the training rows, by their inputs and labels.

        Args:
            rows: Arrays by kernel argument; an output among them is not compared.
            output: Name of the output.
            labels: Labels of the rows, if a field has some.
            unchanged: What :meth:`unchanged` returns of them, if that is known.
        """
        known = self.labels
        if labels is not None and known is not None and labels.conflict(known) is not None:
            return False
        inputs = {name: array for name, array in rows.items() if name != output}
        if inputs.keys() != self.inputs.keys():
            return False
        return inputs.keys() <= (self.unchanged(inputs) if unchanged is None else unchanged)

    def unchanged(self, rows: Rows) -> frozenset[str]:
        """Return the arguments that have the values of the training, row by row.

        Args:
            rows: Arrays by kernel argument.
        """
        size = sum(array.nbytes for array in rows.values())
        if size > _LARGEST or any(len(array) != self.n_rows for array in rows.values()):
            return frozenset()
        sums = _checksums({name: rows[name] for name in rows.keys() & self.inputs.keys()})
        return frozenset(name for name, one in sums.items() if self.inputs[name] == one)

    def is_of_changed(self, rows: Rows) -> bool:
        """Return whether these are the training rows with some columns changed, as in a what-if.

        They are if the columns that are as in training tell the rows apart: those of new rows may
        be equal in a constant, or in a treatment that alternates.

        Args:
            rows: Arrays by kernel argument, and the output if it is known.

        Returns:
            ``False`` where that cannot be told, without checksums of columns.
        """
        if self.column_sums is None or len(next(iter(rows.values()))) != self.n_rows:
            return False
        kept = {
            name: _by_column(rows[name], name)[:, is_kept]
            for name, is_kept in self._kept_columns(rows).items()
            if is_kept.any()
        }
        if not kept:
            return False
        distinct = len(np.unique(_row_sums(kept, is_rounded=False)))
        return distinct >= _LEAST_DISTINCT * self.n_rows

    def changed(self, rows: Rows) -> frozenset[str]:
        """Return the arguments of which a column is no column of the training.

        Args:
            rows: Training rows with some columns changed, by kernel argument.

        Returns:
            Their names; none where that cannot be told, without checksums of columns.
        """
        if self.column_sums is None:
            return frozenset()
        kept = self._kept_columns(rows)
        return frozenset(name for name, is_kept in kept.items() if not is_kept.all())

    def _kept_columns(self, rows: Rows) -> dict[str, np.ndarray]:
        """Return which columns are as in training, by argument."""
        sums = _column_sums(rows)
        return {name: np.isin(each, self.column_sums) for name, each in sums.items()}

    def has_outputs(self, outputs: Shaped[np.ndarray, "row ..."]) -> bool:
        """Return whether these are the outputs of the training."""
        return len(outputs) == self.n_rows and _checksum("", outputs) == self.output

    def is_same_as(self, other: TrainingFingerprint | None) -> bool:
        """Return whether both are of rows with the same inputs and outputs, in the same order."""
        if other is None or self.n_rows != other.n_rows:
            return False
        return (self.inputs, self.output) == (other.inputs, other.output)

    def after(self, earlier: TrainingFingerprint | None) -> TrainingFingerprint:
        """Return the fingerprint of a training that went on with the parameters of an earlier one.

        Args:
            earlier: The earlier one's, or ``None``.
        """
        if earlier is None:
            return self
        sums = [one for one in (earlier.trained_sums, earlier.earlier_sums) if one is not None]
        if not sums:
            return self
        joined = np.unique(np.concatenate(sums))
        return replace(self, earlier_sums=joined[:_MOST_EARLIER])

    @property
    def trained_sums(self) -> Shaped[np.ndarray, " distinct"] | None:
        """The distinct checksums of rows; ``None`` where new rows equal some of them by chance."""
        if self.row_sums is None:
            return None
        distinct = np.unique(self.row_sums)
        return None if len(distinct) < _LEAST_DISTINCT * self.n_rows else distinct

    def count_of(self, rows: Rows) -> int:
        """Return how many of these rows, with their outputs, look like training rows.

        Rows of earlier trainings count too, if this one went on from their parameters.

        Args:
            rows: Arrays by kernel argument, output included.

        Returns:
            The number, where each training row counts once. 0 where that cannot be told: without
            checksums of rows, and where training rows are so alike that as many new ones equal
            some of them by chance.
        """
        return self._beyond_chance(self._found(rows))

    def likeness(self, rows: Rows) -> Likeness:
        """Return whether these, with their outputs, are training rows: all or some, in any order.

        They are not where new rows may equal as many training rows by chance. Nor is that known of
        more than 64 MiB, which would take long.

        Args:
            rows: Arrays by kernel argument, output included.
        """
        if sum(array.nbytes for array in rows.values()) > _LARGEST_BY_ROW:
            return Likeness()
        found = self._found(rows)
        share = self._share_of_twins()
        # A row that is there more often than in training may be a new one that equals it.
        are_known = found.each_once == found.n_rows or share == 0
        # Somebody may have chosen the rows by their likeness, from as many as the training had.
        is_chance = not _exceeds(found.each_once, self.n_rows * share)
        are_alike = found.number == found.n_rows
        return Likeness(
            self._beyond_chance(found), are_alike, are_alike and are_known and not is_chance
        )

    def _found(self, rows: Rows) -> _Found:
        sums, times = np.unique(_row_sums(rows), return_counts=True)
        trained = np.zeros(len(sums), int)
        if self.row_sums is not None:
            first, last = (self.row_sums.searchsorted(sums, side) for side in ("left", "right"))
            trained = last - first
        if self.earlier_sums is not None:
            trained = np.maximum(trained, np.isin(sums, self.earlier_sums))
        number, each_once = times[trained > 0].sum(), np.minimum(times, trained).sum()
        return _Found(int(number), int(each_once), int(times.sum()))

    def _beyond_chance(self, found: _Found) -> int:
        """Return the number of rows found, each training row once; 0 if it may be by chance."""
        by_chance = found.n_rows * self._share_of_twins()
        return found.each_once if _exceeds(found.number, by_chance) else 0

    def has_all_rows(self, rows: Rows) -> bool:
        """Return whether these, with their outputs, are all training rows, in any order.

        Args:
            rows: Arrays by kernel argument, output included.

        Returns:
            ``False`` where that cannot be told, without checksums of rows.
        """
        if self.row_sums is None or len(next(iter(rows.values()))) != self.n_rows:
            return False
        return bool(np.array_equal(np.sort(_row_sums(rows)), self.row_sums))

    def difference(self, rows: Rows, output: str) -> str:
        """Say how data differs from that of the training, row by row; empty if it does not.

        Args:
            rows: Arrays by kernel argument, output included.
            output: Name of the output.

        Returns:
            A clause for a message.
        """
        if self.is_of(rows, output) and self.has_outputs(rows[output]):
            return ""
        if self.has_all_rows(rows):
            how = "in another order"
        elif self.row_sums is None:
            how = "others, or in another order"
        else:
            likeness = self.likeness(rows)
            how = "others, or not all of them" if likeness.are_alike else "others"
            how = "not all of them" if likeness.are_trained else how
        return f"these {len(rows[output]):,} rows are {how}"

    def _share_of_twins(self) -> float:
        """Share of the training rows that equal another one; new rows equal one as often."""
        if self.row_sums is None:
            return 0.0
        _, times = np.unique(self.row_sums, return_counts=True)
        return float(times[times > 1].sum() / self.n_rows)

    def without_rows(self) -> TrainingFingerprint:
        """Return the checksums of all rows alone, which take no memory for each row."""
        return replace(self, outputs=None, labels=None, row_sums=None, earlier_sums=None)

    def as_plain(self) -> JsonObject:
        """Return all checksums but those of rows and columns as JSON values."""
        return {"n_rows": self.n_rows, "inputs": dict(self.inputs), "output": self.output}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The checksums of rows and of columns by their names in a file."""
        named = {
            _ROW_SUMS: self.row_sums,
            _EARLIER_SUMS: self.earlier_sums,
            _COLUMN_SUMS: self.column_sums,
        }
        return {name: sums for name, sums in named.items() if sums is not None}

    @classmethod
    def of_plain(cls, plain: Value, arrays: Mapping[str, np.ndarray]) -> TrainingFingerprint:
        """Return the checksums from their JSON values.

        Args:
            plain: From :meth:`as_plain`.
            arrays: The arrays of the file.

        Raises:
            Malformed: If they are none.
        """
        fields = plain.fields("n_rows", "inputs", "output")
        n_rows, largest = fields["n_rows"].whole(1), 2**32 - 1
        inputs = fields["inputs"].named()
        return cls(
            n_rows,
            {name: each.whole(most=largest) for name, each in inputs.items()},
            fields["output"].whole(most=largest),
            row_sums=_sums_of(arrays, _ROW_SUMS, n_rows),
            earlier_sums=_sums_of(arrays, _EARLIER_SUMS),
            column_sums=_sums_of(arrays, _COLUMN_SUMS, of="column"),
        )


def _sums_of(
    arrays: Mapping[str, np.ndarray], name: str, n_rows: int | None = None, of: str = "row"
) -> np.ndarray | None:
    """Return checksums of a file; ``None`` where it has none."""
    sums = arrays.get(name)
    if sums is None:
        return None
    if sums.dtype != np.uint64 or sums.ndim != 1 or n_rows not in (None, len(sums)):
        msg = (
            f"the array {name!r} is {sums.dtype}{list(sums.shape)}; expected a checksum of 64 bits "
            f"for each {of}"
        )
        raise Malformed(msg)
    return sums


def _row_sums(rows: Rows, *, is_rounded: bool = True) -> Shaped[np.ndarray, " row"]:
    """Return a checksum of each row: its words of 64 bits, mixed, times random odd numbers.

    Numbers have one checksum in all types. Those that are not whole mostly have it with other last
    digits too, such as those of a table in single precision: ``scale`` magnifies their rounding by
    mean over standard deviation, and near 0 it is large beside the number itself.

    Args:
        rows: Arrays by kernel argument.
        is_rounded: Whether other last digits count as the same.
    """
    total = np.zeros(len(next(iter(rows.values()))), np.uint64)
    for name in sorted(rows):
        array = _of_one_type(rows[name], name)
        if array.dtype == np.float32 and is_rounded:
            bits = array.view(np.uint32)
            rounded = (bits + _HALF_A_STEP) & ~np.uint32(2 * _HALF_A_STEP - 1)
            array = np.where(array == np.round(array), bits, rounded)  # codes count in full
        octets = array.reshape(len(array), -1).view(np.uint8)
        padded = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 8)))
        words = padded.view(np.uint64)
        factors = np.random.default_rng(zlib.crc32(name.encode())).integers(
            2**63, size=words.shape[1], dtype=np.uint64
        )
        mixed = (words ^ (words >> np.uint64(29))) * _MIXER
        mixed ^= mixed >> np.uint64(32)
        total += (mixed * (2 * factors + np.uint64(1))).sum(1, dtype=np.uint64)
    return total


def _column_sums(rows: Rows) -> dict[str, Shaped[np.ndarray, " column"]]:
    """Return a checksum of each column by argument: of its values, its name and its place."""
    found = {}
    for name, array in rows.items():
        columns = _by_column(array, name)
        sums = [
            zlib.crc32(f"{name} {i}".encode()) << 32
            | zlib.crc32(np.ascontiguousarray(columns[:, i]).view(np.uint8).data)
            for i in range(columns.shape[1])
        ]
        found[name] = np.array(sums, np.uint64)
    return found


def _by_column(array: Shaped[np.ndarray, "row ..."], name: str) -> Shaped[np.ndarray, "row column"]:
    array = _of_one_type(array, name)
    return array.reshape(len(array), -1)


def _of_one_type(array: Shaped[np.ndarray, "row ..."], name: str) -> Shaped[np.ndarray, "row ..."]:
    """Return numbers of all types in single precision, and other values as they are."""
    array = np.ascontiguousarray(canonical(np.asarray(array), name))
    if array.dtype.kind not in "biuf":
        return array
    return array.astype(np.float32) + np.float32(0)  # 0 for -0


def _exceeds(number: int, by_chance: float) -> bool:
    """Whether a number is more than chance makes: by three standard deviations of Poisson."""
    return number > by_chance + 3 * np.sqrt(by_chance)


def _checksums(rows: Rows) -> dict[str, int]:
    return {name: _checksum(name, each) for name, each in rows.items()}


def _checksum(name: str, array: Shaped[np.ndarray, "row ..."]) -> int:
    array = np.ascontiguousarray(canonical(np.asarray(array), name))
    checksum = zlib.crc32(f"{name} {array.shape} {array.dtype}".encode())
    return zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
