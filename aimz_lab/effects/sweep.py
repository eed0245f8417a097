"""Dose-response: averages of the outcome over a grid of one input's values, with common noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jax.typing import ArrayLike

from aimz_lab.data.tables import is_table
from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.effects.measures import AVERAGE, Contrast, Measure, check_contrast, name_of
from aimz_lab.effects.outcome_names import check_has_ratio, check_measured
from aimz_lab.effects.row_groups import RowGroups
from aimz_lab.effects.swept_values import filled, with_column
from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.checks.names import check_name
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.predictive.drawn_sites import DRAWN, named_as_drawn
from aimz_lab.predictive.reducers.row_means import RowMeans
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS, check_choice, shown

_MOST_LEVELS = 12
"""A message lists at most so many."""

Swept = Literal["column", "argument", "site"]


@dataclass(frozen=True)
class Sweep:
    """What is swept.

    Attributes:
        name: The column, argument or site.
        of: Which of these it is.
        grid: Its values.
        reference: The value to compare with, or ``None``.
        contrast: The measure of the comparison.
    """

    name: str
    of: Swept
    grid: np.ndarray
    reference: Any = None
    contrast: Contrast = "difference"

    def values(self) -> list[Any]:
        """The values to compute: the grid, and the reference if it is not on it."""
        grid = list(self.grid) if self.grid.dtype.kind == "M" else self.grid.tolist()
        return [*grid, *([] if self._reference_at is not None else [self.reference])]

    @property
    def _reference_at(self) -> int | None:
        if self.reference is None:
            return 0
        at = np.flatnonzero(self.grid == self.reference)
        return int(at[0]) if len(at) else None

    def check_groups(self, groups: RowGroups) -> None:
        """Refuse groups that are called like what is swept: a result has one dimension of a name.

        Args:
            groups: The groups that the averages are taken in.

        Raises:
            ArgumentError: If they are.
        """
        if self.name in groups.coords:
            msg = (
                f"{self.name!r} is swept, and the groups of by= are called {self.name!r} too. Name "
                f"them otherwise: by={{'{self.name}_observed': values}}."
            )
            raise ArgumentError(msg)

    def arguments(self, given: Mapping[str, Any], value: Any) -> dict[str, Any]:
        """Return the arguments of a call with one value for all rows.

        Args:
            given: The arguments of the call, by name.
            value: The value.
        """
        if self.of == "site":
            return {
                **given,
                "intervention": {**(given.get("intervention") or {}), self.name: value},
            }
        if self.of == "column":
            return {**given, "X": with_column(given["X"], self.name, value)}
        where = self.name if self.name in given else "X"
        return {**given, where: filled(self.name, given[where], value)}

    def tree(self, trees: Sequence[xr.DataTree]) -> xr.DataTree:
        """Return one result of the results for each of :meth:`values`."""
        group = next(name for name in PREDICTIVE_GROUPS if name in trees[0])
        joined = self.joined([tree[group].to_dataset() for tree in trees])
        kept = {"posterior"} & set(trees[0].children)
        return xr.DataTree.from_dict(
            {group: joined, **{name: trees[0][name].to_dataset() for name in kept}}
        )

    def joined(self, parts: Sequence[xr.Dataset]) -> xr.Dataset:
        """Join the averages of each value along a dimension of the values.

        Args:
            parts: Averages for each of :meth:`values`.

        Raises:
            ArgumentError: If the contrast is a ratio of numbers of levels, or one of a function of
                the output; or no site is left.
        """
        found = [average_sites(part, self.name) for part in parts]
        if self.reference is not None:
            at = self._reference_at
            base = found[len(self.grid) if at is None else at]
            measure = Measure(self.contrast)
            for name in map(str, base):
                check_has_ratio(parts[0], name, self.contrast)
            check_measured(parts[0].attrs, base, self.contrast)
            found = [contrast_averages(base, each, measure) for each in found]
        found = found[: len(self.grid)]
        grid = xr.DataArray(self.grid, dims=self.name, name=self.name)
        joined = xr.concat(found, dim=grid, coords="minimal", compat="override", join="override")
        joined = joined.transpose(*SAMPLE_DIMS, self.name, ...)
        kind = AVERAGE if self.reference is None else name_of(self.contrast)
        told = {"contrast": kind, "swept": self.name, "swept_kind": self.of}
        if self.reference is not None:
            told["reference"] = self.reference
        kept = {name: value for name, value in parts[0].attrs.items() if name != "intervention"}
        if drawn := named_as_drawn(*(part.attrs for part in parts)):
            told[DRAWN] = [site for site in drawn if site in joined]
        return joined.assign_attrs({**kept, **told})


def check_sweep(
    name: object,
    grid: ArrayLike,
    given: Mapping[str, Any],
    sites: Sequence[str] | None,
    of: Swept | None,
    reference: Any,
    contrast: Contrast,
    signature: KernelSignature,
    used: Set[str] | None = None,
    levels: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> Sweep:
    """Return what is swept.

    Args:
        name: A column, an argument or a site.
        grid: Its values.
        given: The arguments of the call.
        sites: The kernel's sites; ``None`` if they are not known yet.
        of: Which of the three it is, if the name is more than one of them.
        reference: The value to compare with, or ``None``.
        contrast: The measure of the comparison.
        signature: The kernel.
        used: The columns that the model's table makes arguments of; ``None`` without one.
        levels: Levels of the columns that the model's table takes for categories, by column.

    Raises:
        ArgumentError: If the name is not known, not clear or without use, or a value is no value or
            level of it.
    """
    if not isinstance(name, str):
        msg = f"name={shown(name)} is not allowed; sweep a column, argument or site by its name."
        raise ArgumentError(msg)
    columns = list(map(str, given["X"].columns)) if is_table(given["X"]) else []
    arguments = [each for each in given if each != "X"]
    arguments += [] if is_table(given["X"]) else [signature.input]
    if sites is None:  # the kernel was not traced yet; predict refuses what is no site
        sites = [name] if of == "site" or name not in (*columns, *arguments) else []
    places = {"column": columns, "argument": arguments, "site": list(sites)}
    if of is not None:
        check_choice("of", of, Swept)
        places = {of: places[of]}
    found = [kind for kind, names in places.items() if name in names]
    if len(found) > 1:
        msg = f"{name!r} is a {' and a '.join(found)}; say which one, as in of={found[0]!r}."
        raise ArgumentError(msg)
    if not found and not columns and name in (used or ()):
        raise ArgumentError(f"{name!r} is a column of the model's table; pass a data frame as X=.")
    if not found:
        known = "; ".join(
            f"{kind}s: {', '.join(each[:12])}" for kind, each in places.items() if each
        )
        near = did_you_mean(name, [one for names in places.values() for one in names])
        what = of or "column, argument or site"
        raise ArgumentError(f"There is no {what} {name!r}.{near} {known}.")
    if found == ["site"] and name == signature.output:
        msg = f"{name!r} is the outcome, which is averaged; sweep a site that it depends on."
        raise ArgumentError(msg)
    if found == ["column"] and used is not None and name not in used:
        msg = (
            f"The column {name!r} is in no formula of the model's table, so that its values change "
            f"nothing; sweep one of {', '.join(sorted(used))}."
        )
        raise ArgumentError(msg)
    if "reduce" in given:
        msg = "reduce= does not go with a sweep, which averages over the rows itself; leave it out."
        raise ArgumentError(msg)
    check_name("the swept input", name, ArgumentError)
    values = _grid(name, grid)
    if reference is None and check_contrast(contrast) != "difference":
        msg = f"contrast={shown(contrast)} compares with a value; pass it as reference=."
        raise ArgumentError(msg)
    if reference is not None:
        reference = _reference(name, reference, values)
    if found == ["column"] and name in levels:
        _check_levels("grid", name, values.tolist(), levels[name])
        _check_levels("reference", name, [] if reference is None else [reference], levels[name])
    return Sweep(name, found[0], values, reference, check_contrast(contrast))


def averages_over(groups: RowGroups, contrast: Contrast = "difference") -> dict[str, RowMeans]:
    """Return the reducer of the averages of a scenario.

    Args:
        groups: Groups and weights of the rows.
        contrast: What the averages will be contrasted by: odds need shares.
    """
    return {AVERAGE: RowMeans(groups, shares=contrast == "odds_ratio")}


def _reference(name: str, reference: Any, grid: np.ndarray) -> Any:
    """Return one value of the kind of the grid's."""
    try:
        value = np.asarray([reference])
    except (TypeError, ValueError):
        value = np.empty(0)
    kinds = "iufb" if grid.dtype.kind in "iufb" else grid.dtype.kind
    is_one = value.shape == (1,) and value.dtype.kind in kinds
    if not is_one or (value.dtype.kind == "f" and not np.isfinite(value).all()):
        msg = f"reference={shown(reference)} is not allowed; use one value of {name!r}."
        raise ArgumentError(msg)
    return value.tolist()[0]


