"""What a scenario can set by hand: columns, arguments and sites, each with its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aimz_lab.data.arrays import are_zeros_and_ones
from aimz_lab.data.tables import is_a, is_table
from aimz_lab.effects.sweep import Sweep, Swept, check_sweep
from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.types import shown

AS_OBSERVED, NOT_SET = "observed", "not set"
"""What a control says where a scenario leaves an input, or a site, as it is."""

_MOST_MOVED = 6  # inputs that get controls without being named
_FEW_VALUES = 12  # up to which the observed values themselves are offered
_STEPS = 24
_MOST_LEVELS = 60

Given = Mapping[str, Any]
"""Arguments of ``predict`` by name."""


@dataclass(frozen=True)
class MovedInput:
    """An input that scenarios set to one value for all rows.

    Attributes:
        name: The column, argument or site.
        sweep: How it is set, and the values that are offered.
        observed: Mean of its observed numbers; ``None`` if there are none.
    """

    name: str
    sweep: Sweep
    observed: float | None

    @property
    def values(self) -> list[Any]:
        """The values that are offered."""
        return self.sweep.grid.tolist()

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers on an axis, and not levels, as 0 and 1 alone are too."""
        grid = self.sweep.grid
        return grid.dtype.kind in "iuf" and not are_zeros_and_ones(grid)

    @property
    def kept(self) -> str:
        """What a control says where it is left as it is."""
        return NOT_SET if self.sweep.of == "site" else AS_OBSERVED

    @property
    def choices(self) -> list[Any]:
        """All that a control offers: to leave it as it is, and the values."""
        return [self.kept, *self.values]

    def arguments(self, given: Given, value: Any) -> Given:
        """Return the arguments of a scenario that sets it, or leaves it as it is.

        Args:
            given: The arguments of the scenario so far.
            value: Its value, or what :attr:`kept` is.
        """
        return given if is_kept(value) else self.sweep.arguments(given, value)

    def nearest(self, place: float) -> Any:
        """Return what is offered next to a place on its axis; see :meth:`places`."""
        offered = self.values if self.is_number else self.choices
        return offered[int(np.abs(np.asarray(self.places()) - place).argmin())]

    def places(self) -> list[float]:
        """Return the places on its axis: its numbers, or 0, 1, ... of what is offered by name."""
        return list(map(float, self.values if self.is_number else range(len(self.choices))))


def is_kept(value: Any) -> bool:
    """Whether the value of a control leaves the input as it is."""
    return isinstance(value, str) and value in (AS_OBSERVED, NOT_SET)


def moved_inputs(
    im: Any, given: Given, vary: Any, of: Mapping[str, Swept] | None
) -> list[MovedInput]:
    """Return what can be set by hand.

    Args:
        im: The model.
        given: Arguments of ``predict`` by name.
        vary: Names, or values by name, of which ``None`` stands for values from the data; ``None``
            for the inputs in the data.
        of: Whether a name is that of a column, argument or site, where it is more than one.

    Raises:
        ArgumentError: If a name is not known or not clear, there are no values for it, or there is
            nothing to set.
    """
    named = _named(vary)
    if of is not None and not isinstance(of, Mapping):
        msg = f"of={shown(of)} is not allowed; say {{'name': 'column'}}, 'argument' or 'site'."
        raise ArgumentError(msg)
    found = [_one(im, given, name, values, (of or {}).get(name)) for name, values in named.items()]
    if vary is None:
        found = _of_data(im, given)
    if not found:
        msg = (
            "There is nothing to set: no column of X and no argument with one number or level for "
            "each row. Name it with its values, as in vary={'dose': [0, 1, 2]}; of a matrix, pass "
            "a data frame, whose columns have names."
        )
        raise ArgumentError(msg)
    return found


def _named(vary: Any) -> dict[str, Any]:
    if vary is None:
        return {}
    if isinstance(vary, str):
        return {vary: None}
    if isinstance(vary, Mapping) and vary:
        return dict(vary)
    if isinstance(vary, list | tuple) and vary and all(isinstance(name, str) for name in vary):
        return dict.fromkeys(vary)
    msg = (
        f"vary={shown(vary)} is not allowed; name columns, arguments or sites, or give their "
        "values: vary=['dose'], or vary={'dose': [0, 1, 2]}."
    )
    raise ArgumentError(msg)


