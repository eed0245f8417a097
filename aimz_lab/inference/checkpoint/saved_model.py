"""Models on disk: all that training and prediction go on from, as arrays and plain text.

Code is not stored. Whoever loads a model brings its kernel and its inference object, which are
checked against what was stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from numpyro.infer import MCMC, SVI
from numpyro.infer.svi import SVIRunResult

from aimz_lab.errors import ArtifactError
from aimz_lab.inference.checkpoint.archive import differences, tree_arrays, tree_facts, tree_from
from aimz_lab.inference.checkpoint.artifact import read_artifact, write_artifact
from aimz_lab.inference.checkpoint.provenance import plain_key, typed_key, versions
from aimz_lab.inference.describe import describe_sites
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.training import TrainableModel
from aimz_lab.kernel.check import parameter_names
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.types import Device, callable_name


class StorableModel(TrainableModel):
    """A model that can be saved and loaded; see :class:`aimz_lab.ImpactModel`."""

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the model to a directory: arrays and JSON, no code and none of the data.

        What it holds: the posterior with its chains, the parameters, the optimizer's and the
        mutable state, the losses, the keys, and names, shapes and types of the arguments that it
        was trained on. Written whole or not at all; a model that is already there is replaced.

        Args:
            path: The directory.

        Returns:
            Its absolute path.

        Raises:
            ArtifactError: If something else is at ``path``, or parameters are no tree of dicts.
            ArtifactWriteError: If it cannot be written.
            BusyError: If it is being trained in the background.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     im.save(f"{folder}/slope").name
            'slope'
        """
        self._check_idle("save")
        manifest: dict[str, Any] = {
            "versions": versions(),
            "model": self._identity(),
            "rng_key": plain_key(self._rng_key),
            "n_obs": self._n_obs,
            "epochs_done": self._epochs_done,
            "schema": self.input_schema.as_plain() if self.input_schema else None,
            "sites": describe_sites(self._spec) if self._spec else None,
            "posterior": None,
            "state": None,
            "params": None,
        }
        arrays: dict[str, np.ndarray] = {}
        if self._posterior:
            draws = dict(self._posterior.draws)
            stats = dict(self._posterior.stats)
            manifest["posterior"] = {
                "sites": list(draws),
                "stats": list(stats),
                "num_chains": self._posterior.num_chains,
                "count": self._posterior.count,
            }
            arrays |= _numbered("posterior", draws.values()) | _numbered("stats", stats.values())
        if self._vi_state is not None:
            manifest["state"] = tree_facts(self._vi_state)
            arrays |= tree_arrays("state", self._vi_state)
        if self._vi_result is not None:
            paths, leaves = _paths(self._vi_result.params)
            manifest["params"] = paths
            arrays |= _numbered("params", leaves)
            arrays["losses"] = np.asarray(self._vi_result.losses)
        return write_artifact(path, manifest, arrays)

    @classmethod
    def load(
        cls,
        path: str | PathLike[str],
        kernel: Callable,
        inference: SVI | MCMC | None = None,
        *,
        svi: SVI | None = None,
        device: Device | None = None,
        kernel_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Read a model from a directory that :meth:`save` wrote.

        Predictions with a given key are those of the model that was saved, and training goes on as
        it would have.

        Args:
            path: The directory.
            kernel: The NumPyro model that it was saved from.
            inference: Its inference object, built as it was; or use ``svi``.
            svi: The same.
            device: As for a new model; it is not stored.
            kernel_kwargs: Kernel arguments that are code, such as functions, which is not stored.

        Returns:
            The model as it was when it was saved.

        Raises:
            ArtifactGoneError: If there is nothing at ``path``.
            ArtifactError: If it is damaged, or kernel and inference object are others than it was
                saved with; the message says in what they differ.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     again = type(im).load(im.save(f"{folder}/slope"), kernel, svi=svi)
            >>> bool((again.posterior["slope"] == im.posterior["slope"]).all())
            True
        """
        manifest, arrays = read_artifact(path)
        stored = manifest["model"]
        model = cls(
            kernel,
            typed_key(manifest["rng_key"]),
            inference,
            svi=svi,
            param_input=stored["input"],
            param_output=stored["output"],
            device=device,
        )
        _refuse(path, differences(stored, model._identity()))
        model._restore(path, manifest, arrays, kernel_kwargs or {})
        return model

    def _restore(
        self,
        path: str | PathLike[str],
        manifest: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray],
        kernel_kwargs: Mapping[str, Any],
    ) -> None:
        self._n_obs, self._epochs_done = manifest["n_obs"], manifest["epochs_done"]
        if manifest["schema"]:
            schema = InputSchema.of_plain(manifest["schema"], kernel_kwargs)
            self._spec = self._spec_of(schema)
            sites = describe_sites(self._spec)
            _refuse(path, differences(manifest["sites"], sites), "site ")
            self._mcmc_schema = schema
        template = None
        if manifest["state"]:
            template = self._session.set_up(schema)
            _refuse(path, differences(manifest["state"], tree_facts(template)), "state")
            self._session.state = tree_from(arrays, "state", template)
        if manifest["params"] is not None:
            leaves = [arrays[f"params/{i}"] for i in range(len(manifest["params"]))]
            like = self._session.params if template else None
            params = _params(manifest["params"], leaves, like)
            self._vi_result = SVIRunResult(params, self._vi_state, arrays["losses"])
        if manifest["posterior"]:
            stored = manifest["posterior"]
            draws = _named(arrays, "posterior", stored["sites"])
            stats = _named(arrays, "stats", stored["stats"])
            self._posterior = Posterior(draws, stored["num_chains"], stats, stored["count"])

    def _identity(self) -> dict[str, Any]:
        """What kernel and inference object must share with those that a model was saved with."""
        guide = getattr(self._inference, "guide", None)
        return {
            "arguments": list(parameter_names(self.kernel)),
            "input": self.param_input,
            "output": self.param_output,
            "inference": type(self._inference).__name__,
            "guide": None if guide is None else callable_name(guide),
        }

    def _spec_of(self, schema: InputSchema) -> KernelSpec:
        return trace_spec(
            self.kernel,
            rows=schema.batch,
            shared=schema.shared,
            static=schema.static,
            output=self.param_output,
        )


def _refuse(path: Any, found: list[str], what: str = "") -> None:
    if found:
        listed = "; ".join(f"{what}{difference}" for difference in found[:6])
        more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
        msg = (
            f"{path} was saved from another model: {listed}{more}. Load it with the kernel and the "
            "inference object that it was saved with."
        )
        raise ArtifactError(msg)


def _numbered(prefix: str, leaves: Any) -> dict[str, np.ndarray]:
    return tree_arrays(prefix, list(leaves))


def _named(arrays: Mapping[str, np.ndarray], prefix: str, names: list[str]) -> dict[str, jax.Array]:
    return {name: jax.numpy.asarray(arrays[f"{prefix}/{i}"]) for i, name in enumerate(names)}


def _paths(params: Mapping[str, Any]) -> tuple[list[list[str]], list[Any]]:
    """The leaves of nested mappings, and the names that lead to each."""
    paths, leaves = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(params)):
        if not all(hasattr(step, "key") for step in path):
            where = jax.tree_util.keystr(path)
            msg = f"The parameter at {where} is not in a tree of dicts, which is what can be saved."
            raise ArtifactError(msg)
        paths.append([step.key for step in path])
        leaves.append(leaf)
    return paths, leaves


def _params(paths: list[list[str]], leaves: list[Any], like: Any) -> dict[str, Any]:
    """Put parameters together again: as the ones of the state are, else as dicts."""
    leaves = [jax.numpy.asarray(leaf) for leaf in leaves]
    if like and _paths(like)[0] == paths:
        return jax.tree.unflatten(jax.tree.structure(like), leaves)
    params: dict[str, Any] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        inner = params
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = leaf
    return params
