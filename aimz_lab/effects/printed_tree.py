"""A tree of the draws of an effect, which prints the average effect above what it holds."""

from __future__ import annotations

from aimz_lab.effects.contrasts import PREDICTIVE_GROUPS
from aimz_lab.effects.effect_summary import EffectSummary
from aimz_lab.effects.outcome_names import called
from aimz_lab.effects.summaries import summarize_effect
from aimz_lab.errors import AimzLabError
from aimz_lab.predictive.drawn_sites import DRAWN, named_as_drawn
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

_MOST_VALUES = 4_000_000
"""Most values that are averaged in order to print an effect."""


class EffectTree(xr.DataTree):
    """Draws of an effect; an :class:`xarray.DataTree` in all but its looks.

    Printed, it begins with the effect averaged over the rows.

    Example:
        >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
        >>> print(str(effect).splitlines()[0])
        Effect on y averaged over obs, with the 94% highest-density interval (of drawn outcomes)
    """

    __slots__ = ()

    def __str__(self) -> str:
        average = _average(self)
        whole = super().__str__()
        return whole if average is None else f"{average}\n\n{whole}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        average = _average(self)
        whole = super()._repr_html_()
        return whole if average is None else average._repr_html_() + whole


def _average(tree: xr.DataTree) -> EffectSummary | None:
    """Summarise the average over rows; ``None`` where there are no draws, or too many to read."""
    group = next((name for name in PREDICTIVE_GROUPS if name in tree.children), None)
    sites = tree[group].to_dataset().data_vars.values() if group else ()
    draws = [site for site in sites if set(SAMPLE_DIMS) <= set(site.dims)]
    if not draws or len(draws) < len(sites) or sum(site.size for site in draws) > _MOST_VALUES:
        return None
    attrs = tree[group].attrs
    if "averaged" not in attrs and attrs.get("contrast", "difference") != "difference":
        return None  # the mean of a ratio over rows is no average effect
    try:
        if "averaged" in attrs:
            return summarize_effect(tree[group].to_dataset(), progress=False)
        whole = tree[group].to_dataset()
        means, drawn = {}, []
        for site in draws:
            name, mean = _averaged(site, called(whole, str(site.name)))
            means[name] = mean
            drawn += [name] * (site.name in named_as_drawn(attrs))
        return summarize_effect(xr.Dataset(means, attrs={DRAWN: drawn}), progress=False)
    except AimzLabError:  # its store is gone, as reading it will say
        return None


def _averaged(site: xr.DataArray, name: str) -> tuple[str, xr.DataArray]:
    """Average a site over its leading axis beside the draws, which is that of the rows."""
    rows = [dim for dim in site.dims if dim not in SAMPLE_DIMS][:1]
    if not rows:
        return name, site
    return f"{name} averaged over {rows[0]}", site.mean(rows, skipna=False)
