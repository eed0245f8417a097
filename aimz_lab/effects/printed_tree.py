"""Trees that print a table above what they hold: an average effect, means of groups, or rows."""

from __future__ import annotations

from html import escape

import numpy as np

from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.effects.effect_summary import SUMMARY, EffectSummary
from aimz_lab.effects.measures import AVERAGE
from aimz_lab.effects.other_outcomes import OTHER_OUTCOMES
from aimz_lab.effects.outcome_names import called
from aimz_lab.effects.printed_rows import LIKELIHOOD, RowTable, first_rows, is_in_memory
from aimz_lab.effects.sentences import FIT_STEP, OF_DRAWN, OF_LEVELS
from aimz_lab.effects.summaries import summarize_effect
from aimz_lab.errors import AimzLabError
from aimz_lab.predictive.drawn_sites import DRAWN, named_as_drawn
from aimz_lab.predictive.level_sites import why_no_mean
from aimz_lab.predictive.reducers.group_means import SUMMARY_GROUP
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

_OF_ROWS = (*PREDICTIVE_GROUPS, LIKELIHOOD)

_MOST_VALUES = 4_000_000
"""Most values that are averaged in order to print an effect."""


class _PrintedTree(xr.DataTree):
    """A tree with a table above it, where it has one."""

    __slots__ = ()

    def _table(self) -> EffectSummary | RowTable | None:
        raise NotImplementedError

    def _why_none(self) -> str:
        return ""

    def _note(self) -> str:
        return ""

    def __str__(self) -> str:
        table = self._table()
        head = self._why_none() if table is None else str(table)
        return "\n\n".join(filter(None, (head, self._note(), super().__str__())))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        table = self._table()
        head = "" if table is None else table._repr_html_()
        said = [self._why_none() if table is None else "", self._note()]
        head += "".join(f"<p>{escape(text)}</p>" for text in said if text)
        # The tree is named by the class of its looks, which nobody has heard of.
        return head + super()._repr_html_().replace(type(self).__name__, xr.DataTree.__name__, 1)


class EffectTree(_PrintedTree):
    """Draws of an effect; an :class:`xarray.DataTree` in all but its looks.

    Printed, it begins with the effect averaged over the rows.

    Example:
        >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
        >>> print(str(effect).splitlines()[0])
        Effect on y averaged over obs, with the 94% highest-density interval (of drawn outcomes)
    """

    __slots__ = ()

    def _table(self) -> EffectSummary | None:
        return _average(self)

    def _why_none(self) -> str:
        size = sum(site.size for site in _draws(self))
        if size <= _MOST_VALUES:
            return ""
        return (
            f"An effect of {size:,} values, which are not read in order to print it. Pass "
            "average=True, or by=, to estimate_effect for averages; summarize_effect(effect) reads "
            "the rows."
        )

    def _note(self) -> str:
        group = _predictive_group(self)
        others = [] if group is None else list(self[group].attrs.get(OTHER_OUTCOMES, ()))
        if not others:
            return ""
        sites = ", ".join(map(repr, [*self[group].data_vars, *others]))
        return (
            f"It is not on {', '.join(map(repr, others))}, which the kernel draws too: pass "
            f"return_sites=[{sites}] in both scenarios for that as well."
        )


class SweepTree(_PrintedTree):
    """Averages over the values of an input; an :class:`xarray.DataTree` in all but its looks.

    Printed, it begins with mean, standard deviation and interval at each value.

    Example:
        >>> print(str(im.sweep("X", [0.0, 1.0], X)).splitlines()[0])
        Average of y, with the 94% highest-density interval
    """

    __slots__ = ()

    def _table(self) -> EffectSummary | None:
        group = _predictive_group(self)
        if group is None:
            return None
        try:
            return summarize_effect(self[group].to_dataset(), progress=False)
        except AimzLabError:
            return None


class GroupTree(_PrintedTree):
    """Means of groups of rows; an :class:`xarray.DataTree` in all but its looks.

    Printed, it begins with mean, standard deviation and interval of each group.

    Example:
        >>> tree = im.predict(X, by=X > 0, progress=False)
        >>> print(str(tree).splitlines()[0])
        Average of y, with the 94% highest-density interval (of drawn outcomes)
    """

    __slots__ = ()

    def _table(self) -> EffectSummary | None:
        group = self if self.name == SUMMARY_GROUP else self.children.get(SUMMARY_GROUP)
        return None if group is None else _of_groups(group.to_dataset())


