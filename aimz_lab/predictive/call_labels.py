"""Compare the labels of a call: those of its rows, and those of the values set for its sites."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data import AxisLabels, axis_labels, to_host
from aimz_lab.data.checks import check_numeric
from aimz_lab.data.options import check_mapping
from aimz_lab.errors import CallError, DataError, OutputWarning
from aimz_lab.inference.feeds.columns import check_order
from aimz_lab.inference.posterior_sites import to_draw_anew
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.tracebacks import warn
from aimz_lab.types import Columns, shown

DRAWS = "posterior"
"""Stands for the posterior draws among the arguments that have labelled values."""

RowsDiffer = Literal["moved", "others"]
"""Rows of a call that are not those of the training: these in another order, or some; or others."""

_SCALARS = (bool, int, float, complex, np.number, np.bool_)


@dataclass(frozen=True)
class CallLabels:
    """Labels of a call.

    Attributes:
        rows: Labels of the rows, if a field has some.
        columns: Column names of the tables among the arguments, and the user's coordinates.
        shuffled: Whether a loader reads the rows in a shuffled order.
        trained: Labels of the rows that the posterior was trained on.
        values: Labels along each axis of the values set for sites, by argument and site.
        differ: How the rows differ from those of the training, as far as that is known; ``None``
            also for training rows of which some inputs were changed.
    """

    rows: AxisLabels | None = None
    columns: Columns = field(default_factory=dict)
    shuffled: bool = False
    trained: AxisLabels | None = None
    values: Mapping[tuple[str, str], tuple[AxisLabels | None, ...]] = field(default_factory=dict)
    differ: RowsDiffer | None = None


def set_values(argument: str, values: Mapping[str, ArrayLike] | None) -> dict[str, ArrayLike]:
    """Return the values of ``intervention`` or ``condition`` as numbers and arrays.

    Args:
        argument: Name of the argument, for messages.
        values: Values by site, or ``None``.

    Raises:
        CallError: If this is no mapping.
        DataTypeError: If a value is not numeric.
        DataError: If a number is too large.
    """
    if values is not None and not isinstance(values, Mapping):
        msg = (
            f"{argument}= takes a mapping from sites to values; got {type(values).__name__}. If "
            f"the kernel has an argument of that name, pass it in "
            f"kernel_kwargs={{{argument!r}: ...}}."
        )
        raise CallError(msg)
    check_mapping(argument, values, "values by site")
    return {name: _set_value(argument, name, value) for name, value in (values or {}).items()}


def _set_value(argument: str, name: str, value: ArrayLike) -> ArrayLike:
    if isinstance(value, jax.Array):
        check_numeric(f"{argument} of {name!r}", value.dtype)
        return value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        msg = f"{argument} of {name!r} is {shown(value)}, which is too large for a number of JAX."
        raise DataError(msg)
    return value if isinstance(value, _SCALARS) else to_host(name, value)


def check_set_finite(argument: str, values: Mapping[str, ArrayLike], allow_nonfinite: bool) -> None:
    """Refuse values for sites that are NaN or infinite: all that follows from them is so too.

    Args:
        argument: ``intervention`` or ``condition``, for messages.
        values: Values by site.
        allow_nonfinite: Check nothing.

    Raises:
        DataError: If there is one.
    """
    if allow_nonfinite:
        return
    for name, value in values.items():
        finite = np.isfinite(np.asarray(value))
        if not finite.all():
            msg = (
                f"{argument}= sets {name!r} to NaN or infinity, {np.sum(~finite)} of "
                f"{finite.size} values. Pass finite numbers, or allow_nonfinite=True if the "
                "kernel handles them."
            )
            raise DataError(msg)


def value_labels(
    **given: Mapping[str, object] | None,
) -> dict[tuple[str, str], tuple[AxisLabels | None, ...]]:
    """Return the labels of the values set for sites, by argument and site."""
    found = {
        (argument, site): axis_labels(value)
        for argument, values in given.items()
        for site, value in (values or {}).items()
    }
    return {key: axes for key, axes in found.items() if axes}


def check_value_labels(
    labels: CallLabels, spec: KernelSpec, row_wise: Mapping[str, int], latents: Iterable[str]
) -> None:
    """Check that the labels of set values and of draws agree with those of rows and columns.

    Args:
        labels: Labels of the call.
        spec: The kernel's structure.
        row_wise: Sites whose set value has one entry per row, with its axis of rows.
        latents: Sites whose draws are used.

    Raises:
        DataError: If a value labels the same rows or columns in another order, has the rows on
            another axis, or has no labels where a loader shuffles the rows; or if a site or
            parameter with one value per row was trained on rows with other labels, or on these in
            another order.

    Warns:
        OutputWarning: If it was trained on other rows.
    """
    used = {*latents, *spec.of_kind("param")}
    by_row = [site for site in spec.learned_by_row if site in used]
    row = (
        labels.trained.conflict(labels.rows) if by_row and labels.trained and labels.rows else None
    )
    if row is not None:
        msg = (
            f"The model has one value per row of {', '.join(map(repr, by_row))}, and row {row} "
            f"was {labels.trained.text(row)} in training and is {labels.rows.text(row)} here. Pass "
            "the rows in the order of the training."
        )
        raise DataError(msg)
    if by_row and labels.differ is not None:
        _tell_of_other_rows(by_row, labels.differ, [site for site in by_row if site in latents])
    labelled = {site for argument, site in labels.values if argument != DRAWS}
    for site in row_wise:
        if labels.shuffled and (site not in labelled or labels.rows is None):
            msg = (
                f"The value set for site {site!r} has one entry per row, and the loader reads the "
                "rows in a shuffled order. Pass its dataset, or a loader with shuffle=False."
            )
            raise DataError(msg)
    for (argument, site), axes in labels.values.items():
        if argument != DRAWS:
            _check_axes(f"{argument} of {site!r}", axes, row_wise.get(site), site, spec, labels)
        elif site in latents:
            what = f"posterior draws of {site!r}"
            _check_axes(what, axes[1:], spec.row_axis(site), site, spec, labels)


def _tell_of_other_rows(by_row: list[str], differ: RowsDiffer, latents: list[str]) -> None:
    """Refuse training rows in another order, and warn of rows that seem to be no training rows."""
    what = f"The model has one value per row of {', '.join(map(repr, by_row))}, and these are"
    if differ == "moved":
        msg = (
            f"{what} training rows in another order, or some of them. Pass all rows in the order "
            "of the training."
        )
        raise DataError(msg)
    warn(
        f"{what} not the rows of the training: each gets the value of the training row at its "
        "position. That is right only if they are the same rows with other inputs."
        f"{to_draw_anew(latents)}",
        OutputWarning,
    )


def _check_axes(
    what: str,
    axes: tuple[AxisLabels | None, ...],
    row_axis: int | None,
    site: str,
    spec: KernelSpec,
    labels: CallLabels,
) -> None:
    for number, axis in enumerate(axes):
        if number == row_axis:
            _check_rows(what, axis, labels.rows)
        elif axis is not None:
            if spec.sites[site].row_axes:
                _check_no_rows(what, number, axis, labels.rows)
            _check_order(what, axis, labels.columns)


def check_reducer_labels(reducers: Mapping[str, object], labels: CallLabels) -> None:
    """Raise :class:`DataError` if a reducer labels its rows in another order than the data."""
    for name, reducer in reducers.items():
        given = getattr(reducer, "row_labels", None)
        by_row = getattr(reducer, "by_row", None) is not None
        what = getattr(reducer, "given", f"by= of {name!r}")
        unlabelled = given is None or labels.rows is None or given.counts != labels.rows.counts
        if by_row and labels.shuffled and unlabelled:
            msg = (
                f"{what} has one value per row, and the loader reads the rows in a "
                "shuffled order. Pass its dataset, or a loader with shuffle=False."
            )
            raise DataError(msg)
        _check_rows(getattr(reducer, "labelled", what), given, labels.rows)


def check_same_rows(one: CallLabels, other: CallLabels) -> None:
    """Raise :class:`DataError` if two scenarios label the same row differently."""
    if one.rows is None or other.rows is None:
        return
    row = one.rows.conflict(other.rows)
    if row is not None:
        msg = (
            f"The scenarios label their rows differently: row {row} is {one.rows.text(row)} in "
            f"the baseline and {other.rows.text(row)} in the intervention, and an effect "
            "compares row by row. Align them, X = X.loc[X_baseline.index]; or, if these are the "
            "same rows that count anew, X = X.set_axis(X_baseline.index)."
        )
        raise DataError(msg)


def _check_rows(what: str, axis: AxisLabels | None, rows: AxisLabels | None) -> None:
    row = None if axis is None or rows is None else axis.conflict(rows)
    if row is not None:
        msg = (
            f"The rows of the {what} have other labels than those of the data: row {row} is "
            f"{rows.text(row)} in the data and {axis.text(row)} in the value. Align it, "
            "value = value.loc[X.index]."
        )
        raise DataError(msg)


def _check_no_rows(what: str, number: int, axis: AxisLabels, rows: AxisLabels | None) -> None:
    """Refuse an axis without rows that has the rows' labels or the name of their dimension."""
    if rows is None or axis.counts:
        return
    named = axis.names == rows.names and axis.names != ()
    same = axis.labels is not None and not rows.counts and np.array_equal(axis.labels, rows.labels)
    if named or same:
        msg = (
            f"In the {what}, the rows are on axis {number}, which is not the site's axis of rows; "
            "transpose the value."
        )
        raise DataError(msg)


def _check_order(what: str, axis: AxisLabels, columns: Columns) -> None:
    if axis.labels is None or axis.counts:
        return
    check_order(what, tuple(map(str, axis.labels)), columns)
