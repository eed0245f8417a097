"""Carry out a predictive call on the workers of an executor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

from aimz_lab.cluster.call_log import CallLog, display_of_call
from aimz_lab.cluster.executors import Workers, as_workers
from aimz_lab.cluster.hand_out import HandOut
from aimz_lab.cluster.packing import packed
from aimz_lab.cluster.sums_on_workers import SumsOnWorkers
from aimz_lab.cluster.tasks import Call, Part, PartResult, Side
from aimz_lab.data.ranged_source import can_be_cut
from aimz_lab.predictive.blocks import BLOCK_ROWS, Piece, check_aligned
from aimz_lab.predictive.call_labels import CallLabels
from aimz_lab.predictive.engine import Drawn, Engine
from aimz_lab.predictive.programs.compiled_programs import Programs
from aimz_lab.predictive.programs.mapping import Combine
from aimz_lab.predictive.programs.parts import Finish, Sink, Span
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.reducers.reduction import Reduction
from aimz_lab.predictive.results.sinks import StoreSink
from aimz_lab.preparing import computed, current
from aimz_lab.progress import CallProgress
from aimz_lab.types import Executor, callable_name

PART_BYTES = 64 * 2**20
"""Largest result of a part in bytes, unless one compiled call has more."""

KEPT_BYTES = 512 * 2**20
"""The same for draws that a worker writes or reduces: they exist one compiled call at a time."""

JOINED_BYTES = 64 * 2**10
"""Sums of a part that are joined on the workers; smaller ones cost less to send than to join."""

_ROUNDS = 4
"""Least times that workers get new parts, so that quick ones do more, and a death costs little."""

_CARRIED_BYTES = 8 * 2**20
"""Most bytes of the rows that a part brings along, unless one compiled call has more."""

_READ_BYTES = 16 * 2**20
"""The same for rows that a worker reads: at once, with about two copies."""

_SHOWN_WORKERS = 8
"""Workers whose number of parts the last line of progress has."""


def on_workers(executor: Executor) -> Callable[..., ClusterEngine]:
    """Return what makes the engine of a call that runs on an executor.

    Args:
        executor: A ``dask.distributed`` client, or an executor of ``concurrent.futures``.

    Raises:
        ArgumentError: If it is no executor.
        ClusterError: If it has no workers.
    """
    return partial(ClusterEngine, as_workers(executor))


class ClusterEngine(Engine):
    """Cuts a call into parts, has workers compute them, and joins their results in order.

    This process checks that the rows may be cut, and draws the sites without rows.

    Args:
        workers: The workers.
        programs: The cache of compiled programs of this process.
        scenarios: The call's scenarios.
        combine: Makes one result of the scenarios' results.
    """

    def __init__(
        self,
        workers: Workers,
        programs: Programs,
        scenarios: tuple[Scenario, ...],
        combine: Combine,
    ) -> None:
        super().__init__(programs, scenarios, combine)
        self._workers = workers

    def by_rows(self, sink: Sink | Finish) -> dict[str, np.ndarray]:
        """Compute all rows, some on each worker; see the base class."""
        _, single, drawn = self._prepared(self._blank_sites())
        if not self._plan.row_sites:
            return single
        reduction = sink if isinstance(sink, Reduction) else None
        total, regions = self._total_rows(), None
        if isinstance(sink, StoreSink) and total is not None:
            regions = sink.reserve(self._shapes(sink), total)
        is_small = reduction is not None or regions is not None
        size = self._part_rows(reduction, kept=is_small)
        call = self._call_for_workers(drawn, reduction and reduction.without_rows(), regions)
        each = self._scenarios[0].row_bytes
        log = self._log("row", total, part_size=size, unit_bytes=each)
        sums = self._sums(reduction)
        parts = self._row_parts(size, reduction)
        results = self._computed(call, parts, log, is_small=is_small, sums=sums)
        with closing(results):
            for part, result in results:
                if result.reduced is not None:
                    reduction.found.join(result.reduced)
                elif reduction is None and regions is None:
                    _hand_over(sink, Span(1, part.first, part.count), result.values)
        self._crossing.check_end()
        return single

    def by_draws(self, sink: Sink, only: range | None = None) -> dict[str, np.ndarray]:
        """Compute all draws, some on each worker; see the base class."""
        only = only or range(self._request.n_draws)
        each = self._draws_per_call()
        some = min(PART_BYTES // max(self._draw_bytes, 1), len(only) // self._workers.at_once)
        size = max(some // each, 1) * each
        parts = (
            Part(first, min(size, only.stop - first))
            for first in range(only.start, only.stop, size)
        )
        single: dict[str, list[np.ndarray]] = {name: [] for name in self._plan.global_sites}
        each = self._draw_bytes
        log = self._log("draw", len(only), part_size=size, unit_bytes=each)
        results = self._computed(self._call_for_workers(), parts, log, is_small=False)
        with closing(results):
            for part, result in results:
                for name, found in single.items():
                    found.append(result.single[name])
                _hand_over(sink, Span(0, part.first, part.count), result.values)
        return {name: np.concatenate(found) for name, found in single.items()}

    def _total_rows(self) -> int | None:
        return self._scenarios[0].rows.counted

    def _sums(self, reduction: Reduction | None) -> SumsOnWorkers | None:
        """Return where sums over rows stay if they are large and workers can join them."""
        if reduction is None or not (reduction.is_of_sums and self._workers.can_join):
            return None
        # In double precision, where draws have single precision.
        nbytes = 2 * self._scenarios[0].row_bytes * reduction.most_groups
        return SumsOnWorkers(self._workers) if nbytes >= JOINED_BYTES else None

    def _part_rows(self, reduction: Reduction | None, *, kept: bool) -> int:
        """Return the rows of a part: some compiled calls, and so some chunks of a store.

        A power of two of calls, counted from a multiple of it, has a single sum.
        """
        call_rows = self._blocks_per_call() * BLOCK_ROWS
        most = KEPT_BYTES if kept else PART_BYTES
        given = sum(one.rows.row_bytes for one in self._scenarios)
        reads = all(can_be_cut(one.request.rows) for one in self._scenarios)
        carried = (0 if reads else given) + (reduction.row_bytes if reduction else 0)
        rows = min(
            most // self._scenarios[0].row_bytes,
            _READ_BYTES // max(given, 1),
            _CARRIED_BYTES // max(carried, 1),
        )
        if (total := self._total_rows()) is not None:
            rows = min(rows, -(-total // (self._workers.at_once * _ROUNDS)))
        calls = max(rows // call_rows, 1)
        if reduction is not None and reduction.is_of_sums:
            calls = 2 ** (calls.bit_length() - 1)
        return calls * call_rows

    def _shapes(self, sink: Sink) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shapes and types of the sites with rows in one compiled call, ``(S, P, ...)``."""
        n_blocks = self._blocks_per_call()
        first = tuple(_first_piece(one, n_blocks * BLOCK_ROWS) for one in self._scenarios)
        program = self._call.of_rows(self._blank_sites(), first, n_blocks, sink)
        found = jax.eval_shape(program.build(), *program.arguments)
        return {
            name: jax.ShapeDtypeStruct(
                (one.shape[0], n_blocks * BLOCK_ROWS, *one.shape[3:]), one.dtype
            )
            for name, one in found.items()
        }

    def _row_parts(self, size: int, reduction: Reduction | None) -> Iterator[Part]:
        for pieces in zip(*[_pieces(one, size) for one in self._scenarios], strict=True):
            first, count = pieces[0].first, pieces[0].n_rows
            by_row = {} if reduction is None else reduction.by_row(first, count)
            yield Part(first, count, pieces, by_row)

    def _call_for_workers(
        self, drawn: Drawn = (), reduction: Reduction | None = None, regions: Any = None
    ) -> Call:
        draws = self._plan.axis == "draw"
        sides = tuple(_side(scenario, with_rows=draws) for scenario in self._scenarios)
        n_blocks = 0 if draws else self._blocks_per_call()
        return Call(sides, self._combine, n_blocks, drawn, reduction, regions)

    def _log(self, unit: str, total: int | None, **sizes: int) -> CallLog:
        name = callable_name(self._request.kernel)
        return CallLog(name, unit, total, link=self._workers.link, **sizes)

    def _computed(
        self,
        call: Call,
        parts: Iterable[Part],
        log: CallLog,
        *,
        is_small: bool,
        sums: SumsOnWorkers | None = None,
    ) -> Iterator[tuple[Part, PartResult]]:
        """Yield the results of the parts in order, and show which worker has which part.

        Args:
            call: The call.
            parts: Its parts.
            log: Takes what becomes of them.
            is_small: Whether results are small, so that some may wait for an earlier one.
            sums: Where sums of parts stay; see :class:`HandOut`.
        """
        header, pickled = packed(call, self._devices[0].platform)
        current().end()
        with (
            _shown(log, progress=self._request.progress) as tell,
            closing(HandOut(self._workers, header, pickled, log, tell, sums)) as hand_out,
        ):
            yield from hand_out.results(parts, is_small=is_small)


