"""A stream of which each process reads a share, and what they agree on before they train."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from aimz_lab.data import ArrayDataset, ArrayLoader, BatchSource, canonical, pad_rows
from aimz_lab.data.padding import row_multiple
from aimz_lab.data.process_rows import spans_processes
from aimz_lab.data.sources import is_batches
from aimz_lab.data.stream import StreamSource
from aimz_lab.errors import ArgumentError, ClusterError, DataError, FitWarning
from aimz_lab.inference.feeds.ranges import Ranges, joined_ranges, ranges_of
from aimz_lab.inference.feeds.share_counts import share_counts
from aimz_lab.inference.feeds.training_data import TrainingData, rows_of_all
from aimz_lab.inference.run.team import (
    ALONE,
    Team,
    consequence,
    is_of_lost_process,
    telling_failure,
)
from aimz_lab.tracebacks import warn
from aimz_lab.types import Batch, Device, Shared, Static


class ShareLayout(NamedTuple):
    """How the rows of a step lie on the devices of all processes.

    Attributes:
        team: The processes.
        devices: Number of devices of each, by rank.
        device_rows: Rows on each device, padding included.
    """

    team: Team
    devices: tuple[int, ...]
    device_rows: int

    @property
    def own_rows(self) -> int:
        """Rows of a step that this process brings."""
        return self.devices[self.team.rank] * self.device_rows

    @property
    def all_rows(self) -> int:
        """Rows of a step that all processes bring."""
        return sum(self.devices) * self.device_rows

    def holding(self, rows: int, rank: int) -> int:
        """Return how many rows each device has to have, if a process brings so many."""
        return max(self.device_rows, -(-rows // self.devices[rank]))


def team_of_stream(inputs: object, device: Device | None) -> Team:
    """Return the processes that share a stream: all that have joined, if ``device`` is theirs.

    Args:
        inputs: What a fit gets.
        device: The model's device; ``None`` for all.

    Raises:
        ArgumentError: If the device is a sharding over some devices, or not of the rows.
    """
    if isinstance(inputs, ArrayLoader | ArrayDataset) or not is_batches(inputs):
        return ALONE
    if device is None:
        return Team.of_all()
    if not spans_processes(device):
        return ALONE
    if row_multiple(device) != jax.device_count():
        msg = (
            "Processes that read a stream each split its rows over all of their devices; leave "
            "device= out."
        )
        raise ArgumentError(msg)
    return Team.of_all()


def warn_if_alone() -> None:
    """Warn that a process which has joined others trains without them.

    Warns:
        FitWarning: If it has joined others.
    """
    others = jax.process_count() - 1
    if others:
        msg = (
            f"This process has joined {others} other{'s' if others > 1 else ''}, and trains alone, "
            "on the rows that it was given. To train together by SVI pass ArrayLoader(dataset, "
            "..., process_shard=True), or a stream of this process's share; to train alone say so, "
            "by ImpactModel(..., device=jax.local_devices()[0])."
        )
        warn(msg, FitWarning)


class ShareSource:
    """This process's share of a stream, of which the first batch was read.

    Args:
        source: The share.

    Attributes:
        first: Its first batch; ``None`` if it has no rows.
        ranges: Range of each column of what all processes have read.
        n_obs: Rows of all shares.
        n_batches: Steps of an epoch, if known.
        epoch_rows: Rows of an epoch of all shares, if known.
        reiterable: Whether more than one epoch can be read.
    """

    def __init__(self, source: BatchSource) -> None:
        self._source = source
        self._opened: Iterator[Batch] | None = source.epoch(0)
        self.first = next(self._opened, None)
        self.ranges: Ranges = {} if self.first is None else ranges_of(self.first)
        self.n_obs, self.n_batches, self.epoch_rows = source.n_obs, None, None
        self.columns, self.reiterable = source.columns, source.reiterable

    @property
    def fields(self) -> tuple[str, ...] | None:
        """The field names."""
        return None if self.first is None else tuple(self.first)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Return the batches of one epoch of this share."""
        if epoch == 0 and self._opened is not None:
            opened, self._opened = self._opened, None
            first = [] if self.first is None else [self.first]
            batches = itertools.islice(itertools.chain(first, opened), start, None)
        else:
            batches = self._source.epoch(epoch, start)
        for batch in batches:
            self.ranges = joined_ranges(self.ranges, ranges_of(batch))
            yield batch


