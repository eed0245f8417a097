"""The chains of a NumPyro sampler, advanced by chunks of iterations."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from operator import attrgetter
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Int, Num, PyTree
from numpyro.infer import HMC, MCMC
from numpyro.util import is_prng_key

from aimz_lab.inference.compiling import named
from aimz_lab.inference.mcmc.draws import read_draws
from aimz_lab.inference.run.chain_record import ChainPlan
from aimz_lab.inference.untrainable_sites import untrainable_sites
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Arguments

MOST_ITERATIONS = 1000
"""Iterations of the longest chunk."""

HAMILTONIAN = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
"""Fields kept with each draw of a Hamiltonian sampler, by NumPyro's names."""

_REPORTED = {
    "potential_energy": "potential_energy",
    "acceptance_rate": "accept_prob",
    "diverging": "diverging",
    "n_steps": "num_steps",
    "step_size": "adapt_state.step_size",
}
_PREFIXES = ("", "hmc_state.")
"""Paths to these fields: in the state itself, or in the Hamiltonian state within it."""

SamplerState = PyTree[jax.Array]
Kept = dict[str, PyTree[jax.Array]]
"""Fields kept of each draw, by NumPyro's names."""

Carry = tuple[SamplerState, Kept, dict[str, jax.Array]]
"""The state after an iteration, the draws so far, and the values to report."""


