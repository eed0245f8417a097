"""Save and load a model: draws, SVI state, parameters, keys and schema; arrays and JSON.

Code is not stored: loading takes the kernel and the inference object, and checks them against the
saved ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeVar

import jax
import numpy as np
from numpyro.infer import MCMC, SVI

from aimz_lab.errors import ArtifactError, KernelError
from aimz_lab.files import MOST_EPOCHS, Value, refusing
from aimz_lab.inference.artifact import read_artifact, write_artifact
from aimz_lab.inference.autoguides import autoguides_in
from aimz_lab.inference.checkpoint.provenance import plain_key, typed_key, versions
from aimz_lab.inference.checkpoint.trees import (
    check_names,
    differences,
    state_differences,
    tree_arrays,
    tree_facts,
    tree_from,
)
from aimz_lab.inference.describe import describe_sites
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.schema import InputSchema, check_fits
from aimz_lab.inference.model_code import ModelCode
from aimz_lab.inference.request import Learner
from aimz_lab.inference.rollback import rollback_on_error
from aimz_lab.inference.saved_draws import (
    plain_posterior,
    plain_result,
    posterior_arrays,
    posterior_of,
    result_arrays,
    result_of,
)
from aimz_lab.inference.trained import Fitted, Trained
from aimz_lab.kernel.checks.preflight import parameter_names
from aimz_lab.kernel.read_code import is_unpickled
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import trace_spec
from aimz_lab.types import Arguments, JsonObject, callable_name

_T = TypeVar("_T")


@dataclass(frozen=True)
class ModelState:
    """Contents of a saved model.

    Attributes:
        rng_key: The key of its next call.
        n_obs: Rows of the data that hand-written loops train on, if known.
        trained: What it has learned.
        table: How tables are read, as JSON values, or ``None``.
    """

    rng_key: jax.Array
    n_obs: int | None
    trained: Trained
    table: JsonObject | None = None


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
    """Write a model to a directory; see :meth:`aimz_lab.ImpactModel.save`.

    Warns:
        FitWarning: If a source is not at hand, so that it cannot be compared on loading.
    """
    code = ModelCode.of(signature, inference)
    code.warn_if_unread("load")
    trained, fitted = state.trained, state.trained.fitted
    posterior, fingerprint = trained.posterior, trained.fingerprint
    manifest: JsonObject = {
        "versions": versions(),
        "model": identity(signature, inference),
        "code": code.as_plain(),
        "rng_key": plain_key(state.rng_key),
        "n_obs": state.n_obs,
        "epochs_done": trained.epochs_done,
        "ending": trained.ending,
        "wrecked": trained.is_wrecked,
        "why_not": trained.why_not,
        "given": fitted is not None and fitted.is_given,
        "steps_since": 0 if fitted is None else fitted.steps_since,
        "result_since": fitted is not None and fitted.result_since,
        "schema": trained.schema.as_plain() if trained.schema else None,
        "sites": describe_sites(trained.spec) if trained.spec and trained.schema else None,
        "output_transform": trained.spec.output_transform if trained.spec else "",
        "posterior": None,
        "state": None,
        "params": None,
        "table": state.table,
        "rows": fingerprint and fingerprint.as_plain(),
    }
    arrays: dict[str, np.ndarray] = dict(fingerprint.arrays) if fingerprint else {}
    if posterior:
        manifest["posterior"] = plain_posterior(posterior, trained.spec)
        arrays |= posterior_arrays(posterior)
    if trained.state is not None:
        if trained.schema is None:
            msg = (
                "The model has a state of training, and no schema of the data that it was trained "
                "on, so that it could not be loaded. Train it first, or leave the state out."
            )
            raise ArtifactError(msg)
        manifest["state"] = tree_facts(trained.state)
        arrays |= tree_arrays("state", trained.state)
    if trained.vi_result is not None:
        of_state = trained.state and jax.eval_shape(inference.get_params, trained.state)
        manifest["params"] = plain_result(trained.vi_result, of_state)
        arrays |= result_arrays(trained.vi_result)
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
        manifest, self._arrays = read_artifact(path)
        self._path = Path(path)
        with self._reading():
            self._fields = Value(manifest).fields("kind", "format", "arrays", *_FIELDS)
            model = self._fields["model"].fields(
                "arguments", "input", "output", "inference", "guide"
            )
            arguments = model["arguments"].names()
            self.param_input = model["input"].choice(arguments)
            self.param_output = model["output"].choice(arguments)
            self.rng_key = typed_key(self._fields["rng_key"])
            self._n_obs = self._fields["n_obs"].optional(_count)
            self._epochs_done = self._fields["epochs_done"].whole(most=MOST_EPOCHS)
            self._ending = self._fields["ending"].text()
            self._is_wrecked = self._fields["wrecked"].flag()
            self._why_not = self._fields["why_not"].text()
            self._has_given_draws = self._fields["given"].flag()
            self._steps_since = self._fields["steps_since"].whole()
            self._result_since = self._fields["result_since"].flag()

    def read_table(self, read: Callable[[JsonObject], _T]) -> _T | None:
        """Return how the model reads tables, or ``None`` if it reads none.

        Args:
            read: Makes it of its JSON values.

        Raises:
            ArtifactError: If these are damaged.
        """
        plain = self._fields["table"].value
        if plain is None:
            return None
        try:
            return read(plain)
        except Exception as error:
            msg = (
                f"{self._path} cannot be loaded: its description of tables is not one that was "
                f"saved ({type(error).__name__}: {error})."
            )
            raise ArtifactError(msg) from error

    @contextlib.contextmanager
    def checking(self, kernel: Callable) -> Iterator[None]:
        """Make a model of a kernel, whose arguments have to be those of the saved one.

        Raises:
            ArtifactError: If it has others, or other ones are its input and output.
        """
        saved = here = self._fields["model"].value["arguments"]
        with contextlib.suppress(TypeError, ValueError):  # no kernel: the model refuses it
            here = list(parameter_names(kernel))
        self._refuse(differences({"arguments": saved}, {"arguments": here}))
        try:
            yield
        except KernelError as error:
            msg = f"{self._path} cannot be loaded: {error}"
            raise ArtifactError(msg) from error

    def restore(
        self,
        signature: KernelSignature,
        inference: SVI | MCMC,
        learner: Learner,
        kernel_kwargs: Arguments,
    ) -> ModelState:
        """Return the model's state; after a refusal the inference object is as before.

        Args:
            signature: The kernel.
            inference: The inference object.
            learner: The learner of both.
            kernel_kwargs: Kernel arguments that are code, which is not stored.

        Raises:
            ArtifactError: If the kernel or inference object differs from the saved one.

        Warns:
            FitWarning: If training goes on with other settings of optimizer or loss. If a source
                was not compared.
        """
        guide = getattr(inference, "guide", None)
        guides = (guide, *autoguides_in(guide)) if guide is not None else ()
        self._refuse(differences(self._fields["model"].value, identity(signature, inference)))
        with rollback_on_error(inference, *guides), self._reading():
            return self._restored(signature, inference, learner, kernel_kwargs)

    def _restored(
        self,
        signature: KernelSignature,
        inference: SVI | MCMC,
        learner: Learner,
        kernel_kwargs: Arguments,
    ) -> ModelState:
        fields, arrays = self._fields, self._arrays
        spec = schema = state = None
        if fields["schema"].value is not None:
            schema = InputSchema.of_plain(fields["schema"], kernel_kwargs)
            spec = self._run("kernel", partial(_spec_of, signature, schema))
            check_fits("sites", spec.sites.values())
            self._refuse(differences(_named(fields["sites"]), describe_sites(spec)), "site ")
            spec = replace(spec, output_transform=fields["output_transform"].text())
        elif fields["sites"].value is not None:
            raise fields["sites"].refuse("null, as there is no schema")
        there, here = ModelCode.of_plain(fields["code"]), ModelCode.of(signature, inference)
        self._refuse_code(there.differences(here))
        if not is_unpickled(signature.kernel):  # that is the code that was saved
            there.warn_if_not_compared(here, self._path)
        posterior = fields["posterior"].optional(partial(posterior_of, arrays=arrays, spec=spec))
        if fields["state"].value is not None:
            if schema is None:
                raise fields["state"].refuse("null, as there is no schema")
            self._refuse(there.other_optimizer(here))
            template = self._run("guide", partial(learner.set_up, schema))
            self._refuse(state_differences(_named(fields["state"]), tree_facts(template)))
            there.warn_of_settings(here)
            state = tree_from(arrays, "state", template)
        like = learner.params(state)
        result = fields["params"].optional(
            partial(result_of, arrays=arrays, state=state, like=like)
        )
        fingerprint = fields["rows"].optional(partial(TrainingFingerprint.of_plain, arrays=arrays))
        leaves = [] if state is None else jax.tree.leaves(state)
        check_names(
            arrays,
            [
                *(f"state/{i}" for i in range(len(leaves))),
                *(() if result is None else result_arrays(result)),
                *(() if posterior is None else posterior_arrays(posterior)),
                *(() if fingerprint is None else fingerprint.arrays),
            ],
        )
        trained = Trained(
            spec,
            schema,
            state,
            result,
            self._epochs_done,
            self._ending,
            self._is_wrecked,
            trainings=None,
        )
        if posterior is not None:
            fitted = Fitted(
                posterior,
                trained.params,
                schema,
                fingerprint,
                self._has_given_draws,
                self._why_not,
                steps_since=self._steps_since,
                result_since=self._result_since,
            )
            trained = replace(trained, fitted=fitted)
        return ModelState(self.rng_key, self._n_obs, trained)

    def _reading(self) -> AbstractContextManager[None]:
        return refusing(f"{self._path} cannot be loaded", ArtifactError)

    def _run(self, what: str, call: Callable[[], _T]) -> _T:
        """Run the user's code on the stored shapes; whatever it raises, they do not fit."""
        try:
            return call()
        except Exception as error:
            msg = (
                f"{self._path} cannot be loaded: on arguments of the shapes in its schema, the "
                f"{what} raises {type(error).__name__}: {error}. Load it with the kernel and the "
                "inference object that it was saved with."
            )
            raise ArtifactError(msg) from error

    def _refuse_code(self, found: list[str]) -> None:
        """Refuse other code that has the same arguments and sites: its numbers mean another thing.

        Raises:
            ArtifactError: If the source, or a constant that it reads, differs.
        """
        if found:
            msg = (
                f"{self._path} was saved from another model; what differs: {'; '.join(found[:6])}. "
                "Load it with the code that it was saved with. If the change is meant, give the "
                "draws to a new model: ImpactModel(kernel, ...).set_posterior_sample(...)."
            )
            raise ArtifactError(msg)

    def _refuse(self, found: list[str], what: str = "") -> None:
        if found:
            listed = "; ".join(f"{what}{difference}" for difference in found[:6])
            more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
            msg = (
                f"{self._path} was saved from another model: {listed}{more}. Load it with the "
                "kernel and the inference object that it was saved with."
            )
            raise ArtifactError(msg)


_FIELDS = (
    "versions",
    "model",
    "code",
    "rng_key",
    "n_obs",
    "epochs_done",
    "ending",
    "wrecked",
    "why_not",
    "given",
    "steps_since",
    "result_since",
    "schema",
    "sites",
    "output_transform",
    "posterior",
    "state",
    "params",
    "table",
    "rows",
)


def _named(value: Value) -> JsonObject:
    """Read a mapping whose values are compared as they are."""
    return {name: part.value for name, part in value.named().items()}


def _count(value: Value) -> int:
    return value.whole(1)


def _spec_of(signature: KernelSignature, schema: InputSchema) -> KernelSpec:
    return trace_spec(
        signature.kernel,
        rows=schema.batch,
        shared=schema.shared,
        static=schema.static,
        output=signature.output,
    )
