"""Write results to Zarr v3 stores and read them; an incomplete store is never read as a result.

A store has one group per group of the tree; its arrays have the dimensions ``chain``, ``draw``,
rows, others. The mark that it is complete is written to its root last. On a local file system the
store is written under another name and then renamed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore

from aimz_lab.errors import AimzLabError, ArtifactError, ArtifactWriteError
from aimz_lab.predictive.results.checked_store import CheckedStore, Owner, missing_part
from aimz_lab.predictive.results.datasets import with_levels
from aimz_lab.predictive.results.locations import exists, is_url, location, nothing_at, remote_store

FORMAT = 1
_MARK = "aimz_lab"
_ORDER = "aimz_lab_dims"
LOADED_BYTES = 128 * 2**20
"""Results up to this size in bytes are loaded into memory, where ArviZ needs them."""


class StoreWriter:
    """Writes a result to a new store, which exists after :meth:`publish`.

    Args:
        output_dir: Directory or fsspec URL in which the store gets a name of its own; ``None`` for
            a temporary store.
        label: Part of the name.

    Raises:
        ArtifactWriteError: If it cannot be written to.
        ArgumentError: If it is a URL of an unknown kind.
        OptionalDependencyError: If a package for such URLs is missing.
    """

    def __init__(self, output_dir: str | Path | None, label: str) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}_{label}.zarr"
        output_dir = location(output_dir)
        self.owner: Owner | None = None
        self._written: dict[str, set[str]] = {}
        if is_url(output_dir):
            self.path = f"{output_dir.rstrip('/')}/{name}"
            with self.reporting():
                self.store = remote_store(self.path)
                # It has its final name at once, and stays visible if writing is cut off.
                self._mark(complete=False)
            return
        with self.reporting(str(output_dir)):
            if output_dir is None:
                directory = Path(tempfile.mkdtemp(prefix="aimz_lab-"))
                self.owner = Owner(directory)
            else:
                directory = output_dir
                directory.mkdir(parents=True, exist_ok=True)
            self.path = str(directory / name)
            self._partial = directory / f".{name}.{uuid.uuid4().hex[:8]}.partial"
            self._partial.mkdir()
            self.store = LocalStore(self._partial)

    @contextlib.contextmanager
    def reporting(self, path: str | None = None) -> Iterator[None]:
        """Turn errors of the file system into ours, which name the path and a remedy."""
        try:
            yield
        except OSError as error:
            where = path or self.path
            msg = (
                f"The result could not be written to {where}: {error}. Nothing was kept; free some "
                "space, or pass another output_dir=, or store='memory'."
            )
            raise ArtifactWriteError(msg) from error

    def create_array(
        self,
        group: str,
        name: str,
        *,
        dims: tuple[str, ...],
        stored_dims: tuple[str, ...],
        shape: tuple[int, ...],
        chunks: tuple[int, ...],
        dtype: np.dtype,
    ) -> zarr.Array:
        """Create an array.

        Args:
            group: The tree's group.
            name: The site.
            dims: Its dimensions in the tree.
            stored_dims: Its dimensions as stored, with the rows in front of the others.
            shape: Its shape, as stored.
            chunks: Shape of its chunks, as stored.
            dtype: Its type.

        Returns:
            The Zarr array, to write to.
        """
        self._written.setdefault(group, set()).add(name)
        with self.reporting():
            return zarr.create_array(
                self.store,
                name=f"{group}/{name}",
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                dimension_names=stored_dims,
                compressors=_codec(dtype),
                attributes={_ORDER: list(dims)},
                # A chunk of zeros is written too, so that a missing chunk always means a loss.
                config={"write_empty_chunks": True},
            )

    def write_dataset(self, group: str, dataset: xr.Dataset) -> None:
        """Write coordinates, attributes and small variables of a group."""
        self._written.setdefault(group, set()).update(map(str, dataset.variables))
        plain = {name: list(var.dims) for name, var in dataset.data_vars.items()}
        marked = dataset.assign(
            {name: dataset[name].assign_attrs({_ORDER: dims}) for name, dims in plain.items()}
        )
        with self.reporting(), warnings.catch_warnings():
            # Zarr stores text labels in a stable way, but its specification is a draft.
            warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
            marked.to_zarr(
                self.store,
                group=group,
                mode="a",
                zarr_format=3,
                consolidated=False,
                write_empty_chunks=True,
            )

    def publish(self) -> None:
        """Declare the store complete and give it its name."""
        with self.reporting():
            self._mark(complete=True)
            if not is_url(self.path):
                self._partial.replace(self.path)

    def _mark(self, *, complete: bool) -> None:
        """Write to the root: the format, whether the store is complete, and its arrays."""
        arrays = {group: sorted(names) for group, names in self._written.items()}
        mark = {_MARK: {"format": FORMAT, "complete": complete, "arrays": arrays}}
        zarr.open_group(self.store, mode="a").update_attributes(mark)

    def discard(self) -> None:
        """Remove the part that was written."""
        if is_url(self.path):
            import fsspec

            files, path = fsspec.core.url_to_fs(self.path)
            with contextlib.suppress(OSError):
                files.rm(path, recursive=True)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def open_results(path: str | Path) -> xr.DataTree:
    """Open a stored result.

    Args:
        path: Directory or fsspec URL of the store: the attribute ``artifact_path`` of the tree.

    Returns:
        The stored tree, with its dimensions, coordinates, chains and attributes. A small one is
        loaded, a larger one reads its parts on use.

    Raises:
        ArtifactGoneError: If there is nothing at ``path``, or a part of it is missing.
        ArtifactError: If it is incomplete, damaged, or not a result of this package.
        ArgumentError: If it is a URL of an unknown kind.
        OptionalDependencyError: If a package for such URLs is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tree = im.predict(X, output_dir=folder, progress=False)
        ...     again = open_results(tree.attrs["artifact_path"])
        >>> again.equals(tree)
        True
    """
    return read_store(str(location(path)))


def read_store(path: str, owner: Owner | None = None) -> xr.DataTree:
    """Open a complete store; ``owner`` keeps a temporary one alive. See :func:`open_results`."""
    if not is_url(path) and not Path(path).exists():
        raise nothing_at(path)
    remote = is_url(path)
    inner = remote_store(path, read_only=True) if remote else LocalStore(path, read_only=True)
    store = CheckedStore(inner, path, owner)
    with _reading(path):
        root = _checked_root(store, path)
        groups = {name: _read_group(store, name) for name in sorted(root.group_keys())}
        _check_complete(groups, root.attrs[_MARK]["arrays"], path)
        tree = xr.DataTree.from_dict(groups)
        if tree.nbytes <= LOADED_BYTES:
            tree.load()
    tree.attrs = {name: value for name, value in root.attrs.items() if name != _MARK}
    tree.attrs["artifact_path"] = path
    # The tree keeps a temporary store alive, also when all of it is in memory.
    tree.encoding["owner"] = owner
    return tree


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn errors of reading damaged files into ours, with the path."""
    try:
        with warnings.catch_warnings():
            # An array without its metadata counts as missing, and is reported so.
            warnings.filterwarnings("ignore", message="Object at .* is not recognized")
            yield
    except AimzLabError:
        raise
    except (ValueError, TypeError, LookupError, RuntimeError) as error:
        msg = (
            f"The result at {path} cannot be read; a part of it is damaged: "
            f"{type(error).__name__}: {error}. Remove it and compute the result again."
        )
        raise ArtifactError(msg) from error


