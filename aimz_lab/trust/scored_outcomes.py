"""The outcomes whose log densities are compared: their scale, and whether all models have them.

A log density belongs to the scale of its outcome: that of ``log(y)`` is by ``log(y)`` above that of
``y``, whatever the model. Models are compared on the scale of the table's column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpyro import handlers

from aimz_lab.data import AxisLabels
from aimz_lab.errors import DataError
from aimz_lab.kernel.censoring import SEEN
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import Site
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.tables.outcome_scale import OnColumn, OutcomeScale, OutcomeScales
from aimz_lab.trust.examined_model import Examined, learned_by_row
from aimz_lab.trust.output_entries import observed_output, output_entries, scored_rows
from aimz_lab.trust.rows_to_examine import ExaminedRows, examined_rows

_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Values of single precision that went different ways may differ by this share."""

_OF_SPREAD = 1e-3
"""Values that differ by this share of their standard deviation are others."""


@dataclass(frozen=True)
class ScoredOutcomes:
    """The outcomes of the rows that a model is scored on.

    Attributes:
        values: In units of the table's column where the way back to it is known, else as the kernel
            observes them.
        rounding: How far each may be off, by single precision.
        log_jacobian: What the log density of each row gains in these units, in nats.
        units: What the values are, as a phrase.
        formula: The formula that made what the kernel observes, if its units are others.
        labels: Labels of the rows, if they have some.
        scored: Numbers of the rows that no mask leaves out; ``None`` for all.
        bounds: Which values are bounds of what was not seen; ``None`` if the distribution has none.
        why_not_of_column: Why the way to the table's column is not known, as a clause; empty if it
            is, or there is none.
    """

    values: Shaped[np.ndarray, "row entry"]
    rounding: Float[np.ndarray, "row entry"]
    log_jacobian: Float[np.ndarray, " row"]
    units: str
    formula: str = ""
    labels: AxisLabels | None = None
    scored: Int[np.ndarray, " scored"] | None = None
    bounds: Bool[np.ndarray, "row entry"] | None = None
    why_not_of_column: str = ""

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.values)

    def in_order(self, order: Int[np.ndarray, " row"]) -> ScoredOutcomes:
        """Return the outcomes of the rows in another order, given by their numbers."""
        parts = ("values", "rounding", "log_jacobian")
        labels = None if self.labels is None else self.labels.in_order(order)
        moved = {name: getattr(self, name)[order] for name in parts}
        if self.bounds is not None:
            moved["bounds"] = self.bounds[order]
        if self.scored is not None:
            moved["scored"] = np.flatnonzero(np.isin(order, self.scored))
        return replace(self, labels=labels, **moved)

    def differ_from(self, other: ScoredOutcomes) -> Shaped[np.ndarray, " row"]:
        """Return of which rows the outcomes are others, among as many rows."""
        if self.values.shape != other.values.shape:
            return np.ones(self.n_rows, bool)
        if not (_is_numeric(self.values) and _is_numeric(other.values)):
            return (self.values.astype(str) != other.values.astype(str)).any(1)
        with np.errstate(invalid="ignore"):
            near = np.abs(self.values - other.values) <= self.rounding + other.rounding
        same = near | (self.values == other.values)
        return ~(same | (np.isnan(self.values) & np.isnan(other.values))).all(1)


def scored_outcomes(model: Examined) -> ScoredOutcomes:
    """Return the outcomes of the rows that a model is scored on.

    Args:
        model: The model, with a request for these rows.

    Raises:
        DataTypeError: If they come from a source that can be read only once.
        DataError: If a source has no rows.
    """
    output = model.signature.output
    request = model.request(model.fitted.posterior, "log_likelihood", None)
    rows = examined_rows(request, None, output)
    # Parameters of the trained rows do not fit others, and neither masks nor flags are of them.
    by_row = learned_by_row(model, model.fitted.posterior)
    params = {n: value for n, value in (model.fitted.params or {}).items() if n not in by_row}
    entries = output_entries(model.signature.kernel, output, params, rows)
    sides = entries.sides
    bounds = None if sides is None else sides.reshape(len(sides), -1) != SEEN
    found = replace(_outcomes(model, rows, request.labels.rows, bounds), bounds=bounds)
    scored = scored_rows(observed_output(rows.outputs, output, entries.counted))
    return found if len(scored) == found.n_rows else replace(found, scored=scored)


