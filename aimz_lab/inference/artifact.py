"""Read and write the directory of a saved model: a JSON manifest and its arrays."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from aimz_lab.errors import ArtifactError, ArtifactGoneError, ArtifactWriteError, CheckpointError
from aimz_lab.inference.checkpoint.archive import PARTIAL, read_archive, write_archive
from aimz_lab.system.interrupts import hold_interrupts
from aimz_lab.system.leftovers import make_folder, remove_folder, remove_leftovers
from aimz_lab.system.paths import local_path
from aimz_lab.types import JsonObject

FORMAT = 1
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
        arrays: Arrays of NumPy's own types by name.

    Returns:
        The absolute path.

    Raises:
        ArgumentError: If it is no path of this machine.
        ArtifactError: If something else is there.
        ArtifactWriteError: If it cannot be written; an earlier model stays.
    """
    path = local_path("path", path).resolve()
    if path.exists() and not (path / _MANIFEST).is_file():
        msg = f"{path} is there and is no stored model; choose another path, or remove it."
        raise ArtifactError(msg)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name[:100]}."
        remove_leftovers(path.parent, prefix, PARTIAL)
        with hold_interrupts():
            partial = make_folder(path.parent, prefix, PARTIAL)
        write_archive(partial / _ARRAYS, {}, arrays)
        text = json.dumps({"kind": _KIND, "format": FORMAT, **manifest}, indent=2)
        (partial / _MANIFEST).write_text(text + "\n", encoding="utf-8")
        with hold_interrupts():
            _replace(partial, path)
    except OSError as error:
        msg = f"The model could not be written to {path}: {error}. Nothing was changed there."
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
    path = local_path("path", path).resolve()
    if not path.exists():
        msg = f"There is no stored model at {path}."
        raise ArtifactGoneError(msg)
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"{path} is no stored model: {_MANIFEST} is missing or damaged."
        raise ArtifactError(msg) from error
    if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
        msg = f"{path} is no stored model of this package."
        raise ArtifactError(msg)
    if manifest["format"] > FORMAT:
        msg = f"{path} has format {manifest['format']}; this version reads up to {FORMAT}. Upgrade."
        raise ArtifactError(msg)
    try:
        _, arrays = read_archive(path / _ARRAYS)
    except CheckpointError as error:
        msg = f"{path} is incomplete or damaged: {_ARRAYS} cannot be read."
        raise ArtifactError(msg) from error
    return manifest, arrays


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
