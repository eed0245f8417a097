"""Placebos: the same model trained where no effect can be; what it finds is error."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import key_data, row_labels
from aimz_lab.data.checks import check_int_from
from aimz_lab.data.tables import is_a, is_table
from aimz_lab.effects.placebo_report import Placebo, chance_of
from aimz_lab.effects.row_groups import agreeing_labels
from aimz_lab.effects.summaries import checked_prob, hdi
from aimz_lab.effects.swept_values import filled, with_column
from aimz_lab.errors import ArgumentError, CallError, DataError, SiteError
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.level_sites import category_attrs, why_no_mean
from aimz_lab.preparing import doing
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import shown

EffectOf: TypeAlias = "Callable[[Mapping[str, Any], jax.Array], xr.DataArray]"
"""Trains a model on arguments and returns the draws of its average effect, called as it is."""


def placebo(
    effect_of: EffectOf,
    given: Mapping[str, Any],
    treatment: str,
    outcomes: Mapping[str, ArrayLike] | None,
    n: int,
    key: jax.Array,
    output: str,
    prob: float,
    left_out: str = "",
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
        left_out: Which rows of a table were left out, as a phrase; empty for none.

    Raises:
        ArgumentError: If the treatment is not known, or has not one value for each row.
        DataError: If an outcome has other rows.
    """
    n, prob = check_int_from(1, "n", n), checked_prob(prob)
    if treatment == output:
        msg = (
            f"treatment={treatment!r} is the outcome; name the column or argument that acts on it."
        )
        raise ArgumentError(msg)
    _check_by_row(treatment, _value_of(given, treatment))
    names = {"real": dict(given)}
    if outcomes is None:
        seed = np.asarray(key_data(fold_in_key(key))).ravel().tolist()
        rng = np.random.default_rng(seed)
        names |= {f"placebo {i + 1}": _shuffled(given, treatment, rng) for i in range(n)}
    else:
        names |= {name: _replaced(given, output, name, values) for name, values in outcomes.items()}
    rows, chances, outcome = {}, {}, ""
    for number, (name, arguments) in enumerate(names.items(), start=1):
        doing(f"training copy {number} of {len(names)}", (number - 1, len(names)))
        effect = effect_of(arguments, key)
        outcome, draws = outcome or str(effect.name), effect.values.ravel()
        rows[name] = [draws.mean(), *hdi(draws, prob)]
        chances[name] = chance_of(draws)
    pd = late_import("pandas")
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mean", "hdi_low", "hdi_high"])
    table.index.name = f"effect on {outcome}"
    kind = "treatment" if outcomes is None else "outcome"
    return Placebo(table, kind, chances, prob, left_out)


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


def check_outcome(outcome: str | None, given: Mapping[str, Any]) -> None:
    """Refuse an outcome to replace that is no column and no argument.

    Args:
        outcome: Its name; ``None`` for the kernel's output.
        given: Arguments of the training.

    Raises:
        ArgumentError: If it is neither.
    """
    if outcome is None:
        return
    try:
        _value_of(given, outcome)
    except ArgumentError as error:
        msg = f"{error} For effects on a site of the kernel, pass site={outcome!r}."
        raise ArgumentError(msg) from error


