"""How many rows and batches the shares of a stream have, which several processes read."""

from __future__ import annotations

from typing import Any, NamedTuple

from aimz_lab.data.stream import StreamSource
from aimz_lab.errors import ArgumentError, ClusterError
from aimz_lab.inference.run.team import Team, telling_failure
from aimz_lab.preparing import doing


class ShareCounts(NamedTuple):
    """What is known of all shares.

    Attributes:
        n_obs: Rows of the whole data.
        n_batches: Steps of an epoch, if known.
        epoch_rows: Rows of an epoch, if known.
    """

    n_obs: int
    n_batches: int | None
    epoch_rows: int | None


def share_counts(source: StreamSource, team: Team, n_obs: int | None) -> ShareCounts:
    """Add up what the processes know of their shares.

    If one does not know how many batches it has, and the user says how many rows there are in all,
    it reads an epoch to count them.

    Args:
        source: This process's share.
        team: The processes.
        n_obs: Rows of all shares, as the user says.

    Raises:
        ArgumentError: If nobody says how many rows all shares have.
        ClusterError: If the processes say other numbers, or another one fails.
    """
    known = source.epoch_rows if source.n_obs is None else source.n_obs
    own = {
        "all": n_obs,
        "n_obs": known,
        "batches": source.n_batches,
        "rows": source.epoch_rows,
        "reiterable": source.reiterable,
    }
    each = team.gather(own, "begins to read its stream")
    totals = {one["all"] for one in each}
    if len(totals) > 1:
        listed = ", ".join(f"{one['all']} in process {rank}" for rank, one in enumerate(each))
        msg = f"n_obs= is the number of rows of all processes together, but it is {listed}."
        raise ClusterError(msg)
    n_obs = _total(each, "n_obs") if n_obs is None else n_obs
    if n_obs is None:
        msg = (
            "Each process reads its own share of the stream, and nobody says how many rows they "
            "have together, so that their batches cannot be weighed. Say it in all processes: "
            "fit(..., n_obs=N), with the rows of all shares."
        )
        raise ArgumentError(msg)
    if _total(each, "batches") is None and all(one["reiterable"] for one in each):
        if own["batches"] is None:
            doing("counting the rows of the stream")
            with telling_failure(team):
                own["batches"], own["rows"] = _counted(source, n_obs)
        each = team.gather(own, "has counted its rows")
    batches = [one["batches"] for one in each]
    most = None if None in batches else max(batches)
    return ShareCounts(n_obs, most, _total(each, "rows"))


def _counted(source: StreamSource, most: int) -> tuple[int, int] | tuple[None, None]:
    """Count batches and rows of an epoch; nothing is known of one that is longer than the data."""
    n_batches = n_rows = 0
    for batch in source.epoch(0):
        n_batches, n_rows = n_batches + 1, n_rows + len(next(iter(batch.values())))
        if n_rows > most:  # it may never end
            return None, None
    return n_batches, n_rows


def _total(each: list[dict[str, Any]], name: str) -> int | None:
    found = [one[name] for one in each]
    return None if None in found else sum(found)
