"""Save and load a model: draws, SVI state, parameters, keys and schema; arrays and JSON.

Code is not stored: loading takes the kernel and the inference object, and checks them against the
saved ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro.infer import MCMC, SVI
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.errors import ArtifactError
from aimz_lab.inference.artifact import read_artifact, write_artifact
from aimz_lab.inference.checkpoint.archive import differences, tree_arrays, tree_facts, tree_from
from aimz_lab.inference.checkpoint.provenance import plain_key, typed_key, versions
from aimz_lab.inference.describe import describe_sites
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import Learner
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.types import Arguments, JsonObject, Params, callable_name


@dataclass(frozen=True)
class ModelState:
    """Contents of a saved model.

    Attributes:
        rng_key: The key of its next call.
        n_obs: Rows of the data that hand-written loops train on, if known.
        epochs_done: Epochs of the loader so far.
        spec: The kernel's structure as last trained, or ``None``.
        schema: Schema of the last training data, or ``None``.
        state: The SVI state, or ``None``.
        vi_result: Parameters and losses of the last training, or ``None``.
        posterior: The draws, or ``None``.
    """

    rng_key: jax.Array
    n_obs: int | None = None
    epochs_done: int = 0
    spec: KernelSpec | None = None
    schema: InputSchema | None = None
    state: SVIState | None = None
    vi_result: SVIRunResult | None = None
    posterior: Posterior | None = None


def identity(signature: KernelSignature, inference: SVI | MCMC) -> JsonObject:
    """Describe the kernel and inference object, to compare them on loading."""
    guide = getattr(inference, "guide", None)
    return {
        "arguments": list(parameter_names(signature.kernel)),
        "input": signature.input,
        "output": signature.output,
        "inference": type(inference).__name__,
        "guide": None if guide is None else callable_name(guide),
    }


def save_model(
    path: str | PathLike[str], signature: KernelSignature, inference: SVI | MCMC, state: ModelState
) -> Path:
    """Write a model to a directory; see :meth:`aimz_lab.ImpactModel.save`."""
    manifest: JsonObject = {
        "versions": versions(),
        "model": identity(signature, inference),
        "rng_key": plain_key(state.rng_key),
        "n_obs": state.n_obs,
        "epochs_done": state.epochs_done,
        "schema": state.schema.as_plain() if state.schema else None,
        "sites": describe_sites(state.spec) if state.spec else None,
        "posterior": None,
        "state": None,
        "params": None,
    }
    arrays: dict[str, np.ndarray] = {}
    if state.posterior:
        draws, stats = dict(state.posterior.draws), dict(state.posterior.stats)
        manifest["posterior"] = {
            "sites": list(draws),
            "stats": list(stats),
            "num_chains": state.posterior.num_chains,
            "count": state.posterior.count,
        }
        arrays |= _numbered("posterior", draws.values()) | _numbered("stats", stats.values())
    if state.state is not None:
        manifest["state"] = tree_facts(state.state)
        arrays |= tree_arrays("state", state.state)
    if state.vi_result is not None:
        paths, leaves = _paths(state.vi_result.params)
        manifest["params"] = paths
        arrays |= _numbered("params", leaves)
        arrays["losses"] = np.asarray(state.vi_result.losses)
    return write_artifact(path, manifest, arrays)


class SavedModel:
    """A complete saved model.

    Args:
        path: Its directory.

    Raises:
        ArtifactGoneError: If there is nothing at ``path``.
        ArtifactError: If it is damaged, or no saved model.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = path
        self._manifest, self._arrays = read_artifact(path)

    @property
    def param_input(self) -> str:
        """Name of the kernel's parameter for the input."""
        return self._manifest["model"]["input"]

    @property
    def param_output(self) -> str:
        """Name of the kernel's parameter for the output."""
        return self._manifest["model"]["output"]

    @property
    def rng_key(self) -> jax.Array:
        """The key of the next call."""
        return typed_key(self._manifest["rng_key"])

    def restore(
        self,
        signature: KernelSignature,
        inference: SVI | MCMC,
        learner: Learner,
        kernel_kwargs: Arguments,
    ) -> ModelState:
        """Return the model's state.

        Args:
            signature: The kernel.
            inference: The inference object.
            learner: The learner of both.
            kernel_kwargs: Kernel arguments that are code, which is not stored.

        Raises:
            ArtifactError: If the kernel or inference object differs from the saved one.
        """
        manifest, arrays = self._manifest, self._arrays
        self._refuse(differences(manifest["model"], identity(signature, inference)))
        spec = schema = template = state = vi_result = posterior = None
        if manifest["schema"]:
            schema = InputSchema.of_plain(manifest["schema"], kernel_kwargs)
            spec = _spec_of(signature, schema)
            self._refuse(differences(manifest["sites"], describe_sites(spec)), "site ")
        if manifest["state"]:
            template = learner.set_up(schema)
            self._refuse(differences(manifest["state"], tree_facts(template)), "state")
            state = tree_from(arrays, "state", template)
        if manifest["params"] is not None:
            leaves = [arrays[f"params/{i}"] for i in range(len(manifest["params"]))]
            like = learner.params(state) if template else None
            params = _params(manifest["params"], leaves, like)
            vi_result = SVIRunResult(params, state, arrays["losses"])
        if stored := manifest["posterior"]:
            draws = _named(arrays, "posterior", stored["sites"])
            stats = _named(arrays, "stats", stored["stats"])
            posterior = Posterior(draws, stored["num_chains"], stats, stored["count"])
        return ModelState(
            rng_key=self.rng_key,
            n_obs=manifest["n_obs"],
            epochs_done=manifest["epochs_done"],
            spec=spec,
            schema=schema,
            state=state,
            vi_result=vi_result,
            posterior=posterior,
        )

    def _refuse(self, found: list[str], what: str = "") -> None:
        if found:
            listed = "; ".join(f"{what}{difference}" for difference in found[:6])
            more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
            msg = (
                f"{self._path} was saved from another model: {listed}{more}. Load it with the "
                "kernel and the inference object that it was saved with."
            )
            raise ArtifactError(msg)


def _spec_of(signature: KernelSignature, schema: InputSchema) -> KernelSpec:
    return trace_spec(
        signature.kernel,
        rows=schema.batch,
        shared=schema.shared,
        static=schema.static,
        output=signature.output,
    )


def _numbered(prefix: str, leaves: Iterable[ArrayLike]) -> dict[str, np.ndarray]:
    return tree_arrays(prefix, list(leaves))


def _named(arrays: Mapping[str, np.ndarray], prefix: str, names: list[str]) -> dict[str, jax.Array]:
    return {name: jax.numpy.asarray(arrays[f"{prefix}/{i}"]) for i, name in enumerate(names)}


def _paths(params: Params) -> tuple[list[list[str]], list[ArrayLike]]:
    """Return the leaves of nested mappings, with the path of names to each."""
    paths, leaves = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(params)):
        if not all(hasattr(step, "key") for step in path):
            where = jax.tree_util.keystr(path)
            msg = f"The parameter at {where} is not in a tree of dicts, which is what can be saved."
            raise ArtifactError(msg)
        paths.append([step.key for step in path])
        leaves.append(leaf)
    return paths, leaves


def _params(paths: list[list[str]], leaves: list[np.ndarray], like: Params | None) -> Params:
    """Rebuild parameters with the structure of ``like``, else as nested dicts."""
    leaves = [jax.numpy.asarray(leaf) for leaf in leaves]
    if like and _paths(like)[0] == paths:
        return jax.tree.unflatten(jax.tree.structure(like), leaves)
    params: dict[str, PyTree] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        inner = params
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = leaf
    return params
