"""The environment that a logged model asks for: pip requirements and Conda's file."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, version

import yaml
from mlflow.exceptions import MlflowException
from mlflow.utils.environment import (
    _mlflow_conda_env,
    _process_conda_env,
    _process_pip_requirements,
    _PythonEnv,
)
from packaging.requirements import InvalidRequirement, Requirement

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError
from aimz_lab.types import JsonObject

_NAMED = ("aimz_lab", "jax", "numpyro", "optax")
# Installed by the ones above, or part of what every model has.
_KNOWN = {*_NAMED, "jaxlib", "numpy", "cloudpickle", "mlflow", "__main__", "__mp_main__"}


@public
def get_default_pip_requirements(*, include_cloudpickle: bool = False) -> list[str]:
    """Return the pip requirements of a logged model, at the versions installed here.

    :func:`save_model` and :func:`log_model` add MLflow, and the packages that the kernel refers to.

    Args:
        include_cloudpickle: Whether to add ``cloudpickle``, which a saved model needs.

    Returns:
        Requirements such as ``"jax==0.10.2"``.

    Example:
        >>> [each.split("==")[0] for each in get_default_pip_requirements()]
        ['aimz_lab', 'jax', 'numpyro', 'optax']
    """
    names = [*_NAMED, *(["cloudpickle"] if include_cloudpickle else [])]
    return [_pinned(name) for name in names]


@public
def get_default_conda_env(*, include_cloudpickle: bool = False) -> JsonObject:
    """Return the Conda environment of :func:`get_default_pip_requirements`, with MLflow.

    Args:
        include_cloudpickle: Whether to add ``cloudpickle``, which a saved model needs.

    Returns:
        What Conda's YAML file holds.

    Example:
        >>> sorted(get_default_conda_env())
        ['channels', 'dependencies', 'name']
    """
    requirements = get_default_pip_requirements(include_cloudpickle=include_cloudpickle)
    return _mlflow_conda_env(additional_pip_deps=requirements)


def environment_files(
    conda_env: JsonObject | str | None,
    pip_requirements: Iterable[str] | str | None,
    extra_pip_requirements: Iterable[str] | str | None,
    modules: set[str],
) -> dict[str, str]:
    """Return the texts of the files that describe the environment of a model, by name.

    Args:
        conda_env: As for :func:`save_model`.
        pip_requirements: As for :func:`save_model`.
        extra_pip_requirements: As for :func:`save_model`.
        modules: Names of the modules that its code refers to.

    Raises:
        ArgumentError: If the requirements cannot be read.
    """
    default = None
    if conda_env is None and pip_requirements is None:
        default = get_default_pip_requirements(include_cloudpickle=True) + _packages_of(modules)
    try:
        if conda_env is not None:
            conda, lines, constraints = _process_conda_env(conda_env)
        else:
            conda, lines, constraints = _process_pip_requirements(
                default, pip_requirements, extra_pip_requirements
            )
        for line in lines:
            if not line.startswith("-"):
                Requirement(line)
    except (InvalidRequirement, MlflowException, OSError, ValueError, TypeError) as error:
        msg = (
            f"The requirements cannot be read: {error}. A line is as in a requirements.txt, such "
            "as 'flax>=0.12' or '-c constraints.txt'."
        )
        raise ArgumentError(msg) from error
    files = {
        "conda.yaml": yaml.safe_dump(conda, default_flow_style=False),
        "requirements.txt": "\n".join(lines) + "\n",
        "python_env.yaml": yaml.safe_dump(_PythonEnv.current().to_dict(), sort_keys=False),
    }
    if constraints:
        files["constraints.txt"] = "\n".join(constraints) + "\n"
    return files


def _packages_of(modules: set[str]) -> list[str]:
    """Return the pinned packages of modules, without those that come anyway."""
    roots = {name.partition(".")[0] for name in modules}
    roots -= _KNOWN | sys.stdlib_module_names
    if not roots:
        return []
    installed = packages_distributions()
    packages = {package for root in roots for package in installed.get(root, ())[:1]}
    return [_pinned(package) for package in sorted(packages)]


def _pinned(package: str) -> str:
    try:
        return f"{package}=={version(package).partition('+')[0]}"
    except PackageNotFoundError:
        return package
