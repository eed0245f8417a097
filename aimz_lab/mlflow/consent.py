"""Consent to unpickle a model's code, which never comes from the model itself.

MLflow mixes its ``model_config`` with what the model's own description says before a flavor sees
it, and a model may redirect MLflow to another folder. So neither is asked. (It also imports any
module that a description names: ``mlflow.pyfunc.load_model`` is not for models that you distrust.)
"""

from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import cloudpickle
from numpyro.infer import MCMC, SVI

from aimz_lab.errors import ArgumentError, ArtifactError, CallError
from aimz_lab.mlflow.flavor import CODE, MODULES
from aimz_lab.types import Arguments

ALLOW = "AIMZ_LAB_ALLOW_PICKLE"
"""Environment variable of consent, for processes that serve models; only ``1`` counts."""

_FORBID = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"
_just_saved: ContextVar[bool] = ContextVar("just_saved", default=False)


@dataclass(frozen=True)
class PickledCode:
    """The code of a model.

    Attributes:
        kernel: The kernel.
        inference: The inference object.
        kernel_kwargs: Shared kernel arguments of the served model.
    """

    kernel: Callable
    inference: SVI | MCMC
    kernel_kwargs: Arguments = field(default_factory=dict)


@contextmanager
def trusting_own_model() -> Iterator[None]:
    """Consent while MLflow tries out the model that this process is just saving."""
    token = _just_saved.set(True)
    try:
        yield
    finally:
        _just_saved.reset(token)


def check_consent(allow_pickle: bool = False) -> None:
    """Refuse to unpickle without consent.

    Args:
        allow_pickle: What the caller says.

    Raises:
        ArgumentError: If it is neither ``True`` nor ``False``.
        CallError: If there is no consent, or MLflow's own setting forbids pickles.
    """
    if not isinstance(allow_pickle, bool):
        msg = (
            f"allow_pickle takes True or False, and nothing else counts as one of them; got "
            f"{allow_pickle!r}."
        )
        raise ArgumentError(msg)
    if _just_saved.get():
        return
    if os.environ.get(_FORBID, "").lower() in ("false", "0"):
        msg = (
            f"The kernel of this model is pickled, and {_FORBID} forbids pickles in this process. "
            "Pass kernel and inference instead."
        )
        raise CallError(msg)
    said = os.environ.get(ALLOW)
    if not (allow_pickle or said == "1"):
        got = "" if said in (None, "") else f" (it is {said!r}; only 1 counts)"
        msg = (
            "The kernel of this model is pickled, and unpickling runs code. Pass kernel= and "
            "inference= to aimz_lab.mlflow.load_model or load_pyfunc; or, for a model that you "
            f"trust, allow_pickle=True there, or {ALLOW}=1 in the environment of a process that "
            f"serves it{got}. A model_config of MLflow is not asked: the model's own file could "
            "say the same."
        )
        raise CallError(msg)


def pickled_code(code: PickledCode) -> tuple[bytes, set[str]]:
    """Pickle the code of a model.

    Returns:
        The pickle, and the names of the modules that it refers to.

    Raises:
        ArtifactError: If it cannot be pickled.
    """
    content = {each.name: getattr(code, each.name) for each in fields(code)}
    file = io.BytesIO()
    pickler = _Pickler(file)
    try:
        pickler.dump(content)
    except Exception as error:
        msg = (
            "The kernel, its arguments or the inference object cannot be pickled: "
            f"{type(error).__name__}: {error}. Whatever they refer to must be picklable: no open "
            "files, locks or connections."
        )
        raise ArtifactError(msg) from error
    return file.getvalue(), pickler.modules


def read_code(path: Path) -> PickledCode:
    """Unpickle the code of a model; call :func:`check_consent` first.

    Raises:
        ArtifactError: If there is none, or it cannot be unpickled here.
    """
    file = path / CODE
    if not file.is_file():
        msg = f"{path} has no {CODE}, so it is no whole model of aimz_lab."
        raise ArtifactError(msg)
    modules = path / MODULES
    if modules.is_dir() and str(modules) not in sys.path:
        sys.path.insert(0, str(modules))
    try:
        code = PickledCode(**pickle.loads(file.read_bytes()))
        code = replace(code, kernel_kwargs=dict(code.kernel_kwargs))
    except Exception as error:
        msg = (
            f"{file} cannot be unpickled here: {type(error).__name__}: {error}. Save the model "
            "with the modules of its kernel, code_paths=[...], and load it with the versions in "
            "its requirements.txt."
        )
        raise ArtifactError(msg) from error
    return code


class _Pickler(cloudpickle.Pickler):
    """Notes the modules of what it pickles."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.modules: set[str] = set()

    def reducer_override(self, obj: object) -> object:
        named = getattr(obj, "__module__", None) or type(obj).__module__
        self.modules.add(named if isinstance(named, str) else type(obj).__module__)
        if isinstance(obj, type(sys)):
            self.modules.add(obj.__name__)
        return super().reducer_override(obj)