@contextmanager
def _shown(log: CallLog, *, progress: bool) -> Iterator[Callable[[int], None]]:
    """Show a call while it goes on; what is yielded is told how many rows or draws came in."""
    display = display_of_call(progress=progress)
    with CallProgress(log.unit, log.total, enabled=progress and display is None) as line:
        line.note = log.link

        computed(log.unit, 0, log.total)

        def tell(count: int) -> None:
            computed(log.unit, log.done, log.total)
            if display is not None:
                display.show(log)
            elif count:
                line.advance(count)

        error = None
        try:
            yield tell
        except BaseException as raised:
            error = raised
            raise
        finally:
            # An abandoned call ends by an error as well: its generator is closed.
            log.end(error)
            line.note = _shares(log)
            if display is not None:
                display.close(log)


def _shares(log: CallLog) -> str:
    """Say how many parts each worker computed, the busiest first."""
    counts = sorted((one.parts for one in log.workers.values() if one.parts), reverse=True)
    some = counts[:_SHOWN_WORKERS]
    more = ", ..." if len(counts) > len(some) else ""
    several = "s" * (len(counts) != 1)
    again = f"; {log.repeats:,} again after a worker was lost" if log.repeats else ""
    return f"{len(counts)} worker{several}: {', '.join(map(str, some))}{more} parts{again}"


