"""A predictive call carried out: rows in, blocks through the devices, results out in order."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from tqdm import tqdm

from aimz_lab.data import fold_in
from aimz_lab.inference.compiling import FULL, QUICK, QUICKEST
from aimz_lab.predictive.arm import Arm
from aimz_lab.predictive.forward import Combine, over_blocks, over_draws
from aimz_lab.predictive.independence import both_blockings, choose_rows, crossing_sites
from aimz_lab.predictive.keys import GLOBAL_BLOCK, block_keys, draw_keys
from aimz_lab.predictive.programs import Program, Programs, placed, shared_out
from aimz_lab.predictive.stream import (
    BLOCK_ROWS,
    CACHED_ROWS,
    MANY_WEIGHTS,
    Piece,
    blocks_per_call,
    draws_per_call,
    draws_side_by_side,
)

MOST_AT_ONCE = 8
"""Calls that are computed at the same time, at most."""

AT_ONCE_BYTES = 2**28
"""Bytes of the results of calls that are computed at the same time, unless one alone has more."""


MUCH_BYTES = 2**27
"""Bytes of results from which on it pays to have the compiler try hard."""


class Span(NamedTuple):
    """Where a part of the result belongs: ``count`` entries from ``first`` along ``axis``.

    Attributes:
        axis: 0 for draws, 1 for rows.
        first: First entry.
        count: Number of entries.
    """

    axis: int
    first: int
    count: int


class Sink(Protocol):
    """Takes the parts of the sites that have rows, with draws and rows leading."""

    def prepare(self, span: Span, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Do what can be done in any order, on the thread that computed the part.

        Returns:
            What is left for :meth:`write`, which gets the parts in order.
        """

    def write(self, span: Span, values: Mapping[str, np.ndarray]) -> None:
        """Take a part; its arrays are not valid afterwards."""


@runtime_checkable
class Finish(Protocol):
    """What a program does with the draws before they leave the devices."""

    @property
    def key(self) -> Any:
        """What tells its programs from others."""

    def row_values(self, first: int, n_rows: int, n_blocks: int) -> Any:
        """What it needs to know about rows, ``(G, B, ...)``."""

    def on_device(self, values: Mapping[str, Any], rows: Any) -> Any:
        """Compute the result of draws ``(S, G, B, ...)``."""

    def take(self, first: int, n_rows: int, found: Any) -> None:
        """Take the result of some rows."""


class CrossingRowsError(Exception):
    """The kernel computes across rows; its arguments are the names of the sites."""


