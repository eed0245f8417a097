"""The checks of all outcomes of some predictions, by outcome, group of rows and column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.spelling import did_you_mean
from aimz_lab.trust.outcome_checks import OutcomeChecks
from aimz_lab.trust.row_columns import RowColumn, RowTable
from aimz_lab.types import shown

PREDICTED = "predicted mean"
ORDER = "row order"


@dataclass(frozen=True)
class CheckedPredictions:
    """The checks of all outcomes of some predictions.

    Attributes:
        outcomes: Checks by outcome.
        table: The rows' names and columns.
        notes: What there is to know beside the numbers, in words.
        labels: Names of outcomes with what their values are, where the name alone does not say it.
        of_columns: Columns that outcomes stand for, by outcome.
        levels: What the values 0, 1, 2, ... of outcomes stand for, by outcome, of levels.
    """

    outcomes: Mapping[str, OutcomeChecks]
    table: RowTable
    notes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    of_columns: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    _columns: dict[str, dict[str, RowColumn]] = field(default_factory=dict, repr=False)

    def of(self, outcome: str | None = None) -> OutcomeChecks:
        """Return the checks of an outcome.

        Args:
            outcome: Its name; by default the first one.

        Raises:
            ArgumentError: If there is none of that name.
        """
        known = tuple(self.outcomes)
        return self.outcomes[_one_of("outcome", known[0] if outcome is None else outcome, known)]

    def called(self, outcome: str) -> str:
        """Return what an outcome is called: by its column, where a table has one."""
        return self.of_columns.get(outcome, outcome)

    def number_of(self, checks: OutcomeChecks, group: str) -> int:
        """Return the number of a group of rows.

        Args:
            checks: The checks of an outcome.
            group: Name of the group.

        Raises:
            ArgumentError: If there is none of that name, or no row of it has an observed value.
        """
        return checks.groups[_one_of("group", group, tuple(checks.groups))]

    def column(self, checks: OutcomeChecks, name: str) -> RowColumn:
        """Return a column of the rows.

        Args:
            checks: The checks of an outcome.
            name: Name of the column.

        Raises:
            ArgumentError: If there is none of that name.
        """
        known = self.columns_of(checks.name)
        return known[_one_of("column", name, tuple(known))]

    def columns_of(self, outcome: str) -> dict[str, RowColumn]:
        """Return the columns that rows can be sorted by.

        Args:
            outcome: Name of an outcome, whose predictions are one of them.
        """
        if outcome not in self._columns:
            sums = self.outcomes[outcome].sums
            order = np.arange(len(sums.mean), dtype=np.float64)
            own = [RowColumn(PREDICTED, "number", sums.mean), RowColumn(ORDER, "number", order)]
            found = {one.name: one for one in own}
            for name, one in self.table.columns.items():
                other = f"{name} (given)" if name in (PREDICTED, ORDER) else name
                found[other] = replace(one, name=other)
            self._columns[outcome] = found
        return self._columns[outcome]


def _one_of(what: str, name: str, known: tuple[str, ...]) -> str:
    if name in known:
        return name
    listed = ", ".join(map(repr, known[:20]))
    msg = f"There is no {what} {shown(name)}.{did_you_mean(str(name), known)} There are: {listed}."
    raise ArgumentError(msg)
