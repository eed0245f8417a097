"""The effect of an intervention: its draws minus those of a baseline."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from jax.typing import ArrayLike

from aimz_lab.calls import public
from aimz_lab.data import labels_of_index
from aimz_lab.data.groups import GroupBy
from aimz_lab.effects.averages import average_contrast, by_draw, row_dim
from aimz_lab.effects.effect_kind import EffectKind, arguments_of, effect_kind
from aimz_lab.effects.measures import Contrast
from aimz_lab.effects.outcome_names import check_has_mean, check_has_ratio, check_measured
from aimz_lab.effects.row_groups import agreeing_labels
from aimz_lab.errors import ArgumentError, DataError, OutputWarning
from aimz_lab.predictive.drawn_sites import DRAWN, named_as_drawn
from aimz_lab.predictive.results.datasets import origin_attrs
from aimz_lab.predictive.scenario_sites import OBSERVED
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warn
from aimz_lab.types import SAMPLE_DIMS, shown

PREDICTIVE_GROUPS = ("posterior_predictive", "predictions", "prior_predictive")
_PAIRING = ("rng_key", "shard_axis")


@public
def estimate_effect(
    baseline: xr.DataTree,
    intervention: xr.DataTree,
    *,
    contrast: Contrast = "difference",
    by: GroupBy | None = None,
    weights: ArrayLike | None = None,
    subset: ArrayLike | None = None,
    average: bool | None = None,
) -> xr.DataTree:
    """Contrast an intervention with a baseline, draw by draw: on each row, or on average.

    Scenarios computed with one key have the same noise, so that the contrast shows the
    intervention alone. An average effect is the contrast of the averages, as in
    :meth:`aimz_lab.ImpactModel.estimate_effect`.

    Args:
        baseline: Predictive draws without the intervention.
        intervention: Predictive draws with it.
        contrast: ``"difference"``, ``"ratio"``, ``"percent"``, ``"odds_ratio"``, or a function of
            the baseline and the intervention.
        by: One label per row, or several by name: the average of each group.
        weights: One weight per row, for the average.
        subset: One flag per row: the rows that count.
        average: Whether to average over the rows; by default, if ``by``, ``weights`` or ``subset``
            are given, or the contrast is not the difference.

    Returns:
        A tree with the predictive group that both share, and the posterior if there is one and the
        group is not the prior's. The attributes ``artifact_path_baseline`` and
        ``artifact_path_intervention`` name the stores of scenarios that are stored.

    Raises:
        ArgumentError: If one is no tree, they share no predictive group or no site, their outputs
            are on different scales, or they hold summaries whose difference is not that of the
            effect; or if an option is not allowed.
        DataError: If a site's dimensions have other names or sizes, or other labels; or if the
            contrast is not defined for an average.

    Warns:
        OutputWarning: If the draws are not paired (another key or sharding axis, or another
            posterior), or only one of them is labelled; or if both hold an observed site at its
            data.
    """
    check_is_tree("baseline", baseline)
    check_is_tree("intervention", intervention)
    inputs = [arguments_of(tree, None) for tree in (baseline, intervention)]
    kind = effect_kind(contrast, by, weights, subset, average, inputs)
    warn_of_observed(baseline, intervention)
    return contrast_trees(baseline, intervention, kind)


def warn_of_observed(baseline: xr.DataTree, intervention: xr.DataTree) -> None:
    """Warn of predictions that both hold an observed site at its data.

    Args:
        baseline: Predictive draws without the intervention.
        intervention: Predictive draws with it.

    Warns:
        OutputWarning: If there is such a site: a mediator would hide part of the effect.
    """
    group = shared_group(baseline, intervention)
    both = [set(tree[group].attrs.get(OBSERVED, ())) for tree in (baseline, intervention)]
    if held := sorted(set.intersection(*both)):
        sites = ", ".join(map(repr, held))
        warn(
            f"Both predictions hold {sites} at the data given. If the intervention changes that, "
            "the effect that goes through it is missing: predict both without that data, or pass "
            "args_baseline= and args_intervention=, which are checked.",
            OutputWarning,
        )


def contrast_trees(
    baseline: xr.DataTree, intervention: xr.DataTree, kind: EffectKind
) -> xr.DataTree:
    """Contrast two scenarios at hand; see :func:`estimate_effect`.

    Args:
        baseline: Predictive draws without the intervention.
        intervention: Predictive draws with it.
        kind: What the effect is.

    Raises:
        ArgumentError: If they do not belong together, the numbers of levels would be averaged, or
            a ratio would be one of a function of the output.
        DataError: If they have other rows or labels.
    """
    group = shared_group(baseline, intervention)
    before, after = baseline[group].to_dataset(), intervention[group].to_dataset()
    check_same_scale(before.attrs.get("output_scale"), after.attrs.get("output_scale"))
    sites = [name for name in after.data_vars if name in before.data_vars]
    if not sites and (before.data_vars or after.data_vars):
        msg = (
            f"The scenarios share no site in {group!r}: {list(before.data_vars)} and "
            f"{list(after.data_vars)}."
        )
        raise ArgumentError(msg)
    for name in sites:
        _check_same_dims(name, before[name], after[name])
        _check_has_draws(name, after[name], kind)
        _check_same_labels(name, before[name], after[name])
    _warn_unpaired(baseline, intervention, group)
    kind.check_drawn(after.attrs.get("output"), sites)
    check_measured(after.attrs, sites, kind.contrast)
    for name in sites if kind.groups is not None else ():
        check_has_mean(after, str(name))
        check_has_ratio(after, str(name), kind.contrast)
    effect = {name: _contrasted(before[name], after[name], after, kind) for name in sites}
    artifacts = _artifacts(baseline, intervention, group)
    attrs = {**_call_attrs(before, after), **artifacts, **kind.attrs}
    groups = {group: xr.Dataset(effect, attrs=attrs)}
    if "posterior" in intervention and group != "prior_predictive":
        groups["posterior"] = intervention["posterior"].to_dataset()
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = artifacts
    # The effect keeps the temporary stores that it names.
    tree.encoding["owner"] = [each.encoding.get("owner") for each in (baseline, intervention)]
    return tree


def _call_attrs(before: xr.Dataset, after: xr.Dataset) -> dict[str, object]:
    """Describe the calls of both scenarios; what they do not share is named for the baseline."""
    attrs = {name: value for name, value in after.attrs.items() if name != "artifact_path"}
    set_before = {
        f"{name}_baseline": before.attrs[name]
        for name in ("intervention", "condition")
        if name in before.attrs
    }
    drawn = named_as_drawn(before.attrs, after.attrs)
    return {**attrs, **origin_attrs(), **set_before, **({DRAWN: drawn} if drawn else {})}


def _artifacts(baseline: xr.DataTree, intervention: xr.DataTree, group: str) -> dict[str, str]:
    """Return the paths of the stores that hold the scenarios."""
    found = {}
    for name, tree in (("baseline", baseline), ("intervention", intervention)):
        path = tree.attrs.get("artifact_path") or tree[group].attrs.get("artifact_path")
        if path is not None:
            found[f"artifact_path_{name}"] = path
    return found


def check_is_tree(name: str, tree: object) -> None:
    """Raise :class:`ArgumentError` if an argument is no tree."""
    if not isinstance(tree, xr.DataTree):
        msg = (
            f"{name}={shown(tree)} is not allowed; use the tree that im.predict(...) returns "
            "(xarray.DataTree), with all of its groups."
        )
        raise ArgumentError(msg)


def check_same_scale(before: object, after: object) -> None:
    """Refuse scenarios whose outputs have different units.

    Args:
        before: The scale of the baseline's output; ``None`` for that of the kernel.
        after: The scale of the intervention's.

    Raises:
        ArgumentError: If they differ.
    """
    if (before is None and after is None) or str(before) == str(after):
        return
    one, other = ("the kernel's scale" if s is None else f"that of {s}" for s in (before, after))
    msg = (
        f"The output of the baseline is on {one}, and that of the intervention on {other}, so that "
        "their difference means nothing. Pass a table for both with the same output_scale=; or "
        "arrays for one and a table with output_scale='model' for the other."
    )
    raise ArgumentError(msg)


def _contrasted(
    before: xr.DataArray, after: xr.DataArray, group: xr.Dataset, kind: EffectKind
) -> xr.DataArray:
    """Return the contrast of a site, on each row or on average."""
    if kind.groups is not None:
        rows = row_dim(after, group, kind.groups.n_rows)
        if rows in after.indexes:
            known = labels_of_index(after.indexes[rows], named=False)
            agreeing_labels({"by= or weights": [kind.groups.labels]}, known)
        return average_contrast(before, after, rows, kind.groups, kind.measure)
    if kind.contrast == "difference":
        return after.copy(data=_difference(before, after))
    return by_draw(before, after, kind.measure)


def _difference(before: xr.DataArray, after: xr.DataArray) -> npt.ArrayLike:
    """Subtract without alignment, which would drop rows whose labels differ."""
    if before.dtype.kind in "bu":
        # A difference of flags or counts may be negative.
        return after.data.astype(np.int32) - before.data.astype(np.int32)
    return after.data - before.data


def shared_group(baseline: xr.DataTree, intervention: xr.DataTree) -> str:
    """Return the name of the predictive group that both scenarios have.

    Raises:
        ArgumentError: If they share none.
    """
    for group in PREDICTIVE_GROUPS:
        if group in baseline and group in intervention:
            return group
    msg = (
        "The scenarios must share one of the groups "
        f"{', '.join(PREDICTIVE_GROUPS)}; they have {_groups(baseline)} and "
        f"{_groups(intervention)}. Pass the trees that im.predict(...) returns, with all groups."
    )
    raise ArgumentError(msg)


def _groups(tree: xr.DataTree) -> str:
    return ", ".join(tree.children) or "no groups"


def _check_same_dims(name: str, before: xr.DataArray, after: xr.DataArray) -> None:
    if before.dims != after.dims or before.shape != after.shape:
        msg = (
            f"Site {name!r} has {dict(before.sizes)} in the baseline and {dict(after.sizes)} in "
            "the intervention; compute both on the same rows with the same number of draws."
        )
        raise DataError(msg)


def _check_has_draws(name: str, site: xr.DataArray, kind: EffectKind) -> None:
    """Refuse summaries over draws; of these, means alone may be subtracted."""
    is_mean = str(name).endswith("_mean") and kind.is_plain
    if not set(SAMPLE_DIMS) <= set(site.dims) and not is_mean:
        msg = (
            f"{name!r} is a summary over draws, and a difference of such summaries is not the "
            "summary of the effect. Pass the draws (predict without reduce=), or let "
            "estimate_effect(args_baseline=..., args_intervention=..., reduce=...) summarise the "
            "effect itself."
        )
        raise ArgumentError(msg)


def label_conflict(one: xr.DataArray, other: xr.DataArray) -> tuple[str, int, str, str] | None:
    """Return the first entry that two arrays label differently.

    Returns:
        The dimension, the place, and both labels; ``None`` if there is none.
    """
    for dim in one.dims:
        if dim not in one.indexes or dim not in other.indexes:
            continue
        labels, others = (labels_of_index(a.indexes[dim], named=False) for a in (one, other))
        place = labels.conflict(others)
        if place is not None:
            return str(dim), place, labels.text(place), others.text(place)
    return None


def _check_same_labels(name: str, before: xr.DataArray, after: xr.DataArray) -> None:
    if (conflict := label_conflict(before, after)) is not None:
        dim, place, one, other = conflict
        msg = (
            f"The scenarios label {dim!r} of site {name!r} differently: entry {place} is {one} in "
            f"the baseline and {other} in the intervention, and an effect compares entry by entry. "
            "Compute both on the same rows in the same order, or align them: "
            f"tree.sel({{{dim!r}: labels}})."
        )
        raise DataError(msg)


def _warn_unpaired(baseline: xr.DataTree, intervention: xr.DataTree, group: str) -> None:
    before, after = baseline[group], intervention[group]
    differing = [
        name
        for name in _PAIRING
        if not np.array_equal(before.attrs.get(name), after.attrs.get(name))
    ]
    if group != "prior_predictive" and "posterior" in baseline and "posterior" in intervention:
        one, other = baseline["posterior"].to_dataset(), intervention["posterior"].to_dataset()
        if not one.equals(other):
            differing.append("posterior")
    if differing:
        warn(
            f"The scenarios differ in {', '.join(differing)}, so their draws are not paired: the "
            "difference holds the noise of both. Compute both with one rng_key and posterior.",
            OutputWarning,
        )
    labels = [
        dim for dim in before.coords if dim in after.coords and not before[dim].equals(after[dim])
    ]
    if labels:
        warn(
            f"The scenarios label {', '.join(map(str, labels))} differently; the effect is taken "
            "position by position, with the labels of the intervention.",
            OutputWarning,
        )
