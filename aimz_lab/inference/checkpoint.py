"""Checkpoints: all that a run needs to go on as if it had never stopped.

A checkpoint is one file, see :mod:`aimz_lab.inference.archive`. It holds the trainer's state
(optimizer, mutable sites, random key, gradients not yet applied), the position in the data, the
history, the best states, the keys of the fit, and what the run is a run of.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import CheckpointError, FitWarning
from aimz_lab.inference.archive import PARTIAL, read_archive, write_archive
from aimz_lab.inference.events import Run, Steps
from aimz_lab.inference.feed import Position
from aimz_lab.inference.guard import Best
from aimz_lab.inference.provenance import Origin, versions
from aimz_lab.inference.rates import set_learning_rate

_FORMAT = 1
_NAME = re.compile(r"(\d{6})-step-(\d+)\.npz")
_COLUMNS = ("epoch", "loss", "rows", "n_pad")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and is whole.

    Attributes:
        path: Where it was read from.
        manifest: Its plain values.
        arrays: Its arrays by name.
    """

    path: Path
    manifest: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """Steps that were done."""
        return len(self.arrays["history/loss"])

    @property
    def position(self) -> Position:
        """Where in the data the next step begins."""
        return Position(*self.manifest["position"])

    @property
    def origin(self) -> Origin:
        """The keys of the fit."""
        return Origin.of_plain(self.manifest["provenance"]["origin"])

    def check(self, facts: Mapping[str, Any]) -> None:
        """Make sure that a run with these facts is the one that was stopped.

        Args:
            facts: From :func:`aimz_lab.inference.provenance.describe_training`, among others.

        Raises:
            CheckpointError: If they differ; the message says in what.

        Warns:
            FitWarning: If other versions wrote it, so that the last bits of a loss may differ.
        """
        self._refuse(_differences(self.manifest["provenance"]["facts"], facts))
        differ = _differences(self.manifest["versions"], versions())
        if differ:
            msg = f"The losses may differ in their last bits: {'; '.join(differ)}."
            warnings.warn(msg, FitWarning, stacklevel=2)

    def restore(self, run: Run, template: Any) -> Any:
        """Give a run that has not begun the history and the best states of this one.

        Args:
            run: The run.
            template: A state of the trainer, for its structure.

        Returns:
            The trainer's state to go on from.

        Raises:
            CheckpointError: If the state here has another structure, shape or type.
        """
        state = self._read_tree("state", template)
        columns = {name: self.arrays[f"history/{name}"] for name in _COLUMNS}
        metrics = {
            name: self.arrays[f"metric/{i}"] for i, name in enumerate(self.manifest["metrics"])
        }
        seconds = self.manifest["seconds"]
        run.record(Steps(first=1, **columns, seconds=seconds, metrics=metrics))
        run.validation[:] = [(step, loss) for step, loss in self.manifest["validation"]]
        run.skipped = self.manifest["skipped"]
        run.resumed_at = run.step
        for i, (name, best) in enumerate(self.manifest["best"].items()):
            best_state = self._read_tree(f"best/{i}", template)
            run.best[name] = Best(best["value"], best["step"], best_state)
        return state

    def _read_tree(self, prefix: str, template: Any) -> Any:
        self._refuse(_differences(self.manifest["state"], _tree_facts(template)))
        leaves, structure = jax.tree.flatten(template)
        arrays = [self.arrays[f"{prefix}/{i}"] for i in range(len(leaves))]
        pairs = zip(arrays, leaves, strict=True)
        return jax.tree.unflatten(structure, [_leaf_like(array, leaf) for array, leaf in pairs])

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            more = f"; and {len(differences) - 6} more" if len(differences) > 6 else ""
            msg = (
                f"{self.path} is the checkpoint of another run: {'; '.join(differences[:6])}{more}."
                " Build model, data and settings as they were, or fit without resume=."
            )
            raise CheckpointError(msg)


def save_checkpoint(path: Path, run: Run) -> None:
    """Write the checkpoint of a run between two of its chunks; atomic.

    Args:
        path: The file; its folder is there.
        run: The run, which knows its state and position.

    Raises:
        CheckpointError: If the run is no fit, so that nobody knows its state.
        OSError: If the file cannot be written.
    """
    check_can_save(run)
    state = run.state
    rate = run.control.requested_learning_rate
    if rate is not None:
        # What was asked for counts as done: the next step would have had it.
        optim_state = set_learning_rate(state.svi.optim_state, rate)
        state = state._replace(svi=state.svi._replace(optim_state=optim_state))
    arrays = {f"history/{name}": run.column(name) for name in _COLUMNS}
    arrays |= {f"metric/{i}": run.column(name) for i, name in enumerate(run.metrics)}
    arrays |= _tree_arrays("state", state)
    for i, best in enumerate(run.best.values()):
        arrays |= _tree_arrays(f"best/{i}", best.state)
    write_archive(path, _manifest(run, state), arrays)