def check_site(site: str, spec: KernelSpec, attrs: Mapping[str, Any]) -> None:
    """Refuse a site whose average over the rows is not one number, or says nothing.

    Args:
        site: The site of the effects.
        spec: The kernel's structure.
        attrs: What a table says of the output, as results have it.

    Raises:
        SiteError: If the kernel has no such site.
        ArgumentError: If it has no rows, or several numbers a row; or if its values are the numbers
            of levels in no order.
    """
    known = [name for name, one in spec.sites.items() if one.kind != "factor"]
    if site not in known:
        msg = f"site={site!r} is no site of the kernel: {', '.join(known)}."
        raise SiteError(msg + did_you_mean(site, known))
    shape, rows = spec.sites[site].shape, spec.row_axis(site)
    instead = "Name one with a number for each row: site='p'."
    if rows is None:
        msg = f"The site {site!r} has no rows, and effects are averaged over the rows. {instead}"
        raise ArgumentError(msg)
    if (count := math.prod(shape) // shape[rows]) > 1:
        msg = (
            f"The site {site!r} has {count} numbers a row, and a placebo test takes effects on "
            f"one. {instead}"
        )
        raise ArgumentError(msg)
    known = {"output": spec.output, **attrs, **category_attrs(spec, [site])}
    column = attrs.get("output_column") if site == spec.output else None
    if why := why_no_mean(known, variable_name(site), str(column or site)):
        msg = f"{why} In placebo, name the probability of one level: site='p'."
        raise ArgumentError(msg)


def check_scenario_options(scenarios: Mapping[str, Any]) -> None:
    """Refuse arguments of ``predict`` that the test sets itself.

    Raises:
        ArgumentError: If there is one.
    """
    for option in ("return_sites", "reduce", "by", "rng_key"):
        if option in scenarios:
            instead = " Name the site of the effects: site='p'." * (option == "return_sites")
            msg = f"scenarios= has {option!r}, which placebo sets itself; leave it out.{instead}"
            raise ArgumentError(msg)


def among_kept_rows(
    outcomes: Mapping[str, ArrayLike] | None, kept: np.ndarray | None
) -> Mapping[str, ArrayLike] | None:
    """Return the values of outcomes for the rows that were kept of a table.

    Args:
        outcomes: Outcomes by name, one value per row of the table; or ``None``.
        kept: Positions of the rows; ``None`` for all.

    Raises:
        DataError: If an outcome has fewer values than the table has rows.
    """
    if outcomes is None or kept is None:
        return outcomes
    found = {}
    for name, values in outcomes.items():
        values = values if hasattr(values, "iloc") else np.asarray(values)
        if not np.ndim(values) or len(values) <= kept[-1]:
            msg = f"The outcome {name!r} has shape {np.shape(values)}; use a value for each row."
            raise DataError(msg)
        found[name] = values.iloc[kept] if hasattr(values, "iloc") else values[kept]
    return found


def with_treatment(given: Mapping[str, Any], treatment: str, value: float) -> dict[str, Any]:
    """Return arguments whose treatment has one value.

    Args:
        given: The arguments.
        treatment: The column or argument.
        value: Its value.

    Raises:
        ArgumentError: If the treatment cannot have it.
    """
    if _is_column(given, treatment):
        return {**given, "X": with_column(given["X"], treatment, value)}
    return {**given, treatment: filled(treatment, _value_of(given, treatment), value)}


def with_options(side: Mapping[str, Any], scenarios: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario with further arguments of ``predict``.

    Args:
        side: Its arguments.
        scenarios: The further ones; ``None`` leaves out a column or an argument.

    Raises:
        ArgumentError: If what is to be left out is neither.
    """
    found = {**side, **scenarios}
    for name in (name for name, value in scenarios.items() if value is None):
        _value_of(side, name)
        del found[name]
        if _is_column(side, name):
            table = found["X"]
            is_polars = is_a(table, "polars", "DataFrame")
            label = next(one for one in table.columns if str(one) == name)
            found["X"] = table.drop(name) if is_polars else table.drop(columns=[label])
    return found


def explained_by_scenarios(error: ArgumentError | SiteError) -> ArgumentError | SiteError:
    """Return an error about both scenarios that says how ``placebo`` takes their arguments."""
    msg = (
        f"{error} In placebo, scenarios= has what both scenarios of each effect take besides: "
        "scenarios={'name': None} leaves out a column or an argument, with which the copies are "
        "trained all the same; scenarios={'held': 'redraw'} and {'intervention': ...} are as in "
        "predict."
    )
    return type(error)(msg)


def check_levels(levels: object) -> tuple[object, object]:
    """Return the treatment's values in the baseline and in the intervention.

    Raises:
        ArgumentError: If these are not two different values.
    """
    found = () if isinstance(levels, str) or not np.iterable(levels) else tuple(levels)
    if len(found) != 2 or found[0] == found[1]:
        msg = f"levels={shown(levels)} is not allowed; use two different values, such as (0, 1)."
        raise ArgumentError(msg)
    return found


def fold_in_key(key: jax.Array) -> jax.Array:
    """Return a key of its own for the shuffles."""
    return jax.random.fold_in(key, 0x91ACEB0)


def _check_by_row(treatment: str, values: object) -> None:
    if isinstance(values, Mapping | tuple) or np.ndim(values) == 0:
        msg = (
            f"treatment={treatment!r} is {type(values).__name__} here, and a placebo shuffles one "
            "value for each row. Pass the treatment as an argument of its own, or as a column."
        )
        raise ArgumentError(msg)


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
    _check_levels_of(name, new, old)
    return _with(given, output, _of_kind(name, new, np.asarray(old).dtype))


def _check_levels_of(name: str, values: np.ndarray, old: Any) -> None:
    """Refuse texts of other levels than those of the real outcome: their numbers would differ.

    Raises:
        DataError: If a level is new, or is missing where the column does not list its levels.
    """
    texts = np.asarray(old)
    if texts.dtype.kind not in "OUT" or not all(isinstance(one, str) for one in texts):
        return
    listed = _listed_levels(old)
    levels, own = set(texts.tolist() if listed is None else listed), set(values.tolist())
    if own <= levels and (listed is not None or own == levels):
        return
    new, gone = (sorted(map(repr, one)) for one in (own - levels, levels - own))
    what = f"has the level {new[0]}" if new else f"lacks the level {gone[0]}"
    verb = "has not" if new else "has"
    msg = (
        f"The outcome {name!r} {what}, which the real one {verb}. A copy numbers the levels that "
        "its column has: make both categories of the same levels, by pd.Categorical(values, "
        "[...]) of the table's column."
    )
    raise DataError(msg)


def _listed_levels(column: Any) -> list[Any] | None:
    """Return the levels that a column lists, with or without a row; ``None`` if it lists none."""
    dtype = getattr(column, "dtype", None)
    if is_a(column, "polars", "Series"):
        return dtype.categories.to_list() if "Enum" in str(dtype) else None
    return list(dtype.categories) if hasattr(dtype, "categories") else None


def _of_kind(name: str, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return an outcome in the type of the real one.

    Raises:
        DataError: If it loses something by that.
    """
    kinds = "biuf"
    if values.dtype.kind not in kinds or dtype.kind not in kinds:
        return values
    with np.errstate(invalid="ignore"):
        cast = values.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(cast, values):
        what = "flags" if dtype.kind == "b" else "whole numbers"
        value = values[cast != values].flat[0]
        msg = (
            f"The outcome {name!r} has the value {value}, and the real one holds {what} ({dtype})."
        )
        raise DataError(msg)
    return cast


def _is_column(given: Mapping[str, Any], name: str) -> bool:
    return is_table(given["X"]) and name in map(str, given["X"].columns)


def _value_of(given: Mapping[str, Any], name: str) -> Any:
    if _is_column(given, name):
        return given["X"][name]
    if name in given and (name != "X" or not is_table(given["X"])):
        return given[name]
    known = [*(map(str, given["X"].columns) if is_table(given["X"]) else ()), *given]
    meant = did_you_mean(name, known)
    msg = f"{name!r} is no column and no argument; there are {', '.join(known)}.{meant}"
    raise ArgumentError(msg)


def _with(given: Mapping[str, Any], name: str, values: np.ndarray) -> dict[str, Any]:
    table = given["X"]
    if _is_column(given, name):
        if is_a(table, "polars", "DataFrame"):
            import polars as pl

            column = pl.Series(name, values)
            if table.schema[name] in (pl.Enum, pl.Categorical):
                column = column.cast(table.schema[name])
            return {**given, "X": table.with_columns(column)}
        if hasattr(table[name].dtype, "categories"):  # with their order
            values = late_import("pandas").Categorical(values, dtype=table[name].dtype)
        return {**given, "X": table.assign(**{name: values})}
    return {**given, name: values}
