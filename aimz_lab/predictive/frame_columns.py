"""Label entries of sites by the columns of a data frame that the kernel itself was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.results.datasets import site_dims
from aimz_lab.tables.site_names import Arguments, SiteNames, axes_of_columns


class TrainedKernel(Protocol):
    """What is read of a trained model.

    Attributes:
        spec: The kernel's structure, or ``None``.
        schema: Schema of its training data, or ``None``.
    """

    spec: KernelSpec | None
    schema: InputSchema | None


class FrameColumns:
    """Finds the axes of sites that are columns of a frame; what was found is kept.

    Args:
        kernel: The kernel.
    """

    def __init__(self, kernel: Callable) -> None:
        self._kernel = kernel
        self._known: tuple[InputSchema, Mapping[str, Mapping[int, np.ndarray]]] | None = None

    def names(self, trained: TrainedKernel) -> SiteNames:
        """Return labels of dimensions, which have the names that they have without labels.

        Args:
            trained: What the model has learned.
        """
        spec, schema = trained.spec, trained.schema
        dims, coords = {}, {}
        for name, axes in self._axes(spec, schema).items():
            rows = spec.row_axis(name)
            every = site_dims(spec, name, len(spec.sites[name].shape), row_axis=rows)
            dims[name] = tuple(dim for axis, dim in enumerate(every) if axis != rows)
            coords |= {every[axis]: labels for axis, labels in axes.items()}
        return SiteNames(dims, coords)

    def axis_labels(
        self, spec: KernelSpec, schema: InputSchema
    ) -> dict[str, tuple[list[str] | None, ...]]:
        """Return the labels along each axis of sites that have some.

        Args:
            spec: The kernel's structure.
            schema: Schema of its training data.
        """
        return {
            name: tuple(
                list(map(str, axes[axis])) if axis in axes else None
                for axis in range(len(spec.sites[name].shape))
            )
            for name, axes in self._axes(spec, schema).items()
        }

    def _axes(
        self, spec: KernelSpec | None, schema: InputSchema | None
    ) -> Mapping[str, Mapping[int, np.ndarray]]:
        if spec is None or schema is None or not schema.columns:
            return {}
        if self._known is None or self._known[0] is not schema:  # a kernel is traced for it
            arguments = Arguments(schema.batch, schema.shared, schema.static)
            found = axes_of_columns(self._kernel, spec, schema.columns, arguments)
            self._known = schema, found
        return self._known[1]
