"""Encode tables as the training table was encoded, with what was learned from it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import FormulaicError

from aimz_lab.errors import ArtifactError, DataError, OutputWarning
from aimz_lab.tables.columns import (
    Column,
    Level,
    as_number,
    check_finite,
    check_kind,
    codes_of,
    kind_of,
    learn_levels,
    missing_rows,
    numbers_of,
    read_columns,
    refuse_missing,
    row_index,
)
from aimz_lab.tables.formulas import Part
from aimz_lab.tables.outcome_scale import OutcomeScale, outcome_scale
from aimz_lab.tables.plain_state import of_plain_state, plain_state
from aimz_lab.tables.table_spec import TableSpec
from aimz_lab.types import JsonObject

if TYPE_CHECKING:
    import polars as pl

_INTERCEPT = "Intercept"


class Encoded(NamedTuple):
    """A table as arguments of the kernel.

    Attributes:
        arguments: Data frames, columns and ints by argument, with the table's row labels.
        kept: Positions of the rows that were kept; ``None`` if all were.
    """

    arguments: dict[str, pd.DataFrame | pd.Series | int]
    kept: np.ndarray | None


@dataclass(frozen=True)
class TableEncoder:
    """What was learned from the training table.

    Attributes:
        spec: The description.
        columns: What each column held.
        formulas: What each formula learned, by argument.
    """

    spec: TableSpec
    columns: Mapping[str, Column]
    formulas: Mapping[str, ModelSpec] = field(repr=False)

    @classmethod
    def learn(cls, spec: TableSpec, table: pd.DataFrame | pl.DataFrame) -> TableEncoder:
        """Learn levels, means, scales and knots from a table.

        Args:
            spec: The description.
            table: The training table; other columns are ignored.

        Returns:
            The encoder of this and later tables.

        Raises:
            DataError: If a column is missing, has missing values, or does not fit its formula.
            DataTypeError: If a column holds something else than numbers, booleans or text.

        Example:
            >>> table = pd.DataFrame({"age": [20.0, 30.0, 40.0], "sex": ["f", "m", "f"]})
            >>> encoder = TableEncoder.learn(TableSpec(X="scale(age) + C(sex)"), table)
            >>> encoder.encode(table).arguments["X"].columns.tolist()
            ['scale(age)', 'C(sex)[T.m]']
        """
        series, _ = _complete(spec, table, spec.columns)
        categories = {name for part in spec.parts.values() for name in part.categories}
        columns = {
            name: _learn_column(name, series[name], name in categories) for name in spec.columns
        }
        frame = _frame(series, columns)
        _refuse_both_uses(spec, columns, frame)
        formulas = {}
        for name, part in spec.parts.items():
            if part.kind == "formula":
                learned = _evaluate(
                    part, ModelSpec(part.formula, na_action="ignore"), frame, columns
                )
                formulas[name] = learned.model_spec
                _check_values(part, learned)
        return cls(spec, columns, formulas)

    def encode(
        self, table: pd.DataFrame | pl.DataFrame, *, leave_out: frozenset[str] = frozenset()
    ) -> Encoded:
        """Encode a table.

        Args:
            table: A table with the columns of the arguments that are wanted; others are ignored.
            leave_out: Arguments that are not needed, such as the output for a prediction.

        Returns:
            The arguments.

        Raises:
            DataError: If a column or level is missing or new, or a value is missing or not finite.
            DataTypeError: If a column holds another kind of values than in training.

        Warns:
            OutputWarning: If rows with missing values were left out.
        """
        parts = {name: part for name, part in self.spec.parts.items() if name not in leave_out}
        needed = [
            c
            for c in self.spec.columns
            if any(c in part.columns for part in parts.values() if part.kind != "levels")
        ]
        series, kept = _complete(self.spec, table, needed)
        for name, column in series.items():
            check_kind(name, column, self.columns[name])
        frame = _frame(series, self.columns)
        arguments: dict[str, pd.DataFrame | pd.Series | int] = {}
        for name, part in parts.items():
            if part.kind == "levels":
                arguments[name] = len(self.columns[part.columns[0]].levels or ())
            elif part.kind == "index":
                arguments[name] = self._codes(part, series)
            else:
                arguments[name] = self._values(part, frame)
        return Encoded(arguments, kept)

    def _codes(self, part: Part, series: Mapping[str, pd.Series]) -> pd.Series:
        column = part.columns[0]
        codes = codes_of(column, series[column], self.columns[column].levels or ())
        return pd.Series(codes, series[column].index, name=column)

    def _values(self, part: Part, frame: pd.DataFrame) -> pd.DataFrame | pd.Series:
        encoded = _evaluate(part, self.formulas[part.argument], frame, self.columns)
        values = _check_values(part, encoded)
        if part.is_matrix:
            return values
        column = values.iloc[:, 0]
        if (
            part.text.strip("` ") == part.columns[0]
            and self.columns[part.columns[0]].kind == "boolean"
        ):
            return column.astype(np.int32)
        return column

    @property
    def has_learned(self) -> bool:
        """Whether another table would encode a row otherwise."""
        return any(column.levels is not None for column in self.columns.values()) or any(
            formula.transform_state for formula in self.formulas.values()
        )

    @property
    def names(self) -> dict[str, tuple[Level, ...]]:
        """Columns by matrix argument, and levels by the column of an index."""
        found: dict[str, tuple[Level, ...]] = {}
        for name, part in self.spec.parts.items():
            if part.kind != "formula":
                found[part.columns[0]] = self.columns[part.columns[0]].levels or ()
            elif part.is_matrix:
                names = _wanted(part, self.formulas[name].column_names)
                found[name] = tuple(map(part.plain_name, names))
        return found

    def outcome_scale(self, argument: str) -> OutcomeScale | None:
        """Return the way back to the table's scale of an argument; ``None`` if there is none."""
        part = self.spec.parts.get(argument)
        if part is None or part.kind != "formula" or part.is_matrix:
            return None
        return outcome_scale(part, self.formulas[argument].transform_state)

    def as_plain(self) -> JsonObject:
        """Return all of it as JSON values."""
        return {
            "spec": self.spec.as_plain(),
            "columns": {
                name: {
                    "kind": c.kind,
                    "levels": None if c.levels is None else list(c.levels),
                    "range": [c.smallest, c.largest],
                }
                for name, c in self.columns.items()
            },
            "state": {name: plain_state(f.transform_state) for name, f in self.formulas.items()},
        }

    @classmethod
    def of_plain(cls, plain: JsonObject) -> TableEncoder:
        """Return the encoder from its plain values.

        What the formulas learned is given to them again; the structure of their columns follows
        from a few made-up rows that have all levels.

        Raises:
            ArgumentError: If a formula is not allowed.
            ArtifactError: If something is missing, or was never learned.
            DataError: If a formula cannot be computed.
        """
        spec = TableSpec.of_plain(plain["spec"])
        columns = {
            name: Column(
                c["kind"], None if c["levels"] is None else tuple(c["levels"]), *c["range"]
            )
            for name, c in plain["columns"].items()
        }
        _check_learned(spec, columns, plain["state"])
        frame = _made_up_rows(columns)
        formulas = {
            name: _evaluate(
                spec.parts[name],
                ModelSpec(
                    spec.parts[name].formula,
                    na_action="ignore",
                    transform_state=of_plain_state(state),
                ),
                frame,
                columns,
            ).model_spec
            for name, state in plain["state"].items()
        }
        for formula in formulas.values():
            _check_scales(formula.transform_state)
        made = cls(spec, columns, formulas)
        # What a formula misses here, it has learned from the made-up rows.
        if made.as_plain() != plain:
            raise ArtifactError("its values are not all that its formulas learned from a table")
        return made