def _of_data(im: Any, given: Given) -> list[MovedInput]:
    """Return the first inputs in the data whose values can be offered."""
    table, X = getattr(im, "_table", None), given["X"]
    columns = [str(column) for column in X.columns] if is_table(X) else []
    if columns and table is not None:
        columns = [name for name in columns if name in table.input_columns()]
    known = parameter_names(im.kernel)
    arguments = [] if is_table(X) else [im.param_input]
    arguments += [name for name in given if name in known and name not in (*arguments, "X")]
    wanted: list[tuple[str, Swept]] = [(name, "column") for name in columns]
    wanted += [(name, "argument") for name in arguments]
    found: list[MovedInput] = []
    for name, kind in wanted:
        try:
            found.append(_one(im, given, name, None, kind))
        except ArgumentError:  # no number or level for each row
            continue
    return found[:_MOST_MOVED]


def _one(im: Any, given: Given, name: str, values: Any, of: Swept | None) -> MovedInput:
    signature = KernelSignature(im.kernel, im.param_input, im.param_output)
    sites = None if im.kernel_spec is None else im.kernel_spec.sites
    rest = given, sites, of, None, "difference", signature
    grid = [0.0] if values is None else values
    sweep = check_sweep(name, grid, *rest)
    observed = _observed(im, given, sweep)
    if values is None:
        offered = _offered(name, observed)
        sweep = replace(check_sweep(name, offered, *rest), grid=np.asarray(offered))
    for text in (AS_OBSERVED, NOT_SET):
        if text in sweep.grid.tolist():
            msg = f"{name!r} has a level {text!r}, which means here that it is left as it is."
            raise ArgumentError(msg)
    # What cannot be set in these data is refused now, and not when a slider is moved.
    sweep.arguments(given, sweep.grid.tolist()[0])
    is_number = sweep.grid.dtype.kind in "iuf" and observed is not None
    mean = float(np.nanmean(np.asarray(observed, float))) if is_number and len(observed) else None
    return MovedInput(name, sweep, mean)


def _observed(im: Any, given: Given, sweep: Sweep) -> Any:
    """Return the values that an input has; of a site, its draws, or ``None``."""
    if sweep.of == "column":
        return given["X"][sweep.name]
    if sweep.of == "argument":
        return np.ravel(np.asarray(given[sweep.name if sweep.name in given else "X"]))
    draws = (im.posterior or {}).get(sweep.name)
    return None if draws is None or draws.ndim != 1 else np.asarray(draws)


def _offered(name: str, observed: Any) -> list[Any]:
    """Choose values to offer: those observed if they are few, or round ones among them."""
    if observed is None:
        msg = f"Which values of {name!r} are of interest? Give them: vary={{{name!r}: [0, 1]}}."
        raise ArgumentError(msg)
    if is_a(observed, "pandas", "Series") and _is_category(observed):
        present = set(observed.dropna().unique())
        return _levels(name, [level for level in observed.cat.categories if level in present])
    array = np.asarray(observed)
    if array.dtype.kind in "OUS":
        texts = [value for value in array.tolist() if isinstance(value, str | bool)]
        return _levels(name, sorted(set(texts)))
    if array.dtype.kind not in "biuf":
        msg = f"{name!r} holds {array.dtype}; explore numbers or levels of a category."
        raise ArgumentError(msg)
    finite = np.unique(array[np.isfinite(array)])
    if not len(finite):
        raise ArgumentError(f"{name!r} has no finite value.")
    if len(finite) <= _FEW_VALUES:
        return finite.tolist()
    return _round_values(float(finite[0]), float(finite[-1]), whole=array.dtype.kind in "iu")


def _is_category(series: Any) -> bool:
    import pandas as pd

    return isinstance(series.dtype, pd.CategoricalDtype)


def _levels(name: str, levels: Sequence[Any]) -> list[Any]:
    if not 0 < len(levels) <= _MOST_LEVELS:
        msg = (
            f"{name!r} has {len(levels):,} levels, and {_MOST_LEVELS} can be offered. Name those "
            f"of interest: vary={{{name!r}: [...]}}."
        )
        raise ArgumentError(msg)
    return list(levels)


def _round_values(low: float, high: float, *, whole: bool) -> list[Any]:
    """Return round numbers from ``low`` to ``high``, an equal distance apart."""
    least = (high - low) / _STEPS
    power = 10.0 ** np.floor(np.log10(least))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    values = [float(f"{k * step:.12g}") for k in range(first, last + 1)]
    return [int(value) for value in values] if whole else values
