"""Folders of processes that are gone are removed, and no others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aimz_lab.system.leftovers import keep_folder, make_folder, remove_folder, remove_leftovers

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="tells living processes by /proc"
)


def started(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def folder_of(parent: Path, *, pid: int, start: str, host: str | None = None) -> Path:
    """A folder as another process would have made it."""
    own = make_folder(parent, ".x.", ".partial")
    here = own.name.removeprefix(".x.").split("-")[0]
    remove_folder(own)
    path = parent / f".x.{host or here}-{pid}-{start}-0123abcd.partial"
    (path / "deep").mkdir(parents=True)
    return path


@pytest.fixture(scope="module")
def living():
    """The process number of a process that lives as long as the tests."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def sweep(parent: Path) -> None:
    remove_leftovers(parent, ".", ".partial")


def test_those_of_processes_that_are_gone_are_removed(tmp_path, living):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    start = started(ended.pid)
    ended.wait()
    gone = folder_of(tmp_path, pid=ended.pid, start=start)
    reused = folder_of(tmp_path, pid=living, start=str(int(started(living)) - 5))
    sweep(tmp_path)
    assert not gone.exists()
    assert not reused.exists()  # the number belongs to another process by now


def test_those_of_living_processes_and_other_machines_stay(tmp_path, living):
    alive = folder_of(tmp_path, pid=living, start=started(living))
    foreign = folder_of(tmp_path, pid=2**22 - 1, start="7", host="00000000")
    in_use = make_folder(tmp_path, ".y.", ".partial")
    unrelated = tmp_path / ".z.partial"
    unrelated.mkdir()
    sweep(tmp_path)
    assert all(path.exists() for path in (alive, foreign, in_use, unrelated))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives folders to other users"
)
def test_those_of_other_users_stay(tmp_path):
    path = folder_of(tmp_path, pid=2**22 - 1, start="7")
    os.chown(path, 12345, 12345)
    sweep(tmp_path)
    assert path.exists()


def test_a_folder_that_this_process_lost_is_removed_by_its_next_call(tmp_path):
    lost = make_folder(tmp_path, ".x.", ".partial")
    keep_folder(lost)
    sweep(tmp_path)
    assert not lost.exists()


def test_a_link_is_never_followed(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    link = folder_of(tmp_path, pid=2**22 - 1, start="7")
    (link / "deep").rmdir()
    link.rmdir()
    link.symlink_to(kept)
    sweep(tmp_path)
    assert kept.exists()
    assert link.is_symlink()
