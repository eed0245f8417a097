"""The served model: tables and arrays in, a summary, draws or a tree of predictions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Shaped

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.types import Arguments, check_choice

Output = Literal["summary", "draws", "tree"]
_LARGEST_SEED = 2**31 - 1


@dataclass(frozen=True)
class ServedParams:
    """What a request may say in ``params``.

    Attributes:
        output: ``"summary"``: a table with mean, standard deviation and interval of each row;
            ``"draws"``: the output's draws, ``{"y": (draw, row, ...)}``; ``"tree"``: the tree of
            :meth:`~aimz_lab.ImpactModel.predict_on_batch`, for callers in the same process.
        prob: Mass of the interval.
        seed: Seed of the noise; the same request has the same answer.
        num_draws: Draws to use, evenly spaced; all by default.

    Raises:
        ArgumentError: If a value is not allowed.
    """

    output: Output = "summary"
    prob: float = 0.94
    seed: int = 0
    num_draws: int | None = None

    def __post_init__(self) -> None:
        check_choice("output", self.output, Output)
        if not (_is_number(self.prob) and 0 < self.prob < 1):
            msg = f"prob is the mass of the interval, between 0 and 1; got {self.prob!r}."
            raise ArgumentError(msg)
        if not (_is_integer(self.seed) and 0 <= self.seed <= _LARGEST_SEED):
            msg = f"seed is an integer from 0 to {_LARGEST_SEED}; got {self.seed!r}."
            raise ArgumentError(msg)
        if self.num_draws is not None:
            check_positive_int("num_draws", self.num_draws)
            if self.output == "tree":
                msg = "num_draws is for the outputs 'summary' and 'draws'; a tree has all draws."
                raise ArgumentError(msg)

    @classmethod
    def of(cls, params: Mapping[str, Any] | None) -> Self:
        """Return the checked params of a request; ``None`` stands for a default.

        Raises:
            ArgumentError: If a name is unknown, or a value is not allowed.
        """
        if not (params is None or isinstance(params, Mapping)):
            msg = f"params is a dict, such as {{'output': 'draws'}}; got {params!r}."
            raise ArgumentError(msg)
        given = {name: value for name, value in (params or {}).items() if value is not None}
        given.pop("progress", None)  # aimz has it; nothing is shown here
        if "return_datatree" in given:  # aimz's word; MLflow adds the default of output to it
            wanted = {True: "tree", False: "draws"}
            given["output"] = wanted.get(given.pop("return_datatree"), "neither True nor False")
        known = [each.name for each in fields(cls)]
        if unknown := [name for name in given if name not in known]:
            msg = f"params has no {_listed(unknown)}; it takes {_listed(known)}."
            raise ArgumentError(msg)
        return cls(**given)


class ServedModel:
    """Model object of MLflow's generic interface.

    Args:
        model: The model.
        kernel_kwargs: Shared kernel arguments of all requests.
    """

    def __init__(self, model: ImpactModel, kernel_kwargs: Arguments) -> None:
        self._model = model
        self._arguments = dict(kernel_kwargs)

    def get_raw_model(self) -> ImpactModel:
        """Return the model itself."""
        return self._model

    def predict(
        self, model_input: Any, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame | dict[str, Shaped[np.ndarray, "draw row ..."]] | xr.DataTree:
        """Predict the output of each row.

        Args:
            model_input: A table, an array, or arrays by kernel argument. Columns of a table named
                like per-row arguments of the kernel become these; the others are its input.
            params: See :class:`ServedParams`.

        Returns:
            What ``params["output"]`` asks for.

        Raises:
            ArgumentError: If ``params`` has an unknown name or value.
            DataError: If the input does not fit the training data.
        """
        asked = ServedParams.of(params)
        inputs, arguments = _kernel_arguments(model_input, self._model)
        schema = self._model.input_schema
        for name, row in (schema.rows if schema else {}).items():
            if name == self._model.param_input:
                inputs = _as_trained(name, inputs, row.dtype)
            elif name in arguments:
                arguments[name] = _as_trained(name, arguments[name], row.dtype)
        options: dict[str, Any] = {
            "rng_key": jax.random.key(asked.seed),
            "kernel_kwargs": {**self._arguments, **arguments},
        }
        if asked.output == "tree":
            return self._model.predict_on_batch(inputs, **options)
        site = self._model.param_output
        draws = self._model.predict_on_batch(
            inputs, return_sites=[site], return_datatree=False, **options
        )[site]
        draws = _evenly_spaced(draws, asked.num_draws)
        if asked.output == "draws":
            return {site: draws}
        return _summary(draws, asked.prob, getattr(model_input, "index", None))


def _summary(
    draws: Shaped[np.ndarray, "draw row ..."], prob: float, index: pd.Index | None
) -> pd.DataFrame:
    tail = (1 - prob) / 2
    lower, upper = np.quantile(draws, [tail, 1 - tail], axis=0)
    summary = {"mean": draws.mean(0), "sd": draws.std(0), "lower": lower, "upper": upper}
    return pd.DataFrame({name: list(values) for name, values in summary.items()}, index=index)


def _evenly_spaced(
    draws: Shaped[np.ndarray, "draw row ..."], number: int | None
) -> Shaped[np.ndarray, "some_draws row ..."]:
    if number is None:
        return draws
    if number > len(draws):
        msg = f"num_draws={number} is more than the model has; it has {len(draws)} draws."
        raise ArgumentError(msg)
    return draws[np.linspace(0, len(draws) - 1, number).round().astype(int)]


def _kernel_arguments(
    model_input: Any, model: ImpactModel
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the kernel's input and its other per-row arguments."""
    if isinstance(model_input, Mapping):
        arrays = {str(name): _array(value, str(name)) for name, value in model_input.items()}
        if model.param_input not in arrays:
            msg = (
                f"The request has no {model.param_input!r}, the kernel's input; it has "
                f"{_listed(arrays) or 'nothing'}."
            )
            raise DataError(msg)
        return arrays.pop(model.param_input), arrays
    if isinstance(model_input, pd.DataFrame):
        return _of_table(model_input, model)
    return _array(model_input, model.param_input), {}


