"""Check the arguments of saving and logging before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow.models import ModelSignature

from aimz_lab.errors import ArgumentError, CallError
from aimz_lab.impact_model import ImpactModel
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.types import Arguments

_ENVIRONMENTS = ("conda_env", "pip_requirements", "extra_pip_requirements")
_LISTS = ("pip_requirements", "extra_pip_requirements", "code_paths", "extra_files")


def checked_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``save_model`` with lists for iterables, and text for paths.

    Raises:
        CallError: If ``model`` is no model, or two arguments say the same.
        ArgumentError: If another argument has a wrong type or value.
    """
    checked = {**given, **{name: _as_list(name, given[name]) for name in _LISTS}}
    if isinstance(given["conda_env"], os.PathLike):
        checked["conda_env"] = os.fspath(given["conda_env"])
    if not isinstance(given["model"], ImpactModel):
        msg = f"model is an aimz_lab.ImpactModel; got {_kind(given['model'])}."
        raise CallError(msg)
    _check_environment(checked)
    _check_there("code_paths", checked["code_paths"] or ())
    _check_there("extra_files", [p for p in checked["extra_files"] or () if "://" not in p])
    _check_metadata(given["metadata"])
    _check_kernel_kwargs(given["model"], given["kernel_kwargs"])
    signature = given["signature"]
    if not (signature is None or signature is False or isinstance(signature, ModelSignature)):
        msg = (
            "signature is a ModelSignature, such as mlflow.models.infer_signature makes, or False "
            f"for none; got {_kind(signature)}."
        )
        raise ArgumentError(msg)
    return checked


def check_texts(**texts: object) -> None:
    """Raise unless the arguments are texts that are not empty, or ``None``."""
    for name, value in texts.items():
        if value is not None and not (isinstance(value, str) and value):
            msg = f"{name} is a text that is not empty; got {value!r}."
            raise ArgumentError(msg)


def check_mappings(**mappings: object) -> None:
    """Raise unless the arguments are dicts with texts as names, or ``None``."""
    for name, value in mappings.items():
        if value is None:
            continue
        if not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
            msg = f"{name} is a dict of values by name; got {_kind(value)}."
            raise ArgumentError(msg)


def check_path(name: str, value: object) -> str:
    """Return a path or URI as text.

    Raises:
        CallError: If it is none.
    """
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        hint = " Kernel and inference object are passed by name: kernel=, inference=."
        msg = f"{name} is a path or a text; got {_kind(value)}.{hint if callable(value) else ''}"
        raise CallError(msg)
    text = os.fspath(value)
    if not isinstance(text, str) or "\0" in text:
        msg = f"{name} is a path without null characters; got {text!r}."
        raise CallError(msg)
    return text


def _check_environment(given: Mapping[str, Any]) -> None:
    both = [name for name in _ENVIRONMENTS if given[name] is not None]
    if len(both) > 1:
        msg = f"{' and '.join(both)} all say what to install; pass only one of them."
        raise CallError(msg)
    conda = given["conda_env"]
    if not (conda is None or isinstance(conda, (dict, str))):
        msg = f"conda_env is a dict, or the path of a YAML file; got {_kind(conda)}."
        raise ArgumentError(msg)
    _check_there("conda_env", [conda] if isinstance(conda, str) else ())


def _check_metadata(metadata: object) -> None:
    check_mappings(metadata=metadata)
    try:
        yaml.safe_dump(None if metadata is None else dict(metadata))
    except yaml.YAMLError as error:
        msg = f"metadata has a value that YAML cannot hold: {error}. Use plain values."
        raise ArgumentError(msg) from error


def _check_kernel_kwargs(model: ImpactModel, kernel_kwargs: Arguments | None) -> None:
    check_mappings(kernel_kwargs=kernel_kwargs)
    names = parameter_names(model.kernel)
    own = (model.param_input, model.param_output)
    for name in kernel_kwargs or ():
        if name not in names or name in own:
            known = ", ".join(repr(each) for each in names if each not in own)
            msg = f"kernel_kwargs names {name!r}, and the kernel takes besides X and y: {known}."
            raise ArgumentError(msg.replace("X and y", " and ".join(own)))


def _check_there(name: str, paths: Iterable[str]) -> None:
    for path in paths:
        if "\0" in path or not Path(path).exists():
            msg = f"{name} names {path!r}, which does not exist."
            raise ArgumentError(msg)


def _as_list(name: str, value: Any) -> list[str] | str | None:
    is_text = name.endswith("pip_requirements")
    if value is None or (isinstance(value, str) and is_text):
        return value
    if isinstance(value, Iterable) and not isinstance(value, (str, Mapping)):
        listed = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in value]
        if all(isinstance(each, str) for each in listed):
            return listed
    what = "requirements, such as ['flax>=0.12']" if is_text else "paths"
    msg = f"{name} is a list of {what}; got {value!r}."
    raise ArgumentError(msg)


def _kind(value: object) -> str:
    return f"{value!r}" if isinstance(value, (str, int, float)) else f"a {type(value).__name__}"
