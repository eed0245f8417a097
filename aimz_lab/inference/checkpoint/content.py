"""The plain values of a checkpoint, and their agreement with its history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from jaxtyping import Int

from aimz_lab.files import MOST_EPOCHS, Malformed, Value
from aimz_lab.inference.checkpoint.provenance import Origin
from aimz_lab.inference.checkpoint.trees import check_array, check_names
from aimz_lab.inference.feeds.feed import Position
from aimz_lab.inference.model_code import ModelCode
from aimz_lab.inference.run.buckets import COUNT, HIGH, LOW, SUM, bucket_sizes
from aimz_lab.inference.run.records import HELD_OUT, TRAINING, RateChange
from aimz_lab.inference.run.step_history import column_forms, metric_form
from aimz_lab.types import JsonObject, shown


@dataclass(frozen=True)
class Content:
    """The plain values of a checkpoint.

    Attributes:
        position: Position in the data of the next step.
        state_of_step: Steps done by the state: fewer than those of the history, if the run diverged
            and went back to it.
        metrics: Names of the further values of the steps.
        skipped: Steps that were left out because they were not finite.
        rate_changes: Changes of the learning rate on request.
        state: Types and shapes of the state, by path.
        best: The value of a monitor and its step, by name.
        candidates: The same of states that are not judged yet.
        best_so_far: What the run itself judged its best state by, the value and the step; ``None``
            without one.
        facts: Facts that a resumed run must share.
        code: What kernel, guide and optimizer said.
        origin: The keys of the fit.
        versions: Versions of the packages that wrote it.
    """

    position: Position
    state_of_step: int
    metrics: tuple[str, ...]
    skipped: int
    rate_changes: tuple[RateChange, ...]
    state: dict[str, str]
    best: dict[str, tuple[float, int]]
    candidates: dict[str, tuple[float, int]]
    best_so_far: tuple[str, float, int] | None
    facts: JsonObject
    code: ModelCode
    origin: Origin
    versions: dict[str, str]

    @classmethod
    def of_plain(cls, plain: Value) -> Content:
        """Read the manifest of a checkpoint.

        Raises:
            Malformed: If it is none.
        """
        fields = plain.fields("format", "provenance", *_FIELDS)
        provenance = fields["provenance"].fields("facts", "code", "origin")
        epoch, batch = fields["position"].listed(2)
        return cls(
            position=Position(epoch.whole(most=MOST_EPOCHS), batch.whole()),
            state_of_step=fields["state_of_step"].whole(),
            metrics=fields["metrics"].names(),
            skipped=fields["skipped"].whole(),
            rate_changes=tuple(map(_rate_change, fields["rate_changes"].listed())),
            state={path: fact.text() for path, fact in fields["state"].named().items()},
            best=_values_and_steps(fields["best"]),
            candidates=_values_and_steps(fields["candidates"]),
            best_so_far=fields["best_so_far"].optional(_best_so_far),
            facts={name: fact.value for name, fact in provenance["facts"].named().items()},
            code=ModelCode.of_plain(provenance["code"]),
            origin=Origin.of_plain(provenance["origin"]),
            versions={name: v.text() for name, v in fields["versions"].named().items()},
        )

    @property
    def steps_of_states(self) -> dict[str, list[int]]:
        """The steps of the best states and of those that may become it, by field."""
        own = [] if self.best_so_far is None else [self.best_so_far[-1]]
        return {
            "best": [step for _, step in self.best.values()],
            "candidates": [step for _, step in self.candidates.values()],
            "best_so_far": own,
        }

    def kept_steps(self, steps: int) -> list[int]:
        """Return the steps whose states are kept beside the last one, ascending.

        Args:
            steps: The steps of the history.
        """
        return sorted(set(chain.from_iterable(self.steps_of_states.values())) - {steps})


_FIELDS = (
    *("position", "state_of_step", "metrics", "skipped", "rate_changes", "state"),
    *("best", "candidates", "best_so_far", "versions"),
)
_SHOWN = 200


def _values_and_steps(plain: Value) -> dict[str, tuple[float, int]]:
    pairs = {name: pair.listed(2) for name, pair in plain.named().items()}
    return {name: (value.number(), step.whole()) for name, (value, step) in pairs.items()}


def _best_so_far(plain: Value) -> tuple[str, float, int]:
    monitor, value, step = plain.listed(3)
    return monitor.choice((HELD_OUT, TRAINING)), value.number(), step.whole()


def _rate_change(plain: Value) -> RateChange:
    step, before, after = plain.listed(3)
    return RateChange(step.whole(), before.optional(Value.number), after.number())


def check_history(content: Content, arrays: Mapping[str, np.ndarray]) -> None:
    """Check that plain values and arrays of a checkpoint tell of the same steps.

    Raises:
        Malformed: With what does not agree.
    """
    leaves = range(len(content.state))
    steps = len(np.atleast_1d(arrays.get("history/loss", ())))
    forms = column_forms(steps)
    for name, of_states in content.steps_of_states.items():
        if not all(1 <= step <= steps for step in of_states):
            msg = f"{name} is of steps {of_states}"
            raise Malformed(f"{msg[:_SHOWN]}; the history has {steps:,} steps")
    check_names(
        arrays,
        [
            *(f"history/{name}" for name in forms),
            *(f"metric/{i}" for i in range(len(content.metrics))),
            *("validation/steps", "validation/losses"),
            *(f"state/{i}" for i in leaves),
            *(f"kept/{step}/{j}" for step in content.kept_steps(steps) for j in leaves),
        ],
    )
    for name, (dtype, shape) in forms.items():
        check_array(f"history/{name}", arrays[f"history/{name}"], dtype, shape)
    for i in range(len(content.metrics)):
        check_array(f"metric/{i}", arrays[f"metric/{i}"], *metric_form(steps))
    if set(content.metrics) & set(forms):
        msg = f"metrics is {list(content.metrics)}; expected other names than {list(forms)}"
        raise Malformed(msg)
    columns = {name: arrays[f"history/{name}"] for name in forms}
    metrics = {name: arrays[f"metric/{i}"] for i, name in enumerate(content.metrics)}
    check_columns(columns, metrics)
    epoch, sizes = columns["epoch"], bucket_sizes(steps)
    # Of two neighbouring steps, the later one is of the same epoch or of the next.
    if (np.diff(epoch, prepend=1) > sizes - (np.arange(len(sizes)) == 0)).any():
        msg = "the column 'epoch' of the history does not count from 1 without a gap"
        raise Malformed(msg)
    check_position(content.position, steps, epoch)
    if content.state_of_step > steps:
        msg = f"the state is of step {content.state_of_step:,}; the history has {steps:,} steps"
        raise Malformed(msg)
    _check_steps(content, arrays)


def check_columns(columns: Mapping[str, np.ndarray], metrics: Mapping[str, np.ndarray]) -> None:
    """Check the values of a history, whose types and shapes are right.

    Args:
        columns: What is kept of every step, by name.
        metrics: What is kept of further values, by name.

    Raises:
        Malformed: With the name of a column.
    """
    epoch, seconds, n_pad = columns["epoch"], columns["seconds"], columns["n_pad"]
    sizes = bucket_sizes(len(columns["loss"]))
    rules = {
        "epoch": (np.diff(epoch, prepend=1) >= 0).all(),
        "seconds": np.isfinite(seconds).all() and (np.diff(seconds, prepend=0.0) >= 0).all(),
        "rows": (columns["rows"] >= 0).all(),
        "n_pad": (n_pad >= 0).all() if n_pad.ndim == 1 else _is_of_counts(n_pad, sizes),
        **{name: v.ndim == 1 or _is_measured(v, sizes) for name, v in metrics.items()},
    }
    meanings = {
        "epoch": "numbers from 1 that do not decrease",
        "seconds": "times that do not decrease",
        "rows": "numbers from 0",
        "n_pad": "numbers from 0",
    }
    for name, holds in rules.items():
        if not holds:
            what = meanings.get(name, "what several values can have in common")
            msg = f"the column {shown(name)} of the history does not hold {what}"
            raise Malformed(msg)


def _is_measured(stats: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether so many values can have these lowest and highest ones, sums and numbers."""
    low, high, total, count = stats[:, LOW], stats[:, HIGH], stats[:, SUM], stats[:, COUNT]
    with np.errstate(all="ignore"):  # these may be any numbers
        rounding = 1e-9 * np.maximum(np.abs(low), np.abs(high)) * count
        lowest, highest = low * count - rounding, high * count + rounding
    are_finite = np.isfinite(low) & np.isfinite(high) & np.isfinite(total)
    some = are_finite & (low <= high) & (lowest <= total) & (total <= highest)
    none = np.isnan(low) & np.isnan(high) & (total == 0)
    is_count = (count >= 0) & (count <= sizes) & (count == np.floor(count))
    return bool((is_count & np.where(count > 0, some, none)).all())


