"""Results on disk or in an object store: Zarr v3, written whole or not at all, never read as zeros.

A store is one group per group of the tree, whose arrays have the dimensions ``chain``, ``draw``,
rows, others. Its root says that it is complete and is written last. On a local file system the
store is written under another name and then renamed.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import warnings
import weakref
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
import zarr
from zarr.storage import LocalStore, WrapperStore

from aimz_lab.errors import (
    ArtifactError,
    ArtifactGoneError,
    ArtifactWriteError,
    OptionalDependencyError,
)

FORMAT = 1
_MARK = "aimz_lab"
_ORDER = "aimz_lab_dims"
LOADED_BYTES = 128 * 2**20
"""Up to here a result is read into memory at once; ArviZ reads nothing else."""


class Owner:
    """Owns a temporary directory, which goes when nothing refers to this any more.

    Args:
        path: The directory.
    """

    alive: ClassVar[weakref.WeakSet[Owner]] = weakref.WeakSet()
    """The owners of all temporary directories of this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._remove = weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        Owner.alive.add(self)

    def remove(self) -> None:
        """Remove the directory now; what still reads from it then says that it is gone."""
        self._remove()
        Owner.alive.discard(self)


class GuardedStore(WrapperStore):
    """A store to read from, in which a missing chunk is an error and not zeros.

    Args:
        store: The store.
        path: What to call it.
        owner: Keeps a temporary store alive as long as something reads from this one.
    """

    def __init__(self, store: Any, path: str = "", owner: Owner | None = None) -> None:
        super().__init__(store)
        self._path, self._owner = path, owner

    def __reduce__(self) -> tuple[Any, ...]:
        return GuardedStore, (self._store, self._path)

    def _with_store(self, store: Any) -> GuardedStore:
        return GuardedStore(store, self._path, self._owner)

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        """Read a key; see the base class.

        Raises:
            ArtifactGoneError: If it is a chunk that is not there; all chunks were written.
        """
        value = await self._store.get(key, *args, **kwargs)
        if value is None and "/c/" in key:
            msg = (
                f"The result at {self._path} is gone, or parts of it are: {key} is missing. It was "
                "removed after it had been written; compute it again, with output_dir= to keep it."
            )
            raise ArtifactGoneError(msg)
        return value


class StoreWriter:
    """Writes a result to a new store, which exists once :meth:`publish` has returned.

    Args:
        output_dir: Directory or fsspec URL in which the store gets a name of its own; ``None`` for
            a temporary store.
        label: Part of the name.

    Raises:
        ArtifactWriteError: If it cannot be written to.
    """

    def __init__(self, output_dir: str | Path | None, label: str) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}_{label}.zarr"
        output_dir = _location(output_dir)
        self.owner: Owner | None = None
        if _is_url(output_dir):
            self.path = f"{output_dir.rstrip('/')}/{name}"
            with self.reporting():
                self.store = _remote_store(self.path)
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
        """Turn errors of the file system into ours, with the path and what is left."""
        try:
            yield
        except OSError as error:
            where = path or self.path
            msg = (
                f"The result could not be written to {where}: {error}. Nothing was kept; free some "
                "space, or pass another output_dir=, or store='memory'."
            )
            raise ArtifactWriteError(msg) from error

    def create_array(self, group: str, name: str, order: tuple[str, ...], **options: Any) -> Any:
        """Create an array.

        Args:
            group: The tree's group.
            name: The site.
            order: Its dimensions as the tree has them.
            options: Shape, dtype, chunks and ``dimension_names``, as stored.

        Returns:
            The Zarr array, to write to.
        """
        with self.reporting():
            return zarr.create_array(
                self.store,
                name=f"{group}/{name}",
                compressors=_codec(options["dtype"]),
                attributes={_ORDER: list(order)},
                # A chunk of zeros is written too: only so does a missing one mean a loss.
                config={"write_empty_chunks": True},
                **options,
            )

    def write_dataset(self, group: str, dataset: xr.Dataset) -> None:
        """Write coordinates, attributes and small variables of a group."""
        plain = {name: list(var.dims) for name, var in dataset.data_vars.items()}
        marked = dataset.assign(
            {name: dataset[name].assign_attrs({_ORDER: dims}) for name, dims in plain.items()}
        )
        with self.reporting(), warnings.catch_warnings():
            # Text labels: Zarr's way to store them is stable, its specification is a draft.
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
        mark = {_MARK: {"format": FORMAT, "complete": True}}
        with self.reporting():
            zarr.open_group(self.store, mode="a").update_attributes(mark)
            if not _is_url(self.path):
                self._partial.replace(self.path)

    def discard(self) -> None:
        """Remove what was written."""
        if _is_url(self.path):
            import fsspec

            files, path = fsspec.core.url_to_fs(self.path)
            with contextlib.suppress(OSError):
                files.rm(path, recursive=True)
        else:
            shutil.rmtree(self._partial, ignore_errors=True)


