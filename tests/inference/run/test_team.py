"""What several processes have to agree on, before they train together."""

from __future__ import annotations

import numpy as np
import pytest

from aimz_lab.errors import ClusterError
from aimz_lab.inference.feeds.alike import rows_checksum
from aimz_lab.inference.run.team import Team

FIRST = {"epochs": 3, "order of the rows": "shuffled", "data": {"X": [7, 1]}}


class Following(Team):
    """A process that hears from the first one."""

    def agree(self, decision):
        return FIRST


def test_what_differs_is_named_with_short_values():
    team = Following(2, 1)
    team.check_alike(**FIRST)
    with pytest.raises(
        ClusterError, match=r"Process 1 .* in its epochs \(4 here, 3 there\) and data"
    ):
        team.check_alike(**FIRST | {"epochs": 4, "data": {"X": [7, 2]}})
    with pytest.raises(ClusterError, match=r"argument w \(5 here, None there\)"):
        team.check_alike(**FIRST | {"argument w": 5})


@pytest.mark.parametrize("n_rows", [1, 7, 5_000, 3_000_000])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, bool])
def test_any_one_value_changes_the_checksum(n_rows, dtype):
    rows = np.zeros((n_rows, 2), dtype)
    before = rows_checksum(rows)
    for place in {0, n_rows // 3, n_rows - 1}:
        rows[place, 1] = 1
        assert rows_checksum(rows) != before
        rows[place, 1] = 0
    assert rows_checksum(rows) == before


def test_rows_that_changed_places_change_the_checksum():
    rows = np.random.default_rng(0).normal(size=(100_000, 4)).astype(np.float32)
    before = rows_checksum(rows)
    rows[[5, 77_029]] = rows[[77_029, 5]]
    assert rows_checksum(rows) != before
    assert rows_checksum(rows[::2]) == rows_checksum(rows[::2].copy())


def test_of_a_mapped_file_some_rows_are_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((10_000, 2)))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r+")
    before = rows_checksum(rows)
    rows[1] = 1.0
    assert rows_checksum(np.asarray(rows)) == before, "all rows were read"
    rows[0] = 1.0
    assert rows_checksum(rows) != before
