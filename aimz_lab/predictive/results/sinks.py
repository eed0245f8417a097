"""Sinks for the parts of a result: host memory, temporary files, or a store."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import jax
import numpy as np

from aimz_lab.errors import ArtifactWriteError
from aimz_lab.kernel.spec import variable_name
from aimz_lab.predictive.blocks import BLOCK_ROWS
from aimz_lab.predictive.programs.parts import Span
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.results.datasets import known_type
from aimz_lab.predictive.results.regions import StoreRegions
from aimz_lab.predictive.results.store import StoreWriter
from aimz_lab.predictive.results.tree import Labels
from aimz_lab.system.lazy_modules import zarr
from aimz_lab.types import SAMPLE_DIMS

SPILL_BYTES = 2**28
"""Largest size of draws kept in memory for a summary, in bytes; larger ones go to a file."""

WRITERS = 2
"""Threads that write. Zarr encodes in its own threads; more of ours only take more memory."""

CHUNK_BYTES = 4 * 2**20
"""Largest size of a chunk in bytes; small enough to read a single draw or row."""

LARGE_CHUNK_BYTES = 16 * 2**20
"""The same for results of more than :data:`MANY_CHUNKS` chunks: stores list and bill objects."""

MANY_CHUNKS = 100_000
"""Chunks of an array from which on they are larger: 400 GB of draws."""

CHUNK_ROWS = 4096
"""Largest number of rows in a chunk; draws fill up its bytes."""


class MemorySink:
    """Puts the parts of a result together in host memory.

    Args:
        n_draws: Number of draws.
        n_rows: Number of rows; ``None`` if known only at the end. The parts are then joined, which
            takes their memory twice for a moment.
    """

    def __init__(self, n_draws: int, n_rows: int | None) -> None:
        self._shape = n_draws, n_rows
        self._joined: dict[str, np.ndarray] = {}
        self._parts: dict[str, list[np.ndarray]] = {}
        self._making = threading.Lock()

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copy a part to its place; several threads at once share the page faults."""
        if self._shape[1] is None:
            return {name: value.copy() for name, value in values.items()}
        where = (slice(None),) * span.axis + (slice(span.first, span.first + span.count),)
        for name, value in values.items():
            with self._making:
                if name not in self._joined:
                    self._joined[name] = np.empty((*self._shape, *value.shape[2:]), value.dtype)
            self._joined[name][where] = value
        return {}

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Keep a part, if the number of rows is not known yet."""
        del span
        for name, value in values.items():
            self._parts.setdefault(name, []).append(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """The results, with draws and rows leading."""
        while self._parts:
            name, parts = self._parts.popitem()
            self._joined[name] = np.concatenate(parts, axis=1)
        return self._joined

    def close(self) -> None:
        """Do nothing: there are no files."""


class SpillSink:
    """Keeps all draws of all rows in temporary files, for summaries that need them.

    The files have no name, so that they never outlive the process.

    Args:
        n_draws: Number of draws.
    """

    def __init__(self, n_draws: int) -> None:
        self._n_draws = n_draws
        self._files: dict[str, tuple[BinaryIO, np.dtype, tuple[int, ...]]] = {}

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leave all to :meth:`write`: files grow in order."""
        del span
        return values

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Append some draws.

        Raises:
            ArtifactWriteError: If there is no room for them.
        """
        del span
        try:
            for name, value in values.items():
                if name not in self._files:
                    file = tempfile.TemporaryFile(prefix="aimz_lab-")  # noqa: SIM115
                    self._files[name] = file, value.dtype, value.shape[1:]
                self._files[name][0].write(np.ascontiguousarray(value).data)
        except OSError as error:
            msg = (
                f"The draws to summarise do not fit into {tempfile.gettempdir()}: {error}. Free "
                "some space, or point TMPDIR elsewhere; nothing was kept."
            )
            raise ArtifactWriteError(msg) from error

    def arrays(self) -> dict[str, np.ndarray]:
        """The results, with draws and rows leading, read from the files on demand."""
        found = {}
        for name, (file, dtype, shape) in self._files.items():
            file.flush()
            found[name] = np.memmap(file, dtype, mode="r", shape=(self._n_draws, *shape))
        return found

    def close(self) -> None:
        """Remove the files."""
        for file, _, _ in self._files.values():
            file.close()


def choose_sink(scenario: Scenario) -> MemorySink | SpillSink:
    """Choose memory or files for all draws of all rows, for summaries that need them."""
    n_draws, n_rows = scenario.request.n_draws, scenario.rows.n_rows
    return (
        MemorySink(n_draws, n_rows)
        if scenario.row_bytes * n_rows <= SPILL_BYTES
        else SpillSink(n_draws)
    )


class StoreSink:
    """Writes the parts of a result to a store, while the next ones are computed.

    Args:
        writer: The store.
        scenario: The scenario; arrays grow if its number of rows is unknown.
        labels: Labels of the result.
    """

    def __init__(self, writer: StoreWriter, scenario: Scenario, labels: Labels) -> None:
        self._writer, self._group, self._labels = writer, scenario.request.group, labels
        self._n_rows = scenario.rows.n_rows
        self._sample_shape = (
            scenario.request.chains,
            scenario.request.n_draws // scenario.request.chains,
        )
        self._arrays: dict[str, zarr.Array] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._room = threading.Semaphore(WRITERS)
        self._pending: deque[Future] = deque()

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Leave all to :meth:`write`: a store grows in order."""
        del span
        return values

    def reserve(self, values: Mapping[str, jax.ShapeDtypeStruct], n_rows: int) -> StoreRegions:
        """Make the arrays before anything is computed, and return where others write to them.

        Args:
            values: The sites with rows of some part, ``(S, P, ...)``; chunks end where parts do.
            n_rows: Number of rows.
        """
        self._n_rows = n_rows
        for name, value in values.items():
            self._arrays[name] = self._create(name, Span(1, 0, value.shape[1]), value)
        paths = {name: array.path for name, array in self._arrays.items()}
        return StoreRegions(self._writer.address, paths, self._sample_shape)

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Hand a part to a writer; wait while all are busy.

        Raises:
            ArtifactWriteError: If an earlier part could not be written.
        """
        if self._pool is None:
            # Parts with all rows may share chunks, which two threads must not write at once.
            threads = WRITERS if span.axis == 1 else 1
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="aimz_lab-write")
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()
        for name, value in values.items():
            if name not in self._arrays:
                self._arrays[name] = self._create(name, span, value)
            array = self._arrays[name]
            if self._n_rows is None and span.axis == 1:
                shape = array.shape
                array.resize((*shape[:2], span.first + span.count, *shape[3:]))
            for where, part in self._regions(span, value):
                self._room.acquire()
                self._pending.append(self._pool.submit(self._write_region, array, where, part))

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            ArtifactWriteError: If a part could not be written.
        """
        while self._pending:
            self._pending.popleft().result()

    def close(self) -> None:
        """Write no more."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _write_region(self, array: zarr.Array, where: tuple[slice, ...], part: np.ndarray) -> None:
        try:
            with self._writer.reporting():
                array[where] = part
        finally:
            self._room.release()

    def _regions(
        self, span: Span, value: np.ndarray
    ) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Yield the regions of a part in the store, which has a dimension for chains."""
        n_chains, n_draws = self._sample_shape
        if span.axis == 1:
            rows = slice(span.first, span.first + span.count)
            yield (
                (slice(None), slice(None), rows),
                value.reshape(n_chains, n_draws, *value.shape[1:]),
            )
            return
        start, stop = span.first, span.first + span.count
        for chain in range(start // n_draws, -(-stop // n_draws)):
            low, high = max(start, chain * n_draws), min(stop, (chain + 1) * n_draws)
            draws = slice(low - chain * n_draws, high - chain * n_draws)
            yield (slice(chain, chain + 1), draws), value[None, low - start : high - start]

    def _create(
        self, name: str, span: Span, value: np.ndarray | jax.ShapeDtypeStruct
    ) -> zarr.Array:
        n_chains, n_draws = self._sample_shape
        n_rows = self._n_rows or value.shape[1]
        rows = _chunk_rows(value.shape[1] if span.axis == 1 else n_rows)
        row_bytes = value.dtype.itemsize * int(np.prod(value.shape[2:]))
        is_large = n_chains * n_draws * n_rows * row_bytes > MANY_CHUNKS * CHUNK_BYTES
        most = LARGE_CHUNK_BYTES if is_large else CHUNK_BYTES
        draws = min(max(most // max(row_bytes * rows, 1), 1), n_draws)
        return self._writer.create_array(
            self._group,
            variable_name(name),
            dims=(*SAMPLE_DIMS, *self._labels.dims[name]),
            stored_dims=(*SAMPLE_DIMS, *self._labels.rows_first(name)),
            shape=(n_chains, n_draws, n_rows, *value.shape[2:]),
            chunks=(1, draws, rows, *value.shape[2:]),
            dtype=known_type(np.dtype(value.dtype)),
        )


def _chunk_rows(part: int) -> int:
    """Return the rows of a chunk; a part has complete chunks, so that each is written once."""
    if part <= CHUNK_ROWS:
        return part
    blocks, rest = divmod(part, BLOCK_ROWS)
    if rest:  # all rows are one part
        return CHUNK_ROWS
    most = CHUNK_ROWS // BLOCK_ROWS
    return BLOCK_ROWS * next(count for count in range(most, 0, -1) if blocks % count == 0)
