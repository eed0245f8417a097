"""Set-up and iterations of chains as functions of arrays alone, to be compiled once.

NumPyro's samplers keep functions from their set-up, which hold values of it. The iterations are
traced within the set-up, as a program whose arguments these values are: another call with other
data or another key gives other values to the same programs.
"""

from __future__ import annotations

import copy
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro.infer import HMC, MCMC
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from aimz_lab.inference.run.chain_record import ChainPlan
from aimz_lab.types import HasShape, Shared, Static

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


class ChainGroup(NamedTuple):
    """The chains that one call of the program advances.

    Attributes:
        state: Their state after the last iteration.
        kept: Their draws so far.
        closure: What the functions of the sampler hold.
    """

    state: SamplerState
    kept: Kept
    closure: PyTree[jax.Array]


class Advanced(NamedTuple):
    """What a chunk of iterations returns.

    Attributes:
        state: The state after it.
        kept: The draws so far.
        reported: Values of each iteration, by name.
    """

    state: SamplerState
    kept: Kept
    reported: dict[str, jax.Array]


class ChainSteps:
    """Set-up and iterations of one chain group.

    Args:
        mcmc: The sampler; it is read, never changed.
        static: Values of the kernel's static arguments.

    Attributes:
        plan: The planned iterations. A sampler with a state after a warm-up begins from it.
        is_batched: Whether one state has all chains: NumPyro vectorizes them.
        is_mapped: Whether the functions are mapped over the chains, on the leading axis.
        sample_field: Name of the field with the draws.
        paths: Paths to the values to report in the sampler's state, by name.
    """

    def __init__(self, mcmc: MCMC, static: Static) -> None:
        warmup = mcmc.num_warmup if mcmc.post_warmup_state is None else 0
        self.plan = ChainPlan(mcmc.num_chains, warmup, mcmc.num_samples, mcmc.thinning)
        many = mcmc.num_chains > 1
        self.method = mcmc.chain_method if many else "vectorized"
        self.is_batched = many and self.method == "vectorized"
        self.is_mapped = many and self.method not in ("vectorized", "sequential")
        self.sample_field = mcmc.sampler.sample_field
        self.paths: dict[str, str] = {}
        # Copies: NumPyro vectorizes a sampler each time it is set up.
        self._sampler = fresh_sampler(mcmc.sampler)
        self._postprocess = mcmc.postprocess_fn
        self._adapts_for = mcmc.num_warmup
        self._static = dict(static)
        more = HAMILTONIAN if isinstance(mcmc.sampler, HMC) else ()
        names = (self.sample_field, *mcmc.sampler.default_fields, *more)
        self._fields = tuple(dict.fromkeys(names))

    @property
    def groups(self) -> int:
        """Number of chain groups."""
        return self.plan.chains if self.method == "sequential" else 1

    def keys(self, key: jax.Array) -> jax.Array:
        """Return a key for each chain, if there are several, as NumPyro does."""
        many = self.plan.chains > 1 and is_prng_key(key)
        return jax.random.split(key, self.plan.chains) if many else key

    def set_up(self, key: jax.Array, arrays: Shared) -> ChainGroup:
        """Return a group before its first iteration, and trace the iterations.

        Args:
            key: The key of the chain, or those of all chains that NumPyro vectorizes.
            arrays: The kernel's array arguments, by keyword.
        """
        sampler = fresh_sampler(self._sampler)
        state = sampler.init(
            key, self._adapts_for, None, model_args=(), model_kwargs={**arrays, **self._static}
        )
        self.paths = self._reported_paths(state)
        of_arrays, of_state = _shapes(arrays), _shapes(state)
        draw = jax.eval_shape(partial(self._collect, sampler), of_state, of_arrays)
        kept = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((self.plan.draws, *leaf.shape), leaf.dtype), draw
        )
        number = jax.ShapeDtypeStruct((), np.int32)
        program, shapes = jax.make_jaxpr(partial(self._iterate, sampler), return_shape=True)(
            of_state, kept, number, number, of_arrays
        )
        self._program, self._result = program.jaxpr, jax.tree.structure(shapes)
        return ChainGroup(
            state,
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), kept),
            program.consts,
        )

    def advance(
        self, group: ChainGroup, first: ArrayLike, count: ArrayLike, arrays: Shared
    ) -> Advanced:
        """Run ``count`` iterations; ``first`` is the number of the first, from 0."""
        state, kept, closure = group
        given = jax.tree.leaves((state, kept, first, count, dict(arrays)))
        found = jaxpr_as_fun(ClosedJaxpr(self._program, closure))(*given)
        return jax.tree.unflatten(self._result, found)

    def _iterate(
        self,
        sampler: MCMCKernel,
        state: SamplerState,
        kept: Kept,
        first: jax.Array,
        count: jax.Array,
        arrays: Shared,
    ) -> Advanced:
        plan, arguments = self.plan, {**arrays, **self._static}

        def iterate(number: jax.Array, carry: Advanced) -> Advanced:
            state, kept, reported = carry
            state = sampler.sample(state, (), arguments)
            since = first + number + 1 - plan.skipped
            is_kept = (since > 0) & (since % plan.thinning == 0)
            at = jnp.where(is_kept, since // plan.thinning - 1, plan.draws)
            draw = self._collect(sampler, state, arrays)
            kept = jax.tree.map(lambda all_, new: all_.at[at].set(new, mode="drop"), kept, draw)
            now = {name: attrgetter(path)(state) for name, path in self.paths.items()}
            reported = {name: reported[name].at[number].set(now[name]) for name in reported}
            return Advanced(state, kept, reported)

        reported = {
            name: jnp.zeros((MOST_ITERATIONS, *leaf.shape), leaf.dtype)
            for name, path in self.paths.items()
            for leaf in (attrgetter(path)(state),)
        }
        return jax.lax.fori_loop(0, count, iterate, Advanced(state, kept, reported))

    def _collect(self, sampler: MCMCKernel, state: SamplerState, arrays: Shared) -> Kept:
        """Return the fields kept of a draw, constrained as by ``mcmc.run``."""
        fields = {name: attrgetter(name)(state) for name in self._fields}
        arguments = {**arrays, **self._static}
        constrain = self._postprocess or sampler.postprocess_fn((), arguments)
        draw = fields[self.sample_field]
        if not self.is_batched:
            constrained = constrain(draw)
        elif jax.tree.leaves(draw):
            constrained = jax.vmap(constrain)(draw)
        else:  # a kernel with only deterministic sites: they are the same for every chain
            constrained = jax.tree.map(
                lambda leaf: jnp.broadcast_to(leaf, (self.plan.chains, *jnp.shape(leaf))),
                constrain(draw),
            )
        return {**fields, self.sample_field: constrained}

    def _reported_paths(self, state: SamplerState) -> dict[str, str]:
        """Paths to the values in this sampler's state that are one number a chain, by name."""
        shape = (self.plan.chains,) if self.is_batched else ()
        paths = {}
        for name, path in _REPORTED.items():
            for prefix in _PREFIXES:
                if getattr(_get(state, prefix + path), "shape", None) == shape:
                    paths[name] = prefix + path
                    break
        return paths


def fresh_sampler(sampler: MCMCKernel) -> MCMCKernel:
    """Copy a sampler and the samplers within it, without what they keep from a set-up."""
    return _fresh(sampler)


def _fresh(value: object) -> object:
    if isinstance(value, MCMCKernel):
        made = copy.copy(value)
        for name, part in vars(made).items():
            vars(made)[name] = _fresh(part)
        return made
    if type(value) in (list, tuple):
        return type(value)(map(_fresh, value))
    if type(value) is dict:
        return {name: _fresh(part) for name, part in value.items()}
    return value


def settings_of(value: object) -> object:
    """Return the attributes of a sampler, and of those within it, instead of itself."""
    if isinstance(value, MCMCKernel):
        return type(value), {name: settings_of(part) for name, part in vars(value).items()}
    if type(value) in (list, tuple):
        return tuple(map(settings_of, value))
    if type(value) is dict:
        return {name: settings_of(part) for name, part in value.items()}
    return value


def _shapes(tree: PyTree[HasShape]) -> PyTree[jax.ShapeDtypeStruct]:
    return jax.eval_shape(lambda: tree)


def _get(state: object, path: str) -> object:
    """Follow a dotted path of attributes; ``None`` if one of them is missing."""
    for name in path.split("."):
        state = getattr(state, name, None)
    return state
