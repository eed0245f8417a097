"""The plain values of a checkpoint, and their agreement with its history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from aimz_lab.files import Malformed, Value
from aimz_lab.inference.checkpoint.provenance import Origin
from aimz_lab.inference.checkpoint.trees import check_array, check_names
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.run.steps import COLUMN_TYPES, METRIC_TYPE
from aimz_lab.types import JsonObject


@dataclass(frozen=True)
class Content:
    """The plain values of a checkpoint.

    Attributes:
        position: Position in the data of the next step.
        metrics: Names of the further values of the steps.
        validation: Pairs of step and held-out loss.
        skipped: Steps that were left out because they were not finite.
        state: Types and shapes of the state, by path.
        best: The value of a monitor and its step, by name.
        facts: Facts that a resumed run must share.
        origin: The keys of the fit.
        versions: Versions of the packages that wrote it.
    """

    position: Position
    metrics: tuple[str, ...]
    validation: list[tuple[int, float]]
    skipped: int
    state: dict[str, str]
    best: dict[str, tuple[float, int]]
    facts: JsonObject
    origin: Origin
    versions: dict[str, str]

    @classmethod
    def of_plain(cls, plain: Value) -> Content:
        """Read the manifest of a checkpoint.

        Raises:
            Malformed: If it is none.
        """
        fields = plain.fields("format", "provenance", *_FIELDS)
        provenance = fields["provenance"].fields("facts", "origin")
        epoch, batch = (part.whole() for part in fields["position"].listed(2))
        pairs = [pair.listed(2) for pair in fields["validation"].listed()]
        best = {name: pair.listed(2) for name, pair in fields["best"].named().items()}
        return cls(
            position=Position(epoch, batch),
            metrics=fields["metrics"].names(),
            validation=[(step.whole(), loss.number(finite=False)) for step, loss in pairs],
            skipped=fields["skipped"].whole(),
            state={path: fact.text() for path, fact in fields["state"].named().items()},
            best={name: (value.number(), step.whole()) for name, (value, step) in best.items()},
            facts={name: fact.value for name, fact in provenance["facts"].named().items()},
            origin=Origin.of_plain(provenance["origin"]),
            versions={name: v.text() for name, v in fields["versions"].named().items()},
        )


_FIELDS = ("position", "metrics", "validation", "skipped", "state", "best", "versions")


def check_history(content: Content, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that plain values and arrays of a checkpoint tell of the same steps.

    Raises:
        Malformed: With what does not agree.
    """
    leaves = range(len(content.state))
    check_names(
        arrays,
        [
            *(f"history/{name}" for name in COLUMN_TYPES),
            *(f"metric/{i}" for i in range(len(content.metrics))),
            *(f"state/{i}" for i in leaves),
            *(f"best/{i}/{j}" for i in range(len(content.best)) for j in leaves),
        ],
    )
    steps = len(np.atleast_1d(arrays["history/loss"]))
    for name, dtype in COLUMN_TYPES.items():
        check_array(f"history/{name}", arrays[f"history/{name}"], dtype, (steps,))
    for i in range(len(content.metrics)):
        check_array(f"metric/{i}", arrays[f"metric/{i}"], METRIC_TYPE, (steps,))
    if set(content.metrics) & set(COLUMN_TYPES):
        msg = f"metrics is {list(content.metrics)}; expected other names than {list(COLUMN_TYPES)}"
        raise Malformed(msg)
    columns = {name: arrays[f"history/{name}"] for name in COLUMN_TYPES}
    check_columns(columns)
    if (np.diff(columns["epoch"], prepend=1) > np.arange(steps).clip(max=1)).any():
        msg = "the column 'epoch' of the history does not count from 1 without a gap"
        raise Malformed(msg)
    check_position(content.position, columns["epoch"])
    _check_steps(content, arrays["history/loss"])


def check_columns(columns: Mapping[str, np.ndarray]) -> None:
    """Check the values of the columns of a history, which have the same length.

    Raises:
        Malformed: With the name of a column.
    """
    epoch, seconds = columns["epoch"], columns["seconds"]
    rules = {
        "epoch": (np.diff(epoch, prepend=1) >= 0).all(),
        "seconds": np.isfinite(seconds).all() and (np.diff(seconds, prepend=0.0) >= 0).all(),
        "rows": (columns["rows"] >= 0).all(),
        "n_pad": (columns["n_pad"] >= 0).all(),
    }
    meanings = {
        "epoch": "numbers from 1 that do not decrease",
        "seconds": "times that do not decrease",
        "rows": "numbers from 0",
        "n_pad": "numbers from 0",
    }
    for name, holds in rules.items():
        if not holds:
            msg = f"the column {name!r} of the history does not hold {meanings[name]}"
            raise Malformed(msg)


def check_position(
    position: Position, epoch: Int[np.ndarray, " step"], steps_per_epoch: int | None = None
) -> None:
    """Check that a run is at this position after the steps of its history.

    Args:
        position: The position.
        epoch: Epoch of each step, from 1.
        steps_per_epoch: Batches of each epoch, where they can be counted.

    Raises:
        Malformed: If it cannot be there.
    """
    steps = len(epoch)
    if steps_per_epoch is not None:
        allowed = {divmod(steps, steps_per_epoch)}
        whole = (epoch == np.arange(steps) // steps_per_epoch + 1).all()
        if not whole:
            msg = f"the epochs of its {steps:,} steps do not have {steps_per_epoch:,} batches each"
            raise Malformed(msg)
    elif steps == 0:
        allowed = {(0, 0)}
    else:
        last = int(epoch[-1])
        # Within the last epoch, or at its end.
        allowed = {(last - 1, int(np.count_nonzero(epoch == last))), (last, 0)}
    if tuple(position) not in allowed:
        places = " or ".join(f"epoch {e}, batch {b}" for e, b in sorted(allowed))
        msg = (
            f"position is epoch {position.epoch}, batch {position.batch}; after the {steps:,} "
            f"steps of its history it can be {places}"
        )
        raise Malformed(msg)


def _check_steps(content: Content, losses: np.ndarray) -> None:
    """Check numbers of steps."""
    steps, at = len(losses), [step for step, _ in content.validation]
    skipped = int(np.count_nonzero(~np.isfinite(losses)))
    for holds, found in (
        (content.skipped == skipped, f"skipped is {content.skipped}; expected {skipped}"),
        (at == sorted(at) and all(step <= steps for step in at), f"validation is of steps {at}"),
        (
            all(1 <= step <= steps for _, step in content.best.values()),
            f"best is of steps {[step for _, step in content.best.values()]}",
        ),
    ):
        if not holds:
            msg = f"{found[:200]}; the history has {steps:,} steps"
            raise Malformed(msg)