class Chains:
    """Chains with the results of ``mcmc.run``, computed in chunks.

    One compiled program serves every chunk of warm-up and of draws, since the length of a chunk is
    an argument. Each iteration is NumPyro's own. With ``chain_method`` ``"sequential"`` or
    ``"vectorized"`` the draws are bitwise those of ``mcmc.run`` with the same key. ``mcmc.run``
    compiles ``"parallel"`` chains together with their initial states, so these agree only up to
    rounding, which chains amplify.

    A chain group is the chains that one call of the program advances: all, or one with
    ``"sequential"``.

    Args:
        mcmc: The sampler. It does not change before :meth:`give_to_sampler`.
        key: A typed random key.
        arguments: The kernel's arguments, by keyword.
        spread: Those of them that are spread over devices; the sampler vectorizes its chains.

    Attributes:
        mcmc: The sampler.
        plan: The planned iterations. A sampler with a state after a warm-up begins from it.
        done: Iterations of each chain so far.
    """

    def __init__(
        self,
        mcmc: MCMC,
        key: jax.Array,
        arguments: Arguments,
        spread: Mapping[str, jax.Array] = MappingProxyType({}),
    ) -> None:
        self.mcmc = mcmc
        # A copy without compiled parts: NumPyro vectorizes a sampler each time it is set up.
        self._sampler = copy.copy(mcmc.sampler)
        self._arguments = {**arguments, **spread}
        # A program would hold other arguments as constants, whole on each device.
        self._spread = dict(spread)
        self._many = mcmc.num_chains > 1
        self._is_batched = self._many and mcmc.chain_method == "vectorized"
        warmup = mcmc.num_warmup if mcmc.post_warmup_state is None else 0
        self.plan = ChainPlan(mcmc.num_chains, warmup, mcmc.num_samples, mcmc.thinning)
        self.done = 0
        self._lock = threading.Lock()
        with tracing_lock:
            with untrainable_sites():
                self._states = self._begin(key)
            self._fields = self._field_names()
            self._paths = self._reported_paths(self._group_shapes(self._states[0]))
            self._kept = [self._allocate(state) for state in self._states]
        self._program: Callable[..., Carry] | None = None

    def _begin(self, key: jax.Array) -> list[SamplerState]:
        """Return the initial state of each chain group."""
        keys = jax.random.split(key, self.plan.chains) if self._many and is_prng_key(key) else key
        given = self.mcmc.post_warmup_state
        if not self._many or self._is_batched:
            states = [self._initial(keys)]
        elif self.mcmc.chain_method == "sequential":
            states = [self._initial(keys[c]) for c in range(self.plan.chains)]
        elif self.mcmc.chain_method == "parallel":
            states = [jax.pmap(self._initial)(keys)]
        else:
            states = [self.mcmc.chain_method(self._initial)(keys)]
        if given is None:
            return states
        given = given._replace(rng_key=keys[0] if self._sampler.is_ensemble_kernel else keys)
        if len(states) == 1:
            return [given]
        return [jax.tree.map(lambda leaf, c=c: leaf[c], given) for c in range(self.plan.chains)]

    def _initial(self, key: jax.Array) -> SamplerState:
        return self._sampler.init(
            key, self.mcmc.num_warmup, None, model_args=(), model_kwargs=self._arguments
        )

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the values that :meth:`advance` reports of each iteration."""
        return tuple(self._paths)

    @property
    def _has_mapped_group(self) -> bool:
        """Whether the program is mapped over the chains of one group, on the leading axis."""
        return self._many and not self._is_batched and len(self._states) == 1

    def _group_shapes(self, state: SamplerState) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes of the state of a chain group, without a mapped axis of chains."""
        shapes = jax.eval_shape(lambda: state)
        if not self._has_mapped_group:
            return shapes
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes)

    def _field_names(self) -> tuple[str, ...]:
        names = (self._sampler.sample_field, *self._sampler.default_fields)
        more = HAMILTONIAN if isinstance(self._sampler, HMC) else ()
        return tuple(dict.fromkeys([*names, *more]))

    def _reported_paths(self, state: PyTree[jax.ShapeDtypeStruct]) -> dict[str, str]:
        """Paths to the values in this sampler's state that are one number a chain, by name."""
        shape = (self.plan.chains,) if self._is_batched else ()
        paths = {}
        for name, path in _REPORTED.items():
            for prefix in _PREFIXES:
                if getattr(_get(state, prefix + path), "shape", None) == shape:
                    paths[name] = prefix + path
                    break
        return paths

    def _collect(self, state: SamplerState, spread: Mapping[str, jax.Array]) -> Kept:
        """Return the fields kept of a draw, constrained as by ``mcmc.run``."""
        fields = {name: attrgetter(name)(state) for name in self._fields}
        arguments = {**self._arguments, **spread}
        constrain = self.mcmc.postprocess_fn or self._sampler.postprocess_fn((), arguments)
        draw = fields[self._sampler.sample_field]
        if not self._is_batched:
            constrained = constrain(draw)
        elif jax.tree.leaves(draw):
            constrained = jax.vmap(constrain)(draw)
        else:  # a kernel with only deterministic sites: they are the same for every chain
            constrained = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (self.plan.chains, *jnp.shape(leaf))),
                constrain(draw),
            )
        return {**fields, self._sampler.sample_field: constrained}

    def _allocate(self, state: SamplerState) -> Kept:
        """Allocate the draws of a chain group; a draw axis leads, after a mapped axis of chains."""
        shapes = jax.eval_shape(self._collect, self._group_shapes(state), self._spread)
        chains = (self.plan.chains,) if self._has_mapped_group else ()
        return jax.tree.map(
            lambda leaf: jnp.zeros((*chains, self.plan.draws, *leaf.shape), leaf.dtype), shapes
        )

    def _chunk(
        self,
        state: SamplerState,
        kept: Kept,
        first: ArrayLike,
        count: ArrayLike,
        spread: Mapping[str, jax.Array],
    ) -> Carry:
        """Run ``count`` iterations; ``first`` is the number of the first, from 0."""
        plan, arguments = self.plan, {**self._arguments, **spread}

        def iterate(number: jax.Array, carry: Carry) -> Carry:
            state, kept, reported = carry
            state = self._sampler.sample(state, (), arguments)
            since = first + number + 1 - plan.skipped
            is_kept = (since > 0) & (since % plan.thinning == 0)
            at = jnp.where(is_kept, since // plan.thinning - 1, plan.draws)
            draw = self._collect(state, spread)
            kept = jax.tree.map(lambda all_, new: all_.at[at].set(new, mode="drop"), kept, draw)
            now = {name: attrgetter(path)(state) for name, path in self._paths.items()}
            reported = {name: reported[name].at[number].set(now[name]) for name in reported}
            return state, kept, reported

        reported = {
            name: jnp.zeros((MOST_ITERATIONS, *leaf.shape), leaf.dtype)
            for name, path in self._paths.items()
            for leaf in (attrgetter(path)(state),)
        }
        return jax.lax.fori_loop(0, count, iterate, (state, kept, reported))

    def compile(self) -> None:
        """Compile the program of :meth:`advance`; other threads may trace meanwhile."""
        numbers = (np.int32(0), np.int32(0))
        method = self.mcmc.chain_method
        chunk = named("chain_iterations", self._chunk)
        if not self._has_mapped_group:
            program = jax.jit(chunk, donate_argnums=1)
        elif method == "parallel":
            program = jax.pmap(chunk, in_axes=(0, 0, None, None, None), donate_argnums=1)
        else:

            def mapped(
                state: SamplerState,
                kept: Kept,
                first: ArrayLike,
                count: ArrayLike,
                spread: Mapping[str, jax.Array],
            ) -> Carry:
                return method(lambda group: self._chunk(*group, first, count, spread))(
                    (state, kept)
                )

            program = jax.jit(named("chain_iterations", mapped), donate_argnums=1)
        with tracing_lock:
            lowered = program.lower(self._states[0], self._kept[0], *numbers, self._spread)
        self._program = lowered.compile()

    def advance(self, count: int) -> dict[str, Num[np.ndarray, "iteration chain"]]:
        """Run iterations of every chain.

        Args:
            count: Number of iterations, at most :data:`MOST_ITERATIONS`.

        Returns:
            The reported values by the names of :attr:`watched`, shape ``(count, chain)``.
        """
        if self._program is None:
            self.compile()
        first, number = np.int32(self.done), np.int32(count)
        reported = []
        with self._lock:
            for group, state in enumerate(self._states):
                self._states[group], self._kept[group], of_group = self._program(
                    state, self._kept[group], first, number, self._spread
                )
                reported.append(of_group)
            self.done += count
            reported = jax.device_get(reported)
        return {name: self._by_iteration(reported, name)[:count] for name in self.watched}

    def _by_iteration(self, reported: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
        columns = [of_group[name] for of_group in reported]
        if self._has_mapped_group:
            return columns[0].T
        return columns[0] if self._is_batched else np.stack(columns, axis=1)

    @property
    def draws(self) -> int:
        """Draws of each chain so far."""
        return self.plan.draws_after(self.done)

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shape of a draw by site; empty if the sampler's draws are not named sites."""
        kept = self._kept[0][self._sampler.sample_field]
        axes = 2 if self._has_mapped_group or self._is_batched else 1
        if not isinstance(kept, dict):
            return {}
        return {name: leaf.shape[axes:] for name, leaf in kept.items()}

    def values(
        self, site: str, at: Int[np.ndarray, " value"], every: int = 1
    ) -> Num[np.ndarray, "chain draw value"]:
        """Return the draws so far of some values of a site; callable from any thread.

        Args:
            site: Its name.
            at: Positions of the values in a flattened draw.
            every: Read one of this many draws.

        Returns:
            A copy, shape ``(chain, draw, len(at))``.
        """
        axis = 1 if self._is_batched else 0 if self._has_mapped_group else None
        with self._lock:
            rows = np.arange(0, self.draws, every)
            groups = [kept[self._sampler.sample_field][site] for kept in self._kept]
            return np.concatenate([read_draws(kept, rows, at, chain_axis=axis) for kept in groups])

    def give_to_sampler(self) -> None:
        """Give the sampler the draws and states so far, as if it had run itself."""
        self.mcmc._states = jax.tree.map(lambda *groups: self._by_chain(groups), *self._kept)
        self.mcmc._states_flat = None
        # ArviZ reads the arguments of the last run from the sampler.
        self.mcmc._args, self.mcmc._kwargs = (), self._arguments
        self.mcmc._last_state = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._states)
            if len(self._states) > 1
            else self._states[0]
        )

    def _by_chain(self, groups: tuple[jax.Array, ...]) -> jax.Array:
        if self._has_mapped_group:
            return groups[0] if self.draws == self.plan.draws else groups[0][:, : self.draws]
        cut = [kept if self.draws == self.plan.draws else kept[: self.draws] for kept in groups]
        return jnp.swapaxes(cut[0], 0, 1) if self._is_batched else jnp.stack(cut)


def _get(state: object, path: str) -> object:
    """Follow a dotted path of attributes; ``None`` if one of them is missing."""
    for name in path.split("."):
        state = getattr(state, name, None)
    return state
