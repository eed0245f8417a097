"""The programs of a call: blocks of rows, all rows together, and sites without rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import PyTree

from aimz_lab.data import fold_in
from aimz_lab.inference.compiling import FULL, QUICK
from aimz_lab.predictive.blocks import BLOCK_ROWS, Piece
from aimz_lab.predictive.programs.compiled_programs import Program, placed, shared_out
from aimz_lab.predictive.programs.mapping import (
    GLOBAL_BLOCK,
    Combine,
    draw_keys,
    over_blocks,
    over_draws,
)
from aimz_lab.predictive.programs.parts import Finish, Sink
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.programs.sizes import draws_side_by_side

MUCH_BYTES = 2**27
"""Bytes of results above which the compiler optimizes fully. Under JAX 0.12 a linear model then
predicts 1.3 times as fast; under JAX 0.10 there is no gain."""


class CallPrograms:
    """Describes the compiled programs of a call, with their arguments.

    Args:
        scenarios: The call's scenarios; draws, key and devices are those of the first.
        combine: Makes one result of the scenarios' results.

    Attributes:
        key_data: Data of the draws' keys, ``(S, 2)``.
        devices: The devices of the programs.
        shared: Values shared by all rows, by scenario.
    """

    def __init__(self, scenarios: tuple[Scenario, ...], combine: Combine) -> None:
        self._scenarios, self._combine = scenarios, combine
        self._request, self._plan = scenarios[0].request, scenarios[0].plan
        self._kind = combine, *(scenario.key for scenario in scenarios)
        self.key_data = draw_keys(self._request.key, self._request.n_draws)
        self.devices = self._request.local_devices
        self.shared = tuple(scenario.shared for scenario in scenarios)

    def place_shared(self) -> None:
        """Move what all calls share to the devices once, not again with each call."""
        self.key_data, self.shared = placed((self.key_data, self.shared), self.devices)

    def of_rows(
        self, sites: tuple, call: tuple[Piece, ...], n_blocks: int, sink: Sink | Finish
    ) -> Program:
        """The program that computes some blocks with all draws.

        Args:
            sites: Fixed sites of each draw, by scenario.
            call: The rows, by scenario.
            n_blocks: Number of their blocks.
            sink: Takes the results, or reduces them on the devices.
        """
        n_rows = n_blocks // len(self.devices) * BLOCK_ROWS
        chunk = self._side_by_side(self._request.n_draws, n_rows)
        split = (True, False, False, True, False)

        def build() -> Callable:
            simulate = over_blocks(self._simulators(self._plan.row_sites), self._combine, chunk)
            simulate = shared_out(simulate, self.devices, split, out_axis=1)
            if not isinstance(sink, Finish):
                return simulate
            return lambda *arguments: sink.on_device(simulate(*arguments[:-1]), arguments[-1])

        finishes = isinstance(sink, Finish)
        return Program(
            key=("rows", chunk, self._kind, sink.key if finishes else None),
            build=build,
            arguments=self.rows_arguments(sites, call, n_blocks, sink),
            devices=self.devices,
            split=(*split, True) if finishes else split,
            effort=self._effort,
        )

    def rows_arguments(
        self, sites: tuple, call: tuple[Piece, ...], n_blocks: int, sink: Sink | Finish
    ) -> tuple[PyTree, ...]:
        """The arguments of :meth:`of_rows`, for any rows of the call."""
        first = call[0].first // BLOCK_ROWS
        numbers = np.arange(first, first + n_blocks, dtype=np.uint32)
        blocks = tuple(
            scenario.blocks(piece, n_blocks)
            for scenario, piece in zip(self._scenarios, call, strict=True)
        )
        arguments = numbers, self.key_data, sites, blocks, self.shared
        if isinstance(sink, Finish):
            return *arguments, sink.row_values(call[0].first, call[0].n_rows, n_blocks)
        return arguments

    def of_draws(self, draws: tuple, blocks: tuple) -> Program:
        """The program that computes some draws with all rows.

        Args:
            draws: The data of their keys, and their fixed sites by scenario.
            blocks: The rows, by scenario.
        """
        n_draws = len(draws[0]) // len(self.devices)
        chunk = self._side_by_side(n_draws, self._scenarios[0].rows.n_rows)
        split = (True, True, False, False)
        return Program(
            key=("draws", chunk, self._kind),
            build=lambda: shared_out(
                over_draws(self._simulators(self._plan.row_axes), self._combine, chunk),
                self.devices,
                split,
                out_axis=0,
            ),
            arguments=(*draws, blocks, self.shared),
            devices=self.devices,
            split=split,
            effort=self._effort,
        )

    def of_globals(self) -> Program | None:
        """The program that draws the sites without rows, once for all blocks."""
        drawn = tuple(scenario.plan.globals_drawn for scenario in self._scenarios)
        names = dict.fromkeys((*itertools.chain(*drawn), *self._plan.global_sites))
        if not names:
            return None
        chunk = self._side_by_side(self._request.n_draws, BLOCK_ROWS)
        simulators = tuple(scenario.simulator(names, "values") for scenario in self._scenarios)
        rows = np.minimum(np.arange(BLOCK_ROWS), self._scenarios[0].rows.n_shown - 1)
        return Program(
            key=("globals", chunk, drawn, self._kind),
            build=lambda: over_draws(simulators, lambda *scenarios: scenarios, chunk),
            arguments=(
                fold_in(self.key_data, GLOBAL_BLOCK),
                tuple(scenario.sites({}) for scenario in self._scenarios),
                tuple(scenario.block(rows) for scenario in self._scenarios),
                self.shared,
            ),
            devices=self.devices[:1],
            split=(False,) * 4,
        )

    def _simulators(self, wanted: Mapping[str, int | None]) -> tuple[Callable, ...]:
        return tuple(scenario.simulator(wanted) for scenario in self._scenarios)

    @property
    def _effort(self) -> int:
        scenario = self._scenarios[0]
        expected = scenario.rows.expected
        much = expected is None or scenario.row_bytes * expected > MUCH_BYTES
        return FULL if much else QUICK

    def _side_by_side(self, n_draws: int, n_rows: int) -> int:
        scenario = self._scenarios[0]
        width = -(-scenario.row_bytes // (4 * self._request.n_draws))
        return draws_side_by_side(n_draws, n_rows * width, scenario.draw_values)