class RowTree(_PrintedTree):
    """A prediction of rows; an :class:`xarray.DataTree` in all but its looks.

    Printed, it begins with mean, standard deviation and interval of the first rows, or with the
    first rows of what reducers left. Draws on disk are not read for that.

    Example:
        >>> tree = im.predict(X, progress=False)
        >>> print(str(tree).splitlines()[0])
        y, the first 5 of 40 rows, with the 94% highest-density interval (of drawn outcomes)
    """

    __slots__ = ()

    def _table(self) -> RowTable | None:
        found = [(name, group) for name, group in self._groups() if group.data_vars]
        tables = [first_rows(name, group.to_dataset()) for name, group in found]
        return next((table for table in tables if table is not None), None)

    def _why_none(self) -> str:
        groups = dict(self._groups())
        are_there = [is_in_memory(site) for group in groups.values() for site in group.values()]
        if all(are_there):
            return ""
        return (
            "Its values are on disk, and are not read in order to print them; reduce= and by= of a "
            "prediction summarise draws."
        )

    def _groups(self) -> list[tuple[str, xr.DataTree]]:
        if self.name in _OF_ROWS:
            return [(self.name, self)]
        return [(name, self.children[name]) for name in _OF_ROWS if name in self.children]


def _of_groups(summary: xr.Dataset) -> EffectSummary | None:
    """Return the summaries of groups with what their title says; ``None`` if they are cut."""
    if not summary.data_vars or any(SUMMARY not in site.dims for site in summary.values()):
        return None
    drawn = named_as_drawn(summary.attrs)
    told = {name: summary.attrs[name] for name in ("prob", FIT_STEP) if name in summary.attrs}
    return EffectSummary(
        {
            name: site.assign_attrs(
                told,
                contrast=AVERAGE,
                column=called(summary, str(name).removesuffix("_mean")),
                **({OF_DRAWN: True} if name in drawn else {}),
            )
            for name, site in summary.data_vars.items()
        }
    )


def _average(tree: xr.DataTree) -> EffectSummary | None:
    """Summarise the average over rows; ``None`` where there are no draws, or too many to read."""
    group, draws = _predictive_group(tree), _draws(tree)
    if not draws or sum(site.size for site in draws) > _MOST_VALUES:
        return None
    attrs = tree[group].attrs
    if "averaged" not in attrs and attrs.get("contrast", "difference") != "difference":
        return None  # the mean of a ratio over rows is no average effect
    try:
        if "averaged" in attrs:
            return summarize_effect(tree[group].to_dataset(), progress=False)
        whole = tree[group].to_dataset()
        means, drawn, said = {}, [], {}
        for site in draws:
            outcome = called(whole, str(site.name))
            if why := why_no_mean(attrs, str(site.name), outcome):
                said[outcome] = why
                continue
            name, mean = _averaged(site, outcome)
            means[name] = mean
            drawn += [name] * (site.name in named_as_drawn(attrs))
        summary = summarize_effect(xr.Dataset(means, attrs={DRAWN: drawn}), progress=False)
        empty = np.full(summary.sizes.get(SUMMARY, 1), np.nan)
        without = {
            name: xr.DataArray(empty, dims=SUMMARY, attrs={OF_LEVELS: True, "text": text})
            for name, text in said.items()
        }
        return summary.assign(without)
    except AimzLabError:  # its store is gone, as reading it will say
        return None


def _predictive_group(tree: xr.DataTree) -> str | None:
    return next((name for name in PREDICTIVE_GROUPS if name in tree.children), None)


def _draws(tree: xr.DataTree) -> list[xr.DataArray]:
    """Return the sites of a tree, if there are draws of all of them."""
    group = _predictive_group(tree)
    sites = [*tree[group].to_dataset().data_vars.values()] if group else []
    return sites if all(set(SAMPLE_DIMS) <= set(site.dims) for site in sites) else []


def _averaged(site: xr.DataArray, name: str) -> tuple[str, xr.DataArray]:
    """Average a site over its leading axis beside the draws, which is that of the rows."""
    rows = [dim for dim in site.dims if dim not in SAMPLE_DIMS][:1]
    if not rows:
        return name, site
    return f"{name} averaged over {rows[0]}", site.mean(rows, skipna=False)
