"""Compute scenarios with the same noise: in one pass over the rows, or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from aimz_lab.effects.contrasts import check_same_scale, shared_group
from aimz_lab.effects.effect_kind import EffectKind
from aimz_lab.effects.scenarios import CallArguments
from aimz_lab.errors import DataError
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.reducers import Reducer, check_same_groups
from aimz_lab.predictive.reducers.row_means import RowMeans
from aimz_lab.predictive.request import Expected, Request
from aimz_lab.preparing import doing
from aimz_lab.system.lazy_modules import xr


def effect_in_one_pass(
    predictor: Predictor, requests: Sequence[Request], kind: EffectKind, table: Any
) -> xr.DataTree:
    """Compute two scenarios and their contrast in one pass over the rows.

    Args:
        predictor: Computes them.
        requests: The baseline and the intervention, with the same key and options.
        kind: What the effect is.
        table: The rows of the intervention, before any were left out.

    Raises:
        ArgumentError: If the scenarios have other scales or groups.
        DataError: If a row is left out of one scenario and not of the other.
    """
    # Nothing was observed of a difference.
    baseline, intervention = (replace(one, observed=None) for one in requests)
    check_same_scale(baseline.output_scale, intervention.output_scale)
    check_same_groups(baseline.reduce, intervention.reduce)
    _check_same_kept([baseline.kept_rows, intervention.kept_rows])
    kind = kind.among(intervention.kept_rows, table)
    intervention = kind.in_one_pass(intervention)
    baseline = replace(baseline, expected=intervention.expected)
    return kind.named(predictor.effect(baseline, intervention), intervention.group)


def in_turn(
    predictor: Predictor,
    requests: Sequence[Request],
    reduces: Sequence[Mapping[str, Reducer]],
    tables: Sequence[Any],
    combine: Callable | None = None,
    *,
    expected: Expected = None,
    anew: frozenset[str] = frozenset(),
) -> list[xr.DataTree]:
    """Compute summaries of scenarios one after the other, with the key that they share.

    Args:
        predictor: Computes them.
        requests: The scenarios, from :meth:`Predictor.comparable`.
        reduces: Reducers of each.
        tables: The rows of each, before any were left out.
        combine: Changes the draws of a block.
        expected: As in :class:`Request`.
        anew: Further sites that each draws from the kernel.

    Raises:
        DataError: If a row is left out of one scenario and not of another.
    """
    requests = [replace(one, anew=one.anew | anew) for one in requests]
    _check_same_kept([request.kept_rows for request in requests])
    trees = []
    for number, (one, reduce, table) in enumerate(zip(requests, reduces, tables, strict=True)):
        doing(f"computing scenario {number + 1} of {len(requests)}", (number, len(requests)))
        reduce = _among_kept(reduce, one.kept_rows, table)
        one = replace(one, reduce=reduce, combine=combine, expected=expected)
        trees.append(predictor.predict(one))
    for tree, one in zip(trees, requests, strict=True):
        tree.encoding["kept_rows"] = one.kept_rows
    return trees


def _check_same_kept(kept: Sequence[np.ndarray | None]) -> None:
    """Check that tables leave out the same rows: an effect compares row by row.

    Args:
        kept: By scenario, positions of the rows of its table that were kept; ``None`` for all.

    Raises:
        DataError: If a row is left out of one scenario and not of another.
    """
    first, *others = kept
    for other in others:
        if (other is None) != (first is None) or not np.array_equal(other, first):
            msg = (
                "Missing values leave other rows out of one scenario than of another, so that "
                "different rows would be compared. Fill them, or leave the same rows out of both "
                "tables beforehand: df.dropna()."
            )
            raise DataError(msg)


def computed_scenarios(
    predict: Callable[..., xr.DataTree],
    outputs: tuple[xr.DataTree | None, xr.DataTree | None],
    args: tuple[CallArguments | None, CallArguments | None],
    new_key: Callable[[], jax.Array],
) -> tuple[xr.DataTree, xr.DataTree]:
    """Return the baseline and the intervention; compute missing ones, paired.

    Args:
        predict: Computes a scenario from its arguments.
        outputs: Existing results, baseline first.
        args: Arguments of ``predict`` for missing results.
        new_key: Returns a key for the scenarios that have none of their own; called once, or not
            at all.

    Returns:
        Both results. If one scenario cannot be cut into rows, neither is, so that their noise stays
        the same.
    """
    calls = [dict(given or {}) for given in args]
    missing = [index for index in (0, 1) if outputs[index] is None]
    without = [index for index in missing if calls[index].get("rng_key") is None]
    if without:
        key = new_key()
        for index in without:
            calls[index]["rng_key"] = key
    trees = [predict(**calls[i]) if i in missing else outputs[i] for i in (0, 1)]
    axes = [trees[i][shared_group(*trees)].attrs.get("shard_axis") for i in (0, 1)]
    if set(axes) == {"obs", "draw"} and axes.index("obs") in missing:
        follower = axes.index("obs")
        trees[follower] = predict(**{**calls[follower], "shard_axis": "draw", "batch_size": None})
    return trees[0], trees[1]


def _among_kept(
    reduce: Mapping[str, Reducer], kept: Int[np.ndarray, " kept"] | None, table: Any
) -> dict[str, Reducer]:
    """Return reducers of the rows of a table that were kept; ``None`` for all."""
    return {
        name: one.among(kept, table) if isinstance(one, RowMeans) else one
        for name, one in reduce.items()
    }