def _check_scales(state: Mapping[str, Any]) -> None:
    """Refuse centers and scales that no column has.

    Raises:
        ArtifactError: If one is no number, or a scale is not positive.
    """
    for text, learned in state.items():
        if not isinstance(learned, Mapping) or not {"center", "scale"} <= learned.keys():
            continue
        is_number = all(
            learned[name] is None or type(learned[name]) in (int, float)
            for name in ("center", "scale")
        )
        if not is_number or (learned["scale"] is not None and learned["scale"] <= 0):
            raise ArtifactError(f"{text} has a center or a scale that no table gives")


def _check_learned(
    spec: TableSpec, columns: Mapping[str, Column], state: Mapping[str, JsonObject]
) -> None:
    """Refuse columns that no training table had.

    Raises:
        ArtifactError: If one is missing or too many, or has impossible values.
    """
    formulas = {name for name, part in spec.parts.items() if part.kind == "formula"}
    if columns.keys() != set(spec.columns) or state.keys() != formulas:
        raise ArtifactError("it has other columns or formulas than its arguments use")
    categories = {name for part in spec.parts.values() for name in part.categories}
    for name, column in columns.items():
        kinds = {"text": {str}, "number": {int, float}, "boolean": {bool, int}}.get(column.kind)
        levels, bounds = column.levels, (column.smallest, column.largest)
        if (
            kinds is None
            or (levels is None) == (name in categories or column.kind == "text")
            or (levels is not None and not (levels and {type(one) for one in levels} <= kinds))
            or (levels is not None and len(set(levels)) < len(levels))
            or not all(type(bound) in (int, float) for bound in bounds)
            or not column.smallest <= column.largest
        ):
            raise ArtifactError(f"its column {name!r} has values that no table gives")


