"""Names of the parts of a stored result, and the errors for missing and damaged ones."""

from __future__ import annotations

import re

from aimz_lab.errors import ArtifactError, ArtifactGoneError

METADATA = "zarr.json"
"""Name of the file that describes a group or an array."""

CHUNK = re.compile(r"/c(/\d+)*$")
"""The end of a chunk's key, behind the path of its array."""


def missing_part(path: str, part: str) -> ArtifactGoneError:
    """Return the error for a result with a missing part."""
    return ArtifactGoneError(
        f"The result at {path} is gone, or parts of it are: {part} is missing. It was removed "
        "after it had been written; compute it again, with output_dir= to keep it."
    )


def damaged(path: str, what: str) -> ArtifactError:
    """Return the error for a result with a damaged part."""
    return ArtifactError(
        f"The result at {path} is damaged: {what}. Remove it and compute the result again."
    )
