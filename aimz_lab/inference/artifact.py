"""Read and write the directory of a saved model: a JSON manifest and its arrays."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aimz_lab.errors import ArtifactError, ArtifactGoneError, ArtifactWriteError, CheckpointError
from aimz_lab.files import Malformed, read_sealed, refusing, sealed_text, unsealed
from aimz_lab.inference.checkpoint.archive import PARTIAL, read_with_checksum, write_archive
from aimz_lab.system.interrupts import hold_interrupts
from aimz_lab.system.leftovers import make_folder, remove_folder, remove_leftovers
from aimz_lab.system.paths import local_path, remedy_of
from aimz_lab.types import JsonObject, shown

FORMAT = 6
_KIND = "aimz_lab model"
_MANIFEST = "model.json"
_ARRAYS = "arrays.npz"


def write_artifact(
    path: str | os.PathLike[str], manifest: JsonObject, arrays: Mapping[str, np.ndarray]
) -> Path:
    """Write a directory under another name and rename it.

    Args:
        path: The directory. It replaces a stored model there.
        manifest: Values that JSON can hold.
        arrays: Arrays of numbers by name.

    Returns:
        The absolute path.

    Raises:
        ArgumentError: If it is no path of this machine.
        ArtifactError: If something else is there, or there is more than would be read.
        ArtifactWriteError: If it cannot be written; an earlier model stays.
    """
    path = _located(path)
    partial = None
    try:
        if path.exists() and not (path / _MANIFEST).is_file():
            msg = f"{path} is there and is no stored model; choose another path, or remove it."
            raise ArtifactError(msg)
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name[:100]}."
        remove_leftovers(path.parent, prefix, PARTIAL)
        with hold_interrupts():
            partial = make_folder(path.parent, prefix, PARTIAL)
        checksum = write_archive(partial / _ARRAYS, {}, arrays)
        content = {"kind": _KIND, "format": FORMAT, **manifest, "arrays": checksum}
        text = sealed_text(content, indent=2)
        unsealed(text)  # what could not be read is not written
        (partial / _MANIFEST).write_bytes(text)
        with hold_interrupts():
            _replace(partial, path)
    except Malformed as error:
        msg = f"The model cannot be saved: {error}. Nothing was changed at {path}."
        raise ArtifactError(msg) from error
    except OSError as error:
        msg = (
            f"The model could not be written to {path}: {error}. Nothing was changed there. "
            f"{remedy_of(error)}"
        )
        raise ArtifactWriteError(msg) from error
    finally:
        if partial:
            remove_folder(partial)
    return path


def read_artifact(
    path: str | os.PathLike[str],
) -> tuple[JsonObject, dict[str, np.ndarray]]:
    """Read a stored model; see :func:`write_artifact`.

    Raises:
        ArgumentError: If it is no path of this machine.
        ArtifactGoneError: If there is nothing at ``path``.
        ArtifactError: If it is damaged, no stored model, or of a later format.
    """
    path = _located(path)
    if not path.exists():
        msg = f"There is no stored model at {path}."
        raise ArtifactGoneError(msg)
    with refusing(
        f"{path} is no stored model: its {_MANIFEST} is missing or damaged", ArtifactError
    ):
        manifest = read_sealed(path / _MANIFEST)
    if manifest.get("kind") != _KIND:
        msg = f"{path} is no stored model of this package."
        raise ArtifactError(msg)
    if manifest.get("format") != FORMAT:
        msg = (
            f"{path} has format {shown(manifest.get('format'))}, and this version reads format "
            f"{FORMAT}. Load it with the release that saved it."
        )
        raise ArtifactError(msg)
    try:
        _, arrays, checksum = read_with_checksum(path / _ARRAYS)
    except CheckpointError as error:
        msg = f"{path} is incomplete or damaged: {_ARRAYS} cannot be read ({error.__cause__})."
        raise ArtifactError(msg) from error
    if manifest.get("arrays") != checksum:
        msg = f"{path} is damaged: {_ARRAYS} is not the one that was saved with {_MANIFEST}."
        raise ArtifactError(msg)
    return manifest, arrays


def _located(path: str | os.PathLike[str]) -> Path:
    try:
        return local_path("path", path).resolve()
    except (RuntimeError, OSError) as error:
        msg = f"{shown(path)} is no path to a stored model: {error}."
        raise ArtifactError(msg) from error


def _replace(new: Path, path: Path) -> None:
    """Replace a directory; at any moment the old or the new one exists under some name."""
    if not path.exists():
        new.replace(path)
        return
    old = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.old")
    path.replace(old)
    try:
        new.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
