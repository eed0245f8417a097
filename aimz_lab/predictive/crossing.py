"""Refuse to cut the rows of a call into blocks where the kernel computes across rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Int, UInt32

from aimz_lab.kernel.cache_keys import shapes_of
from aimz_lab.kernel.rows.draws import differing_draws
from aimz_lab.kernel.rows.row_test import RowTest
from aimz_lab.predictive.blocks import BLOCK_ROWS
from aimz_lab.predictive.programs.compiled_programs import Program, Programs
from aimz_lab.predictive.programs.scenario import Scenario
from aimz_lab.predictive.programs.sizes import count_blocks

TESTED_DRAWS = 16
"""Draws that a kernel is tested with, at least: two or three hundredths of the work of a call."""

TESTED_ROWS = 2**20
"""Rows that a test may take over all of its draws: with few rows all draws are tested."""

Sites = dict[str, np.ndarray]
"""Fixed sites of each draw."""


class CrossingRowsError(Exception):
    """The kernel computes across rows, or may do so; its arguments are the names of the sites."""


class CrossingCheck:
    """Proves or tests that the rows of each scenario may be cut.

    Arrays of rows are tested on all of their rows. The rows of a source are never known as a whole,
    so that a proof is needed: at first at the number of rows that the source declares, and when
    they are over at the number that came.

    Args:
        programs: Keeps compiled programs and the results of proofs and tests.
        scenarios: The call's scenarios.
        key_data: Data of the draws' keys, ``(S, 2)``.
        device: The device for tests.
    """

    def __init__(
        self,
        programs: Programs,
        scenarios: tuple[Scenario, ...],
        key_data: UInt32[np.ndarray, "draw words"],
        device: jax.Device,
    ) -> None:
        self._programs, self._scenarios = programs, scenarios
        self._key_data, self._device = key_data, device

    def tests(self, sites: Sequence[Sites]) -> list[Program]:
        """Return the tests that :meth:`check` runs, to be compiled with other programs.

        Args:
            sites: By scenario, sites with the shapes of those in :meth:`check`.

        Raises:
            CrossingRowsError: If rows of a source are not proven to be independent, or a test of a
                kernel with such arguments found sites before.
        """
        for scenario in self._scenarios:
            if scenario.rows.streams:
                self._need_proof(scenario, scenario.rows.expected or 2 * BLOCK_ROWS)
        tests = [test for each in self._unproven(sites) for test in self._programs_of(*each)]
        _raise_for([self._programs.crossing(test) for test in tests])
        return tests

    def check(self, sites: Sequence[Sites]) -> None:
        """Run the tests; raise :class:`CrossingRowsError` if rows depend on one another.

        Args:
            sites: By scenario, all sites without rows that are fixed in each draw.
        """
        found = [self._crossing(*each) for each in self._unproven(sites)]
        _raise_for(found)

    def check_end(self) -> None:
        """Raise :class:`CrossingRowsError` if a source had a number of rows that matters."""
        for scenario in self._scenarios:
            if scenario.rows.streams:
                self._need_proof(scenario, scenario.rows.count)

    def _unproven(self, sites: Sequence[Sites]) -> list[tuple[Scenario, Sites]]:
        return [
            (scenario, fixed)
            for scenario, fixed in zip(self._scenarios, sites, strict=True)
            if not scenario.rows.streams
            and self._is_asked(scenario)
            and not self._is_proven(scenario, scenario.rows.n_rows)
        ]

    @staticmethod
    def _is_asked(scenario: Scenario) -> bool:
        return scenario.request.row_dependence != "independent"

    def _need_proof(self, scenario: Scenario, n_rows: int) -> None:
        if self._is_asked(scenario) and not self._is_proven(scenario, n_rows):
            sizes = scenario.abstract(_piece_rows(n_rows)), scenario.abstract(n_rows)
            raise CrossingRowsError(*_row_test(scenario).unproven_sites(*sizes))

    def _is_proven(self, scenario: Scenario, n_rows: int) -> bool:
        return are_proven_apart(self._programs, scenario, n_rows)

    def _programs_of(self, scenario: Scenario, sites: Sites) -> list[Program]:
        count = max(TESTED_DRAWS, TESTED_ROWS // scenario.rows.n_rows)
        chosen = differing_draws(sites, len(self._key_data), count)
        draws = {name: values[chosen] for name, values in sites.items()}, self._key_data[chosen]
        return [
            Program(
                key=("crossing", scenario.key, scenario.plan.globals_drawn),
                build=lambda: _over_draws(_row_test(scenario).crossing),
                arguments=(scenario.all_rows, scenario.shared, *draws, pieces),
                devices=(self._device,),
                split=(False,) * 5,
            )
            for pieces in _cuts(scenario.rows.n_rows)
        ]

    def _crossing(self, scenario: Scenario, sites: Sites) -> tuple[str, ...]:
        for test in self._programs_of(scenario, sites):
            [run] = self._programs.compiled(test)
            results = jax.device_get(run(*test.arguments))
            found = _row_test(scenario).crossing_sites(results)
            if found:
                self._programs.set_crossing(test, found)
                return found
        return ()


def are_proven_apart(programs: Programs, scenario: Scenario, n_rows: int) -> bool:
    """Whether the program of a scenario proves that rows are independent.

    Args:
        programs: Keeps the results of proofs.
        scenario: The scenario.
        n_rows: The number of rows.
    """
    few = scenario.abstract(_piece_rows(n_rows))
    key = ("proof", scenario.key, scenario.plan.globals_drawn, shapes_of(few), n_rows)
    return programs.remembered(
        key, lambda: _row_test(scenario).is_proven(few, scenario.abstract(n_rows))
    )


def _raise_for(found: Sequence[Sequence[str]]) -> None:
    names = dict.fromkeys(name for sites in found for name in sites)
    if names:
        raise CrossingRowsError(*names)


def _row_test(scenario: Scenario) -> RowTest:
    plan = scenario.plan
    return RowTest(
        scenario.simulator({}).trace_rows, plan.spec, {*plan.row_axes, *plan.globals_drawn}
    )


def _over_draws(crossing: Callable) -> Callable[..., dict[str, Bool[jax.Array, " draw"]]]:
    """Let a test of one draw test several, one after the other."""

    def run(
        rows: object, shared: object, values: object, key_data: jax.Array, pieces: jax.Array
    ) -> dict[str, jax.Array]:
        return jax.lax.map(
            lambda draw: crossing(rows, shared, draw[0], draw[1], pieces), (values, key_data)
        )

    return run


def _piece_rows(n_rows: int) -> int:
    """Rows of a block; where one block holds just all rows, of half of it, so that they are cut."""
    return BLOCK_ROWS if n_rows != BLOCK_ROWS else BLOCK_ROWS // 2


def _cuts(n_rows: int) -> list[Int[np.ndarray, "piece position"]]:
    """The numbers of the rows of each piece: of blocks, padded with the last row, and of halves.

    A single block is not cut. But the sites without rows are drawn beside it, with noise of their
    own, and of a longer input the same rows are to get the same draws.
    """
    numbers = np.arange(n_rows, dtype=np.int32)
    cuts = []
    if n_rows != BLOCK_ROWS:
        blocks = np.arange(count_blocks(n_rows) * BLOCK_ROWS, dtype=np.int32)
        cuts.append(np.minimum(blocks, n_rows - 1).reshape(-1, BLOCK_ROWS))
    if 1 < n_rows <= BLOCK_ROWS:
        half = -(-n_rows // 2)
        cuts.append(np.stack([numbers[:half], numbers[-half:]]))
    return cuts
