"""Carry out a predictive call: blocks of rows, or draws, through devices to a sink."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

import jax
import numpy as np
from jaxtyping import PyTree

from aimz_lab.data import fold_in
from aimz_lab.predictive.blocks import BLOCK_ROWS, Piece
from aimz_lab.predictive.crossing import CrossingCheck
from aimz_lab.predictive.pipeline import calls_at_once, in_order
from aimz_lab.predictive.programs.call_programs import CallPrograms
from aimz_lab.predictive.programs.compiled_programs import Program, Programs, placed
from aimz_lab.predictive.programs.mapping import Combine
from aimz_lab.predictive.programs.parts import Finish, Sink, Span
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.programs.sizes import (
    CACHED_ROWS,
    MANY_WEIGHTS,
    blocks_per_call,
    draws_per_call,
)

Drawn = tuple[dict[str, np.ndarray], ...]
"""By scenario, the sites without rows that are drawn once for all blocks."""


class Engine:
    """Carries out one call.

    Args:
        programs: The cache of compiled programs.
        scenarios: The call's scenarios: one, or two whose results are combined.
        combine: Makes one result of the scenarios' results.
    """

    def __init__(
        self, programs: Programs, scenarios: tuple[Scenario, ...], combine: Combine
    ) -> None:
        self._programs, self._scenarios, self._combine = programs, scenarios, combine
        self._request, self._plan = scenarios[0].request, scenarios[0].plan
        self._call = CallPrograms(scenarios, combine)
        self._key_data, self._devices = self._call.key_data, self._call.devices
        self._crossing = CrossingCheck(programs, scenarios, self._key_data, self._devices[0])

    def by_rows(self, sink: Sink | Finish) -> dict[str, np.ndarray]:
        """Compute block by block, all draws at a time.

        Args:
            sink: Takes the sites with rows, or reduces them on the devices.

        Returns:
            The sites without rows, ``(S, ...)``.

        Raises:
            CrossingRowsError: If rows depend on one another, or those of a source may do so.
        """
        n_blocks = self._blocks_per_call()
        calls = self._calls(n_blocks)
        first = next(calls)
        blank = self._blank_sites()
        [run], single, drawn = self._prepared(
            blank, self._call.of_rows(blank, first, n_blocks, sink)
        )
        if self._plan.row_sites:
            self._run(run, drawn, itertools.chain([first], calls), n_blocks, sink)
            self._crossing.check_end()
        return single

    def part(self, drawn: Drawn, sink: Sink | Finish, n_blocks: int) -> None:
        """Compute the rows of one part of a call, whose rows are known to be independent.

        Args:
            drawn: By scenario, the sites without rows that blocks need.
            sink: As in :meth:`by_rows`.
            n_blocks: Blocks of a compiled call; programs of other shapes may round differently.
        """
        n_blocks = -(-n_blocks // len(self._devices)) * len(self._devices)
        calls = self._calls(n_blocks)
        first = next(calls)
        program = self._call.of_rows(self._blank_sites(), first, n_blocks, sink)
        [run] = self._programs.compiled(program)
        self._run(run, drawn, itertools.chain([first], calls), n_blocks, sink)

    def _calls(self, n_blocks: int) -> Iterator[tuple[Piece, ...]]:
        """Yield the rows of each compiled call, by scenario."""
        return zip(*[one.pieces(n_blocks * BLOCK_ROWS) for one in self._scenarios], strict=True)

    def _run(
        self,
        run: Callable,
        drawn: Drawn,
        calls: Iterable[tuple[Piece, ...]],
        n_blocks: int,
        sink: Sink | Finish,
    ) -> None:
        """Run the compiled program on all calls, and hand their results to the sink."""
        scenario = self._scenarios[0]
        sites = placed(self._sites(drawn), self._devices)
        if scenario.rows.n_rows is None or scenario.rows.n_rows > n_blocks * BLOCK_ROWS:
            self._call.place_shared()

        def compute(call: tuple[Piece, ...]) -> tuple[Span, PyTree]:
            span = Span(1, call[0].first, call[0].n_rows)
            arguments = self._call.rows_arguments(sites, call, n_blocks, sink)
            values = jax.device_get(run(*arguments))
            if isinstance(sink, Finish):
                return span, values
            return span, sink.prepare(
                span, {name: _unfold(value, span) for name, value in values.items()}
            )

        call_bytes = scenario.row_bytes * n_blocks * BLOCK_ROWS
        results = self._in_order(compute, calls, call_bytes, scenario.rows.n_rows, "row")
        with closing(results):
            for span, values in results:
                if isinstance(sink, Finish):
                    sink.take(span.first, span.count, values)
                else:
                    sink.write(span, values)

    def by_draws(self, sink: Sink, only: range | None = None) -> dict[str, np.ndarray]:
        """Compute all rows together, some draws at a time; see :meth:`by_rows`.

        Args:
            sink: Takes the sites with rows.
            only: The draws to compute; ``None`` for all.
        """
        only = only or range(self._request.n_draws)
        size = self._draws_per_call()
        blocks = tuple(one.block(slice(None)) for one in self._scenarios)
        draws = fold_in(self._key_data, 0), tuple(one.sites({}) for one in self._scenarios)
        [run] = self._programs.compiled(self._call.of_draws(_part(draws, 0, size), blocks))
        single: dict[str, list[np.ndarray]] = {name: [] for name in self._plan.global_sites}
        blocks, shared = placed((blocks, self._call.shared), self._devices)

        def compute(first: int) -> tuple[Span, PyTree]:
            span = Span(0, first, min(size, only.stop - first))
            values = jax.device_get(run(*_part(draws, first, size), blocks, shared))
            host = {name: value[: span.count] for name, value in values.items()}
            rows = sink.prepare(span, {name: host[name] for name in self._plan.row_sites})
            return span, ({name: host[name] for name in single}, rows)

        calls = range(only.start, only.stop, size)
        results = self._in_order(compute, calls, size * self._draw_bytes, len(only), "draw")
        with closing(results):
            for span, (values, rows) in results:
                for name, parts in single.items():
                    parts.append(values[name])
                sink.write(span, rows)
        return {name: np.concatenate(parts) for name, parts in single.items()}

    def _draws_per_call(self) -> int:
        n_draws, batch_size = self._request.n_draws, self._request.batch_size
        return draws_per_call(n_draws, self._draw_bytes, batch_size, len(self._devices))

    @property
    def _draw_bytes(self) -> int:
        """Bytes of the result per draw, over all rows."""
        scenario = self._scenarios[0]
        return scenario.row_bytes * scenario.rows.n_rows // self._request.n_draws

    def _blocks_per_call(self) -> int:
        scenario, n_devices = self._scenarios[0], len(self._devices)
        heavy = scenario.draw_values > MANY_WEIGHTS and self._devices[0].platform == "cpu"
        # Rows of a source are in memory only while they are computed.
        read = scenario.rows.row_bytes if scenario.rows.streams else 0
        return blocks_per_call(
            scenario.rows.expected,
            max(scenario.row_bytes, read),
            self._request.batch_size,
            n_devices,
            CACHED_ROWS * n_devices if heavy else None,
        )

    def _prepared(
        self, blank: tuple, *programs: Program
    ) -> tuple[list[Callable], dict[str, np.ndarray], Drawn]:
        """Compile programs, check that rows may be cut, and draw the sites without rows.

        Args:
            blank: By scenario, sites with the shapes of those that are fixed in each draw.
            *programs: The programs to compile.

        Returns:
            The compiled programs, the sites without rows to return, and by scenario those that
            the blocks of rows need.
        """
        globals_ = self._call.of_globals()
        wanted = [*programs] if globals_ is None else [*programs, globals_]
        tests = self._crossing.tests(blank)
        compiled = self._programs.compiled(*wanted, *tests)
        single: dict[str, np.ndarray] = {}
        drawn: Drawn = tuple({} for _ in self._scenarios)
        if globals_ is not None:
            single, drawn = self._draw_globals(compiled[len(programs)], globals_.arguments)
        if tests:
            self._crossing.check(self._sites(drawn))
        return compiled[: len(programs)], single, drawn

    def _blank_sites(self) -> tuple:
        return tuple(scenario.sites(scenario.blank_globals()) for scenario in self._scenarios)

    def _sites(self, drawn: Drawn) -> tuple:
        """Return the fixed sites of each draw, by scenario."""
        both = zip(self._scenarios, drawn, strict=True)
        return tuple(scenario.sites(values) for scenario, values in both)

    def _draw_globals(
        self, draw_globals: Callable, arguments: tuple[PyTree, ...]
    ) -> tuple[dict[str, np.ndarray], Drawn]:
        """Draw the sites without rows: those to return, and by scenario those for the blocks."""
        drawn = jax.device_get(draw_globals(*arguments))
        needed = tuple(
            {name: values[name] for name in scenario.plan.globals_drawn}
            for scenario, values in zip(self._scenarios, drawn, strict=True)
        )
        asked = [{name: one[name] for name in self._plan.global_sites} for one in drawn]
        return {name: np.asarray(value) for name, value in self._combine(*asked).items()}, needed

    def _in_order(
        self, compute: Callable, calls: Iterable, call_bytes: int, total: int | None, unit: str
    ) -> Iterator[tuple[Span, PyTree]]:
        """Yield results in order, with several calls under way at a time."""
        return in_order(
            compute,
            calls,
            calls_at_once(self._devices, call_bytes),
            total=total,
            unit=unit,
            progress=self._request.progress,
        )


def _unfold(host: np.ndarray, span: Span) -> np.ndarray:
    """Join the blocks of a result, without the padding."""
    n_draws, n_blocks, block_rows, *own = host.shape
    return host.reshape(n_draws, n_blocks * block_rows, *own)[:, : span.count]


def _part(draws: tuple, first: int, size: int) -> tuple:
    """Return ``size`` draws from ``first``; the last draw fills up missing ones."""

    def cut(values: np.ndarray) -> np.ndarray:
        part = values[first : first + size]
        missing = size - len(part)
        last = np.broadcast_to(part[-1:], (missing, *part.shape[1:]))
        return np.concatenate([part, last]) if missing else part

    return jax.tree.map(cut, draws)
