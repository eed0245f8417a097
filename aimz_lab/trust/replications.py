"""Simulate from the prior, fit, and draw: many replications in one compiled program."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int
from numpyro import handlers
from numpyro.infer import MCMC, SVI, Predictive
from numpyro.infer.autoguide import AutoGuide

from aimz_lab.errors import GuideError
from aimz_lab.inference.autoguides import autoguides_in, follows_density, takes_curvature
from aimz_lab.inference.compiling import QUICK, compiler_options, named
from aimz_lab.inference.untrainable_sites import untrainable_sites
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.preparing import current, doing
from aimz_lab.types import Rows, Shared, Static

_THINNING = 4
"""Iterations of a chain for each draw that is kept, at least."""

_TICKS = 50
"""How often a group of replications tells how far it has come."""

_VALUES_AT_ONCE = 1 << 20
_MOST_AT_ONCE = 64


@dataclass(frozen=True)
class Experiment:
    """What a replication repeats.

    Attributes:
        kernel: The kernel.
        output: Name of its output.
        rows: Its per-row arguments, without the output.
        shared: Its shared arguments.
        static: Its static arguments.
        sites: The latent sites to rank.
        num_steps: SVI steps on all rows; chains have their own number.
        num_draws: Posterior draws of each replication.
    """

    kernel: Callable
    output: str
    rows: Rows
    shared: Shared
    static: Static
    sites: tuple[str, ...]
    num_steps: int
    num_draws: int


class Ranks(NamedTuple):
    """Ranks of true values among posterior draws.

    Attributes:
        below: Draws below the true value, by site, ``(replication, ...)``.
        equal: Draws equal to it.
        ok: Whether all draws of a replication were finite.
    """

    below: dict[str, Int[np.ndarray, "replication ..."]]
    equal: dict[str, Int[np.ndarray, "replication ..."]]
    ok: Bool[np.ndarray, " replication"]


def replicate(
    experiment: Experiment, inference: SVI | MCMC, key: jax.Array, count: int
) -> tuple[Ranks, bool]:
    """Run all replications.

    Args:
        experiment: What to repeat.
        inference: The inference object; a copy of it is used.
        key: A typed random key.
        count: Number of replications.

    Returns:
        The ranks, and whether replications ran side by side; a sampler that cannot be mapped runs
        them one after the other, in the same program.

    Raises:
        GuideError: If the guide keeps the data of its set-up.
    """
    fit = _svi_fit if isinstance(inference, SVI) else _chain_fit
    doing("compiling the replications")
    with tracing_lock:
        clock = _Clock(count)
        draws_of = fit(experiment, copy.deepcopy(inference), clock)
        one = _replication(experiment, draws_of)
        keys = jax.random.split(jax.random.fold_in(key, 1), count)
        values = sum(np.size(array) for array in experiment.rows.values()) + 1
        most = int(np.clip(_VALUES_AT_ONCE // values, 1, min(_MOST_AT_ONCE, count)))
        at_once = -(-count // -(-count // most))  # groups of like size
        clock.begin(at_once)
        try:
            return Ranks(*_run(one, keys, at_once)), at_once > 1
        except (TypeError, ValueError, NotImplementedError):
            if at_once == 1:
                raise
            clock.begin(1)
            return Ranks(*_run(one, keys, None)), False


def _run(one: Callable, keys: jax.Array, at_once: int | None) -> tuple:
    def replications(keys: jax.Array) -> object:
        return jax.lax.map(one, keys, batch_size=at_once)

    program = jax.jit(
        named("simulation-based calibration", replications),
        compiler_options=compiler_options(QUICK),
    )
    count = len(keys)
    # A smaller last group would be a second program within this one.
    whole = np.minimum(np.arange(-(-count // (at_once or 1)) * (at_once or 1)), count - 1)
    return jax.tree.map(lambda of_all: of_all[:count], jax.device_get(program(keys[whole])))


class _Clock:
    """Tells how far the compiled replications have come: they are one call, of a minute or more.

    Args:
        count: Number of replications.
    """

    def __init__(self, count: int) -> None:
        self._count, self._telling = count, current()

    def begin(self, at_once: int) -> None:
        """Begin to count.

        Args:
            at_once: Replications that run side by side.
        """
        self._at_once = at_once
        self._groups, self._done, self._last = -(-self._count // at_once), 0, -1

    def tick(self, step: jax.Array, of: int) -> None:
        """Within the program, tell some of the steps of each group of replications.

        Args:
            step: Number of the step, from 0; the same in all replications of a group, so that they
                tell it once.
            of: Steps of a replication.
        """
        tell = lambda: jax.debug.callback(functools.partial(self._tell, of=of), step)  # noqa: E731
        jax.lax.cond(step % max(of // _TICKS, 1) == 0, tell, lambda: None)

    def _tell(self, step: np.ndarray, of: int) -> None:
        if step < self._last:  # the next group has begun
            self._done += 1
        self._last = int(step)
        first = min(self._done * self._at_once, self._count - 1)
        last = min(first + self._at_once, self._count)
        which = f"{first + 1}" if last == first + 1 else f"{first + 1} to {last}"
        self._telling.activity = f"fitting replications {which} of {self._count}"
        self._telling.at_part((self._done, self._groups))
        self._telling.reach(self._last / of)


def _replication(experiment: Experiment, draws_of: Callable) -> Callable:
    """Return a function of a key: the ranks of one replication."""
    fixed = {**experiment.rows, **experiment.shared, **experiment.static}

    def one(key: jax.Array) -> tuple[dict, dict, jax.Array]:
        of_prior, of_fit, of_draws = jax.random.split(key, 3)
        trace = handlers.trace(handlers.seed(experiment.kernel, of_prior)).get_trace(**fixed)
        arguments = {**fixed, experiment.output: trace[experiment.output]["value"]}
        draws = draws_of(of_fit, of_draws, arguments)
        missing = [name for name in experiment.sites if name not in draws]
        if missing:
            msg = (
                f"The posterior has no draws of {', '.join(map(repr, missing))}, so that their "
                "ranks are not known. Use a guide that draws every latent site, or MCMC."
            )
            raise GuideError(msg)
        below, equal, ok = {}, {}, jnp.array(True)
        for name in experiment.sites:
            truth, drawn = jnp.asarray(trace[name]["value"]), draws[name]
            below[name] = (drawn < truth[None]).sum(0)
            equal[name] = (drawn == truth[None]).sum(0)
            ok &= jnp.isfinite(drawn).all()
        return below, equal, ok

    return one


def _svi_fit(experiment: Experiment, svi: SVI, clock: _Clock) -> Callable:
    """Return a function that trains on other outputs from a start of its own, and draws."""
    if takes_curvature(svi.guide) or follows_density(svi.guide):
        msg = (
            f"{type(svi.guide).__name__} keeps the data that it was set up with, and every "
            "replication has data of its own. Use AutoMultivariateNormal, or MCMC."
        )
        raise GuideError(msg)

    def draws_of(of_fit: jax.Array, of_draws: jax.Array, arguments: dict) -> dict:
        # Where a guide begins is a part of the inference: one start for all would put the
        # posteriors of a short training off to one side.
        for guide in autoguides_in(svi.guide):
            guide.prototype_trace = None  # it keeps what it was set up with, tracers here
        of_start, of_fit = jax.random.split(of_fit)
        with untrainable_sites():
            start = svi.init(of_start, **arguments)

        def step(state: object, number: jax.Array) -> tuple[object, None]:
            clock.tick(number, experiment.num_steps)
            return svi.update(state, **arguments)[0], None

        numbers = jnp.arange(experiment.num_steps)
        state, _ = jax.lax.scan(step, start._replace(rng_key=of_fit), numbers)
        params, count = svi.get_params(state), experiment.num_draws
        if isinstance(svi.guide, AutoGuide):
            shape = (count,)
            return svi.guide.sample_posterior(of_draws, params, sample_shape=shape, **arguments)
        return Predictive(svi.guide, params=params, num_samples=count)(of_draws, **arguments)

    return draws_of


def _chain_fit(experiment: Experiment, mcmc: MCMC, clock: _Clock) -> Callable:
    """Return a function that runs one chain on other outputs, thinned to nearly free draws."""
    sampler, warmup = mcmc.sampler, mcmc.num_warmup
    thinning = max(_THINNING, mcmc.num_samples // experiment.num_draws)

    def draws_of(of_fit: jax.Array, of_draws: jax.Array, arguments: dict) -> dict:
        del of_draws
        own = copy.copy(sampler)  # it keeps functions of the data
        state = own.init(of_fit, warmup, None, model_args=(), model_kwargs=arguments)
        iterations = warmup + thinning * experiment.num_draws

        def advance(number: jax.Array, state: object) -> object:
            clock.tick(number, iterations)
            return own.sample(state, (), arguments)

        def keep(state: object, numbers: tuple[jax.Array, jax.Array]) -> tuple[object, dict]:
            state = jax.lax.fori_loop(*numbers, advance, state)
            return state, getattr(state, own.sample_field)

        # The first draw comes after the warm-up: a loop of its own would be compiled as well.
        ends = jnp.arange(warmup, iterations, thinning) + thinning
        _, free = jax.lax.scan(keep, state, (jnp.insert(ends[:-1], 0, 0), ends))
        return jax.vmap(own.postprocess_fn((), arguments))(free)

    return draws_of
