"""Files of small arrays of numbers in a Zarr v3 store, made without Zarr's event loop.

Zarr and xarray take two to five milliseconds to write an array, however small it is. A small result
consists of a dozen. What Zarr would write of an array of numbers is one description in JSON and one
chunk of its bytes, so that both are made here. The description is Zarr's own, of an array of the
same type, with another shape and other names.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping

import google_crc32c
import numpy as np

from aimz_lab.predictive.results.damage import METADATA
from aimz_lab.system.lazy_modules import xr, zarr

SMALL_BYTES = 4 * 2**20
"""Largest array that is written so, in bytes; and largest result that is kept beside its store."""

Files = dict[str, bytes]
"""Contents of files by key."""


def arrays_of(group: str, dataset: xr.Dataset) -> dict[str, Files]:
    """Return the files of the small arrays of numbers of a group, by name.

    Args:
        group: Path of the group in the store.
        dataset: Any dataset; where it has coordinates beside those of its dimensions, or attributes
            that JSON does not have, nothing of it is plain.
    """
    try:
        as_json(dataset.attrs)
        if set(dataset.coords) - set(dataset.dims):
            return {}
        return {
            str(name): _files_of(f"{group}/{name}", one)
            for name, one in dataset.variables.items()
            if one.dtype.kind in "biuf" and 0 < one.nbytes <= SMALL_BYTES and not one.encoding
        }
    except (TypeError, ValueError):
        return {}


def _files_of(path: str, variable: xr.Variable) -> Files:
    values = np.ascontiguousarray(variable.values, variable.dtype.newbyteorder("<"))
    document = json.loads(_document(variable.dtype.newbyteorder("=")))
    document["shape"] = list(variable.shape)
    document["chunk_grid"]["configuration"]["chunk_shape"] = list(variable.shape)
    document["dimension_names"] = list(variable.dims)
    document["attributes"] = dict(variable.attrs)
    data = values.tobytes()
    chunk = "/".join(["c", *["0"] * variable.ndim])
    return {
        f"{path}/{METADATA}": as_json(document),
        f"{path}/{chunk}": data + google_crc32c.value(data).to_bytes(4, "little"),
    }


def group_file(path: str, attributes: Mapping[str, object]) -> Files:
    """Return the file that describes a group.

    Args:
        path: Path of the group in the store; ``""`` for its root.
        attributes: Attributes of the group, of types that JSON has.
    """
    document = {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}
    return {f"{path}/{METADATA}".lstrip("/"): as_json(document)}


def as_read(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset of plain arrays as reading its files gives it: with arrays of its own."""
    own = dataset.copy()
    own.attrs = json.loads(json.dumps(dataset.attrs))
    for name in own.data_vars:
        own.variables[name].values = np.array(own.variables[name].values)
    return own


def as_json(document: Mapping[str, object]) -> bytes:
    """Write a document as Zarr does.

    Raises:
        TypeError: If JSON has no such type.
        ValueError: If JSON has no such number.
    """
    return json.dumps(document, indent=2, allow_nan=False).encode()


@functools.lru_cache(maxsize=64)
def _document(dtype: np.dtype) -> bytes:
    """Return Zarr's description of an array of a type, with a checksum and no compression."""
    files: dict[str, object] = {}
    zarr.create_array(
        zarr.storage.MemoryStore(files),
        name="one",
        shape=(1,),
        chunks=(1,),
        dtype=dtype,
        dimension_names=("one",),
        compressors=(zarr.codecs.Crc32cCodec(),),
    )
    return files[f"one/{METADATA}"].to_bytes()