def _outcomes(
    model: Examined, rows: ExaminedRows, labels: AxisLabels | None, bounds: np.ndarray | None
) -> ScoredOutcomes:
    """Return the outcomes of rows, whether or not a mask leaves them out."""
    output = model.signature.output
    site = model.trained.spec.sites.get(output) if model.trained.spec else None
    given, units = _by_row(rows.outputs), output
    if site is None or (site.kind == "observed" and site.argument != output):
        observed = _observed(model, rows)
        if observed.shape != given.shape or _are_others(observed, given):
            units = f"what the kernel makes of {output}"
            return _own(observed, units, labels)
    return _in_units_of_column(model, site, given, labels, bounds)


def _in_units_of_column(
    model: Examined,
    site: Site | None,
    given: np.ndarray,
    labels: AxisLabels | None,
    bounds: np.ndarray | None,
) -> ScoredOutcomes:
    """Return the outcomes on the column's scale, if the change of density is known."""
    output, table = model.signature.output, model.table
    part = None if table is None else table.spec.parts.get(output)
    if part is None or table.encoder is None:
        return _own(given, output, labels)
    if part.kind == "index":
        levels = np.array([*table.encoder.names[part.columns[0]], ""], dtype=object)
        return replace(_own(given, part.columns[0], labels), values=levels[given.astype(int)])
    scale = table.encoder.outcome_scale(output)
    found = None if scale is None else _on_column(scale, site, given)
    if found is None:
        why = "the way from the formula back to the column is not known for each row"
        return replace(_own(given, part.text, labels), why_not_of_column=why)
    gained, kind = found.log_jacobian, None if site is None else site.density_kind
    if kind == "mass":
        gained = np.zeros_like(gained)
    elif kind == "censored" and bounds is not None and bounds.shape == gained.shape:
        # The mass beyond a bound has no unit.
        gained = np.where(bounds, 0.0, gained)
    elif kind != "density" and gained.any():
        why = (
            f"the distribution of {output!r} may have a density of some rows and a probability of "
            "others, as a masked one has"
        )
        return replace(_own(given, part.text, labels), why_not_of_column=why)
    with np.errstate(over="ignore"):
        observed = np.abs(given) * np.exp(-found.log_jacobian)
    rounding = _rounding(found.values, observed + np.abs(found.values))
    one = scale.columns if isinstance(scale, OutcomeScales) else (scale,)
    return ScoredOutcomes(
        found.values,
        rounding,
        gained.sum(1),
        ", ".join(each.column for each in one),
        part.text if gained.any() else "",
        labels,
    )


def _on_column(
    scale: OutcomeScale | OutcomeScales, site: Site | None, given: np.ndarray
) -> OnColumn | None:
    """Return values on the scale of their column; ``None`` if some have no density there."""
    if isinstance(scale, OutcomeScales):
        is_last = site is not None and site.shape[1:] == (len(scale.columns),)
        if not is_last or given.shape[1] != len(scale.columns):
            return None
    found = scale.on_column(np.asarray(given, np.float64))
    return found if all(np.isfinite(each).all() for each in found) else None


def _own(values: np.ndarray, units: str, labels: AxisLabels | None) -> ScoredOutcomes:
    """Return outcomes as the kernel observes them."""
    rounding = _rounding(values, np.abs(values)) if _is_numeric(values) else np.zeros(values.shape)
    return ScoredOutcomes(values, rounding, np.zeros(len(values)), units, labels=labels)


