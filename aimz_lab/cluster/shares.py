"""The rows that one of several processes trains on, read from arrays that are not in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aimz_lab.calls import public
from aimz_lab.cluster.joining import joined_team
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.ranged_source import RangedSource
from aimz_lab.data.stream import StreamSource
from aimz_lab.types import Batch


@public
def own_share(
    arrays: Mapping[str, Any], *, batch_size: int, allow_nonfinite: bool = False
) -> StreamSource:
    """Return the batches of this process's share of stored rows, for ``fit`` in all processes.

    The rows are cut into as many ranges as there are processes, and each process reads its own
    range alone, batch by batch, in the order of the rows. (The rows of Dask's tables are counted
    first, which reads them once.) A process that is alone reads them all.

    Args:
        arrays: Arrays by field, of Zarr or Dask, or tables of Dask, such as
            ``dask.dataframe.read_parquet(path)[["a", "b"]]``; all processes see the same ones.
        batch_size: Rows that this process brings to a step. The batch of all processes has as many
            times more.
        allow_nonfinite: Do not check what is read for NaN and infinite values.

    Returns:
        A stream that knows its numbers of rows and batches, so that ``fit`` needs no ``n_obs``.

    Raises:
        ArgumentError: If ``batch_size`` is not a positive int.
        DataError: If the arrays differ in their number of rows, or have none.

    Example:
        >>> import zarr
        >>> rows = {name: zarr.array(values) for name, values in (("X", X), ("y", y))}
        >>> im.fit(own_share(rows, batch_size=20), epochs=3, progress=False).last_run.step
        6
    """
    batch_size = check_positive_int("batch_size", batch_size)
    source = RangedSource(arrays, allow_nonfinite=allow_nonfinite)
    team = joined_team()
    first, stop = (source.n_obs * rank // team.size for rank in (team.rank, team.rank + 1))

    def open_epoch(epoch: int) -> Iterator[Batch]:
        del epoch  # all have the same order
        for start in range(first, stop, batch_size):
            yield from source.between(start, min(batch_size, stop - start)).epoch(0)

    return StreamSource(
        open_epoch,
        names=source.fields,
        n_obs=stop - first,
        n_batches=-(-(stop - first) // batch_size),
        epoch_rows=stop - first,
        reiterable=True,
        allow_nonfinite=True,  # they have been checked
    )
