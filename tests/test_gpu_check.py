"""The script for GPUs: its numbers on the CPU, its limits; and the turns of benchmarks."""

from __future__ import annotations

import itertools
import math
import os

import numpy as np
import pytest

from tests.benchmarks import gpu_check, gpu_numbers
from tests.benchmarks.turns import take_turns

SMALL = gpu_numbers.TINY._replace(rows=2_000, draws=40)


@pytest.mark.slow
@pytest.mark.parametrize("check", [gpu_numbers.predictions, gpu_numbers.padding])
def test_the_numbers_of_a_cpu_are_right(check):
    found = list(check(SMALL))
    assert found
    assert not [one for one in found if not one.ok]


@pytest.mark.parametrize("value", [3e-4, math.nan])
def test_products_in_tf32_and_nan_are_wrong(value):
    assert not gpu_numbers.Check("values", value, gpu_numbers.ROUNDING).ok


def test_a_section_ends_at_its_limit_and_says_so(repository, monkeypatch, capsys):
    monkeypatch.chdir(repository)
    rows = gpu_check.run_apart("hardware", 0.1, dict(os.environ), tiny=True, is_first=True)
    assert [row["what"] for row in rows] == ["was stopped after its 0 s"]
    assert "WRONG" in capsys.readouterr().out
    assert "Wrong or failed: hardware: was stopped after its 0 s." in gpu_check.not_done(rows)


def test_ratios_are_of_neighbours_in_time_and_each_way_goes_first():
    order, drift = [], itertools.count(1)

    def way(name, share):
        def run():
            order.append(name)
            return share * (1 + (next(drift) - 1) // 3)

        return run

    turns = take_turns({"a": way("a", 1.0), "b": way("b", 2.0), "c": way("c", 4.0)}, turns=3)
    assert [order[i] for i in (3, 6, 9)] == ["a", "b", "c"]
    np.testing.assert_array_equal(turns.ratios("b", "a"), [2.0, 2.0, 2.0])
    assert turns.ratio("b", "a") == {"median": 2.0, "low": 2.0, "high": 2.0, "turns": 3}
    assert turns.best("a") < turns.median("a") < turns.best("a", most=True)


def test_turns_end_after_their_deadline_but_not_before_one_is_whole():
    assert len(take_turns({"a": lambda: 1.0}, turns=9, deadline=0.0).figures["a"]) == 1
