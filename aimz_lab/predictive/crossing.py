"""Making sure that the rows of a call are independent, before they are cut."""

from __future__ import annotations

import jax
import numpy as np

from aimz_lab.inference.compiling import QUICKEST
from aimz_lab.kernel.cache_keys import shapes_of
from aimz_lab.kernel.rows.proof import rows_are_independent
from aimz_lab.predictive.blocks import BLOCK_ROWS, Piece
from aimz_lab.predictive.programs.compiled_programs import Program, Programs
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.row_test import (
    TEST_ROWS,
    both_blockings,
    by_rows_alone,
    choose_rows,
    crossing_sites,
)


class CrossingRowsError(Exception):
    """The kernel computes across rows; its arguments are the names of the sites."""


class RowsTest:
    """Tests whether the rows of a call may be cut, where that is not proven.

    Args:
        programs: Where compiled programs are kept, and what proofs and tests found.
        scenarios: The call's scenarios.
        words: The words of a draw's key.
        device: Where it runs.
    """

    def __init__(
        self,
        programs: Programs,
        scenarios: tuple[Scenario, ...],
        words: np.ndarray,
        device: jax.Device,
    ) -> None:
        self._programs, self._arms, self._words, self._device = programs, scenarios, words, device

    def of(self, call: tuple[Piece, ...], *, later: bool = False) -> list[tuple[Scenario, Program]]:
        """The tests of scenarios' rows, which :meth:`check` takes, to be compiled before.

        Args:
            call: The rows, by scenario.
            later: Only what the first pieces could not show: the later ones of sources.
        """
        return [
            (scenario, self._program(scenario, piece))
            for scenario, piece in zip(self._arms, call, strict=True)
            if (scenario.rows.streams or not later) and not self._is_proven(scenario)
        ]

    def check(self, tests: list[tuple[Scenario, Program]]) -> None:
        """Raise :class:`CrossingRowsError` if rows of these tests depend on one another."""
        crossing: dict[str, None] = {}
        for scenario, test in tests:
            found = self._programs.crossing(test)
            if not found:
                [run] = self._programs.compiled(test)
                found = crossing_sites(scenario.plan, *jax.device_get(run(*test.arguments)))
                self._programs.set_crossing(test, found)
            crossing |= dict.fromkeys(found)
        if crossing:
            raise CrossingRowsError(*crossing)

    def _is_proven(self, scenario: Scenario) -> bool:
        few = scenario.abstract(BLOCK_ROWS)

        def prove() -> bool:
            function = by_rows_alone(scenario.simulator({}), scenario.plan)
            try:
                return rows_are_independent(function, few, scenario.abstract(TEST_ROWS))
            except Exception:  # noqa: BLE001  what the kernel has against it, its test will tell
                return False

        key = ("proof", scenario.key, scenario.plan.globals_drawn, shapes_of(few))
        return self._programs.remembered(key, prove)

    def _program(self, scenario: Scenario, piece: Piece) -> Program:
        by_row = scenario.by_row(piece)
        orders = choose_rows(jax.tree.leaves(by_row))
        one = jax.tree.map(lambda values: values[0], scenario.sites({}))
        return Program(
            key=("crossing", scenario.key),
            build=lambda: both_blockings(scenario.simulator({}), scenario.plan),
            arguments=(
                jax.tree.map(lambda array: array[orders], by_row),
                scenario.shared,
                one,
                self._words,
            ),
            devices=(self._device,),
            split=(False,) * 4,
            effort=QUICKEST,
        )
