"""Decide which arguments follow the rows where their lengths leave it open."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aimz_lab.data import ArrayDataset
from aimz_lab.errors import DataError
from aimz_lab.kernel.arguments import ArgumentRoles, KernelArguments
from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.rows.whole_arguments import RowTrial, Tie
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.types import Array, Rows


def resolved(
    signature: KernelSignature, rows: Rows, split: KernelArguments, roles: ArgumentRoles
) -> KernelArguments:
    """Sort arrays that have as many entries as there are rows, perhaps by chance.

    Args:
        signature: The kernel.
        rows: The arrays that surely follow the rows, such as input and output.
        split: The further arguments, sorted by their lengths.
        roles: What is known about them.

    Returns:
        The arguments; those that the kernel can only take whole are no longer among the rows.

    Raises:
        DataError: If the kernel runs with an argument of another length than the rows, so that
            nobody can tell whether it is a table or has one entry per row.
    """
    unknown = [name for name in split.rows if name not in roles.known]
    if not unknown:
        return split
    ties = _ties(signature, {**rows, **split.rows}, split, unknown)
    for name, tie in ties.items():
        if tie == "either":
            n_rows = split.n_rows
            msg = (
                f"The argument {name!r} has {n_rows} entries, as many as there are rows, and the "
                "kernel also runs if it has another number: is it a table for all rows, or does "
                f"entry i belong to row i? Say shared=[{name!r}] to pass it whole to every batch, "
                f"or by_row=[{name!r}] to cut it with the rows."
            )
            raise DataError(msg)
    whole = {name: array for name, array in split.rows.items() if ties.get(name) == "none"}
    followed = {name: array for name, array in split.rows.items() if name not in whole}
    return KernelArguments(followed, {**split.shared, **whole}, split.static)


def check_fields(dataset: ArrayDataset, roles: ArgumentRoles) -> None:
    """Check that the user names no field of the data as a shared argument.

    Raises:
        DataError: If so.
    """
    for name in sorted(roles.shared.intersection(dataset.fields)):
        msg = (
            f"The argument {name!r} is a field of the data, so that it is cut with the rows; to "
            f"pass it whole, leave it out there and pass it beside: {name}={name}."
        )
        raise DataError(msg)


def check_beside_loader(
    signature: KernelSignature, dataset: ArrayDataset, split: KernelArguments, roles: ArgumentRoles
) -> None:
    """Check that no argument beside a loader belongs to its rows, which it may shuffle.

    Args:
        signature: The kernel.
        dataset: The loader's data.
        split: The further arguments, all of them passed whole.
        roles: What is known about them.

    Raises:
        DataError: If an argument has one entry per row, or the user says that a field is shared.
    """
    check_fields(dataset, roles)
    unknown = {
        name: array
        for name, array in split.shared.items()
        if name not in roles.known and np.shape(array)[:1] == (len(dataset),)
    }
    if not unknown:
        return
    others = {name: array for name, array in split.shared.items() if name not in unknown}
    arguments = KernelArguments({}, others, split.static)
    wanted = parameter_names(signature.kernel)
    rows = {name: array for name, array in dataset.arrays.items() if name in wanted}
    ties = _ties(signature, {**rows, **unknown}, arguments, list(unknown))
    for name, tie in ties.items():
        if tie == "rows":
            msg = (
                f"The argument {name!r} has one entry per row, and the loader may order the rows "
                f"anew. Give it to the data: ArrayDataset(..., {name}={name}). If it is a table "
                f"for all rows, say shared=[{name!r}]."
            )
            raise DataError(msg)


def _ties(
    signature: KernelSignature,
    rows: Mapping[str, Array],
    split: KernelArguments,
    unknown: list[str],
) -> dict[str, Tie]:
    """How arguments are tied to the rows, remembered for arguments of these shapes."""
    one = {name: array[:1] for name, array in rows.items()}
    single = len(next(iter(rows.values()))) == 1
    kernel, shapes = CodeKey(signature.kernel), shapes_of((one, dict(split.shared)))
    key = ("ties", kernel, single, shapes, split.static_key, tuple(unknown))
    trial = RowTrial(signature.kernel, rows, split.shared, split.static, signature.output)
    return signature.remember(key, lambda: trial.ties(unknown))
