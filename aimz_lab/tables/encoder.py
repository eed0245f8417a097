"""Encode tables as the training table was encoded, with what was learned from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from formulaic import ModelSpec

from aimz_lab.errors import ArtifactError, DataError, DataTypeError
from aimz_lab.system.lazy_modules import pd
from aimz_lab.tables.columns import (
    Column,
    Level,
    as_category,
    as_number,
    check_kind,
    codes_of,
    refuse_codes,
    refuse_no_order,
    refuse_other_order,
    refuse_other_texts,
)
from aimz_lab.tables.formula_values import (
    checked_values,
    complete_columns,
    evaluate,
    frame_of,
    learn_column,
    made_up_rows,
    wanted_columns,
)
from aimz_lab.tables.formulas import Part
from aimz_lab.tables.outcome_scale import OutcomeScale, OutcomeScales, column_scale, outcome_scale
from aimz_lab.tables.plain_state import of_plain_state, plain_state
from aimz_lab.tables.size_forecast import check_size
from aimz_lab.tables.table_spec import TableSpec
from aimz_lab.types import JsonObject

if TYPE_CHECKING:
    import polars as pl


_ROUNDING = 1e-14
"""A scale that is smaller, in units of the center, is the rounding of a constant column."""


LevelOrder = Literal["category", "numbers"]
"""An ordered category says how its levels follow each other, and numbers do by their size."""


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
    def learn(
        cls, spec: TableSpec, table: pd.DataFrame | pl.DataFrame, *, quietly: bool = False
    ) -> TableEncoder:
        """Learn levels, means, scales and knots from a table.

        Args:
            spec: The description.
            table: The training table; other columns are ignored.
            quietly: Whether rows are left out without a warning.

        Returns:
            The encoder of this and later tables.

        Raises:
            DataError: If a column is missing, has missing values, or does not fit its formula, such
                as one that is compared with a text that no row has, or by an order it has not.
            DataTypeError: If a column holds something else than numbers, booleans or text.

        Example:
            >>> table = pd.DataFrame({"age": [20.0, 30.0, 40.0], "sex": ["f", "m", "f"]})
            >>> encoder = TableEncoder.learn(TableSpec(X="scale(age) + C(sex)"), table)
            >>> encoder.encode(table).arguments["X"].columns.tolist()
            ['scale(age)', 'C(sex)[T.m]']
        """
        return cls.learn_and_encode(spec, table, quietly=quietly)[0]

    @classmethod
    def learn_and_encode(
        cls, spec: TableSpec, table: pd.DataFrame | pl.DataFrame, *, quietly: bool = False
    ) -> tuple[TableEncoder, Encoded]:
        """Learn from a table, and encode it by the way; see :meth:`learn` and :meth:`encode`."""
        series, kept = complete_columns(spec, table, spec.columns, quietly=quietly)
        series = {name: as_category(name, column) for name, column in series.items()}
        _refuse_codes(spec.parts.values(), series)
        categories = {name for part in spec.parts.values() for name in part.categories}
        columns = {
            name: learn_column(name, series[name], name in categories) for name in spec.columns
        }
        frame = frame_of(series, columns, spec)
        _refuse_both_uses(spec, columns, frame)
        formulas, values = {}, {}
        for name, part in spec.parts.items():
            if part.kind == "formula":
                check_size(part, columns, len(frame))
                _refuse_texts(part, columns, series)
                learned = evaluate(
                    part, ModelSpec(part.formula, na_action="ignore"), frame, columns
                )
                formulas[name] = learned.model_spec
                _check_learned_scales(part, learned.model_spec.transform_state)
                values[name] = checked_values(part, learned, learning=True)
        encoder = cls(spec, columns, formulas)
        arguments = {
            name: encoder._vector_or_matrix(part, values.pop(name))
            if part.kind == "formula"
            else encoder._coded(part, series)
            for name, part in spec.parts.items()
        }
        return encoder, Encoded(arguments, kept)

    def encode(
        self,
        table: pd.DataFrame | pl.DataFrame,
        *,
        leave_out: frozenset[str] = frozenset(),
        quietly: bool = False,
        by_pieces: bool = False,
    ) -> Encoded:
        """Encode a table.

        Args:
            table: A table with the columns of the arguments that are wanted; others are ignored.
            leave_out: Arguments that are not needed, such as the output for a prediction.
            quietly: Whether rows are left out without a warning.
            by_pieces: Whether these are some rows of a table, of which none may be left out.

        Returns:
            The arguments.

        Raises:
            DataError: If a column or level is missing or new, or a value is missing or not finite;
                or if levels that are compared by order are in another order.
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
        series, kept = complete_columns(
            self.spec, table, needed, quietly=quietly, by_pieces=by_pieces
        )
        for name, column in series.items():
            check_kind(name, column, self.columns[name])
            series[name] = as_category(name, column)
        _refuse_codes(parts.values(), series)
        by_order = self.spec.by_order
        for name in by_order & series.keys():
            refuse_other_order(name, series[name], self.columns[name].levels or ())
        frame = frame_of(series, self.columns, self.spec)
        arguments: dict[str, pd.DataFrame | pd.Series | int] = {}
        for name, part in parts.items():
            if part.kind == "formula":
                arguments[name] = self._values(part, frame)
            else:
                arguments[name] = self._coded(part, series)
        return Encoded(arguments, kept)

    def _coded(self, part: Part, series: Mapping[str, pd.Series]) -> pd.Series | int:
        """Return the number of levels of a category, or the number of each row's level."""
        column = part.columns[0]
        if part.kind == "levels":
            return len(self.columns[column].levels or ())
        codes = codes_of(column, series[column], self.columns[column].levels or ())
        return pd.Series(codes, series[column].index, name=column)

    def _values(self, part: Part, frame: pd.DataFrame) -> pd.DataFrame | pd.Series:
        check_size(part, self.columns, len(frame))
        encoded = evaluate(part, self.formulas[part.argument], frame, self.columns)
        return self._vector_or_matrix(part, checked_values(part, encoded))

    def _vector_or_matrix(self, part: Part, values: pd.DataFrame) -> pd.DataFrame | pd.Series:
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

    def differences(self, other: TableEncoder) -> list[str]:
        """Return the formulas and categories of which another table taught something else."""
        own, new = self.as_plain(), other.as_plain()
        formulas = [
            f"{self.spec.parts[name].text!r} of {name!r}"
            for name in own["state"]
            if own["state"][name] != new["state"][name]
        ]
        levels = [
            f"the levels of {name!r}"
            for name, column in own["columns"].items()
            if column["levels"] != new["columns"][name]["levels"]
        ]
        return formulas + levels

    @property
    def names(self) -> dict[str, tuple[Level, ...]]:
        """Columns by matrix argument, and levels by the column of an index."""
        found: dict[str, tuple[Level, ...]] = {}
        for name, part in self.spec.parts.items():
            if part.kind != "formula":
                found[part.columns[0]] = self.columns[part.columns[0]].levels or ()
            elif part.is_matrix:
                names = wanted_columns(part, self.formulas[name].column_names)
                found[name] = tuple(map(part.plain_name, names))
        return found

    def outcome_scale(self, argument: str) -> OutcomeScale | OutcomeScales | None:
        """Return the way back to the table's scale of an argument; ``None`` if there is none."""
        part = self.spec.parts.get(argument)
        if part is None or part.kind != "formula":
            return None
        return outcome_scale(part, self.formulas[argument].transform_state)

    @property
    def column_scales(self) -> dict[str, tuple[OutcomeScale | None, ...]]:
        """The way back to the table of each column of a formula, by argument."""
        found = {}
        for name, formula in self.formulas.items():
            part = self.spec.parts[name]
            columns = wanted_columns(part, formula.column_names)
            state = formula.transform_state
            found[name] = tuple(column_scale(part, column, state) for column in columns)
        return found

    def event(self, argument: str) -> str:
        """Return what a 1 of an argument says, such as ``"bought = yes"``.

        Args:
            argument: A category of two levels, or a comparison; of any other there is nothing to
                say.
        """
        part = self.spec.parts.get(argument)
        if part is None:
            return ""
        if part.event:
            return part.event
        levels = self.levels_of(argument)
        return f"{part.columns[0]} = {levels[1]}" if len(levels) == 2 else ""

    def levels_of(self, argument: str) -> tuple[Level, ...]:
        """Return what the values 0, 1, 2, ... of an argument stand for.

        Args:
            argument: The index of a category, or a column of two texts; of any other there are
                none.
        """
        part = self.spec.parts.get(argument)
        if part is None or part.is_matrix or part.kind == "levels":
            return ()
        column = self.columns[part.columns[0]]
        is_text = part.text.strip("` ") == part.columns[0] and column.kind == "text"
        return column.levels or () if part.kind == "index" or is_text else ()

    def level_order(self, argument: str) -> LevelOrder | None:
        """Return what the order of an argument's levels comes from; ``None`` if from nothing.

        Args:
            argument: As in :meth:`levels_of`.
        """
        levels = self.levels_of(argument)
        if not levels:
            return None
        column = self.columns[self.spec.parts[argument].columns[0]]
        if column.is_ordered:
            return "category"
        is_ascending = column.kind == "number" and list(levels) == sorted(levels)
        return "numbers" if is_ascending else None

    def as_plain(self) -> JsonObject:
        """Return all of it as JSON values."""
        return {
            "spec": self.spec.as_plain(),
            "columns": {
                name: {
                    "kind": c.kind,
                    "levels": None if c.levels is None else list(c.levels),
                    "range": [c.smallest, c.largest],
                    "ordered": c.is_ordered,
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
                c["kind"],
                None if c["levels"] is None else tuple(c["levels"]),
                *c["range"],
                c["ordered"],
            )
            for name, c in plain["columns"].items()
        }
        _check_learned(spec, columns, plain["state"])
        frame = made_up_rows(columns, spec.by_order)
        formulas = {
            name: evaluate(
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


def _refuse_codes(parts: Iterable[Part], series: Mapping[str, pd.Series]) -> None:
    for part in parts:
        for name in part.values & series.keys():
            refuse_codes(name, series[name], part.text)


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


def _check_learned_scales(part: Part, state: Mapping[str, Any]) -> None:
    """Refuse scales that say nothing of a column.

    Raises:
        DataError: If one is infinite, or so small that it is the rounding of a constant; or of
            several columns.
    """
    for text, learned in state.items():
        if not isinstance(learned, Mapping) or not {"center", "scale"} <= learned.keys():
            continue
        scale, center = learned["scale"], learned["center"]
        if np.ndim(scale):
            msg = (
                f"In the formula {part.text!r} of {part.argument!r}, {part.plain_name(text)!r} "
                "scales several columns at once; scale the column inside, or none."
            )
            raise DataError(msg)
        if not scale or np.isnan(scale):  # 0 and NaN give values that are not finite
            continue
        if np.isfinite(scale) and abs(scale) > _ROUNDING * abs(center or 0.0):
            continue
        what = "constant but for rounding" if np.isfinite(scale) else "too large to be squared"
        msg = (
            f"In the formula {part.text!r} of {part.argument!r}, {part.plain_name(text)!r} has the "
            f"scale {float(scale):.3g}, as its values are {what}. Leave a constant out; take "
            "another unit or origin for others."
        )
        raise DataError(msg)


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
            or type(column.is_ordered) is not bool
        ):
            raise ArtifactError(f"its column {name!r} has values that no table gives")


def _refuse_texts(
    part: Part, columns: Mapping[str, Column], series: Mapping[str, pd.Series]
) -> None:
    """Refuse a column of text that a formula computes with, or cannot compare with a text.

    Raises:
        DataError: If no row has such a text, or the column has no order to compare by.
        DataTypeError: If there is such a column, or one of numbers is compared with a text.
    """
    formula = f"The formula {part.text!r} of {part.argument!r}"
    for name, text in sorted(part.compared):
        refuse_other_texts(formula, name, series[name], text)
    for name in sorted(part.by_order):
        if columns[name].kind == "text":
            refuse_no_order(formula, name, series[name])
    texts = [
        name for name in part.columns if name in part.computed and columns[name].kind == "text"
    ]
    if texts:
        msg = (
            f"Column {texts[0]!r} holds text, and the formula {part.text!r} of {part.argument!r} "
            f"computes with numbers. Convert it, pd.to_numeric(df[{texts[0]!r}]); or take it as a "
            f"category, C({texts[0]})."
        )
        raise DataTypeError(msg)


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
