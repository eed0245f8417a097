"""Write results to Zarr v3 stores and read them; an incomplete store is never read as a result.

A store has one group per group of the tree; its arrays have the dimensions ``chain``, ``draw``,
rows, others. The mark that it is complete is written to its root last. On a local file system the
store is written under another name and then renamed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from aimz_lab.calls import public
from aimz_lab.errors import AimzLabError, ArgumentError, ArtifactError, ArtifactWriteError
from aimz_lab.predictive.results.contents import check_metadata, check_sizes, check_there
from aimz_lab.predictive.results.damage import METADATA, damaged
from aimz_lab.predictive.results.datasets import tree_of, with_levels
from aimz_lab.predictive.results.locations import (
    exists,
    location,
    nothing_at,
    remote_store,
    stored_files,
)
from aimz_lab.predictive.results.owner import Owner
from aimz_lab.predictive.results.plain_arrays import (
    SMALL_BYTES,
    arrays_of,
    as_read,
    group_file,
)
from aimz_lab.system.imports import late_import
from aimz_lab.system.interrupts import hold_interrupts
from aimz_lab.system.lazy_modules import xr, zarr
from aimz_lab.system.leftovers import keep_folder, make_folder, remove_folder, remove_leftovers
from aimz_lab.system.paths import is_url, remedy_of

if TYPE_CHECKING:
    from aimz_lab.predictive.results.checked_store import CheckedStore, WrittenStore

FORMAT = 2
_MARK = "aimz_lab"
_ORDER = "aimz_lab_dims"
PARTIAL = ".partial"
"""End of the names of folders that are still being written."""

_LAST_WRITE_S = 30.0
"""How long a failed call waits for the last chunks on their way to a file system."""

LOADED_BYTES = 128 * 2**20
"""Results up to this size in bytes are loaded into memory, where ArviZ needs them."""


@contextlib.contextmanager
def new_store(output_dir: str | Path | None, label: str) -> Iterator[StoreWriter]:
    """Make a store that is complete after the block, or leaves nothing.

    An error or Ctrl-C in the block removes it, also where that comes as it is made or published.

    Args:
        output_dir: As for :class:`StoreWriter`.
        label: Likewise.

    Raises:
        ArtifactWriteError: If it cannot be written to.
        ArgumentError: If it is a URL of an unknown kind.
        OptionalDependencyError: If a package for such URLs is missing.
    """
    writer = StoreWriter(output_dir, label)
    try:
        with hold_interrupts():
            writer.begin()
        yield writer
    except BaseException:
        with hold_interrupts():
            writer.discard()
        raise


class StoreWriter:
    """Writes a result to a new store, which exists after :meth:`publish`.

    Args:
        output_dir: Directory or fsspec URL in which the store gets a name of its own; ``None`` for
            a temporary store.
        label: Part of the name.

    Attributes:
        owner: Owner of a temporary store; else ``None``.
        path: Where the store is once it is published.

    Raises:
        ArgumentError: If ``output_dir`` is no path.
    """

    def __init__(self, output_dir: str | Path | None, label: str) -> None:
        self._name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}_{label}.zarr"
        self._directory = location("output_dir", output_dir)
        self.owner: Owner | None = None
        self.path = str(self._directory)
        self._partial: Path | None = None
        self._store: WrittenStore | None = None
        self._written: dict[str, set[str]] = {}
        self._plain: set[str] = set()

    def begin(self) -> None:
        """Make the store, and remove what killed processes left in its directory.

        Raises:
            ArtifactWriteError: If it cannot be written to.
            ArgumentError: If it is a URL of an unknown kind.
            OptionalDependencyError: If a package for such URLs is missing.
        """
        if is_url(self._directory):
            self.path = f"{self._directory.rstrip('/')}/{self._name}"
            with self.reporting():
                self._store = _stores().WrittenStore(remote_store(self.path))
                # It has its final name at once, and stays visible if writing is cut off.
                self._mark(complete=False)
            return
        with self.reporting(str(self._directory or tempfile.gettempdir())):
            if self._directory is None:
                self.owner = Owner()
                self._directory = self.owner.path
            else:
                self._directory.mkdir(parents=True, exist_ok=True)
                remove_leftovers(self._directory, ".", PARTIAL)
            self.path = str(self._directory / self._name)
            self._partial = make_folder(self._directory, f".{self._name}.", PARTIAL)
            self._store = _stores().WrittenStore(zarr.storage.LocalStore(self._partial))

    @property
    def address(self) -> str:
        """Folder or URL of the store while it is written."""
        return str(self._partial or self.path)

    def takes_whole(self, n_bytes: int) -> bool:
        """Whether a result of this size is better made in memory and then written at once.

        Args:
            n_bytes: Bytes of its sites with rows.
        """
        return self._partial is not None and n_bytes <= min(SMALL_BYTES, LOADED_BYTES)

    @property
    def folds_case(self) -> bool:
        """Whether it is on a file system that does not tell upper from lower case."""
        swapped = self._partial and self._partial.with_name(self._partial.name.swapcase())
        return bool(swapped and swapped.exists())

    @contextlib.contextmanager
    def reporting(self, path: str | None = None) -> Iterator[None]:
        """Turn errors of the file system into ours, which name the path and a remedy."""
        try:
            yield
        except OSError as error:
            where = path or self.path
            msg = (
                f"The result could not be written to {where}: {error}. Nothing was kept. "
                f"{remedy_of(error)} The path is output_dir=; store='memory' needs none."
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
                self._store,
                name=f"{group}/{name}",
                shape=shape,
                chunks=chunks,
                dtype=dtype,
                dimension_names=stored_dims,
                compressors=_compressors(dtype),
                attributes={_ORDER: list(dims)},
                # A chunk of zeros is written too, so that a missing chunk always means a loss.
                config={"write_empty_chunks": True},
            )

    def write_dataset(self, group: str, dataset: xr.Dataset) -> None:
        """Write coordinates, attributes and small variables of a group."""
        self._written.setdefault(group, set()).update(map(str, dataset.variables))
        marked = dataset.copy()
        for name in marked.data_vars:
            variable = marked.variables[name]
            variable.attrs = {**variable.attrs, _ORDER: list(variable.dims)}
        with self.reporting(), warnings.catch_warnings():
            # Zarr stores text labels in a stable way, but its specification is a draft.
            warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
            files = arrays_of(group, marked) if self._partial else {}
            rest = marked.drop_vars(files)
            if rest.variables or not files:
                rest.to_zarr(
                    self._store,
                    group=group,
                    encoding={
                        name: {"compressors": _compressors(variable.dtype)}
                        for name, variable in rest.variables.items()
                    },
                    mode="a",
                    zarr_format=3,
                    consolidated=False,
                    write_empty_chunks=True,
                )
            else:
                self._plain.add(group)
                self._store.write_files(self._partial, group_file(group, dataset.attrs))
            for each in files.values():
                self._store.write_files(self._partial, each)

    def publish(self, groups: Mapping[str, xr.Dataset] | None = None) -> xr.DataTree:
        """Declare the store complete, give it its name, and open it.

        Args:
            groups: What was written, by group, if that is little: only those groups are read again
                whose labels are stored in another form.

        Raises:
            ArtifactWriteError: If that fails.
        """
        with self.reporting(), hold_interrupts():
            self._mark(complete=True)
            if self._partial:
                self._partial.replace(self.path)
                keep_folder(self._partial)
        if groups is None:
            return read_store(self.path, self.owner)
        inner = zarr.storage.LocalStore(self.path, read_only=True)
        store = _stores().CheckedStore(inner, self.path, self.owner, self._store.checksums)
        with _reading(self.path):
            found = {
                name: as_read(groups[name]) if name in self._plain else _read_group(store, name)
                for name in sorted(groups)
            }
            return _owned_tree(found, {}, self.path, self.owner)

    def _mark(self, *, complete: bool) -> None:
        """Write to the root what the store consists of, and whether it is complete."""
        mark = {
            "format": FORMAT,
            "complete": complete,
            "arrays": {group: sorted(names) for group, names in self._written.items()},
            "checksums": self._store.checksums,
        }
        attributes = {_MARK: {**mark, "checksum": _checksum({_MARK: mark})}}
        if self._partial:
            self._store.write_files(self._partial, group_file("", attributes))
        else:
            zarr.open_group(self._store, mode="a", zarr_format=3).update_attributes(attributes)

    def discard(self) -> None:
        """Remove the store, published or not, once nothing is written to it any more."""
        if self._store:
            self._store.stop(_LAST_WRITE_S)
        if self.owner:
            self.owner.remove()
        elif self._partial:
            remove_folder(self._partial)
            shutil.rmtree(self.path, ignore_errors=True)
        elif self._store:
            files, path = late_import("fsspec").core.url_to_fs(self.path)
            with contextlib.suppress(OSError):
                files.rm(path, recursive=True)


@public
def open_results(path: str | Path) -> xr.DataTree:
    """Open a stored result.

    Args:
        path: Directory or fsspec URL of the store: the attribute ``artifact_path`` of the tree.

    Returns:
        The stored tree, with its dimensions, coordinates, chains and attributes. A small one is
        loaded; a larger one reads its parts when they are used.

    Raises:
        ArtifactGoneError: If there is nothing at ``path``, or a part of it is missing.
        ArtifactError: If it is incomplete, damaged, or not a result of this package.
        ArgumentError: If ``path`` is no path, or a URL of an unknown kind.
        OptionalDependencyError: If a package for such URLs is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tree = im.predict(X, output_dir=folder, progress=False)
        ...     again = open_results(tree.attrs["artifact_path"])
        >>> again.equals(tree)
        True
    """
    if path is None:
        msg = "path=None is no path; pass the attribute 'artifact_path' of a stored result."
        raise ArgumentError(msg)
    return read_store(str(location("path", path)))


def _stores() -> ModuleType:
    """The module of verified stores, which imports Zarr."""
    return late_import("aimz_lab.predictive.results.checked_store")


def read_store(path: str, owner: Owner | None = None) -> xr.DataTree:
    """Open a complete store; ``owner`` keeps a temporary one alive. See :func:`open_results`."""
    remote = is_url(path)
    make = remote_store if remote else zarr.storage.LocalStore
    inner = make(path, read_only=True)
    if not exists(path):
        raise nothing_at(path)
    store = _stores().CheckedStore(inner, path, owner)
    with _reading(path):
        files = stored_files(path)
        check_metadata(files, path)
        root, written = _checked_root(store, path)
        check_there(store.checksums, files, path)
        check_sizes(root, written, files, path)
        groups = {name: _read_group(store, name) for name in sorted(written)}
        attrs = {name: value for name, value in root.attrs.items() if name != _MARK}
        return _owned_tree(groups, attrs, path, owner)


def _owned_tree(
    groups: Mapping[str, xr.Dataset],
    attrs: Mapping[str, object],
    path: str,
    owner: Owner | None,
) -> xr.DataTree:
    """Return the tree of a store at a path; a small one is in memory."""
    tree = tree_of(groups)
    if tree.nbytes <= LOADED_BYTES:
        tree.load()
    tree.attrs = dict(attrs)
    for node in tree.subtree:
        node.attrs["artifact_path"] = path
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
    except OSError as error:
        msg = f"The result at {path} cannot be read: {error}."
        raise ArtifactError(msg) from error
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        MemoryError,
    ) as error:
        msg = (
            f"The result at {path} cannot be read; a part of it is damaged: "
            f"{type(error).__name__}: {error}. Remove it and compute the result again."
        )
        raise ArtifactError(msg) from error


def _checked_root(store: CheckedStore, path: str) -> tuple[zarr.Group, Mapping[str, list[str]]]:
    """Return the root and its arrays by group, as they were written."""
    incomplete = (
        f"{path} is not a complete result: its writing was interrupted, or it was not written "
        "by this package. Remove it and compute the result again."
    )
    inside = [] if is_url(path) else sorted(Path(path).glob("*.zarr"))
    if inside:
        incomplete = (
            f"{path} is a folder of results and no result itself; open one of them, such as "
            f"{inside[-1]}: the attribute 'artifact_path' of the tree names it."
        )
    try:
        root = zarr.open_group(store, mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, zarr.errors.NodeTypeValidationError) as error:
        raise ArtifactError(incomplete) from error
    mark = root.attrs.get(_MARK)
    if not isinstance(mark, Mapping):
        msg = f"{path} is a Zarr group, but not a result of this package."
        raise ArtifactError(msg)
    if mark.get("format") != FORMAT:
        msg = (
            f"{path} has format {mark.get('format')!r}, and this version reads format {FORMAT}; "
            "read it with the version that wrote it."
        )
        raise ArtifactError(msg)
    attributes = dict(root.attrs)
    attributes[_MARK] = {name: value for name, value in mark.items() if name != "checksum"}
    if mark.get("checksum") != _checksum(attributes):
        raise damaged(path, f"the attributes in {METADATA} are not as they were written")
    if mark["complete"] is not True:
        raise ArtifactError(incomplete)
    store.checksums.update(mark["checksums"])
    return root, mark["arrays"]


def _checksum(attributes: Mapping[str, object]) -> int:
    """Checksum of the root's attributes, whatever the order and the spaces in the file."""
    return zlib.crc32(json.dumps(attributes, sort_keys=True).encode())


def _read_group(store: CheckedStore, name: str) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=zarr.errors.UnstableSpecificationWarning)
        dataset = xr.open_zarr(store, group=name, chunks={}, consolidated=False, zarr_format=3)
    for site in dataset.data_vars:
        order = dataset[site].attrs.pop(_ORDER, None)
        if order is not None:
            dataset[site] = dataset[site].transpose(*order)
    return with_levels(dataset)


def _compressors(dtype: np.dtype) -> tuple[zarr.abc.codec.BytesBytesCodec, ...]:
    """Compress all but drawn reals, whose last bits are noise; end with a checksum."""
    checksum = zarr.codecs.Crc32cCodec()
    if dtype.kind in "OSUT":
        return zarr.codecs.BloscCodec(
            cname="lz4", clevel=1, shuffle="noshuffle", typesize=1
        ), checksum
    if zarr.dtype.parse_dtype(dtype, zarr_format=3).to_native_dtype().kind == "f":
        return (checksum,)
    return zarr.codecs.BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"), checksum
