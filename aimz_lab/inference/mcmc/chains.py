"""The chains of a NumPyro sampler, advanced a chunk of iterations at a time."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import HMC, MCMC
from numpyro.util import is_prng_key

from aimz_lab.inference.compiling import named
from aimz_lab.inference.mcmc.draws import read_draws
from aimz_lab.inference.run.chain_record import ChainPlan
from aimz_lab.kernel.tracing import tracing_lock

MOST_ITERATIONS = 1000
"""Iterations of the longest chunk."""

HAMILTONIAN = ("accept_prob", "diverging", "energy", "num_steps", "potential_energy")
"""What is kept of each draw of a Hamiltonian sampler, by NumPyro's names."""

_WATCHED = {
    "potential_energy": "potential_energy",
    "acceptance_rate": "accept_prob",
    "diverging": "diverging",
    "n_steps": "num_steps",
    "step_size": "adapt_state.step_size",
}
_WITHIN = ("", "hmc_state.")
"""Where a state has them: in itself, or in the Hamiltonian one that it moves along with others."""


class Chains:
    """Chains that do what ``mcmc.run`` would have them do, from the same beginning.

    One compiled program serves every chunk, be it of warm-up or of draws, since its length is an
    argument. Each iteration is NumPyro's own. With ``chain_method`` ``"sequential"`` or
    ``"vectorized"`` the draws are bitwise those of ``mcmc.run`` with the same key; ``"parallel"``
    chains are compiled there together with their beginning, and equal up to rounding, which chains
    amplify.

    Args:
        mcmc: The sampler. Nothing of it changes before :meth:`give_to_sampler`.
        key: A typed random key.
        arguments: The kernel's arguments, by keyword.

    Attributes:
        mcmc: The sampler.
        plan: What the chains are to do. A sampler that holds a state after a warm-up begins there.
        done: Iterations of each chain so far.
    """

    def __init__(self, mcmc: MCMC, key: jax.Array, arguments: Mapping[str, Any]) -> None:
        self.mcmc = mcmc
        # A copy without compiled parts: NumPyro vectorizes a sampler each time that it is set up.
        self._sampler = copy.copy(mcmc.sampler)
        self._arguments = dict(arguments)
        self._many = mcmc.num_chains > 1
        self._is_batched = self._many and mcmc.chain_method == "vectorized"
        warmup = mcmc.num_warmup if mcmc.post_warmup_state is None else 0
        self.plan = ChainPlan(mcmc.num_chains, warmup, mcmc.num_samples, mcmc.thinning)
        self.done = 0
        self._lock = threading.Lock()
        with tracing_lock:
            self._states = self._begin(key)
            self._fields = self._collected()
            self._paths = self._reported(self._one_lane(self._states[0]))
            self._kept = [self._room(state) for state in self._states]
        self._program: Callable | None = None

    def _begin(self, key: jax.Array) -> list[Any]:
        """Set every chain up; one state a lane, which is what one call of the program moves."""
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

    def _initial(self, key: jax.Array) -> Any:
        return self._sampler.init(
            key, self.mcmc.num_warmup, None, model_args=(), model_kwargs=self._arguments
        )

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of what :meth:`advance` reports of each iteration."""
        return tuple(self._paths)

    @property
    def _has_mapped_lane(self) -> bool:
        """Whether the one lane has the chains on an axis that the program is mapped over."""
        return self._many and not self._is_batched and len(self._states) == 1

    def _one_lane(self, state: Any) -> Any:
        """Shapes of what the program works on."""
        shapes = jax.eval_shape(lambda: state)
        if not self._has_mapped_lane:
            return shapes
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), shapes)

    def _collected(self) -> tuple[str, ...]:
        names = (self._sampler.sample_field, *self._sampler.default_fields)
        more = HAMILTONIAN if isinstance(self._sampler, HMC) else ()
        return tuple(dict.fromkeys([*names, *more]))

    def _reported(self, state: Any) -> dict[str, str]:
        """What this sampler's state tells of an iteration, one number a chain: where by name."""
        shape = (self.plan.chains,) if self._is_batched else ()
        paths = {}
        for name, path in _WATCHED.items():
            for within in _WITHIN:
                if getattr(_get(state, within + path), "shape", None) == shape:
                    paths[name] = within + path
                    break
        return paths

    def _collect(self, state: Any) -> dict[str, Any]:
        """What is kept of a draw, constrained, as ``mcmc.run`` does it."""
        fields = {name: attrgetter(name)(state) for name in self._fields}
        constrain = self.mcmc.postprocess_fn or self._sampler.postprocess_fn((), self._arguments)
        draw = fields[self._sampler.sample_field]
        if not self._is_batched:
            constrained = constrain(draw)
        elif jax.tree.leaves(draw):
            constrained = jax.vmap(constrain)(draw)
        else:  # a kernel of deterministic sites alone has them for every chain
            constrained = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (self.plan.chains, *jnp.shape(leaf))),
                constrain(draw),
            )
        return {**fields, self._sampler.sample_field: constrained}

    def _room(self, state: Any) -> dict[str, Any]:
        """Room for the draws of a lane, with the draws on the leading axis of each chain's."""
        shapes = jax.eval_shape(self._collect, self._one_lane(state))
        chains = (self.plan.chains,) if self._has_mapped_lane else ()
        return jax.tree.map(
            lambda leaf: jnp.zeros((*chains, self.plan.draws, *leaf.shape), leaf.dtype), shapes
        )

    def _chunk(self, state: Any, kept: Any, first: Any, count: Any) -> tuple[Any, Any, Any]:
        """Run ``count`` iterations, of which ``first`` is the number of the first, from 0."""
        plan = self.plan

        def iterate(number: Any, carry: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
            state, kept, told = carry
            state = self._sampler.sample(state, (), self._arguments)
            since = first + number + 1 - plan.skipped
            is_kept = (since > 0) & (since % plan.thinning == 0)
            at = jnp.where(is_kept, since // plan.thinning - 1, plan.draws)
            kept = jax.tree.map(
                lambda all_, new: all_.at[at].set(new, mode="drop"), kept, self._collect(state)
            )
            now = {name: attrgetter(path)(state) for name, path in self._paths.items()}
            told = {name: told[name].at[number].set(now[name]) for name in told}
            return state, kept, told

        room = {
            name: jnp.zeros((MOST_ITERATIONS, *leaf.shape), leaf.dtype)
            for name, path in self._paths.items()
            for leaf in (attrgetter(path)(state),)
        }
        return jax.lax.fori_loop(0, count, iterate, (state, kept, room))

    def compile(self) -> None:
        """Compile what :meth:`advance` runs; other threads may trace meanwhile."""
        numbers = (np.int32(0), np.int32(0))
        method = self.mcmc.chain_method
        chunk = named("chain_iterations", self._chunk)
        if not self._has_mapped_lane:
            program = jax.jit(chunk, donate_argnums=1)
        elif method == "parallel":
            program = jax.pmap(chunk, in_axes=(0, 0, None, None), donate_argnums=1)
        else:

            def mapped(state: Any, kept: Any, first: Any, count: Any) -> Any:
                return method(lambda lane: self._chunk(*lane, first, count))((state, kept))

            program = jax.jit(named("chain_iterations", mapped), donate_argnums=1)
        with tracing_lock:
            lowered = program.lower(self._states[0], self._kept[0], *numbers)
        self._program = lowered.compile()

    def advance(self, count: int) -> dict[str, np.ndarray]:
        """Run iterations of every chain.

        Args:
            count: How many, at most :data:`MOST_ITERATIONS`.

        Returns:
            What the sampler reports of them by the names of :attr:`watched`, shape
            ``(count, chain)``.
        """
        if self._program is None:
            self.compile()
        first, number = np.int32(self.done), np.int32(count)
        told = []
        with self._lock:
            for lane, state in enumerate(self._states):
                self._states[lane], self._kept[lane], of_lane = self._program(
                    state, self._kept[lane], first, number
                )
                told.append(of_lane)
            self.done += count
            told = jax.device_get(told)
        return {name: self._by_iteration(told, name)[:count] for name in self.watched}

    def _by_iteration(self, told: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
        columns = [of_lane[name] for of_lane in told]
        if self._has_mapped_lane:
            return columns[0].T
        return columns[0] if self._is_batched else np.stack(columns, axis=1)

    @property
    def draws(self) -> int:
        """Draws of each chain so far."""
        return self.plan.draws_after(self.done)

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shape of a draw by site; empty for a sampler of something else than named sites."""
        kept = self._kept[0][self._sampler.sample_field]
        axes = 2 if self._has_mapped_lane or self._is_batched else 1
        if not isinstance(kept, dict):
            return {}
        return {name: leaf.shape[axes:] for name, leaf in kept.items()}

    def values(self, site: str, at: np.ndarray, every: int = 1) -> np.ndarray:
        """Draws of some values of a site so far; from any thread.

        Args:
            site: Its name.
            at: Which of its values, as positions in a flattened draw.
            every: One of so many draws is read.

        Returns:
            A copy, shape ``(chain, draw, len(at))``.
        """
        axis = 1 if self._is_batched else 0 if self._has_mapped_lane else None
        with self._lock:
            rows = np.arange(0, self.draws, every)
            lanes = [kept[self._sampler.sample_field][site] for kept in self._kept]
            return np.concatenate([read_draws(lane, rows, at, chain_axis=axis) for lane in lanes])

    def give_to_sampler(self) -> None:
        """Let the sampler hold the draws so far, and go on from here, as after a run of its own."""
        self.mcmc._states = jax.tree.map(lambda *lanes: self._by_chain(lanes), *self._kept)
        self.mcmc._states_flat = None
        # Who reads a sampler, ArviZ for one, asks it for the arguments of its last run.
        self.mcmc._args, self.mcmc._kwargs = (), self._arguments
        self.mcmc._last_state = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *self._states)
            if len(self._states) > 1
            else self._states[0]
        )

    def _by_chain(self, lanes: tuple[jax.Array, ...]) -> jax.Array:
        if self._has_mapped_lane:
            return lanes[0] if self.draws == self.plan.draws else lanes[0][:, : self.draws]
        cut = [lane if self.draws == self.plan.draws else lane[: self.draws] for lane in lanes]
        return jnp.swapaxes(cut[0], 0, 1) if self._is_batched else jnp.stack(cut)


def _get(state: Any, path: str) -> Any:
    """Follow a dotted path; ``None`` where it leads nowhere."""
    for name in path.split("."):
        state = getattr(state, name, None)
    return state