def _of_table(table: pd.DataFrame, model: ImpactModel) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    schema = model.input_schema
    rows = schema.rows if schema else {}
    others = [name for name in rows if name not in (model.param_input, model.param_output)]
    found = {name: _array(table[name], name) for name in others if name in table.columns}
    missing = [name for name in others if name not in found]
    if missing:
        msg = (
            f"The table has no column {_listed(missing)}, which the kernel takes for each row; it "
            f"has {_listed(table.columns)}."
        )
        raise DataError(msg)
    table = table.drop(columns=list(found))
    trained = list(schema.columns.get(model.param_input, ())) if schema else []
    if not trained:
        inputs = _array(table, model.param_input)
        is_vector = bool(rows) and rows[model.param_input].shape == ()
        return (inputs[:, 0] if is_vector and inputs.shape[1] == 1 else inputs), found
    by_name = {str(column): column for column in table.columns}
    missing = [name for name in trained if str(name) not in by_name]
    unknown = [name for name in by_name if name not in map(str, trained)]
    if missing or unknown or len(by_name) < len(table.columns):
        msg = (
            f"The table has the columns {_listed(table.columns)}, and the model was trained on "
            f"{_listed(trained)}."
        )
        raise DataError(msg)
    ordered = table[[by_name[str(name)] for name in trained]]  # a request may have any order
    return _array(ordered, model.param_input), found


def _array(value: Any, name: str) -> np.ndarray:
    """Return values as NumPy has them; a column of lists becomes an array of rows."""
    try:
        array = np.asarray(value)
        return np.asarray(array.tolist()) if array.dtype == object else array
    except (ValueError, TypeError) as error:
        msg = f"The request's {name!r} is no array: its rows differ in length or kind."
        raise DataError(msg) from error


def _as_trained(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return whole numbers for what was trained on them: JSON may have made 2 of them 2.0."""
    if np.iscomplexobj(array) and dtype.kind != "c":
        msg = f"The request's {name!r} is complex, and the model was trained on real numbers."
        raise DataError(msg)
    if dtype.kind in "iu" and array.dtype.kind == "f" and (array == np.floor(array)).all():
        return array.astype(np.int64)
    return array


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)
