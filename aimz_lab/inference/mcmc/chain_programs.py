"""The compiled programs of chains, kept from one call to the next."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np
from numpyro.infer import MCMC

from aimz_lab.inference.compiling import (
    QUICKEST,
    compile_on_thread,
    compiler_options,
    named,
)
from aimz_lab.inference.mcmc.chain_steps import Advanced, ChainGroup, ChainSteps, settings_of
from aimz_lab.inference.untrainable_sites import untrainable_sites
from aimz_lab.kernel.cache_keys import shapes_of
from aimz_lab.kernel.reads import fingerprint
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Shared, Static

_NUMBER = np.int32(0)

_MOST_KEPT = 8
"""Most pairs of programs that a model keeps; the oldest makes room."""

_CONFIG = (
    "jax_enable_x64",
    "jax_debug_nans",
    "jax_debug_infs",
    "jax_default_device",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
)
"""Settings of JAX that change what it compiles."""


class ChainPrograms:
    """Set-up and iterations of chains, as programs that compile on threads at the same time.

    Rows that are spread over devices are set up operation by operation, as NumPyro does, and so is
    a sampler that cannot be traced. The same happens where the initial values are not finite: then
    NumPyro says why.

    Args:
        mcmc: The sampler; it is read, never changed.
        static: Values of the kernel's static arguments.

    Attributes:
        steps: What is compiled.
        set_up_is_compiled: Whether the programs serve another call.
    """

    def __init__(self, mcmc: MCMC, static: Static) -> None:
        self.steps = ChainSteps(mcmc, static)
        self.set_up_is_compiled = False
        self._set_up: Callable | None = None
        self._iterations: Future | None = None

    def begin(self, key: jax.Array, arrays: Shared) -> list[ChainGroup]:
        """Return the groups before their first iteration; the iterations go on compiling.

        Args:
            key: A typed random key, or one for each chain.
            arrays: The kernel's array arguments, by keyword.

        Raises:
            Exception: Any error of the kernel or the sampler.
        """
        groups = None
        if not _are_spread(arrays):
            groups = self._begin_compiled(key, arrays)
        if groups is None or not _are_finite(groups):
            groups = self._begin_by_operation(key, arrays, groups)
        if self._iterations is None:
            self._compile_iterations(groups[0], arrays)
        return groups

    def _begin_compiled(self, key: jax.Array, arrays: Shared) -> list[ChainGroup] | None:
        """Set up in one program; ``None`` if the sampler cannot be traced."""
        steps = self.steps
        if self._set_up is None:
            try:
                with tracing_lock:
                    lowered = _mapped_set_up(steps).lower(key, self._chains(0), arrays)
                    self._compile_iterations(jax.tree.map(_shape, lowered.out_info), arrays)
                self._set_up = lowered.compile(compiler_options=compiler_options(QUICKEST))
            except Exception:  # noqa: BLE001  whatever failed, NumPyro decides whether it is one
                self._iterations = None
                return None
            self.set_up_is_compiled = True
        groups = [self._set_up(key, self._chains(group), arrays) for group in range(steps.groups)]
        return jax.block_until_ready(groups)

    def _chains(self, group: int) -> np.ndarray | np.int32:
        """Return the number of a group's chain, or those of all that run on a device each."""
        own_devices = self.steps.is_mapped and self.steps.method == "parallel"
        return np.arange(self.steps.plan.chains, dtype=np.int32) if own_devices else np.int32(group)

    def _begin_by_operation(
        self, key: jax.Array, arrays: Shared, groups: list[ChainGroup] | None
    ) -> list[ChainGroup]:
        steps = self.steps
        with tracing_lock, untrainable_sites():
            keys = steps.keys(key)
            if steps.is_mapped:
                for chain in range(steps.plan.chains):
                    steps.set_up(keys[chain], arrays)
                return groups or [_mapped_set_up(steps)(key, self._chains(0), arrays)]
            if steps.groups == 1:
                return [steps.set_up(keys, arrays)]
            return [steps.set_up(keys[chain], arrays) for chain in range(steps.groups)]

    def _compile_iterations(self, group: ChainGroup, arrays: Shared) -> None:
        with tracing_lock:
            lowered = _mapped_iterations(self.steps).lower(
                *group, _NUMBER, _NUMBER, self.arguments(arrays)
            )
        self._iterations = compile_on_thread(lowered.compile)

    def arguments(self, arrays: Shared) -> Shared:
        """Return the arrays that :meth:`advance` takes."""
        return {} if self.steps.is_mapped and self.steps.method == "parallel" else arrays

    @property
    def has_failed(self) -> bool:
        """Whether the iterations could not be compiled."""
        future = self._iterations
        return future is not None and future.done() and future.exception() is not None

    def wait(self) -> None:
        """Wait until the iterations are compiled."""
        self._iterations.result()

    def advance(self, group: ChainGroup, first: int, count: int, arguments: Shared) -> Advanced:
        """Dispatch iterations of a group, whose draws move into the result.

        Args:
            group: The group.
            first: Number of the first iteration, from 0.
            count: Number of iterations.
            arguments: See :meth:`arguments`.
        """
        program = self._iterations.result()
        return program(*group, np.int32(first), np.int32(count), arguments)