def _rounding(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return how far values may be off, of which numbers of these sizes were rounded."""
    most = _OF_SPREAD * values.std(0)
    return np.minimum(_ROUNDING * sizes, np.where(most > 0, most, np.inf))


def _is_numeric(values: np.ndarray) -> bool:
    return values.dtype.kind in "biuf"


def _by_row(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    flat = values.reshape(len(values), -1)
    return flat.astype(np.float64) if _is_numeric(values) else flat


def _are_others(one: np.ndarray, other: np.ndarray) -> bool:
    return _own(one, "", None).differ_from(_own(other, "", None)).any()


def _observed(model: Examined, rows: ExaminedRows) -> np.ndarray:
    """Return what the kernel observes, rows first."""
    kernel, output = model.signature.kernel, model.signature.output
    spec = model.trained.spec
    axis = (spec.row_axis(output) if spec and output in spec.sites else None) or 0
    params = {} if model.fitted.params is None else model.fitted.params
    blocks = [rows.data.rows]
    if rows.source is not None:
        blocks = [block for block, _ in rows.blocks(padded=False)]
    found = []
    for block in blocks:
        seeded_kernel = seeded(handlers.substitute(kernel, data=dict(params)), jax.random.key(0))
        arrays = {name: jnp.asarray(array) for name, array in block.items()}
        with tracing_lock:
            sites = handlers.trace(seeded_kernel).get_trace(
                **arrays, **rows.data.shared, **rows.data.static
            )
        found.append(np.moveaxis(np.asarray(sites[output]["value"]), axis, 0))
    return _by_row(np.concatenate(found))


def check_same_outcomes(
    argument: str, found: Mapping[str, ScoredOutcomes]
) -> dict[str, Int[np.ndarray, " row"]]:
    """Check that models are scored on the same outcomes of the same rows, in any order.

    Rows in another order are told by their labels, or by outcomes of which no two are alike.

    Args:
        argument: Name of the argument that gave the rows, for messages.
        found: The outcomes by the name of the model.

    Returns:
        For each model, the numbers of its rows in the order of the first one's.

    Raises:
        DataError: If they are others, or their order cannot be told.
    """
    sizes = {name: one.n_rows for name, one in found.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {n:,}" for name, n in sizes.items())
        msg = f"{argument}= compares models on the same rows, and here they have {listed} rows."
        raise DataError(msg)
    orders: dict[str, np.ndarray] = {}
    for name, one in found.items():
        first = next(iter(found))
        order = _order(found[first], one)
        if order is None:
            raise DataError(_how_they_differ(argument, first, found[first], name, one))
        orders[name] = order
    return orders


def check_same_bounds(argument: str, found: Mapping[str, ScoredOutcomes]) -> None:
    """Check that models take the same values for bounds of what was not seen.

    Args:
        argument: Name of the argument that gave the rows, for messages.
        found: The outcomes by the name of the model, in one order.

    Raises:
        DataError: If one has a density of a value, and another the probability beyond it.
    """
    for name in [*found][1:]:
        first = next(iter(found))
        both = [found[which] for which in (first, name)]
        bounds = [np.zeros(each.n_rows, bool) if each.bounds is None else each.bounds.any(1)
                  for each in both]  # fmt: skip
        if (differs := np.flatnonzero(bounds[0] != bounds[1])).size:
            row = differs[0]
            has, lacks = (first, name) if bounds[0][row] else (name, first)
            msg = (
                f"{argument}= compares models on the same outcomes, and that of row {row} is a "
                f"bound of what was not seen for {has}, by its censored distribution, and a value "
                f"for {lacks}: the probability beyond it and its density do not compare. Give both "
                "the same flags of censoring, or rows that were seen."
            )
            raise DataError(msg)


def check_same_masks(argument: str, found: Mapping[str, ScoredOutcomes]) -> None:
    """Check that the masks of models leave out the same rows.

    Args:
        argument: Name of the argument that gave the rows, for messages.
        found: The outcomes by the name of the model, in one order.

    Raises:
        DataError: If they leave out others.
    """
    for name in [*found][1:]:
        first = next(iter(found))
        _check_same_masks(argument, first, found[first], name, found[name])


def _check_same_masks(
    argument: str, first: str, its: ScoredOutcomes, name: str, one: ScoredOutcomes
) -> None:
    every = np.arange(one.n_rows)
    sets = [every if each.scored is None else each.scored for each in (its, one)]
    if not np.array_equal(*sets):
        row = np.setxor1d(*sets)[0]
        has, lacks = (first, name) if row in sets[0] else (name, first)
        msg = (
            f"{argument}= compares models on the same rows, and row {row} is masked by {lacks}, by "
            f"obs_mask or a mask of its kernel, and not by {has}. {first} scores {len(sets[0]):,} "
            f"of {one.n_rows:,} rows and {name} {len(sets[1]):,}: pass rows that both score."
        )
        raise DataError(msg)


def _order(first: ScoredOutcomes, one: ScoredOutcomes) -> np.ndarray | None:
    """Return the numbers of rows in the order of the first; ``None`` if these are others."""
    as_they_are = np.arange(one.n_rows)
    if _share_labels(first, one):
        order = _order_of_labels(first.labels, one.labels)
        if order is not None and not first.differ_from(one.in_order(order)).any():
            return order
        if not (first.labels.counts or one.labels.counts):
            return None
    if not first.differ_from(one).any():
        return as_they_are
    if first.values.shape != one.values.shape:
        return None
    if not (_is_numeric(first.values) and _is_numeric(one.values)):
        return None
    ours, order = (np.lexsort(each.values.T[::-1]) for each in (first, one))
    ordered = first.in_order(ours)
    twins = ~ordered.in_order(as_they_are[1:]).differ_from(ordered.in_order(as_they_are[:-1]))
    if twins.any() or ordered.differ_from(one.in_order(order)).any():
        return None
    return order[np.argsort(ours)]


def _share_labels(first: ScoredOutcomes, one: ScoredOutcomes) -> bool:
    """Whether both have labels of one meaning, no two alike."""
    both = (first.labels, one.labels)
    if any(each is None or each.labels is None for each in both):
        return False
    is_one_meaning = first.labels.names == one.labels.names
    return is_one_meaning and all(len(set(_keys(each))) == len(each.labels) for each in both)


def _keys(labels: AxisLabels) -> list[str]:
    return list(map(str, labels.labels))


def _order_of_labels(first: AxisLabels, one: AxisLabels) -> np.ndarray | None:
    places = {key: row for row, key in enumerate(_keys(one))}
    order = [places.get(key) for key in _keys(first)]
    return None if None in order else np.array(order)


def _how_they_differ(
    argument: str, first: str, its: ScoredOutcomes, name: str, one: ScoredOutcomes
) -> str:
    advice = (
        "Give all of them the same rows in the same order. Densities compare in one unit alone: "
        "where a TableSpec makes what the kernel observes, y='log(sales)', in that of the column."
    )
    for which, each in ((first, its), (name, one)):
        if each.why_not_of_column:
            advice += f" Those of {which} are in that of {each.units}: {each.why_not_of_column}."
    said = f"{argument}= compares models on the same outcomes of the same rows"
    if _share_labels(its, one) and not (its.labels.counts or one.labels.counts):
        order = _order_of_labels(its.labels, one.labels)
        if order is None:
            other = next(key for key in _keys(one.labels) if key not in set(_keys(its.labels)))
            return f"{said}, and {name} has the row {other}, which {first} has not. {advice}"
        one = one.in_order(order)
    row = int(np.argmax(its.differ_from(one)))
    told = " and ".join(
        f"{_shown(each.values[row])} ({each.units}) for {which}"
        for which, each in ((first, its), (name, one))
    )
    return f"{said}, and that of row {row} is {told}. {advice}"


def _shown(values: np.ndarray) -> str:
    texts = [f"{one:.6g}" if isinstance(one, float) else str(one) for one in values.tolist()]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