def _complete(
    spec: TableSpec, table: pd.DataFrame | pl.DataFrame, names: tuple[str, ...] | list[str]
) -> tuple[dict[str, pd.Series], np.ndarray | None]:
    """Return columns without missing values, and the positions of the rows kept, if not all."""
    series = read_columns(table, names)
    index = row_index(table)
    if not len(index):
        raise DataError("The table has no rows.")
    missing = missing_rows(series)
    if spec.missing == "refuse":
        refuse_missing(missing, index)
    if not missing:
        return series, None
    bad = np.logical_or.reduce(list(missing.values()))
    kept = np.flatnonzero(~bad)
    if not len(kept):
        msg = f"Each row of the table misses a value, in {', '.join(map(repr, missing))}."
        raise DataError(msg)
    by_column = ", ".join(f"{rows.sum()} in {name!r}" for name, rows in missing.items())
    msg = f"{bad.sum()} of {len(bad)} rows were left out, because values are missing: {by_column}."
    warnings.warn(msg, OutputWarning, stacklevel=4)
    return {name: column.iloc[kept] for name, column in series.items()}, kept


def _learn_column(name: str, column: pd.Series, is_category: bool) -> Column:
    kind = kind_of(name, column)
    levels = learn_levels(name, column) if is_category or kind == "text" else None
    if kind == "text":
        return Column(kind, levels)
    numbers = numbers_of(column).to_numpy()
    return Column(kind, levels, float(numbers.min()), float(numbers.max()))


def _frame(series: Mapping[str, pd.Series], columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return the columns as formulaic needs them: numbers, or categoricals of learned levels."""
    made = {}
    for name, column in series.items():
        levels = columns[name].levels
        if levels is not None:
            codes = codes_of(name, column, levels)
            if columns[name].kind == "text":
                column = pd.Series(pd.Categorical.from_codes(codes, list(levels)), column.index)
        made[name] = column if columns[name].kind == "text" else numbers_of(column)
    return pd.DataFrame(made)


def _evaluate(
    part: Part, spec: ModelSpec, frame: pd.DataFrame, columns: Mapping[str, Column]
) -> Any:
    used = _with_levels(part, frame[list(part.columns)], columns)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # what is not finite is refused with its row
            stand_ins = {column: name for name, column in part.quoted.items()}
            return spec.get_model_matrix(used.rename(columns=stand_ins), context={})
    except (FormulaicError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        cause = part.plain_name(str(error.__cause__ or error))
        msg = f"The formula {part.text!r} of {part.argument!r} cannot be computed: {cause}"
        raise DataError(msg) from error


def _with_levels(part: Part, frame: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """Return numbers in ``C()`` as categoricals of the learned levels, in their order.

    Formulaic would take the levels that occur, and none for the others.
    """
    made = {}
    for name in part.categories:
        if columns[name].kind != "text" and name not in part.values:
            levels = list(map(as_number, columns[name].levels or ()))
            codes = pd.Index(levels).get_indexer(frame[name])
            made[name] = pd.Categorical.from_codes(codes, levels)
    return frame.assign(**made)


def _refuse_both_uses(spec: TableSpec, columns: Mapping[str, Column], frame: pd.DataFrame) -> None:
    """Refuse ``x + C(x)`` if formulaic would find other levels in the numbers than the column has.

    Raises:
        DataError: If a formula does that.
    """
    for part in spec.parts.values():
        for name in part.categories & part.values:
            levels = list(map(as_number, columns[name].levels or ()))
            if columns[name].kind != "text" and levels != sorted(frame[name].unique()):
                msg = (
                    f"The formula {part.text!r} of {part.argument!r} uses {name!r} as numbers and "
                    "in C(). Its levels then have to be in ascending order, and each needs a row. "
                    "Make a second column of the numbers."
                )
                raise DataError(msg)


def _wanted(part: Part, names: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name != _INTERCEPT or part.has_intercept)


def _check_values(part: Part, encoded: Any) -> pd.DataFrame:
    """Return encoded columns as float32, all finite, without an intercept nobody asked for."""
    names = _wanted(part, list(encoded.columns))
    if not names:
        msg = f"The formula {part.text!r} of {part.argument!r} gives no column."
        raise DataError(msg)
    if len(names) > 1 and not part.is_matrix:
        msg = (
            f"The formula {part.text!r} of {part.argument!r} gives {len(names)} columns, and one "
            f"vector was expected. For a matrix, write a list, [{part.text!r}]; for the number of "
            "each row's level, index(...)."
        )
        raise DataError(msg)
    values = np.empty((len(encoded), len(names)), np.float32, order="F")
    with np.errstate(over="ignore"):
        for i, name in enumerate(names):
            values[:, i] = encoded[name]
    labels = [part.plain_name(name) for name in names]
    check_finite(part.argument, labels, values, encoded.index)
    return pd.DataFrame(values, encoded.index, labels)


def _made_up_rows(columns: Mapping[str, Column]) -> pd.DataFrame:
    count = max([3, *(len(c.levels) for c in columns.values() if c.levels is not None)])
    made: dict[str, Any] = {}
    for name, column in columns.items():
        if column.levels is None:
            made[name] = np.linspace(column.smallest, column.largest, count)
        else:
            levels = np.resize(np.asarray(column.levels, object), count)
            made[name] = (
                pd.Categorical(levels, list(column.levels))
                if column.kind == "text"
                else np.asarray(
                    levels.tolist(), dtype=np.int64 if column.kind == "boolean" else None
                )
            )
    return pd.DataFrame(made)