class KeptChainPrograms:
    """The programs of a model's chains, by all that they depend on. A copy starts empty.

    Args:
        kernel: The kernel.
    """

    def __init__(self, kernel: Callable) -> None:
        self._kernel = kernel
        self._kept: dict[Hashable, ChainPrograms] = {}

    def __reduce__(self) -> tuple[type[KeptChainPrograms], tuple[Callable]]:
        return KeptChainPrograms, (self._kernel,)

    def programs(self, mcmc: MCMC, key: jax.Array, arrays: Shared, static: Static) -> ChainPrograms:
        """Return the programs of an earlier call like this one, or new ones.

        Args:
            mcmc: The sampler.
            key: The key of the call.
            arrays: The kernel's array arguments, by keyword.
            static: The others.
        """
        depends_on = self._all_that_matters(mcmc, (key, arrays), static)
        found = self._kept.get(depends_on)
        if found is None or found.has_failed:
            found = ChainPrograms(mcmc, static)
            self._kept[depends_on] = found
        return found

    def keep(self, programs: ChainPrograms) -> None:
        """Forget programs that serve this call alone, and the oldest of too many."""
        kept = [
            (key, one)
            for key, one in self._kept.items()
            if one is not programs or one.set_up_is_compiled
        ]
        self._kept = dict(kept[-_MOST_KEPT:])

    def _all_that_matters(self, mcmc: MCMC, arrays: Any, static: Static) -> Hashable:
        numbers = mcmc.num_warmup, mcmc.num_samples, mcmc.num_chains, mcmc.thinning
        read = {
            "sampler": settings_of(mcmc.sampler),
            "method": mcmc.chain_method,
            "static": dict(static),
            "goes on": mcmc.post_warmup_state is not None,
        }
        own = [fingerprint(one) for one in (self._kernel, mcmc.postprocess_fn) if one is not None]
        config = tuple(str(getattr(jax.config, name, None)) for name in _CONFIG)
        places = tuple(leaf.sharding for leaf in jax.tree.leaves(arrays))
        return (*own, fingerprint(read), numbers, shapes_of(arrays), places, config)


def _mapped_set_up(steps: ChainSteps) -> Any:
    """The set-up of a group, as a function of the call's key, the chain's number and the arrays."""

    def one(key: jax.Array, chain: jax.Array, arrays: Shared) -> ChainGroup:
        keys = steps.keys(key)
        return steps.set_up(keys[chain] if steps.groups > 1 else keys, arrays)

    def on_own_device(key: jax.Array, chain: jax.Array, arrays: Shared) -> ChainGroup:
        group = steps.set_up(steps.keys(key)[chain], arrays)
        # Each device keeps the arrays; as arguments they would be copied to all with each chunk.
        return group._replace(closure=(group.closure, arrays))

    def by_method(key: jax.Array, chain: jax.Array, arrays: Shared) -> ChainGroup:  # noqa: ARG001
        return steps.method(lambda own: steps.set_up(own, arrays))(steps.keys(key))

    if not steps.is_mapped:
        return jax.jit(named("chain_setup", one))
    if steps.method == "parallel":
        return jax.pmap(named("chain_setup", on_own_device), in_axes=(None, 0, None))
    return jax.jit(named("chain_setup", by_method))


def _mapped_iterations(steps: ChainSteps) -> Any:
    """The iterations of a group, as a function of its parts, two numbers and the arrays."""

    def one(state, kept, closure, first, count, arrays) -> Advanced:  # noqa: ANN001
        return steps.advance(ChainGroup(state, kept, closure), first, count, arrays)

    def on_own_device(state, kept, closure, first, count, _) -> Advanced:  # noqa: ANN001
        closure, arrays = closure
        return steps.advance(ChainGroup(state, kept, closure), first, count, arrays)

    def by_method(state, kept, closure, first, count, arrays) -> Advanced:  # noqa: ANN001
        return steps.method(lambda group: steps.advance(group, first, count, arrays))(
            ChainGroup(state, kept, closure)
        )

    if not steps.is_mapped:
        return jax.jit(named("chain_iterations", one), donate_argnums=1)
    if steps.method == "parallel":
        axes = (0, 0, 0, None, None, None)
        return jax.pmap(named("chain_iterations", on_own_device), in_axes=axes, donate_argnums=1)
    return jax.jit(named("chain_iterations", by_method), donate_argnums=1)


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _are_spread(arrays: Shared) -> bool:
    return any(len(leaf.sharding.device_set) > 1 for leaf in jax.tree.leaves(arrays))


def _are_finite(groups: list[ChainGroup]) -> bool:
    """Whether the initial values are finite; the draws so far are none."""
    leaves = jax.tree.leaves([group.state for group in groups])
    numbers = [leaf for leaf in leaves if jax.numpy.issubdtype(leaf.dtype, np.inexact)]
    return all(np.isfinite(leaf).all() for leaf in jax.device_get(numbers))
