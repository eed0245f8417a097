"""Compute the two scenarios of an effect with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import xarray as xr

from aimz_lab.data import as_typed_key
from aimz_lab.effects.contrasts import shared_group
from aimz_lab.errors import ArgumentError
from aimz_lab.predictive.reducers import ReduceSpec

CallArguments: TypeAlias = Mapping[str, Any]
"""Arguments of ``ImpactModel.predict`` by name."""

_CALL_OPTIONS = {
    "batch_size",
    "coords",
    "dims",
    "output_dir",
    "progress",
    "reduce",
    "return_sites",
    "rows",
    "shard_axis",
    "store",
}
"""Options that two scenarios share if one call computes both."""


def can_share_a_pass(baseline: CallArguments, intervention: CallArguments) -> bool:
    """Whether two scenarios have the same group, no different keys and no different options."""
    if baseline.get("in_sample", True) != intervention.get("in_sample", True):
        return False
    is_reduced = "reduce" in {*baseline, *intervention}
    both = _CALL_OPTIONS & baseline.keys() & intervention.keys()
    if not is_reduced and not all(_same(baseline[name], intervention[name]) for name in both):
        return False
    keys = [args.get("rng_key") for args in (baseline, intervention)]
    given = [as_typed_key(key) for key in keys if key is not None]
    return len(given) < 2 or bool(given[0] == given[1])


def options_of_the_pass(
    baseline: CallArguments, intervention: CallArguments, reduce: ReduceSpec | None
) -> dict[str, object]:
    """Return the options of the pass, from either scenario.

    Raises:
        ArgumentError: If the scenarios differ in one.
    """
    found = {} if reduce is None else {"reduce": reduce}
    for args in (baseline, intervention):
        for name in _CALL_OPTIONS & args.keys():
            if name in found and not _same(found[name], args[name]):
                msg = (
                    f"Both scenarios are computed in one pass, so that {name}= must be the same; "
                    f"got {found[name]!r} and {args[name]!r}."
                )
                raise ArgumentError(msg)
            found[name] = args[name]
    return found


def _same(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except ValueError:  # arrays
        return False


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

    Raises:
        ArgumentError: If a scenario has neither a result nor arguments.
    """
    for name, output, given in zip(("baseline", "intervention"), outputs, args, strict=True):
        if output is None and given is None:
            msg = f"Pass either output_{name} (a tree) or args_{name} (arguments of predict)."
            raise ArgumentError(msg)
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
