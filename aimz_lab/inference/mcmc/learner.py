"""The MCMC learner: prepare runs of chains, and continue chains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from numpyro.infer import HMCECS, MCMC
from numpyro.infer.svi import SVIState

from aimz_lab.data import canonical
from aimz_lab.errors import CallError, DataError, NotFittedError
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.inputs import all_rows, needed_output
from aimz_lab.inference.feeds.kernel_structure import trace_data, with_checked_indices
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.finite_draws import OF_CHAINS, check_finite_draws
from aimz_lab.inference.mcmc.chain_loop import ChainLoop, posterior_of
from aimz_lab.inference.mcmc.chain_programs import KeptChainPrograms
from aimz_lab.inference.mcmc.chain_steps import MOST_ITERATIONS
from aimz_lab.inference.mcmc.chains import Chains
from aimz_lab.inference.mcmc.spread_rows import spread_rows
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.posterior_sites import check_draws_fit
from aimz_lab.inference.request import FitRequest, FitResult, SampleRequest
from aimz_lab.inference.run.events import Callbacks, Control, Run, RunInfo
from aimz_lab.inference.training_call import TrainingCall
from aimz_lab.kernel.checks.row_plates import check_not_subsampled
from aimz_lab.kernel.reads import forget_outdated_traces
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.signature import KernelSignature, default_arguments
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.preparing import doing
from aimz_lab.types import Static, callable_name

_NO_RATE = "Chains have no learning rate; Hamiltonian ones adapt their step size as they warm up."


class McmcLearner:
    """Runs the chains of an MCMC object on a kernel.

    Args:
        signature: The kernel.
        mcmc: The sampler, with its ``num_warmup``, ``num_samples`` and ``num_chains``.
    """

    def __init__(self, signature: KernelSignature, mcmc: MCMC) -> None:
        self._kernel = signature
        self._mcmc = mcmc
        self._indices = IndexCheck(signature.kernel)
        self._programs = KeptChainPrograms(signature.kernel)

    def params(self, state: SVIState | None) -> dict[str, jax.Array]:  # noqa: ARG002
        """Return no parameters: chains have none."""
        return {}

    def set_up(self, schema: InputSchema) -> None:  # noqa: ARG002
        """Return no state: chains keep theirs in the sampler."""
        return

    def start(self, request: FitRequest, state: SVIState | None = None) -> ChainFit:  # noqa: ARG002
        """Check and prepare a run of chains.

        Args:
            request: The user's call.
            state: Not used; chains begin anew.

        Raises:
            KernelError: If the kernel's structure is not usable, or it takes only some rows.
            SiteError: If a site has the rows on two axes.
            DataError: If the data does not fit together, an index is out of bounds, or the rows do
                not divide among the devices.
            ArgumentError: If chains that run on a device each are to share spread rows.
            InferenceError: If a callback needs a loss that is minimised.
            Exception: Any error of the kernel or the sampler.
        """
        data = all_rows(
            self._kernel,
            request.inputs,
            needed_output(request.outputs, self._kernel.output),
            request.arguments,
            allow_nonfinite=request.allow_nonfinite,
            roles=request.roles,
        )
        if request.in_background:
            data = data.copied()
        name = callable_name(self._kernel.kernel)
        method = f"MCMC/{type(self._mcmc.sampler).__name__}"
        forget_outdated_traces(self._kernel.kernel)
        doing("tracing the model")
        spec = trace_data(self._kernel, data)
        if not isinstance(self._mcmc.sampler, HMCECS):
            check_not_subsampled(spec)
        with_checked_indices(self._indices, data)
        run = Run(RunInfo(name, method, is_sampling=True), control=Control(why_not=_NO_RATE))
        callbacks = Callbacks(request.callbacks, run)
        rows = spread_rows(self._mcmc, request.device, data.rows)
        doing("setting up the chains")
        chains = self._chains(request.origin.keys[0], {**_arrays(data), **rows}, data.static)
        run.info = RunInfo(
            model=name,
            method=method,
            n_obs=data.n_obs,
            batch_size=data.batch_size,
            epochs=1,
            steps_per_epoch=chains.plan.iterations,
            is_sampling=True,
        )
        loop = ChainLoop(
            chains,
            run,
            callbacks,
            n_obs=data.n_obs,
            latent_sites=spec.latent_sites,
            iterations_per_call=request.steps_per_call,
        )
        training = request.repeated(run, data)
        return ChainFit(data, spec, self._kernel.output, run, loop, training)

    def _chains(self, key: jax.Array, arrays: dict[str, jax.Array], static: Static) -> Chains:
        """Set up chains by the programs of an earlier call like this one, or by new ones."""
        programs = self._programs.programs(self._mcmc, key, arrays, static)
        try:
            return Chains(self._mcmc, key, arrays, static, programs)
        finally:
            self._programs.keep(programs)

    def sample(self, request: SampleRequest) -> Posterior:
        """Continue the chains, or return the draws of the run if no data is given.

        Args:
            request: The user's call, with all arguments of the kernel or none.

        Raises:
            ArgumentError: If the draws cannot fit into memory.
            CallError: If the input or the output is missing.
            DataError: If the data is not that of the run.
            NotFittedError: If the chains have not run.
        """
        if not request.arguments:
            if request.posterior is None:
                raise NotFittedError(f"sample needs a posterior; {request.way_to_draws}")
            return request.posterior
        extra, signature = dict(request.arguments), self._kernel
        missing = [name for name in (signature.input, signature.output) if name not in extra]
        if missing:
            msg = f"The chains need the kernel's data to go on; pass {missing[0]}=... too."
            raise CallError(msg)
        inputs, outputs = extra.pop(signature.input), extra.pop(signature.output)
        data = all_rows(
            signature, inputs, outputs, extra, allow_nonfinite=True, roles=request.roles
        )
        forget_outdated_traces(signature.kernel)
        _check_trained(request, data, signature)
        spec = request.spec or trace_data(signature, data)
        with_checked_indices(self._indices, data)
        check_draws_fit(spec, request.num_samples * self._mcmc.num_chains)
        return self._continued(data, request.num_samples, spec)

    def _continued(self, data: TrainingData, num_samples: int, spec: KernelSpec) -> Posterior:
        """Continue the chains from their last state; the next run still starts afresh."""
        mcmc = self._mcmc
        if mcmc.last_state is None:
            msg = "The chains have not run yet, so that they cannot go on; call fit_on_batch first."
            raise NotFittedError(msg)
        before = mcmc.post_warmup_state, mcmc.num_samples
        mcmc.post_warmup_state, mcmc.num_samples = mcmc.last_state, num_samples
        try:
            chains = self._chains(mcmc.last_state.rng_key, _arrays(data), data.static)
        finally:
            mcmc.post_warmup_state, mcmc.num_samples = before
        while chains.done < chains.plan.iterations:
            chains.advance(min(MOST_ITERATIONS, chains.plan.iterations - chains.done))
        chains.give_to_sampler()
        posterior = posterior_of(mcmc, spec)
        check_finite_draws(posterior.draws, None, OF_CHAINS)
        return posterior


@dataclass(frozen=True)
class ChainFit:
    """A run of chains whose checks have passed; see ``aimz_lab.inference.request.StartedFit``.

    Attributes:
        data: All rows.
        spec: The kernel's structure.
        output: Name of the output.
        run: The record of the run.
        loop: The loop that runs the chains.
        training: The call that repeats the run.
    """

    data: TrainingData
    spec: KernelSpec
    output: str
    run: Run
    loop: ChainLoop
    training: TrainingCall

    @property
    def schema(self) -> InputSchema:
        """Shapes and types of the data."""
        return InputSchema.of(self.data)

    def results(self) -> Iterator[FitResult]:
        """Yield the draws so far; nothing before the first draw, or after an error."""
        if self.run.status == "failed":
            return
        posterior = self.loop.posterior(self.spec)
        if posterior is not None:
            check_finite_draws(posterior.draws, None, OF_CHAINS)
            yield FitResult(
                self.spec,
                InputSchema.of(self.data, with_sums=True),
                posterior=replace(posterior, row_labels=self.data.row_labels),
                fingerprint=TrainingFingerprint.of(
                    self.data.rows,
                    self.output,
                    self.data.row_labels,
                    by_column=bool(self.spec.learned_by_row),
                ),
                training=self.training,
                row_labels=self.data.row_labels,
            )

    @property
    def has_reported(self) -> bool:
        """Whether there is a result of a state before the end: there is none."""
        return False

    def now(self) -> None:
        """Return nothing: chains have a posterior when they end."""

    def undo(self) -> None:
        """Leave the sampler as it is: only results change it."""

    def warning(self) -> str | None:
        """Return a warning if the chains were interrupted or have no draws."""
        kept = "" if self.run.chains.draws else "; the model is as it was"
        if kept or self.run.status == "interrupted":
            return f"The run ended early: {self.run.reason}{kept}."
        return None


def _check_trained(request: SampleRequest, data: TrainingData, signature: KernelSignature) -> None:
    """Refuse other data than that of the run: the chains are adapted to its posterior."""
    found = ""
    if request.fingerprint is not None:
        found = request.fingerprint.difference(data.rows, signature.output)
    if not found and request.schema is not None:
        given, defaults = {**data.shared, **data.static}, default_arguments(signature.kernel)
        found = request.schema.difference(given, defaults)
    if found:
        msg = (
            "The chains go on with the data of their run, to whose posterior they are adapted, and "
            f"{found}. Pass that of the run, or call fit_on_batch for chains of new data."
        )
        raise DataError(msg)


def _arrays(data: TrainingData) -> dict[str, jax.Array]:
    """Return the kernel's array arguments as JAX's arrays: loops and ``.at`` need them."""
    rows = {name: jnp.asarray(canonical(array, name)) for name, array in data.rows.items()}
    shared = jax.tree.map(lambda array: jnp.asarray(canonical(array)), dict(data.shared))
    return {**rows, **shared}