def shared_stream(
    source: StreamSource,
    shared: Shared,
    static: Static,
    team: Team,
    *,
    n_obs: int | None,
) -> TrainingData:
    """Return the shares of all processes as training data, the same in each.

    If it is not known how many batches a share has, it is read once, to count them: how much a row
    weighs follows from the number of steps of an epoch.

    Args:
        source: This process's share.
        shared: Shared arguments.
        static: Static arguments.
        team: The processes.
        n_obs: Rows of all shares, as the user says.

    Returns:
        The data, whose rows are those of the first batch of one process.

    Raises:
        ArgumentError: If nobody says how many rows all shares have.
        ClusterError: If the shares of the processes differ in their fields, the processes in their
            number of devices, or another one fails.
        DataError: If no share has any rows.
    """
    source.may_be_empty = True
    counts = share_counts(source, team, n_obs)
    with telling_failure(team):
        share = ShareSource(source)
    told = {
        "schema": _schema(share.first),
        "columns": {name: list(names) for name, names in share.columns.items()},
        "rows": 0 if share.first is None else len(next(iter(share.first.values()))),
        "devices": jax.local_device_count(),
    }
    each = team.gather(told, "has read its first batch")
    giver = _check_schemas(each)
    devices = tuple(one["devices"] for one in each)
    if len(set(devices)) > 1:
        listed = ", ".join(f"{count} in process {rank}" for rank, count in enumerate(devices))
        msg = f"Processes that share a stream need as many devices each; there are {listed}."
        raise ClusterError(msg)
    layout = ShareLayout(team, devices, 1)
    rows = max(layout.holding(one["rows"], rank) for rank, one in enumerate(each))
    layout = layout._replace(device_rows=rows)
    first = _given(share.first, each[giver]["schema"], devices[giver] * rows, team, giver)
    share.n_obs = rows_of_all(counts.n_obs, max(each[giver]["rows"], 1))
    share.n_batches, share.epoch_rows = counts.n_batches, counts.epoch_rows
    return TrainingData(
        rows=first,
        shared=shared,
        static=static,
        n_obs=share.n_obs,
        batch_size=min(layout.all_rows, share.n_obs),
        source=share,
        measured=share,
        columns={name: tuple(names) for name, names in each[giver]["columns"].items()},
        layout=layout,
    )


def _schema(batch: Batch | None) -> dict[str, Any] | None:
    if batch is None:
        return None
    return {name: [str(array.dtype), list(array.shape[1:])] for name, array in batch.items()}


def _check_schemas(each: list[dict[str, Any]]) -> int:
    """Check that all shares with rows have the same fields; return the rank of the first such."""
    filled = [rank for rank, one in enumerate(each) if one["schema"] is not None]
    if not filled:
        msg = "No process has a batch to train on: all of their streams are empty."
        raise DataError(msg)
    first = each[filled[0]]
    for rank in filled[1:]:
        one = each[rank]
        if list(one["schema"].items()) != list(first["schema"].items()):
            told = [_told_schema(each[r]["schema"]) for r in (rank, filled[0])]
            msg = (
                f"The batches of process {rank} have the fields {told[0]}, and those of process "
                f"{filled[0]} {told[1]}; give all processes the same, in the same order."
            )
            raise ClusterError(msg)
        if one["columns"] != first["columns"]:
            msg = (
                f"The tables of process {rank} have other columns than those of process "
                f"{filled[0]}; give all processes the same, in the same order."
            )
            raise ClusterError(msg)
    return filled[0]


def _told_schema(schema: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({dtype}{shape} a row)" for name, (dtype, shape) in schema.items())


def _given(
    own: Batch | None, schema: Mapping[str, Any], n_rows: int, team: Team, giver: int
) -> dict[str, np.ndarray]:
    """Return the first batch of the giver in all processes, padded to ``n_rows``."""
    if team.rank == giver:
        batch = {name: np.asarray(canonical(array, name)) for name, array in own.items()}
        rows, _ = pad_rows(batch, n_rows)
    else:
        rows = {
            name: np.zeros((n_rows, *shape), np.dtype(dtype))
            for name, (dtype, shape) in schema.items()
        }
    try:
        given = multihost_utils.broadcast_one_to_all(rows, is_source=team.rank == giver)
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        if not is_of_lost_process(error):
            raise
        msg = f"Another process of the run is gone: {error}"
        raise consequence(msg) from error
    return {name: np.asarray(given[name]).astype(rows[name].dtype) for name in rows}
