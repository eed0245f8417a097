"""Write and read checkpoints, so that a run can continue as if it had never stopped.

A checkpoint is one file (see :mod:`.archive`). It holds the state of the run
(optimizer, mutable sites, random key, gradients not yet applied), the position in the data, the
history, the changes of the learning rate, the best states and those that may become it, the keys of
the fit, and the facts that a resumed run must share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import CheckpointError, FitWarning
from aimz_lab.files import Malformed, Value, as_path, refusing
from aimz_lab.inference.checkpoint.archive import PARTIAL, read_archive, write_archive
from aimz_lab.inference.checkpoint.content import Content, check_history, check_position
from aimz_lab.inference.checkpoint.provenance import Origin, versions
from aimz_lab.inference.checkpoint.resumed_state import rate_changes_to_resume, state_to_resume
from aimz_lab.inference.checkpoint.trees import (
    differences,
    state_differences,
    tree_arrays,
    tree_facts,
    tree_from,
)
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.model_code import ModelCode
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.records import Best, TrainerState
from aimz_lab.system.paths import naming
from aimz_lab.tracebacks import warn
from aimz_lab.types import JsonObject, shown

_FORMAT = 6
_RATE = ".rate"
"""Path in the state of a learning rate that was set; absent if nobody has set one."""
_NAME = re.compile(r"(\d{6,})-step-(\d+)\.npz")
_HINT = "Resume from another checkpoint, or fit without resume=."


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        path: Its file.
        content: Its plain values.
        arrays: Its arrays by name.
    """

    path: Path
    content: Content
    arrays: Mapping[str, np.ndarray]

    @property
    def step(self) -> int:
        """Steps of the run so far."""
        return len(self.arrays["history/loss"])

    @property
    def position(self) -> Position:
        """Position in the data of the next step."""
        return self.content.position

    @property
    def origin(self) -> Origin:
        """The keys of the fit."""
        return self.content.origin

    def check(self, facts: JsonObject, code: ModelCode, steps_per_epoch: int | None = None) -> None:
        """Check that a run with these facts may go on from here.

        Args:
            facts: Facts of the new run; see :mod:`.provenance`.
            code: What its kernel, guide and optimizer say.
            steps_per_epoch: Batches of each epoch, where they can be counted.

        Raises:
            CheckpointError: If they differ; the message names the differences.

        Warns:
            FitWarning: If other package versions wrote it; the last bits of losses may differ. If
                optimizer or loss have other settings. If a source was not compared.
        """
        there = self.content.code
        found = differences(self.content.facts, facts)
        self._refuse([*found, *there.other_optimizer(code), *there.differences(code)])
        there.warn_of_settings(code)
        there.warn_if_not_compared(code, self.path)
        if steps_per_epoch is not None:
            with self._reading():
                check_position(
                    self.position, self.step, self.arrays["history/epoch"], steps_per_epoch
                )
        differ = differences(self.content.versions, versions())
        if differ:
            msg = f"The losses may differ in their last bits: {'; '.join(differ[:6])}."
            warn(msg, FitWarning)

    def restore(self, run: Run, template: TrainerState) -> TrainerState:
        """Give a new run the history and the best states of the checkpoint.

        Args:
            run: The run.
            template: A state of the trainer, for its structure.

        Returns:
            The trainer's state to begin with.

        Raises:
            CheckpointError: If the state here has another structure, shape or type.
        """
        content = self.content
        if _RATE in content.state:  # set during the run
            template = template._replace(rate=np.zeros((), jnp.result_type(float)))
        self._refuse(state_differences(content.state, tree_facts(template)))
        with self._reading():
            state = tree_from(self.arrays, "state", template)
            states = {self.step: state}
            for step in content.kept_steps(self.step):
                states[step] = tree_from(self.arrays, f"kept/{step}", template)
        run.take_over(
            {name: self.arrays[f"history/{name}"] for name in run.columns},
            {name: self.arrays[f"metric/{i}"] for i, name in enumerate(content.metrics)},
            content.rate_changes,
        )
        run.validation = zip(
            self.arrays["validation/steps"].tolist(),
            self.arrays["validation/losses"].tolist(),
            strict=True,
        )
        run.skipped = content.skipped
        for kept, found in ((run.best, content.best), (run.candidates, content.candidates)):
            for name, (value, step) in found.items():
                kept[name] = Best(value, step, states[step], name)
        own = None
        if content.best_so_far is not None:
            monitor, value, step = content.best_so_far
            own = Best(value, step, states[step], monitor)
        run.take_over_best(own)
        if own is not None and run.own_best is None:
            run.notes.append(
                "The best state of before the checkpoint was judged by the training loss and is "
                "not kept: this run judges by the held-out loss."
            )
        return state

    def _reading(self) -> AbstractContextManager[None]:
        return refusing(f"{self.path} cannot be resumed", CheckpointError, _HINT)

    def _refuse(self, found: list[str]) -> None:
        if found:
            more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
            msg = (
                f"{self.path} is the checkpoint of another run: {'; '.join(found[:6])}{more}."
                " Build model, data and settings as they were, or fit without resume=."
            )
            raise CheckpointError(msg)


