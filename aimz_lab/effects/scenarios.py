"""Check the arguments of scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any, TypeAlias

from aimz_lab.data import as_typed_key
from aimz_lab.data.options import check_flag, check_mapping
from aimz_lab.data.tables import is_table
from aimz_lab.effects.contrasts import check_is_tree
from aimz_lab.errors import ArgumentError, CallError, OutputWarning
from aimz_lab.predictive.reducers import ReduceSpec
from aimz_lab.spelling import did_you_mean
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn
from aimz_lab.types import shown

CallArguments: TypeAlias = Mapping[str, Any]
"""Arguments of ``ImpactModel.predict`` by name."""

_CALL_OPTIONS = {
    "batch_size",
    "by",
    "coords",
    "dims",
    "executor",
    "output_dir",
    "progress",
    "reduce",
    "return_sites",
    "rows",
    "shard_axis",
    "store",
}
"""Options that two scenarios share if one call computes both."""


def check_scenarios(
    outputs: tuple[xr.DataTree | None, xr.DataTree | None],
    args: tuple[CallArguments | None, CallArguments | None],
    *,
    on_batch: bool,
) -> None:
    """Check that each scenario is a tree, or arguments that give one.

    Args:
        outputs: Existing results, baseline first.
        args: Arguments of ``predict``.
        on_batch: Whether they are arguments of ``predict_on_batch``.

    Raises:
        ArgumentError: If a scenario has neither or both, or a result is no tree.
        CallError: If arguments are no mapping, or lack the input.
    """
    for name, output, given in zip(("baseline", "intervention"), outputs, args, strict=True):
        if (output is None) == (given is None):
            msg = (
                f"Pass either output_{name} (a tree) or args_{name} (arguments of predict); got "
                f"{'neither' if output is None else 'both'}."
            )
            raise ArgumentError(msg)
        if output is not None:
            check_is_tree(f"output_{name}", output)
            continue
        _check_arguments(f"args_{name}", given, on_batch=on_batch)


def _check_arguments(name: str, given: object, *, on_batch: bool) -> None:
    if isinstance(given, xr.DataTree):
        output = name.replace("args", "output")
        msg = f"{name}= takes arguments of predict; a tree goes into {output}=."
        raise ArgumentError(msg)
    given = check_mapping(name, given, "arguments of predict by name")
    if "X" not in given:
        msg = f"{name}= needs the input: {{'X': X, ...}}, whatever the kernel calls it."
        raise CallError(msg)
    if "self" in given:
        msg = f"{name}= names 'self', which is no argument of predict; leave it out."
        raise CallError(msg)
    check_flag("in_sample", given.get("in_sample", True))
    if on_batch:  # an effect is a tree, whatever it says
        check_flag("return_datatree", given.get("return_datatree", True))


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
                    f"got {shown(found[name])} and {shown(args[name])}."
                )
                raise ArgumentError(msg)
            found[name] = args[name]
    return found


def warn_of_unused_columns(inputs: Mapping[str, Mapping[str, Any]], used: Set[str]) -> None:
    """Warn of a column that one scenario has alone, and that nothing is computed from.

    Args:
        inputs: The arguments of each scenario, by what it is called.
        used: The columns that the model reads, or that the call names.

    Warns:
        OutputWarning: If there is one; a misspelt column leaves a scenario as it was.
    """
    have = {
        which: list(map(str, given["X"].columns))
        for which, given in inputs.items()
        if is_table(given.get("X"))
    }
    for which, columns in have.items():
        elsewhere = {name for other, names in have.items() if other != which for name in names}
        alone = [name for name in columns if name not in elsewhere and name not in used]
        if len(have) > 1 and alone:
            warn(
                f"{which} has the column {alone[0]!r}, which no other scenario has and the model "
                f"does not use: it changes nothing.{did_you_mean(alone[0], used)}",
                OutputWarning,
            )


def _same(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except ValueError:  # arrays
        return False