def _hand_over(sink: Sink, span: Span, values: dict[str, np.ndarray]) -> None:
    sink.write(span, sink.prepare(span, dict(values)))


def _side(scenario: Scenario, *, with_rows: bool) -> Side:
    """Return what workers need of a scenario, without its rows or with all of them."""
    request, plan = scenario.request, scenario.plan
    given = {"intervention": request.intervention, "condition": request.condition}
    if not with_rows:
        given = {
            role: {name: value for name, value in values.items() if name not in plan.row_wise}
            for role, values in given.items()
        }
    slim = replace(
        request,
        **given,
        rows={},
        draws=_on_host(request.draws),
        params=jax.device_get(request.params),
        shared=jax.device_get(request.shared),
        kept_draws=None,
        reduce=None,
        progress=False,
        row_coord=None,
        posterior_rows=None,
        labels=CallLabels(),
        dims={},
        coords={},
        devices=None,
        engine=None,
        kept_rows=None,
        trained=None,
        observed=None,
        constant={},
        groups={},
        attrs={},
    )
    source = request.rows if can_be_cut(request.rows) else None
    rows = dict(scenario.rows.template) if with_rows else None
    return Side(slim, plan, scenario.quantity, source, rows)


def _on_host(draws: Any) -> Any:
    return None if draws is None else {name: np.asarray(each) for name, each in draws.items()}


def _pieces(scenario: Scenario, size: int) -> Iterator[Piece]:
    """Yield the rows of each part; those that workers read themselves stay where they are."""
    if not can_be_cut(scenario.request.rows):
        yield from scenario.pieces(size)
        return
    total, aligned = scenario.rows.counted, scenario.aligned
    check_aligned(aligned, total)
    for first in range(0, total, size):
        count = min(size, total - first)
        own = {name: array[first : first + count] for name, array in aligned.items()}
        yield Piece(first, count, {}, own)


def _first_piece(scenario: Scenario, size: int) -> Piece:
    """Return rows that show shapes and types."""
    rows = {name: array[:size] for name, array in scenario.rows.template.items()}
    count = len(next(iter(rows.values())))
    aligned = {name: array[:count] for name, array in scenario.aligned.items()}
    return Piece(0, count, rows, aligned)
