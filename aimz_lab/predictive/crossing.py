"""Refuse to cut the rows of a call into blocks where the kernel computes across rows."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import UInt32

from aimz_lab.kernel.cache_keys import shapes_of
from aimz_lab.kernel.rows.row_test import RowTest, choose_rows
from aimz_lab.predictive.blocks import BLOCK_ROWS, Piece
from aimz_lab.predictive.programs.compiled_programs import Program, Programs
from aimz_lab.predictive.programs.scenario import Scenario

_TEST_ROWS = 2 * BLOCK_ROWS


class CrossingRowsError(Exception):
    """The kernel computes across rows; its arguments are the names of the sites."""


class CrossingCheck:
    """Proves or tests that the rows of each scenario may be cut.

    Args:
        programs: Keeps compiled programs and the results of proofs and tests.
        scenarios: The call's scenarios.
        key_data: Data of one draw's key, ``(2,)``.
        device: The device for tests.
    """

    def __init__(
        self,
        programs: Programs,
        scenarios: tuple[Scenario, ...],
        key_data: UInt32[np.ndarray, " words"],
        device: jax.Device,
    ) -> None:
        self._programs, self._scenarios = programs, scenarios
        self._key_data, self._device = key_data, device

    def tests(
        self, call: tuple[Piece, ...], *, later: bool = False
    ) -> list[tuple[Scenario, Program]]:
        """Return the tests that :meth:`check` takes, to be compiled with other programs.

        Args:
            call: The rows, by scenario.
            later: Whether these are later pieces; only those of sources have new rows to test.
        """
        return [
            (scenario, self._program(scenario, piece))
            for scenario, piece in zip(self._scenarios, call, strict=True)
            if (scenario.rows.streams or not later) and not self._is_proven(scenario)
        ]

    def check(self, tests: list[tuple[Scenario, Program]]) -> None:
        """Raise :class:`CrossingRowsError` if rows of these tests depend on one another."""
        crossing: dict[str, None] = {}
        for scenario, test in tests:
            found = self._programs.crossing(test)
            if not found:
                [run] = self._programs.compiled(test)
                results = jax.device_get(run(*test.arguments))
                found = _row_test(scenario).crossing_sites(*results, _TEST_ROWS)
                self._programs.set_crossing(test, found)
            crossing |= dict.fromkeys(found)
        if crossing:
            raise CrossingRowsError(*crossing)

    def _is_proven(self, scenario: Scenario) -> bool:
        few, many = scenario.abstract(BLOCK_ROWS), scenario.abstract(_TEST_ROWS)
        key = ("proof", scenario.key, scenario.plan.globals_drawn, shapes_of(few))
        return self._programs.remembered(key, lambda: _row_test(scenario).is_proven(few, many))

    def _program(self, scenario: Scenario, piece: Piece) -> Program:
        by_row = scenario.by_row(piece)
        orders = choose_rows(jax.tree.leaves(by_row), _TEST_ROWS)
        one_draw = jax.tree.map(lambda values: values[0], scenario.sites({}))
        return Program(
            key=("crossing", scenario.key),
            build=lambda: _row_test(scenario).on_all_and_halves,
            arguments=(
                jax.tree.map(lambda array: array[orders], by_row),
                scenario.shared,
                one_draw,
                self._key_data,
            ),
            devices=(self._device,),
            split=(False,) * 4,
        )


def _row_test(scenario: Scenario) -> RowTest:
    plan = scenario.plan
    return RowTest(
        scenario.simulator({}).trace_rows, plan.spec, {*plan.row_axes, *plan.globals_drawn}
    )
