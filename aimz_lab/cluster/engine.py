"""Carry out a predictive call on the workers of an executor."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from aimz_lab.cluster.executors import Workers, as_workers
from aimz_lab.cluster.packing import packed
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
from aimz_lab.progress import CallProgress
from aimz_lab.tracebacks import warn
from aimz_lab.types import Executor

PART_BYTES = 64 * 2**20
"""Largest result of a part in bytes, unless one compiled call has more."""

REDUCED_BYTES = 512 * 2**20
"""The same for draws that a worker reduces: they exist one compiled call at a time."""

_MOST_ROWS = 2**20
"""Most rows of a part: it brings them along."""

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
        size = self._part_rows(reduced=reduction is not None)
        regions = None
        if isinstance(sink, StoreSink) and (total := self._total_rows()) is not None:
            regions = sink.reserve(self._shapes(sink), total)
        call = self._call_for_workers(drawn, reduction and reduction.empty(), regions)
        results = self._computed(call, self._row_parts(size), self._total_rows(), "row")
        with closing(results):
            for part, result in results:
                if reduction is not None:
                    reduction.join(result.reduction)
                elif regions is None:
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
        results = self._computed(self._call_for_workers(), parts, len(only), "draw")
        with closing(results):
            for part, result in results:
                for name, found in single.items():
                    found.append(result.single[name])
                _hand_over(sink, Span(0, part.first, part.count), result.values)
        return {name: np.concatenate(found) for name, found in single.items()}

    def _total_rows(self) -> int | None:
        return self._scenarios[0].rows.counted

    def _part_rows(self, *, reduced: bool) -> int:
        """Return the rows of a part: some compiled calls, and so some chunks of a store."""
        call_rows = self._blocks_per_call() * BLOCK_ROWS
        most = REDUCED_BYTES if reduced else PART_BYTES
        rows = min(most // self._scenarios[0].row_bytes, _MOST_ROWS)
        if (total := self._total_rows()) is not None:  # something to do for each worker
            rows = min(rows, -(-total // self._workers.at_once))
        return max(rows // call_rows, 1) * call_rows

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

    def _row_parts(self, size: int) -> Iterator[Part]:
        pieces = zip(*[_pieces(one, size) for one in self._scenarios], strict=True)
        return (Part(some[0].first, some[0].n_rows, some) for some in pieces)

    def _call_for_workers(
        self, drawn: Drawn = (), reduction: Reduction | None = None, regions: Any = None
    ) -> Call:
        draws = self._plan.axis == "draw"
        sides = tuple(_side(scenario, with_rows=draws) for scenario in self._scenarios)
        n_blocks = 0 if draws else self._blocks_per_call()
        return Call(sides, self._combine, n_blocks, drawn, reduction, regions)

    def _computed(
        self, call: Call, parts: Iterable[Part], total: int | None, unit: str
    ) -> Iterator[tuple[Part, PartResult]]:
        """Yield the results of the parts in order; a bounded number is under way."""
        header, pickled = packed(call, self._devices[0].platform)
        workers, waiting = self._workers, deque()
        under_way = _UnderWay(waiting, set(), Counter())
        with CallProgress(unit, total, enabled=self._request.progress) as line:
            line.note = workers.link
            try:
                sent = workers.send(pickled)
                for part in parts:
                    waiting.append((part, workers.submit(header, sent, part)))
                    if len(waiting) >= workers.at_once:
                        yield self._next(under_way, line)
                while waiting:
                    yield self._next(under_way, line)
                line.note = _shares(under_way.done_by)
            finally:
                workers.stop([future for _, future in waiting])

    def _next(self, under_way: _UnderWay, line: CallProgress) -> tuple[Part, PartResult]:
        part, future = under_way.waiting[0]
        result = self._workers.result(future)
        under_way.waiting.popleft()
        for category, text in set(result.warned) - under_way.warned:
            warn(text, category)
        under_way.warned.update(result.warned)
        under_way.done_by[result.worker] += 1
        line.advance(part.count)
        return part, result


class _UnderWay(NamedTuple):
    """Parts that are computed, what was warned of, and how many each worker has computed."""

    waiting: deque
    warned: set[tuple[type[Warning], str]]
    done_by: Counter[str]


def _shares(done_by: Counter[str]) -> str:
    """Say how many parts each worker computed, the busiest first.

    Example:
        >>> _shares(Counter({"a": 3, "b": 12}))
        '2 workers: 12, 3 parts'
    """
    counts = sorted(done_by.values(), reverse=True)
    some = counts[:_SHOWN_WORKERS]
    more = ", ..." if len(counts) > len(some) else ""
    several = "s" * (len(counts) != 1)
    return f"{len(counts)} worker{several}: {', '.join(map(str, some))}{more} parts"


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
