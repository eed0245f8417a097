"""Turn arrays, tables and streams into batches.

In: arrays, tables of other libraries, loaders, or any iterable of batches. Out: checked, named
arrays in JAX's types, in a reproducible order, with the row labels and column names of tables.
"""

from __future__ import annotations

from aimz_lab.data.arrays import canonical, check_fits, is_array_like, to_host
from aimz_lab.data.checks import check_finite, check_rows
from aimz_lab.data.dataset import ArrayDataset, FieldSchema
from aimz_lab.data.keys import as_typed_key, derive_key, fold_in, key_data
from aimz_lab.data.labels import (
    AxisLabels,
    RowCoord,
    as_coord,
    axis_labels,
    column_names,
    first_row_labels,
    labels_of_index,
    row_coord,
    row_labels,
    same_columns,
    shared_row_labels,
)
from aimz_lab.data.loader import ArrayLoader
from aimz_lab.data.order import epoch_order
from aimz_lab.data.padding import pad_rows, padding_advice, padding_waste, row_multiple
from aimz_lab.data.sources import BatchSource, LoaderSource, StreamSource, as_source, is_batches

__all__ = [
    "ArrayDataset",
    "ArrayLoader",
    "AxisLabels",
    "BatchSource",
    "FieldSchema",
    "LoaderSource",
    "RowCoord",
    "StreamSource",
    "as_coord",
    "as_source",
    "as_typed_key",
    "axis_labels",
    "canonical",
    "check_finite",
    "check_fits",
    "check_rows",
    "column_names",
    "derive_key",
    "epoch_order",
    "first_row_labels",
    "fold_in",
    "is_array_like",
    "is_batches",
    "key_data",
    "labels_of_index",
    "pad_rows",
    "padding_advice",
    "padding_waste",
    "row_coord",
    "row_labels",
    "row_multiple",
    "same_columns",
    "shared_row_labels",
    "to_host",
]