def _is_of_counts(stats: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether so many whole numbers from 0 can have these."""
    is_whole = stats == np.floor(stats)
    return bool(_is_measured(stats, sizes) and (is_whole & (stats >= 0)).all())


def check_position(
    position: Position,
    steps: int,
    epoch: Int[np.ndarray, " bucket"],
    steps_per_epoch: int | None = None,
) -> None:
    """Check that a run is at this position after the steps of its history.

    Args:
        position: The position.
        steps: The number of the steps.
        epoch: Epoch of the last step of each bucket, from 1.
        steps_per_epoch: Batches of each epoch, where they can be counted.

    Raises:
        Malformed: If it cannot be there.
    """
    sizes = bucket_sizes(steps)
    if steps_per_epoch is not None:
        most = steps % steps_per_epoch
        least, last = most, steps // steps_per_epoch + 1
        if (epoch != (np.cumsum(sizes) - 1) // steps_per_epoch + 1).any():
            msg = f"the epochs of its {steps:,} steps do not have {steps_per_epoch:,} batches each"
            raise Malformed(msg)
    elif steps == 0:
        least, most, last = 0, 0, 1
    else:
        last = int(epoch[-1])
        of_last = sizes[epoch == last]
        # The first of these buckets may begin in the epoch before.
        most = int(of_last.sum())
        least = most - int(of_last[0]) + 1
    is_inside = position.epoch == last - 1 and least <= position.batch <= most
    at_its_end = steps > 0 and steps_per_epoch is None and tuple(position) == (last, 0)
    if not (is_inside or at_its_end):
        places = [f"epoch {last - 1}, batch {least}{f' to {most}' if most > least else ''}"]
        if steps > 0 and steps_per_epoch is None:
            places.append(f"epoch {last}, batch 0")
        msg = (
            f"position is epoch {position.epoch}, batch {position.batch}; after the {steps:,} "
            f"steps of its history it can be {' or '.join(places)}"
        )
        raise Malformed(msg)


def _check_steps(content: Content, arrays: Mapping[str, np.ndarray]) -> None:
    """Check numbers of steps."""
    losses, at = arrays["history/loss"], np.atleast_1d(arrays["validation/steps"])
    check_array("validation/steps", arrays["validation/steps"], np.int64, (len(at),))
    check_array("validation/losses", arrays["validation/losses"], np.float64, (len(at),))
    changed = [change.step for change in content.rate_changes]
    steps, skipped = len(losses), int(np.count_nonzero(~np.isfinite(losses)))
    for holds, found in (
        (
            all(0 <= a <= b <= steps for a, b in pairwise((0, *changed))),
            f"rate_changes is of steps {shown(changed)}",
        ),
        (content.skipped == skipped, f"skipped is {content.skipped}; expected {skipped}"),
        (
            (np.diff(at, prepend=0) >= 0).all() and (at <= steps).all(),
            f"validation is of steps {shown(at.tolist())}",
        ),
    ):
        if not holds:
            msg = f"{found[:_SHOWN]}; the history has {steps:,} steps"
            raise Malformed(msg)
