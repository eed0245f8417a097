"""What several processes have to agree on, before they train together."""

from __future__ import annotations

import json
from typing import ClassVar

import jax
import numpy as np
import pytest

from aimz_lab.errors import ClusterError
from aimz_lab.inference.feeds.alike import rows_checksum
from aimz_lab.inference.run import team as team_module
from aimz_lab.inference.run.control import Control
from aimz_lab.inference.run.meetings import joined_requests
from aimz_lab.inference.run.team import Team, is_of_lost_process

FIRST = {"epochs": 3, "order of the rows": "shuffled", "data": {"X": [7, 1]}}


class Hearing(Team):
    """The first process, which hears from another one."""

    told: ClassVar = {}

    def gather(self, told, doing):
        return [told, self.told]


def test_what_differs_is_named_with_short_values():
    team = Hearing(2, 0)
    team.told.update(FIRST)
    team.check_alike(**FIRST)
    team.told.update(epochs=4, data={"X": [7, 2]})
    with pytest.raises(
        ClusterError, match=r"Process 1 .* in its epochs \(4 there, 3 in the first\) and data"
    ):
        team.check_alike(**FIRST)
    team.told.update(**FIRST, **{"argument w": 5})
    with pytest.raises(ClusterError, match=r"argument w \(5 there, None in the first\)"):
        team.check_alike(**FIRST)


class Store:
    """A store in which the other process has told what it does."""

    def __init__(self, doing, **failed):
        self.failed, self.other = failed.items(), json.dumps({"doing": doing, "told": None})
        self.kept = {}

    def key_value_set(self, name, value):
        self.kept[name] = value

    def key_value_dir_get(self, name):
        if name.endswith("failed"):
            return [(f"{name}/{rank.strip('_')}", what) for rank, what in self.failed]
        own = [(key, value) for key, value in self.kept.items() if key.startswith(name)]
        return [*own, (f"{name}/1", self.other)]

    def blocking_key_value_get(self, name, wait_ms):
        return self.other


@pytest.mark.parametrize(
    ("failed", "says"),
    [
        ({}, "Process 1 begins to read its stream, while the first one counts"),
        ({"_1": "OSError: disk gone"}, "Process 1 of 2 failed.*disk gone"),
    ],
)
def test_a_process_that_caught_its_error_and_went_on_is_told_of_by_that_error(
    failed, says, monkeypatch
):
    store = Store("begins to read its stream", **failed)
    monkeypatch.setattr(team_module, "_store", lambda: store)
    monkeypatch.setattr(team_module, "_failures", [])
    with pytest.raises(ClusterError, match=says):
        Team(2, 0).gather(None, "counts")


def asked(**requests):
    return Control().take_requests() | requests


def test_what_is_asked_of_any_process_is_asked_of_all():
    stop = ("seen enough", "stopped")
    each = [asked(), asked(stop=stop, checkpoint=True), asked(stop=("late", "stopped"))]
    assert joined_requests(each, is_held=False) == asked(stop=stop, checkpoint=True)
    each = [asked(learning_rate=0.1), asked(learning_rate=0.2), asked(paused=True)]
    assert joined_requests(each, is_held=False) == asked(learning_rate=0.1, paused=True)
    assert joined_requests(each, is_held=True) == asked(learning_rate=0.1)


@pytest.mark.parametrize(
    ("error", "is_of_lost"),
    [
        (jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllReduce failed: Connection closed"), True),
        (ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
        (OSError("Connection closed"), False),
    ],
)
def test_only_a_broken_collective_tells_of_a_lost_process(error, is_of_lost):
    assert is_of_lost_process(error) is is_of_lost


def test_a_pause_of_all_ends_by_any_of_them():
    control = Control()
    control.share(asked(paused=True))
    control.wait_while_paused(seconds=0.01)
    assert control.paused
    control.share(asked(stop=("seen enough", "stopped"), paused=True))
    assert not control.paused
    assert control.stop_request == ("seen enough", "stopped")


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
    for other in (77_029, 5 + 2_048, 5 + 4 * 4_093):
        moved = rows.copy()
        moved[[5, other]] = rows[[other, 5]]
        assert rows_checksum(moved) != before
    assert rows_checksum(rows[::2]) == rows_checksum(rows[::2].copy())


def test_of_a_mapped_file_some_rows_are_read(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((10_000, 2)))
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r+")
    before = rows_checksum(rows)
    rows[1] = 1.0
    assert rows_checksum(np.asarray(rows)) == before, "all rows were read"
    rows[0] = 1.0
    assert rows_checksum(rows) != before