def check_can_save(run: Run) -> None:
    """Make sure that a run knows all that a checkpoint holds.

    Raises:
        CheckpointError: If it is a loop that is written by hand.
    """
    if run.state is None or not run.provenance:
        msg = "Only fit and fit_on_batch can be checkpointed; your own loop keeps its own state."
        raise CheckpointError(msg)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: Its file, or a folder of them, of which the newest that is whole is taken.

    Raises:
        CheckpointError: If there is none that is whole.
    """
    path = Path(path)
    if not path.is_dir():
        return _load_file(path)
    failures = []
    for _, file in sorted(numbered(path), reverse=True):
        try:
            return _load_file(file)
        except CheckpointError as error:
            failures.append(str(error))
    msg = f"{path} holds no complete checkpoint. " + (" ".join(failures) or "It has none at all.")
    raise CheckpointError(msg)


def numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    """Yield the number and the path of each checkpoint in a folder; higher is newer."""
    for path in folder.iterdir():
        if match := _NAME.fullmatch(path.name):
            yield int(match[1]), path


def next_path(folder: Path, step: int) -> Path:
    """Return the path for one more checkpoint in a folder, newer than those that are there."""
    number = 1 + max((number for number, _ in numbered(folder)), default=0)
    return folder / f"{number:06d}-step-{step}.npz"


def remove_partial(folder: Path) -> None:
    """Remove what a process left half-written in a folder when it was killed."""
    for path in folder.glob(f"*.npz{PARTIAL}"):
        path.unlink(missing_ok=True)


def _load_file(path: Path) -> Checkpoint:
    manifest, arrays = read_archive(path)
    if manifest.get("format") != _FORMAT:
        msg = (
            f"{path} has the format {manifest.get('format')!r}, and format {_FORMAT} is understood;"
            " read it with the release that wrote it."
        )
        raise CheckpointError(msg)
    return Checkpoint(path, manifest, arrays)


def _manifest(run: Run, state: Any) -> dict[str, Any]:
    seconds = run.column("seconds")
    return {
        "format": _FORMAT,
        "position": list(run.position),
        "metrics": list(run.metrics),
        "seconds": float(seconds[-1]) if len(seconds) else 0.0,
        "validation": [[int(step), float(loss)] for step, loss in run.validation],
        "skipped": run.skipped,
        "state": _tree_facts(state),
        "best": {name: {"value": best.value, "step": best.step} for name, best in run.best.items()},
        "provenance": dict(run.provenance),
        "versions": versions(),
    }


def _tree_facts(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): _kind(leaf) for path, leaf in leaves}


def _kind(leaf: Any) -> str:
    if _is_key(leaf):
        return f"key {jax.random.key_impl(leaf)}{list(leaf.shape)}"
    array = jnp.asarray(leaf)
    return f"{array.dtype}{list(array.shape)}"


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _tree_arrays(prefix: str, tree: Any) -> dict[str, np.ndarray]:
    return {f"{prefix}/{i}": _to_array(leaf) for i, leaf in enumerate(jax.tree.leaves(tree))}


def _to_array(leaf: Any) -> np.ndarray:
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    # Types that NumPy itself does not have, such as bfloat16, go by their bits.
    return array if array.dtype.kind in "biufc" else array.view(f"u{array.dtype.itemsize}")


def _leaf_like(array: np.ndarray, template: Any) -> Any:
    if _is_key(template):
        return jax.random.wrap_key_data(array, impl=str(jax.random.key_impl(template)))
    template = jnp.asarray(template)
    if template.weak_type and array.ndim == 0:
        # A weakly typed counter stays one: the same program, and so the same bits, as before.
        return jnp.asarray(array.item())
    return jnp.asarray(array.view(template.dtype))


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Say in what two mappings differ, in the order of the first."""
    missing = "missing"
    return [
        f"{name} is {there.get(name, missing)} there and {here.get(name, missing)} here"
        for name in dict.fromkeys([*there, *here])
        if there.get(name, missing) != here.get(name, missing)
    ]
