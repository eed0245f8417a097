"""Paths to write to: what is none is refused; errors name the path."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimz_lab.errors import ArgumentError, ArtifactWriteError
from aimz_lab.lab.callbacks import CSVLogger, History, ModelCheckpoint
from aimz_lab.system.paths import local_path, write_whole


@pytest.mark.parametrize("path", [5, None, b"bytes", "", "a\0b", ["x"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ArgumentError, match="directory=.*is no path"):
        local_path("directory", path)


def test_local_urls_are_paths(tmp_path):
    assert local_path("path", f"file://{tmp_path}") == tmp_path


@pytest.mark.parametrize(
    "write",
    [ModelCheckpoint, CSVLogger, lambda path: History().to_csv(path), local_path.__get__("path")],
)
def test_urls_are_refused_where_only_files_will_do(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"s3://b/m.*is a URL.*Use a local path"):
        write("s3://b/m")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "history.json"
    path.write_text("before")

    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"after")
    assert path.read_text() == "before"
    assert [path] == list(tmp_path.iterdir())


def test_an_unwritable_log_names_its_path(tmp_path):
    log = CSVLogger(tmp_path / "missing" / "run.csv")
    with pytest.raises(ArtifactWriteError, match=r"CSV file .*missing/run.csv: .*No such file"):
        log.on_fit_begin(None)
    log.on_fit_end(None)
