"""The rows of a fit as MLflow takes them: an example of a request, and a data set."""

from __future__ import annotations

from collections.abc import Mapping

import mlflow.data
import numpy as np
import pandas as pd
from mlflow.data.dataset import Dataset

from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.types import Columns

_EXAMPLE_ROWS = 5


def first_rows(
    data: TrainingData, model: ImpactModel
) -> pd.DataFrame | np.ndarray | dict[str, np.ndarray]:
    """Return the first rows of training data without the output, as a request has them."""
    rows = {
        name: np.array(array[:_EXAMPLE_ROWS])
        for name, array in data.rows.items()
        if name != model.param_output
    }
    return _table(rows, model.param_input, data.columns)


def training_set(data: TrainingData, output: str) -> Dataset:
    """Return MLflow's description of training data in memory: its schema and digest."""
    rows = {name: np.asarray(array) for name, array in data.rows.items()}
    outputs = rows.pop(output, None)
    features = rows if len(rows) > 1 else next(iter(rows.values()))
    return mlflow.data.from_numpy(features, targets=outputs)


def _table(
    rows: dict[str, np.ndarray], name: str, columns: Columns
) -> pd.DataFrame | np.ndarray | dict[str, np.ndarray]:
    """Return a table if the input came as one and the rest are columns, else arrays."""
    others: Mapping[str, np.ndarray] = {n: array for n, array in rows.items() if n != name}
    if name in columns and all(array.ndim == 1 for array in others.values()):
        inputs = rows[name].reshape(len(rows[name]), -1)
        return pd.DataFrame(inputs, columns=list(columns[name])).assign(**others)
    return rows if others else rows[name]
