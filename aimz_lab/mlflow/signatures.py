"""Signatures of served models: inferred from an example, with what a request may say."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ParamSchema, ParamSpec

from aimz_lab.errors import AimzLabError, ArgumentError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.mlflow.serving import ServedModel, ServedParams
from aimz_lab.types import Arguments

Signature = ModelSignature | Literal[False] | None

_TYPES = {
    "output": "string",
    "prob": "double",
    "seed": "long",
    "num_draws": "long",
    "return_datatree": "boolean",
    "progress": "boolean",
}
_DEFAULTS = vars(ServedParams())


def split_example(example: Any) -> tuple[Any, dict[str, Any]]:
    """Return the input of an example as NumPy has it, and its params.

    Args:
        example: As MLflow takes it: the input, or the pair ``(input, params)``.
    """
    params: dict[str, Any] = {}
    if isinstance(example, tuple) and len(example) == 2 and isinstance(example[1], dict):
        example, params = example
    if isinstance(example, jax.Array):
        example = np.asarray(example)
    if isinstance(example, Mapping):
        example = {name: np.asarray(value) for name, value in example.items()}
    return example, dict(params)


def served_signature(
    model: ImpactModel, signature: Signature, example: Any, kernel_kwargs: Arguments
) -> ModelSignature | None:
    """Return the signature of a served model; MLflow passes on only the params that it has.

    Args:
        model: The model.
        signature: The user's; ``None`` infers it from the example, ``False`` leaves it out.
        example: The example, or ``None``. Its params become the defaults.
        kernel_kwargs: Shared kernel arguments of the served model.

    Raises:
        ArgumentError: If MLflow cannot describe the example, or its params are not allowed.
        AimzLabError: If the model cannot predict it.
    """
    if signature is False:
        return None
    data, params = split_example(example)
    ServedParams.of(params)
    schema = _params_schema(params, signature.params if signature else None)
    if signature is not None or example is None:
        inputs, outputs = (signature.inputs, signature.outputs) if signature else (None, None)
        return ModelSignature(inputs, outputs, schema)
    try:
        predicted = ServedModel(model, kernel_kwargs).predict(copy.deepcopy(data), params)
    except AimzLabError as error:
        error.add_note(
            "This is the prediction of input_example, which is a table, an array, or arrays by "
            "kernel argument; arguments that all rows share go to kernel_kwargs=."
        )
        raise
    output = None if ServedParams.of(params).output == "tree" else predicted
    try:
        found = infer_signature(data, output)
    except AimzLabError:
        raise
    except Exception as error:
        msg = (
            f"MLflow cannot describe input_example, a {type(data).__name__}: {error}. It takes a "
            "table, an array, or arrays by name; or pass signature=."
        )
        raise ArgumentError(msg) from error
    return ModelSignature(found.inputs, found.outputs, schema)


def _params_schema(params: Mapping[str, Any], given: ParamSchema | None) -> ParamSchema:
    """Return the user's own schema, and the other params at the defaults of the example."""
    own = list(given.params) if given else []
    defaults = {**_DEFAULTS, **params}
    taken = {spec.name for spec in own}
    return ParamSchema(
        own
        + [
            ParamSpec(name, _TYPES[name], default)
            for name, default in defaults.items()
            if name not in taken
        ]
    )
