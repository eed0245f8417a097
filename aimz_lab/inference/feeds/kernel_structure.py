"""Trace a kernel with a batch of its training data, and check its structure and its indices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import jax
import numpy as np
from jax.errors import JAXIndexError, JAXTypeError

from aimz_lab.errors import DataError
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.checks.observed_output import check_output_observed
from aimz_lab.kernel.checks.observed_values import bounded_sites, check_observed
from aimz_lab.kernel.checks.preflight import check_sites
from aimz_lab.kernel.checks.row_plates import check_row_plates
from aimz_lab.kernel.checks.shapes import check_shapes
from aimz_lab.kernel.checks.supports import check_supports
from aimz_lab.kernel.event_dims import warn_of_unnamed
from aimz_lab.kernel.failures import explained
from aimz_lab.kernel.output_family import output_family
from aimz_lab.kernel.output_transform import output_transform
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.types import Params


def trace_data(signature: KernelSignature, data: TrainingData) -> KernelSpec:
    """Trace a kernel with a batch of its training data, and check its sites.

    The traces of unchanged code are kept for arguments of the same shapes.

    Args:
        signature: The kernel.
        data: The training data.

    Raises:
        KernelError: If the output site is missing or not observed, if two sites would share a name
            in results, if a plate of the rows does not fit them, or if the bounds of a flat prior
            follow from other sites.
        SiteError: If a sampled or observed site has the rows on two axes, or data and distribution
            have different shapes.
        DataError: If an observed value lies outside the support of its site; or the kernel does
            not run on a batch, and an argument that is passed whole has one entry per row.
        Exception: Any other error of the kernel.

    Warns:
        FitWarning: If a plate of the rows is larger than the data.
        OutputWarning: If names of event dimensions cannot be used.
    """
    kernel, batch = data.for_batches(signature.kernel), data.first_batch
    code = CodeKey(signature.kernel), data.is_minibatch, data.static_key
    arguments = {"rows": batch.rows, "shared": batch.shared, "static": batch.static}
    try:
        with explained(signature.kernel, output=signature.output):
            spec = signature.remember(
                ("structure", *code, shapes_of((batch.rows, batch.shared))),
                lambda: trace_spec(kernel, **arguments, output=signature.output),
            )
    except Exception as error:
        _refuse_rows_passed_whole(data, error)
        raise
    check_sites(spec)
    warn_of_unnamed(spec)
    check_supports(kernel, spec, batch)
    check_output_observed(kernel, spec, batch)
    check_row_plates(kernel, spec, batch, data.n_obs)
    check_shapes(spec, batch.rows)
    arguments["rows"] = data.rows
    of_rows = tuple((name, array.shape, array.dtype) for name, array in data.rows.items())
    sites = signature.remember(
        ("bounds", *code, of_rows, shapes_of(batch.shared)),
        lambda: bounded_sites(kernel, **arguments),
    )
    check_observed(kernel, sites, **arguments)
    transform = _output_transform(kernel, spec, data, batch)
    return replace(spec, output_transform=transform) if transform else spec


def _output_transform(
    kernel: Callable, spec: KernelSpec, data: TrainingData, batch: KernelArguments
) -> str:
    """Ask about all rows that are in memory: the first batch may have none that are capped."""
    if data.source is None and data.is_minibatch:
        try:
            return output_transform(kernel, spec, replace(batch, rows=data.rows))
        except Exception:  # noqa: BLE001  the kernel may run with rows of a batch alone
            pass
    return output_transform(kernel, spec, batch)


def learned_family(
    signature: KernelSignature,
    spec: KernelSpec,
    data: TrainingData,
    params: Callable[[], Params],
    families: Mapping[str, Collection[str]],
) -> str | None:
    """Return the family of the output if its parameters are learned.

    Args:
        signature: The kernel.
        spec: Its structure for a batch of the data.
        data: The training data.
        params: Returns the values of ``param`` sites.
        families: The parameters that have to be, by family.

    Returns:
        One of the families; ``None`` if the output has another, or a parameter is given.
    """
    kernel, batch = data.for_batches(signature.kernel), data.first_batch
    code = CodeKey(signature.kernel), data.is_minibatch, data.static_key
    family = signature.remember(
        ("family", *code, shapes_of((batch.rows, batch.shared))),
        lambda: output_family(
            kernel, spec, batch, params() if spec.of_kind("param") else {}, families
        ),
    )
    needed = families.get(family.name, ())
    return family.name if needed and family.learned.issuperset(needed) else None


def _refuse_rows_passed_whole(data: TrainingData, error: Exception) -> None:
    """Say which shared argument may be why a kernel does not run on a batch."""
    n_rows = len(next(iter(data.rows.values())))
    needs_values = isinstance(error.__cause__, (JAXTypeError, JAXIndexError))
    if data.batch_size == n_rows or needs_values:
        return
    whole = [
        name
        for name, tree in data.shared.items()
        if any(np.shape(leaf)[:1] == (n_rows,) for leaf in jax.tree.leaves(tree))
    ]
    if whole:
        what = str(error).partition("\n")[0].rstrip(".")
        msg = (
            f"The kernel does not run on a batch of {data.batch_size} rows: {what}. Every batch "
            f"gets {', '.join(map(repr, whole))} whole, with {n_rows} entries, as many as there "
            "are rows. What belongs to the rows is an argument of its own, in no container, and "
            "named in by_row= where it is not noticed; or train on all rows at once, "
            "fit_on_batch(X, y)."
        )
        raise DataError(msg) from error


def with_checked_indices(indices: IndexCheck, data: TrainingData) -> TrainingData:
    """Check the indices that the kernel makes of its training data.

    Args:
        indices: Checks the kernel's indices.
        data: The training data.

    Returns:
        The same data; if it is a source, then one that raises where a batch is wrong.

    Raises:
        DataError: If an index is out of range in the rows at hand.
    """
    others = {"shared": data.shared, "static": data.static}
    indices.rows(data.rows, piece=data.batch_size, **others)
    if data.source is None:
        return data
    return replace(data, source=indices.source(data.source, fields=tuple(data.rows), **others))
