"""Means of groups of rows, for ``by=``: draws of each, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from aimz_lab.data.groups import (
    GroupBy,
    GroupLabels,
    check_crossed,
    group_labels,
)
from aimz_lab.data.options import check_flag
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.predictive.reducers.contract import Draws, RowMask, RowValues
from aimz_lab.predictive.reducers.intervals import narrowest_interval
from aimz_lab.predictive.reducers.moments import Mean
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import SAMPLE_DIMS

PROB = 0.94
"""Share of the draws in the interval of a group's mean."""

SUMMARY_GROUP = "group_summary"
"""Name of the tree's group with the intervals."""


class GroupMeans(Mean):
    """The mean over the rows of each group, for each draw.

    Args:
        groups: One or more labels for each row; several are crossed.

    Raises:
        DataError: If labels are not for the same number of rows, or a combination has no row.
    """

    given = "by="

    def __init__(self, groups: Sequence[GroupLabels]) -> None:
        super().__init__(over="row")
        lengths = {one.name: len(one.codes) for one in groups}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name!r} for {n:,} rows" for name, n in lengths.items())
            raise DataError(f"by= has labels of {listed}; each needs one for every row.")
        sizes = [len(one.labels) for one in groups]
        codes = np.ravel_multi_index([one.codes for one in groups], sizes)
        counts = np.bincount(codes, minlength=int(np.prod(sizes)))
        check_crossed(groups, counts.reshape(sizes))
        self.by_row = codes.astype(np.int32)
        self.row_labels = next((one.rows for one in groups if one.rows is not None), None)
        self.coords = {one.name: one.labels for one in groups}

    @property
    def _sizes(self) -> tuple[int, ...]:
        return tuple(map(len, self.coords.values()))

    @property
    def groups_of_rows(self) -> list[tuple[str, ...]]:
        """The labels of each row's group."""
        numbers = np.unravel_index(self.by_row, self._sizes)
        texts = [
            np.asarray(labels)[codes].astype(str)
            for labels, codes in zip(self.coords.values(), numbers, strict=True)
        ]
        return list(zip(*(one.tolist() for one in texts), strict=True))

    @property
    def _n_groups(self) -> int:
        return int(np.prod(self._sizes))

    def block(self, values: Draws, valid: RowMask, by_row: RowValues | None) -> jax.Array:
        """Sums for each draw and group."""
        sums = super().block(values, valid, by_row)
        return sums.reshape(sums.shape[0], *self._sizes, *sums.shape[2:])

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Divide sums by the number of rows of each group."""
        shape, n_axes = total.shape, len(self._sizes)
        flat = total.reshape(shape[0], self._n_groups, *shape[1 + n_axes :])
        return super().finish(flat, n_rows).reshape(shape)


def means_of_groups(by: GroupBy, inputs: object, kept: np.ndarray | None) -> GroupMeans:
    """Return the reducer that ``by=`` stands for.

    Args:
        by: The name of a column, one label per row, or several of either.
        inputs: The call's input.
        kept: Positions of the rows that are used, or ``None`` for all.

    Raises:
        ArgumentError: If a column does not exist, or the labels make no groups.
        DataError: If a label is missing, or a group has no row.
    """
    return GroupMeans(group_labels(by, inputs, kept))


def check_same_groups(
    before: Mapping[str, object] | None, after: Mapping[str, object] | None
) -> None:
    """Refuse an effect by groups in which rows change their group between the scenarios.

    Args:
        before: The reducers of the baseline, by name.
        after: Those of the intervention.

    Raises:
        DataError: If both are means of groups, and a row is in another one.
    """
    for name, one in (before or {}).items():
        other = (after or {}).get(name)
        if isinstance(one, GroupMeans) and isinstance(other, GroupMeans):
            _check_groups_of_rows(one, other)


def _check_groups_of_rows(before: GroupMeans, after: GroupMeans) -> None:
    if len(before.by_row) != len(after.by_row):  # the number of rows is compared elsewhere
        return
    are_same = all(map(np.array_equal, before.coords.values(), after.coords.values()))
    if are_same and np.array_equal(before.by_row, after.by_row):
        return
    one, other = before.groups_of_rows, after.groups_of_rows
    if one == other:
        return
    row = next(i for i, (b, a) in enumerate(zip(one, other, strict=True)) if b != a)
    listed = ", ".join(before.coords)
    msg = (
        f"by= puts row {row} into the group {', '.join(one[row])} of {listed} in the baseline, "
        f"and into {', '.join(other[row])} in the intervention, so that neither has an effect. "
        "Group by labels that both share, such as those of the observed table: by=df[column]."
    )
    raise DataError(msg)


def check_alone(by: object, reduce: object) -> None:
    """Raise :class:`ArgumentError` if a call has ``reduce=`` beside ``by=``."""
    if by is not None and reduce is not None:
        msg = (
            "by= returns the means of groups, and reduce= other summaries; leave one of them out. "
            "Mean(over='row', by=labels) is a reducer among others."
        )
        raise ArgumentError(msg)


def check_tree_for_groups(return_datatree: object, by: object) -> bool:
    """Return whether a call returns a tree, as it has to with ``by=``.

    Raises:
        ArgumentError: If the flag is none, or arrays are asked for beside ``by=``.
    """
    as_tree = check_flag("return_datatree", return_datatree)
    if by is not None and not as_tree:
        msg = "by= returns a tree, whose dimensions are the groups; leave return_datatree= out."
        raise ArgumentError(msg)
    return as_tree


def check_dims_apart(
    reducers: Mapping[str, object], sizes: Mapping[str, int], coords: Mapping[str, object]
) -> None:
    """Refuse groups named like another dimension of the result that has other labels.

    Args:
        reducers: The reducers, by name.
        sizes: Sizes of the dimensions of sites that stay in the result.
        coords: Labels of these, by dimension.

    Raises:
        ArgumentError: If one is.
    """
    for one in reducers.values():
        for dim, labels in getattr(one, "coords", {}).items():
            if dim not in sizes:
                continue
            known = coords.get(dim, np.arange(sizes[dim]))
            if not np.array_equal(np.asarray(known), np.asarray(labels)):
                msg = (
                    f"The groups are called {dim!r}, as a dimension of a site is that has other "
                    f"labels; call them otherwise: by={{'{dim}_group': labels}}."
                )
                raise ArgumentError(msg)


def with_summaries(
    groups: Mapping[str, xr.Dataset], group: str, reducers: Mapping[str, object]
) -> dict[str, xr.Dataset]:
    """Add the means, deviations and intervals of groups of rows to a result of ``by=``.

    Args:
        groups: Datasets by group.
        group: Name of the one with the draws of the means.
        reducers: The reducers, by name.
    """
    ours = [one for one in reducers.values() if isinstance(one, GroupMeans)]
    if not ours:
        return dict(groups)
    draws = groups[group]
    dims = set(ours[0].coords)
    summaries = {
        name: _summary(values) for name, values in draws.data_vars.items() if dims <= {*values.dims}
    }
    made = xr.Dataset(summaries, attrs={**draws.attrs, "prob": PROB})
    return {**groups, SUMMARY_GROUP: made}


def _summary(draws: xr.DataArray) -> xr.DataArray:
    """Return mean, standard deviation and highest-density interval over the draws."""
    stacked = draws.transpose(*SAMPLE_DIMS, ...)
    values = np.asarray(stacked.values, np.float64)
    values = values.reshape(-1, *values.shape[2:])
    low, high = narrowest_interval(np.sort(np.moveaxis(values, 0, -1), axis=-1), PROB)
    ddof = min(1, len(values) - 1)
    parts = np.stack([values.mean(0), values.std(0, ddof=ddof), low, high])
    rest = stacked.dims[2:]
    coords = {name: c for name, c in draws.coords.items() if not set(c.dims) & {*SAMPLE_DIMS}}
    labels = ["mean", "sd", "hdi_low", "hdi_high"]
    return xr.DataArray(parts, dims=("summary", *rest), coords={**coords, "summary": labels})