def _grid(name: str, grid: ArrayLike) -> np.ndarray:
    try:
        given = list(grid)
    except TypeError:
        given = []
    _check_one_kind(name, given)
    try:
        values = np.asarray(given)
        if values.dtype.kind == "O" and all(isinstance(one, date) for one in values.flat):
            values = values.astype("M8[ns]")
    except (TypeError, ValueError):
        values = np.empty(0)
    is_number = values.dtype.kind in "iufb"
    usable = values.ndim == 1 and len(values) and values.dtype.kind in "iufbUM"
    if not usable or (is_number and not np.isfinite(values).all()):
        msg = f"grid={shown(grid)} is not allowed; use a list of finite values of {name!r}."
        raise ArgumentError(msg)
    if len(np.unique(values)) < len(values):
        msg = f"grid= has a value of {name!r} more than once; give each once."
        raise ArgumentError(msg)
    return values


def _check_levels(argument: str, name: str, values: Sequence[Any], levels: Sequence[Any]) -> None:
    """Refuse values of a category that the training table had not.

    Raises:
        ArgumentError: If there are some.
    """
    unknown = [value for value in values if value not in levels]
    if unknown:
        more = ", ..." if len(levels) > _MOST_LEVELS else ""
        listed = ", ".join(map(repr, levels[:_MOST_LEVELS])) + more
        msg = (
            f"{argument}= has {unknown[0]!r}, which is no level of {name!r} in the training table: "
            f"{listed}.{did_you_mean(str(unknown[0]), levels)}"
        )
        raise ArgumentError(msg)


