"""The chains of a NumPyro sampler, advanced by chunks of iterations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Num
from numpyro.infer import MCMC

from aimz_lab.inference.mcmc.chain_programs import ChainPrograms
from aimz_lab.inference.mcmc.chain_steps import ChainGroup
from aimz_lab.inference.mcmc.draws import read_draws
from aimz_lab.types import Arguments, Static


class Chains:
    """Chains with the results of ``mcmc.run``, computed in chunks.

    One compiled program serves every chunk of warm-up and of draws, since the length of a chunk is
    an argument. Each iteration is NumPyro's own. With ``chain_method`` ``"sequential"`` or
    ``"vectorized"`` the draws are those of ``mcmc.run`` with the same key, up to the rounding of
    other programs, which long chains amplify.

    A chain group is the chains that one call of the program advances: all, or one with
    ``"sequential"``.

    Args:
        mcmc: The sampler. It does not change before :meth:`give_to_sampler`.
        key: A typed random key.
        arrays: The kernel's array arguments, by keyword.
        static: Its other arguments.
        programs: Those of an earlier call, if they fit.

    Attributes:
        mcmc: The sampler.
        plan: The planned iterations. A sampler with a state after a warm-up begins from it.
        done: Iterations of each chain so far.
    """

    def __init__(
        self,
        mcmc: MCMC,
        key: jax.Array,
        arrays: Arguments,
        static: Static = MappingProxyType({}),
        programs: ChainPrograms | None = None,
    ) -> None:
        self.mcmc = mcmc
        self.done = 0
        self._arguments = {**arrays, **static}
        self._lock = threading.Lock()
        self._programs = programs or ChainPrograms(mcmc, static)
        arrays = jax.tree.map(jnp.asarray, dict(arrays))
        self._groups = self._begin(key, arrays)
        self._steps = self._programs.steps
        self.plan = self._steps.plan
        self._shared = self._programs.arguments(arrays)

    def _begin(self, key: jax.Array, arrays: Mapping[str, jax.Array]) -> list[ChainGroup]:
        """Return the chain groups before their first iteration."""
        groups = self._programs.begin(key, arrays)
        given, steps = self.mcmc.post_warmup_state, self._programs.steps
        if given is None:
            return groups
        keys = steps.keys(key)
        given = given._replace(rng_key=keys[0] if self.mcmc.sampler.is_ensemble_kernel else keys)
        if len(groups) == 1:
            return [groups[0]._replace(state=given)]
        return [
            group._replace(state=jax.tree.map(lambda leaf, c=c: leaf[c], given))
            for c, group in enumerate(groups)
        ]

    @property
    def watched(self) -> tuple[str, ...]:
        """Names of the values that :meth:`advance` reports of each iteration."""
        return tuple(self._steps.paths)

    def compile(self) -> None:
        """Wait until the program of :meth:`advance` is compiled."""
        self._programs.wait()

    def advance(
        self,
        count: int,
        spending: Callable[[str], AbstractContextManager] = lambda _: nullcontext(),
    ) -> dict[str, Num[np.ndarray, "iteration chain"]]:
        """Run iterations of every chain.

        Args:
            count: Number of iterations, at most :data:`MOST_ITERATIONS`.
            spending: Measures what is done, by its activity, as ``RunClock.spending``.

        Returns:
            The reported values by the names of :attr:`watched`, shape ``(count, chain)``.
        """
        reported = []
        with self._lock:
            with spending("dispatch"):
                for number, group in enumerate(self._groups):
                    found = self._programs.advance(group, self.done, count, self._shared)
                    self._groups[number] = group._replace(state=found.state, kept=found.kept)
                    reported.append(found.reported)
            self.done += count
            with spending("steps"):
                reported = jax.device_get(reported)
        return {name: self._by_iteration(reported, name)[:count] for name in self.watched}

    def _by_iteration(self, reported: list[dict[str, np.ndarray]], name: str) -> np.ndarray:
        columns = [of_group[name] for of_group in reported]
        if self._steps.is_mapped:
            return columns[0].T
        return columns[0] if self._steps.is_batched else np.stack(columns, axis=1)

    @property
    def draws(self) -> int:
        """Draws of each chain so far."""
        return self.plan.draws_after(self.done)

    @property
    def sites(self) -> dict[str, tuple[int, ...]]:
        """Shape of a draw by site; empty if the sampler's draws are not named sites."""
        kept = self._groups[0].kept[self._steps.sample_field]
        axes = 2 if self._steps.is_mapped or self._steps.is_batched else 1
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
        axis = 1 if self._steps.is_batched else 0 if self._steps.is_mapped else None
        with self._lock:
            rows = np.arange(0, self.draws, every)
            groups = [group.kept[self._steps.sample_field][site] for group in self._groups]
            return np.concatenate([read_draws(kept, rows, at, chain_axis=axis) for kept in groups])

    def give_to_sampler(self) -> None:
        """Give the sampler the draws and states so far, as if it had run itself."""
        self.mcmc._states = jax.tree.map(
            lambda *groups: self._by_chain(groups), *(group.kept for group in self._groups)
        )
        self.mcmc._states_flat = None
        # ArviZ reads the arguments of the last run from the sampler.
        self.mcmc._args, self.mcmc._kwargs = (), self._arguments
        states = [group.state for group in self._groups]
        self.mcmc._last_state = (
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
            if len(states) > 1
            else states[0]
        )

    def _by_chain(self, groups: tuple[jax.Array, ...]) -> jax.Array:
        if self._steps.is_mapped:
            return groups[0] if self.draws == self.plan.draws else groups[0][:, : self.draws]
        cut = [kept if self.draws == self.plan.draws else kept[: self.draws] for kept in groups]
        return jnp.swapaxes(cut[0], 0, 1) if self._steps.is_batched else jnp.stack(cut)
