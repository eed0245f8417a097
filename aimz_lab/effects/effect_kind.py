"""What an effect is: its measure, and the rows that it is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int

from aimz_lab.data.groups import GroupBy
from aimz_lab.data.options import check_flag
from aimz_lab.effects.averages import PIECE_VALUES
from aimz_lab.effects.measures import (
    Both,
    ByRow,
    Contrast,
    Measure,
    check_contrast,
    expected_for,
    name_of,
)
from aimz_lab.effects.outcome_names import check_has_ratio, check_measured
from aimz_lab.effects.row_groups import Inputs, RowGroups, row_groups
from aimz_lab.errors import ArgumentError, OutputWarning
from aimz_lab.predictive.drawn_sites import DRAWN, named_as_drawn
from aimz_lab.predictive.reducers.row_means import RowMeans
from aimz_lab.predictive.request import Request
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn

_AVERAGE = "average"


@dataclass(frozen=True)
class EffectKind:
    """What an effect is.

    Attributes:
        contrast: Its measure.
        groups: The rows that it is averaged over; ``None`` for an effect on each row.
    """

    contrast: Contrast = "difference"
    groups: RowGroups | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is the difference on each row."""
        return self.groups is None and self.contrast == "difference"

    @property
    def measure(self) -> Measure:
        """Contrasts averages, or values by row."""
        return Measure(self.contrast, "values" if self.groups is None else "averages")

    @property
    def attrs(self) -> dict[str, str]:
        """What results say of it."""
        if self.groups is None:
            return {"contrast": name_of(self.contrast)}
        return {"contrast": name_of(self.contrast), "averaged": "rows", **self.groups.described}

    def among(self, kept: Int[np.ndarray, " kept"] | None, table: Any) -> EffectKind:
        """Return this effect on the rows of a table that were kept; see :meth:`RowGroups.among`."""
        if self.groups is None:
            return self
        return replace(self, groups=self.groups.among(kept, table))

    def check_drawn(self, output: object, sites: object) -> None:
        """Refuse a contrast of single outcomes, which is not that of what is expected of them.

        Args:
            output: Name of the outcome's site.
            sites: Names of the sites; ``None`` if the outcome is among them.

        Raises:
            ArgumentError: If this is a ratio or the like of each row, and the outcome is asked for.
        """
        if self.groups is not None or self.contrast == "difference":
            return
        if sites is None or output in sites:
            msg = (
                f"contrast={name_of(self.contrast)!r} with average=False compares single outcomes "
                f"of {output!r}, drawn with noise, and that is not the contrast of what is "
                "expected. Leave average= out for the contrast of averages, or return a site with "
                "expected values: return_sites=['mean']."
            )
            raise ArgumentError(msg)

    def in_one_pass(self, request: Request) -> Request:
        """Return the request of the intervention, with this effect as its result.

        Raises:
            ArgumentError: If the request has another summary, or keeps what is averaged; or if
                this is a ratio of the output, of which the kernel observes a function.
        """
        self.check_drawn(request.output, request.return_sites)
        sites = request.return_sites or (request.output,)
        check_measured({"output": request.output, **request.attrs}, sites, self.contrast)
        if self.is_plain:
            return request
        if self.groups is None:
            return replace(request, combine=ByRow(self.contrast))
        for name in ("reduce", "output_dir"):
            if getattr(request, name) is not None:
                msg = (
                    f"{name}= does not go with an average effect (by=, weights=, subset= or a "
                    "contrast other than the difference), of which no rows are kept. Leave it out; "
                    "average=False gives the contrast row by row."
                )
                raise ArgumentError(msg)
        means = RowMeans(self.groups, self.measure, shares=self.contrast == "odds_ratio")
        expected = expected_for(self.contrast)
        return replace(request, reduce={_AVERAGE: means}, combine=Both(), expected=expected)

    def named(self, tree: xr.DataTree, group: str) -> xr.DataTree:
        """Return the result of a pass with the sites called by their names.

        Args:
            tree: The result.
            group: Its predictive group.

        Raises:
            ArgumentError: If it is a ratio of numbers of levels.
        """
        draws = tree[group].to_dataset()
        if self.groups is not None:
            ending = f"_{_AVERAGE}"
            names = {n: n.removesuffix(ending) for n in map(str, draws) if n.endswith(ending)}
            draws = draws.rename_vars(names)
            for name in map(str, draws):
                check_has_ratio(draws, name, self.contrast)
        elif self.contrast != "difference":
            _warn_undefined(draws, name_of(self.contrast))
        draws = draws.assign_attrs(self.attrs)
        if drawn := named_as_drawn(draws.attrs):
            draws.attrs[DRAWN] = [name for name in drawn if name in draws]
        return tree.assign({group: xr.DataTree(draws)})


def _warn_undefined(draws: xr.Dataset, contrast: str) -> None:
    """Warn of values that are not defined: a mean over rows would leave them out silently."""
    for name, site in draws.data_vars.items():
        if site.dtype.kind != "f" or not site.ndim:
            continue
        dim = max(site.dims, key=site.sizes.__getitem__)
        step = max(1, PIECE_VALUES * site.sizes[dim] // max(site.size, 1))
        parts = (
            site.isel({dim: slice(first, first + step)}).values
            for first in range(0, site.sizes[dim], step)
        )
        count = sum(int((~np.isfinite(part)).sum()) for part in parts)
        if count:
            warn(
                f"contrast={contrast!r} of {name!r} is not defined for {count:,} of "
                f"{site.size:,} values, which are NaN or infinite, such as a ratio to 0. Leave "
                "average= out for the contrast of averages, or use contrast='difference'.",
                OutputWarning,
            )


def effect_kind(
    contrast: Contrast = "difference",
    by: GroupBy | None = None,
    weights: str | ArrayLike | None = None,
    subset: str | ArrayLike | None = None,
    average: bool | None = None,
    inputs: Inputs = (),
    *,
    may_drop: bool = False,
) -> EffectKind:
    """Return what an effect is, from the arguments of a call.

    Args:
        contrast: Its measure.
        by: Groups of rows.
        weights: Weights of rows.
        subset: The rows that count.
        average: Whether to average over rows; ``None`` if one of the others asks for it.
        inputs: Arguments of the scenarios, whose columns can be named.
        may_drop: Whether rows with missing values may be left out of their tables.

    Raises:
        ArgumentError: If a value is not allowed, or groups are given and ``average`` is False.
        DataError: If groups or weights do not fit the rows.
    """
    contrast = check_contrast(contrast)
    given = [n for n, v in (("by", by), ("weights", weights), ("subset", subset)) if v is not None]
    if average is not None and not check_flag("average", average) and given:
        msg = f"average=False keeps every row, and {given[0]}= is about an average; leave one out."
        raise ArgumentError(msg)
    if average is None:
        average = bool(given) or contrast != "difference"
    if not average:
        return EffectKind(contrast, None)
    return EffectKind(contrast, row_groups(by, weights, subset, inputs, may_drop=may_drop))


def arguments_of(output: xr.DataTree | None, arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what can be named of a scenario: its arguments, or the data beside its result."""
    if arguments is not None:
        own = arguments.get("kernel_kwargs")
        return {**arguments, **(own if isinstance(own, Mapping) else {})}
    if not isinstance(output, xr.DataTree):
        return {}
    found: dict[str, Any] = {}
    for group in ("constant_data", "predictions_constant_data"):
        if group in output:
            kept = output[group].to_dataset().data_vars
            found |= {str(name): np.asarray(values) for name, values in kept.items()}
    return found
