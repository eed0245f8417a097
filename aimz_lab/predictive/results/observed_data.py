"""What a call knows beside its draws: the outputs that were observed, and the inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aimz_lab.data import ArrayDataset, ArrayLoader, BatchSource
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.training_data import loader_order

LARGEST = 128 << 20
"""Bytes up to which inputs are kept beside a result; a store would hold a second copy of them."""


class KnownData(NamedTuple):
    """The data of a call, as far as it is in memory.

    Attributes:
        observed: The observed output, or ``None``.
        constant: The kernel's per-row inputs by name; empty for a stream, and for large inputs.
    """

    observed: Any
    constant: Mapping[str, Any]


def known_data(
    inputs: Any,
    rows: Mapping[str, Any] | BatchSource,
    output: str,
    arguments: tuple[str, ...],
    trained: TrainingFingerprint | None,
) -> KnownData:
    """Find what is known.

    Args:
        inputs: What the user passed.
        rows: What it came to.
        output: Name of the output.
        arguments: Names of the kernel's arguments.
        trained: The rows that the model was trained on, if it knows.

    Returns:
        The output that comes with a dataset, a loader or a log-likelihood, or that was trained on
        where the rows are the very rows of the training.
    """
    order = None
    if isinstance(inputs, ArrayDataset):
        fields: Mapping[str, Any] = inputs.arrays
    elif isinstance(inputs, ArrayLoader):
        fields = inputs.dataset.arrays
        order = loader_order(inputs)(0) if inputs.shuffle else None
    elif isinstance(rows, Mapping):
        fields = rows
    else:
        return KnownData(None, {})
    constant = {n: array for n, array in fields.items() if n in arguments and n != output}
    observed = fields.get(output)
    if observed is None and trained is not None and order is None:
        observed = trained.outputs_of(constant, output)
    if sum(array.nbytes for array in constant.values()) > LARGEST:
        constant = {}
    if order is not None:
        constant = {name: np.asarray(array)[order] for name, array in constant.items()}
        observed = None if observed is None else np.asarray(observed)[order]
    return KnownData(observed, constant)