def _check_one_kind(name: str, given: Sequence[Any]) -> None:
    """Refuse texts among other values: an array of both would hold all as texts.

    Raises:
        ArgumentError: If there are both.
    """
    texts = [one for one in given if isinstance(one, str)]
    others = [one for one in given if not isinstance(one, str)]
    if texts and others:
        msg = (
            f"grid= mixes texts and other values: {texts[0]!r} is a text, and {shown(others[0])} "
            f"is none. The values of {name!r} are of one kind."
        )
        raise ArgumentError(msg)


def average_sites(part: xr.Dataset, *swept: str) -> xr.Dataset:
    """Return the averages by the names of their sites, without those of the swept sites.

    Args:
        part: Averages of a scenario, by :func:`averages_over`.
        *swept: Names of what is swept.

    Raises:
        ArgumentError: If no site is left.
    """
    ending = f"_{AVERAGE}"
    names = {name: name.removesuffix(ending) for name in map(str, part) if name.endswith(ending)}
    names = {name: site for name, site in names.items() if site not in swept}
    if not names:
        of = " and ".join(map(repr, swept))
        msg = f"Nothing but {of} itself is returned; name other sites by return_sites=."
        raise ArgumentError(msg)
    return part[list(names)].rename_vars(names).drop_attrs()


def contrast_averages(before: xr.Dataset, after: xr.Dataset, measure: Measure) -> xr.Dataset:
    """Return the contrast of the averages of two scenarios, site by site.

    Args:
        before: Averages under the baseline, by site.
        after: Averages under the intervention.
        measure: Contrasts them.
    """
    return xr.Dataset({name: _of_site(name, before[name], after[name], measure) for name in after})


def _of_site(
    name: str, before: xr.DataArray, after: xr.DataArray, measure: Callable
) -> xr.DataArray:
    flat = [each.values.reshape(-1, *each.shape[2:]) for each in (before, after)]
    return after.copy(data=measure(name, *flat).reshape(after.shape))