def save_checkpoint(path: Path, run: Run) -> None:
    """Write the checkpoint of a run between two chunks or after its end, atomically.

    Args:
        path: The file, in a folder that exists.
        run: The run; if it diverged, the model went back to a state.

    Raises:
        CheckpointError: If the run is not a fit: a hand-written loop keeps its own state; or if
            there is more than would be read.
        ArtifactWriteError: If the file cannot be written; nothing is left of it.
    """
    check_can_save(run)
    state = state_to_resume(run)
    columns, metrics = run.kept()
    arrays = {f"history/{name}": kept for name, kept in columns.items()}
    arrays |= {f"metric/{i}": kept for i, kept in enumerate(metrics.values())}
    arrays |= {"validation/steps": run.validation.steps, "validation/losses": run.validation.losses}
    arrays |= tree_arrays("state", state)
    states = {best.step: best.state for best in _kept(run)}
    states.pop(run.step, None)
    for step, kept in states.items():
        # Its rate is of no use, and has the place of the state's.
        arrays |= tree_arrays(f"kept/{step}", kept._replace(rate=state.rate))
    try:
        with naming(path, "checkpoint"):
            write_archive(path, _manifest(run, state), arrays)
    except Malformed as error:
        msg = f"The checkpoint {path} cannot be written: {error}."
        raise CheckpointError(msg) from error


def _kept(run: Run) -> list[Best]:
    """The states of a run that a checkpoint keeps beside the one to go on from."""
    own = run.own_best
    return [*run.best.values(), *_candidates(run).values(), *([] if own is None else [own])]


def _candidates(run: Run) -> dict[str, Best]:
    """The states that the next steps judge: none, if these go on from another state."""
    return {} if run.has_diverged else run.candidates


def check_can_save(run: Run) -> None:
    """Check that a run can be checkpointed.

    Raises:
        CheckpointError: If it is a hand-written loop.
    """
    if run.state is None or not run.provenance:
        msg = "Only fit and fit_on_batch can be checkpointed; your own loop keeps its own state."
        raise CheckpointError(msg)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        path: Its file, or a folder; the newest complete checkpoint in it is read.

    Raises:
        CheckpointError: If there is no complete one.
    """
    with refusing(f"{shown(path)} cannot be read", CheckpointError):
        path = as_path(path)
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            msg = (
                f"{path} does not exist; resume= takes a checkpoint's file, or the folder that "
                "lab.ModelCheckpoint writes to."
            )
            raise CheckpointError(msg)
        files = sorted(numbered(path), reverse=True) if is_folder else []
    if not is_folder:
        return _load_file(path)
    failures = []
    for _, file in files:
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
    """Return the path of the next checkpoint in a folder."""
    number = 1 + max((number for number, _ in numbered(folder)), default=0)
    return folder / f"{number:06d}-step-{step}.npz"


def remove_partial(folder: Path) -> None:
    """Remove the incomplete files of processes that were killed."""
    for path in folder.glob(f"*.npz{PARTIAL}"):
        path.unlink(missing_ok=True)


def _load_file(path: Path) -> Checkpoint:
    manifest, arrays = read_archive(path)
    if manifest.get("format") != _FORMAT:
        msg = (
            f"{path} has the format {shown(manifest.get('format'))}, and format {_FORMAT} is "
            "understood; read it with the release that wrote it."
        )
        raise CheckpointError(msg)
    with refusing(f"{path} is no complete checkpoint", CheckpointError):
        content = Content.of_plain(Value(manifest))
        check_history(content, arrays)
    return Checkpoint(path, content, arrays)


def _manifest(run: Run, state: TrainerState) -> JsonObject:
    own = run.own_best
    return {
        "format": _FORMAT,
        "position": list(run.position),
        "state_of_step": run.step_of_model if run.has_diverged else run.step,
        "metrics": list(run.metrics),
        "skipped": run.skipped,
        "rate_changes": [list(astuple(change)) for change in rate_changes_to_resume(run)],
        "state": tree_facts(state),
        "best": {name: [best.value, best.step] for name, best in run.best.items()},
        "candidates": {name: [best.value, best.step] for name, best in _candidates(run).items()},
        "best_so_far": own and [own.monitor, own.value, own.step],
        "provenance": dict(run.provenance),
        "versions": versions(),
    }