class Engine:
    """Carries out one call.

    Args:
        programs: Where compiled programs are kept.
        arms: The call's scenarios: one, or two whose results are combined.
        combine: What becomes of the scenarios' results.
    """

    def __init__(self, programs: Programs, arms: tuple[Arm, ...], combine: Combine) -> None:
        self._programs, self._arms, self._combine = programs, arms, combine
        self._request, self._plan = arms[0].request, arms[0].plan
        self._keys = draw_keys(self._request.key, self._request.n_draws)
        self._devices = self._request.local_devices
        self._kind = tuple(arm.key for arm in arms)
        self._shared = tuple(arm.shared for arm in arms)

    def by_rows(self, sink: Sink | Finish) -> dict[str, np.ndarray]:
        """Compute block by block, all draws at a time.

        Args:
            sink: Takes the sites that have rows, or what it makes of them on the devices.

        Returns:
            The sites that have none, ``(S, ...)``.

        Raises:
            CrossingRowsError: If rows depend on one another; nothing was written.
        """
        arm = self._arms[0]
        n_blocks = blocks_per_call(
            arm.rows.expected,
            arm.row_bytes,
            self._request.batch_size,
            len(self._devices),
            self._most_rows,
        )
        calls = zip(*[one.pieces(n_blocks * BLOCK_ROWS) for one in self._arms], strict=True)
        first = next(calls)
        sites = tuple(arm.sites(arm.blank_globals()) for arm in self._arms)
        run, draw_globals = self._tested(
            self._rows_program(sites, first, n_blocks, sink), self._globals_program(), first
        )
        single: dict[str, np.ndarray] = {}
        if draw_globals is not None:
            single, sites = self._fix_globals(draw_globals)
        if not self._plan.row_sites:
            return single
        sites = placed(sites, self._devices)

        def compute(call: tuple[Piece, ...]) -> tuple[Span, Any]:
            self._check_later(call)
            span = Span(1, call[0].first, call[0].n_rows)
            values = jax.device_get(run(*self._rows_arguments(sites, call, n_blocks, sink)))
            if isinstance(sink, Finish):
                return span, values
            return span, sink.prepare(
                span, {name: _unfold(value, span) for name, value in values.items()}
            )

        total = arm.rows.n_rows
        call_bytes = arm.row_bytes * n_blocks * BLOCK_ROWS
        results = self._in_order(compute, itertools.chain([first], calls), total, call_bytes)
        with closing(results):
            for span, values in results:
                if isinstance(sink, Finish):
                    sink.take(span.first, span.count, values)
                else:
                    sink.write(span, values)
        return single

    def by_draws(self, sink: Sink) -> dict[str, np.ndarray]:
        """Compute all rows together, some draws at a time; see :meth:`by_rows`."""
        arm, n_draws = self._arms[0], self._request.n_draws
        draw_bytes = arm.row_bytes * arm.rows.n_rows // n_draws
        size = draws_per_call(n_draws, draw_bytes, self._request.batch_size, len(self._devices))
        blocks = tuple(one.block(slice(None)) for one in self._arms)
        draws = fold_in(self._keys, 0), tuple(one.sites({}) for one in self._arms)
        [run] = self._programs.compiled(self._draws_program(_part(draws, 0, size), blocks))
        single: dict[str, list[np.ndarray]] = {name: [] for name in self._plan.global_sites}
        blocks, shared = placed((blocks, self._shared), self._devices)

        def compute(first: int) -> tuple[Span, Any]:
            span = Span(0, first, min(size, n_draws - first))
            values = jax.device_get(run(*_part(draws, first, size), blocks, shared))
            host = {name: value[: span.count] for name, value in values.items()}
            rows = sink.prepare(span, {name: host[name] for name in self._plan.row_sites})
            return span, ({name: host[name] for name in single}, rows)

        results = self._in_order(compute, range(0, n_draws, size), n_draws, size * draw_bytes)
        with closing(results):
            for span, (values, rows) in results:
                for name, parts in single.items():
                    parts.append(values[name])
                sink.write(span, rows)
        return {name: np.concatenate(parts) for name, parts in single.items()}

    def _tested(
        self, main: Program, globals_: Program | None, first: tuple[Piece, ...]
    ) -> tuple[Callable, Callable | None]:
        """Compile what the call needs, and make sure that rows may be cut."""
        wanted = [main] if globals_ is None else [main, globals_]
        tests = [
            (arm, self._test_program(arm, piece))
            for arm, piece in zip(self._arms, first, strict=True)
        ]
        ready = self._programs.compiled(*wanted, *[test for _, test in tests])
        self._check_rows(tests)
        return ready[0], None if globals_ is None else ready[1]

    def _check_rows(self, tests: list[tuple[Arm, Program]]) -> None:
        """Raise :class:`CrossingRowsError` if rows of these tests depend on one another."""
        crossing: dict[str, None] = {}
        for arm, test in tests:
            found = self._programs.crossing(test)
            if not found:
                [run] = self._programs.compiled(test)
                found = crossing_sites(arm.plan, *jax.device_get(run(*test.arguments)))
                self._programs.set_crossing(test, found)
            crossing |= dict.fromkeys(found)
        if crossing:
            raise CrossingRowsError(*crossing)

    def _check_later(self, call: tuple[Piece, ...]) -> None:
        """Check what the first pieces could not show: the later ones of sources."""
        if call[0].first:
            arms = zip(self._arms, call, strict=True)
            self._check_rows(
                [(arm, self._test_program(arm, piece)) for arm, piece in arms if arm.rows.streams]
            )

    def _test_program(self, arm: Arm, piece: Piece) -> Program:
        by_row = arm.by_row(piece)
        orders = choose_rows(jax.tree.leaves(by_row))
        one = jax.tree.map(lambda values: values[0], arm.sites({}))
        return Program(
            key=("crossing", arm.key),
            build=lambda: both_blockings(arm.simulator({}), arm.plan),
            arguments=(
                jax.tree.map(lambda array: array[orders], by_row),
                arm.shared,
                one,
                self._keys[0],
            ),
            devices=self._devices[:1],
            split=(False,) * 4,
            effort=QUICKEST,
        )

    def _rows_arguments(
        self, sites: tuple, call: tuple[Piece, ...], n_blocks: int, sink: Sink | Finish
    ) -> tuple[Any, ...]:
        keys = block_keys(self._keys, call[0].first // BLOCK_ROWS, n_blocks)
        blocks = tuple(
            arm.blocks(piece, n_blocks) for arm, piece in zip(self._arms, call, strict=True)
        )
        arguments = keys, sites, blocks, self._shared
        if isinstance(sink, Finish):
            return *arguments, sink.row_values(call[0].first, call[0].n_rows, n_blocks)
        return arguments

    def _rows_program(
        self, sites: tuple, call: tuple[Piece, ...], n_blocks: int, sink: Sink | Finish
    ) -> Program:
        n_rows = n_blocks // len(self._devices) * BLOCK_ROWS
        chunk = self._side_by_side(self._request.n_draws, n_rows)
        split = (True, False, True, False)

        def build() -> Callable:
            simulate = over_blocks(self._simulators(self._plan.row_sites), self._combine, chunk)
            simulate = shared_out(simulate, self._devices, split, out_axis=1)
            if not isinstance(sink, Finish):
                return simulate
            return lambda *arguments: sink.on_device(simulate(*arguments[:-1]), arguments[-1])

        finishes = isinstance(sink, Finish)
        return Program(
            key=("rows", chunk, self._kind, sink.key if finishes else None),
            build=build,
            arguments=self._rows_arguments(sites, call, n_blocks, sink),
            devices=self._devices,
            split=(*split, True) if finishes else split,
            effort=self._effort,
        )

    def _draws_program(self, draws: tuple, blocks: tuple) -> Program:
        n_draws = len(draws[0]) // len(self._devices)
        chunk = self._side_by_side(n_draws, self._arms[0].rows.n_rows)
        split = (True, True, False, False)
        return Program(
            key=("draws", chunk, self._kind),
            build=lambda: shared_out(
                over_draws(self._simulators(self._plan.row_axes), self._combine, chunk),
                self._devices,
                split,
                out_axis=0,
            ),
            arguments=(*draws, blocks, self._shared),
            devices=self._devices,
            split=split,
            effort=self._effort,
        )

    def _globals_program(self) -> Program | None:
        """What draws the sites without rows, from the first block: they are the same in all."""
        names = dict.fromkeys((*self._plan.globals_drawn, *self._plan.global_sites))
        if not names:
            return None
        chunk = self._side_by_side(self._request.n_draws, BLOCK_ROWS)
        simulators = tuple(arm.simulator(names, "values") for arm in self._arms)
        rows = np.minimum(np.arange(BLOCK_ROWS), self._arms[0].rows.n_shown - 1)
        return Program(
            key=("globals", chunk, self._plan.globals_drawn, self._kind),
            build=lambda: over_draws(simulators, lambda *arms: arms, chunk),
            arguments=(
                fold_in(self._keys, GLOBAL_BLOCK),
                tuple(arm.sites({}) for arm in self._arms),
                tuple(arm.block(rows) for arm in self._arms),
                self._shared,
            ),
            devices=self._devices[:1],
            split=(False,) * 4,
        )

    def _fix_globals(self, draw_globals: Callable) -> tuple[dict[str, np.ndarray], tuple]:
        """Draw what has no rows; return what is asked for, and what the draws fix from now on."""
        drawn = jax.device_get(draw_globals(*self._globals_program().arguments))
        names = self._plan.globals_drawn
        sites = tuple(
            arm.sites({name: values[name] for name in names})
            for arm, values in zip(self._arms, drawn, strict=True)
        )
        asked = [{name: one[name] for name in self._plan.global_sites} for one in drawn]
        return {name: np.asarray(value) for name, value in self._combine(*asked).items()}, sites

    def _simulators(self, wanted: Mapping[str, int | None]) -> tuple[Callable, ...]:
        return tuple(arm.simulator(wanted) for arm in self._arms)

    def _in_order(
        self, compute: Callable, calls: Iterable, total: int | None, call_bytes: int
    ) -> Iterator[tuple[Span, Any]]:
        """Compute calls, several at a time, and yield their results in order.

        While results are taken and written, ``at_once`` calls are under way. Their inputs are read
        here, by one thread.
        """
        at_once = calls_at_once(self._devices, call_bytes)
        waiting: deque[Future] = deque()
        unit = ("draw", "row")[self._plan.axis == "obs"]
        with (
            ThreadPoolExecutor(at_once, thread_name_prefix="aimz_lab-compute") as pool,
            tqdm(total=total, unit=unit, disable=not self._request.progress) as bar,
        ):
            try:
                for call in itertools.chain(calls, [None] * at_once):
                    if call is not None:
                        waiting.append(pool.submit(compute, call))
                    if waiting and (call is None or len(waiting) > at_once):
                        span, values = waiting.popleft().result()
                        yield span, values
                        bar.update(span.count)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    @property
    def _effort(self) -> int:
        arm = self._arms[0]
        much = arm.rows.expected is None or arm.row_bytes * arm.rows.expected > MUCH_BYTES
        return FULL if much else QUICK

    @property
    def _most_rows(self) -> int | None:
        heavy = self._arms[0].draw_values > MANY_WEIGHTS and self._devices[0].platform == "cpu"
        return CACHED_ROWS * len(self._devices) if heavy else None

    def _side_by_side(self, n_draws: int, n_rows: int) -> int:
        arm = self._arms[0]
        width = -(-arm.row_bytes // (4 * self._request.n_draws))
        return draws_side_by_side(n_draws, n_rows * width, arm.draw_values)


def calls_at_once(devices: tuple[jax.Device, ...], call_bytes: int) -> int:
    """Calls that a host computes at the same time.

    One on a CPU does not fill its cores. Several devices share each call; two such calls at once
    could wait for one another.

    Args:
        devices: The devices that compute.
        call_bytes: Bytes of a call's result.
    """
    if len(devices) > 1 or devices[0].platform != "cpu":
        return 1
    return min(os.cpu_count() or 1, MOST_AT_ONCE, max(AT_ONCE_BYTES // max(call_bytes, 1), 1))


def _unfold(host: np.ndarray, span: Span) -> np.ndarray:
    """Put the blocks of a result one after the other, without the padding."""
    return host.reshape(host.shape[0], -1, *host.shape[3:])[:, : span.count]


def _part(draws: tuple, first: int, size: int) -> tuple:
    """Some of the draws; the last one fills up."""

    def cut(values: np.ndarray) -> np.ndarray:
        part = values[first : first + size]
        missing = size - len(part)
        last = np.broadcast_to(part[-1:], (missing, *part.shape[1:]))
        return np.concatenate([part, last]) if missing else part

    return jax.tree.map(cut, draws)