def _checked_root(store: CheckedStore, path: str) -> zarr.Group:
    incomplete = (
        f"{path} is not a complete result: its writing was interrupted, or it was not written "
        "by this package. Remove it and compute the result again."
    )
    try:
        root = zarr.open_group(store, mode="r")
    except (FileNotFoundError, zarr.errors.NodeTypeValidationError) as error:
        if not exists(path):
            raise nothing_at(path) from error
        raise ArtifactError(incomplete) from error
    mark = root.attrs.get(_MARK)
    if not isinstance(mark, Mapping):
        msg = f"{path} is a Zarr group, but not a result of this package."
        raise ArtifactError(msg)
    if not mark.get("complete"):
        raise ArtifactError(incomplete)
    if mark["format"] > FORMAT:
        msg = f"{path} has format {mark['format']}; this version reads up to {FORMAT}. Upgrade."
        raise ArtifactError(msg)
    return root


def _check_complete(
    groups: Mapping[str, xr.Dataset], written: Mapping[str, list[str]], path: str
) -> None:
    """Raise if an array that the root lists is missing; Zarr itself would read less."""
    for group, names in written.items():
        if group not in groups:
            raise missing_part(path, group)
        for name in names:
            if name not in groups[group].variables:
                raise missing_part(path, f"{group}/{name}")


def _read_group(store: CheckedStore, name: str) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
        dataset = xr.open_zarr(store, group=name, chunks={}, consolidated=False)
    for site in dataset.data_vars:
        stored = dataset[site].encoding
        codecs = stored.get("compressors") or ()
        if not codecs:
            size = np.prod(stored["chunks"], dtype=np.int64) * np.dtype(stored["dtype"]).itemsize
            store.chunk_bytes[f"{name}/{site}"] = int(size)
        elif isinstance(codecs[0], zarr.codecs.BloscCodec):
            store.chunk_bytes[f"{name}/{site}"] = None
        else:  # small, written with the coordinates: read now, as its chunks are not checked
            dataset[site].load()
        order = dataset[site].attrs.pop(_ORDER, None)
        if order is not None:
            dataset[site] = dataset[site].transpose(*order)
    return with_levels(dataset)


def _codec(dtype: np.dtype) -> zarr.codecs.BloscCodec | None:
    """Compress integers; the last bits of drawn reals are noise and do not compress."""
    if zarr.dtype.parse_dtype(dtype, zarr_format=3).to_native_dtype().kind == "f":
        return None
    return zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")
