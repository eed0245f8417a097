"""Placebos: the same model trained where no effect can be; what it finds is error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import key_data, row_labels
from aimz_lab.data.checks import check_int_from
from aimz_lab.data.html import html_report
from aimz_lab.data.tables import is_a, is_table
from aimz_lab.effects.row_groups import agreeing_labels
from aimz_lab.effects.summaries import hdi
from aimz_lab.errors import ArgumentError, CallError, DataError
from aimz_lab.progress import number
from aimz_lab.system.imports import late_import
from aimz_lab.types import shown

if TYPE_CHECKING:
    import pandas as pd

EffectOf = Callable[[Mapping[str, Any], jax.Array], np.ndarray]
"""Trains a model on arguments and returns the draws of its average effect."""


@dataclass(frozen=True)
class Placebo:
    """Effects where there can be none, beside the real one.

    Attributes:
        table: The mean and the interval of the real effect and of each placebo.
        kind: ``"treatment"`` or ``"outcome"``.
        p: Share of all, the real one among them, whose mean is as far from 0 as the real one's; of
            placebo treatments, as a permutation test (Fisher, 1935). ``None`` for outcomes.
        covered: Share of the placebos whose interval holds 0.
        prob: Share of the draws in the intervals.
    """

    table: pd.DataFrame
    kind: str
    p: float | None
    covered: float
    prob: float

    @property
    def text(self) -> str:
        """What was found, in a paragraph."""
        n = len(self.table) - 1
        said = (
            f"{self.covered:.0%} of the {n} placebo {self.kind}{'s' if n > 1 else ''} have 0 in their {self.prob:.0%} "
            f"interval, and {self.prob:.0%} would be right."
        )
        if self.p is None:
            if self.covered == 1:
                return f"{said} The model finds no effect where there can be none."
            return f"{said} It finds effects where there can be none: a confounder is likely."
        return (
            f"{said} {self.p:.0%} of all, the real one included, are as far from 0 as the real "
            f"effect of {number(self.table.loc['real', 'mean'], 3)}."
        )

    def __repr__(self) -> str:
        return f"{self.text}\n{self.table.to_string(float_format=number)}"

    def _repr_html_(self) -> str:
        cells = [[str(n), *(number(v) for v in row)] for n, *row in self.table.itertuples()]
        return html_report(self.text, ["", *self.table.columns], cells)


def placebo(
    effect_of: EffectOf,
    given: Mapping[str, Any],
    treatment: str,
    outcomes: Mapping[str, ArrayLike] | None,
    n: int,
    key: jax.Array,
    output: str,
    prob: float,
) -> Placebo:
    """Train on placebos and compare their effects with the real one.

    Args:
        effect_of: Trains a model and returns draws of its effect.
        given: Arguments of the training: ``X``, perhaps ``y``, and further ones.
        treatment: The column or argument with the treatment.
        outcomes: Outcomes that the treatment cannot change, by name; ``None`` to shuffle the
            treatment instead.
        n: Number of shuffles.
        key: A typed key.
        output: Name of the outcome: an argument, or a column of the table.
        prob: Share of the draws in the intervals.

    Raises:
        ArgumentError: If the treatment is not known.
        DataError: If an outcome has other rows.
    """
    n = check_int_from(1, "n", n)
    names = {"real": dict(given)}
    if outcomes is None:
        seed = np.asarray(key_data(fold_in_key(key))).ravel().tolist()
        rng = np.random.default_rng(seed)
        names |= {f"placebo {i + 1}": _shuffled(given, treatment, rng) for i in range(n)}
    else:
        _value_of(given, treatment)
        names |= {name: _replaced(given, output, name, values) for name, values in outcomes.items()}
    rows = {}
    for name, arguments in names.items():
        draws = effect_of(arguments, key)
        rows[name] = [draws.mean(), *hdi(draws, prob)]
    pd = late_import("pandas")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "hdi_low", "hdi_high"])
    sham = table.iloc[1:]
    covered = float(((sham["hdi_low"] <= 0) & (sham["hdi_high"] >= 0)).mean())
    far = (table["mean"].abs() >= abs(table["mean"].iloc[0])).mean()
    kind = "treatment" if outcomes is None else "outcome"
    return Placebo(table, kind, float(far) if outcomes is None else None, covered, prob)


def check_outcomes(outcomes: object) -> Mapping[str, ArrayLike] | None:
    """Return outcomes by name.

    Raises:
        CallError: If this is no mapping, or an empty one.
    """
    if outcomes is None:
        return None
    if not isinstance(outcomes, Mapping) or not outcomes or "real" in outcomes:
        msg = (
            f"outcomes={shown(outcomes)} is not allowed; use outcomes that the treatment cannot "
            "change, by name: {'income last year': values}."
        )
        raise CallError(msg)
    return outcomes


def with_treatment(given: Mapping[str, Any], treatment: str, value: float) -> dict[str, Any]:
    """Return arguments whose treatment has one value.

    Args:
        given: The arguments.
        treatment: The column or argument.
        value: Its value.
    """
    old = _value_of(given, treatment)
    return _with(given, treatment, np.full(len(old), value, dtype=np.asarray(old).dtype))


def fold_in_key(key: jax.Array) -> jax.Array:
    """Return a key of its own for the shuffles."""
    return jax.random.fold_in(key, 0x91ACEB0)


def _shuffled(given: Mapping[str, Any], treatment: str, rng: np.random.Generator) -> dict[str, Any]:
    values = np.asarray(_value_of(given, treatment))
    return _with(given, treatment, values[rng.permutation(len(values))])


def _replaced(
    given: Mapping[str, Any], output: str, name: str, values: ArrayLike
) -> dict[str, Any]:
    old = _value_of(given, output)
    agreeing_labels({"outcomes": [values]}, row_labels(given["X"]))
    new = np.asarray(values)
    if new.shape != np.shape(old):
        raise DataError(
            f"The outcome {name!r} has shape {new.shape}; the real one {np.shape(old)}."
        )
    return _with(given, output, new.astype(np.asarray(old).dtype))


def _value_of(given: Mapping[str, Any], name: str) -> Any:
    if is_table(given["X"]) and name in map(str, given["X"].columns):
        return given["X"][name]
    if name in given and name != "X":
        return given[name]
    known = [*(map(str, given["X"].columns) if is_table(given["X"]) else ()), *given]
    msg = f"{name!r} is no column and no argument; there are {', '.join(known)}."
    raise ArgumentError(msg)


def _with(given: Mapping[str, Any], name: str, values: np.ndarray) -> dict[str, Any]:
    table = given["X"]
    if is_table(table) and name in map(str, table.columns):
        if is_a(table, "polars", "DataFrame"):
            import polars as pl

            return {**given, "X": table.with_columns(pl.Series(name, values))}
        return {**given, "X": table.assign(**{name: values})}
    return {**given, name: values}