def open_results(path: str | Path) -> xr.DataTree:
    """Open a result that was written before.

    Args:
        path: Directory or fsspec URL of the store: what the tree had as ``artifact_path``.

    Returns:
        The tree as it was, with its dimensions, coordinates, chains and attributes. A small one is
        in memory, a larger one reads what is asked of it.

    Raises:
        ArtifactGoneError: If there is nothing at ``path``.
        ArtifactError: If what is there is incomplete, or not a result of this package.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tree = im.predict(X, output_dir=folder, progress=False)
        ...     again = open_results(tree.attrs["artifact_path"])
        >>> again.equals(tree)
        True
    """
    return read_store(str(_location(path)))


def read_store(path: str, owner: Owner | None = None) -> xr.DataTree:
    """Open a complete store; ``owner`` keeps a temporary one alive. See :func:`open_results`."""
    if not _is_url(path) and not Path(path).exists():
        msg = f"There is no result at {path}; it was never written, or has been removed."
        raise ArtifactGoneError(msg)
    remote = _is_url(path)
    inner = _remote_store(path, read_only=True) if remote else LocalStore(path, read_only=True)
    store = GuardedStore(inner, path, owner)
    root = _checked_root(store, path)
    tree = xr.DataTree.from_dict(
        {name: _read_group(store, name) for name in sorted(root.group_keys())}
    )
    tree.attrs = {name: value for name, value in root.attrs.items() if name != _MARK}
    tree.attrs["artifact_path"] = path
    if tree.nbytes <= LOADED_BYTES:
        tree.load()
    # Whoever holds the tree keeps a temporary store, also when all of it is in memory.
    tree.encoding["owner"] = owner
    return tree


def _checked_root(store: GuardedStore, path: str) -> zarr.Group:
    try:
        root = zarr.open_group(store, mode="r")
    except (FileNotFoundError, zarr.errors.NodeTypeValidationError) as error:
        msg = (
            f"{path} is not a complete result: its writing was interrupted, or it was not written "
            "by this package. Remove it and compute the result again."
        )
        raise ArtifactError(msg) from error
    mark = root.attrs.get(_MARK)
    if not isinstance(mark, Mapping) or not mark.get("complete"):
        msg = f"{path} is a Zarr group, but not a result of this package."
        raise ArtifactError(msg)
    if mark["format"] > FORMAT:
        msg = f"{path} has format {mark['format']}; this version reads up to {FORMAT}. Upgrade."
        raise ArtifactError(msg)
    return root


def _read_group(store: GuardedStore, name: str) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
        dataset = xr.open_zarr(store, group=name, chunks={}, consolidated=False)
    for site in dataset.data_vars:
        order = dataset[site].attrs.pop(_ORDER, None)
        if order is not None:
            dataset[site] = dataset[site].transpose(*order)
    return dataset


def _codec(dtype: Any) -> Any:
    """Compress whole numbers; the last bits of drawn reals are noise, which only costs time."""
    if zarr.dtype.parse_dtype(dtype, zarr_format=3).to_native_dtype().kind == "f":
        return None
    return zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle")


def _location(path: str | Path | None) -> str | Path | None:
    """A URL as it is, anything else as an absolute path; ``file://`` is the local file system."""
    if path is None:
        return None
    text = str(path)
    for scheme in ("file://", "local://"):
        text = text.removeprefix(scheme)
    return text if _is_url(text) else Path(text).expanduser().resolve()


def _is_url(path: Any) -> bool:
    return path is not None and "://" in str(path)


def _remote_store(url: str, *, read_only: bool = False) -> Any:
    try:
        import fsspec  # noqa: F401
    except ImportError as error:
        msg = "Writing to a URL needs fsspec; pip install 'aimz_lab[remote]'."
        raise OptionalDependencyError(msg) from error
    from zarr.storage import FsspecStore

    with warnings.catch_warnings():
        # Only says that a file system is not asynchronous.
        warnings.filterwarnings("ignore", message=".*was not created with.*asynchronous")
        return FsspecStore.from_url(url, read_only=read_only)
