"""What Markov chains plan, and what they did so far, iteration by iteration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aimz_lab.inference.run.steps import Column


@dataclass(frozen=True)
class ChainPlan:
    """What a run of Markov chains plans.

    Attributes:
        chains: Number of chains.
        warmup: Iterations of each chain before the first that counts.
        samples: Iterations of each chain after that.
        thinning: One of so many of these is kept.
    """

    chains: int
    warmup: int
    samples: int
    thinning: int = 1

    @property
    def iterations(self) -> int:
        """Iterations of each chain, warm-up included."""
        return self.warmup + self.samples

    @property
    def draws(self) -> int:
        """Draws of each chain that will be kept."""
        return self.samples // self.thinning

    @property
    def skipped(self) -> int:
        """Iterations before the first group of ``thinning`` of which the last one is kept."""
        return self.warmup + self.samples % self.thinning

    def draws_after(self, iterations: int) -> int:
        """Draws of each chain that are kept after so many of its iterations.

        Example:
            >>> plan = ChainPlan(chains=4, warmup=100, samples=50, thinning=5)
            >>> plan.draws_after(100), plan.draws_after(109), plan.draws_after(150)
            (0, 1, 10)
        """
        return max(iterations - self.skipped, 0) // self.thinning


class ChainRecord:
    """What the chains of a run did so far; :attr:`aimz_lab.inference.run.run.Run.chains`.

    Args:
        plan: What they are to do.
        sites: Shape of a draw by latent site.
        values: Returns chosen values of a site's draws so far; see :meth:`values`.

    Attributes:
        plan: What they are to do.
        sites: Shape of a draw by latent site.
    """

    def __init__(
        self,
        plan: ChainPlan,
        sites: Mapping[str, tuple[int, ...]],
        values: Callable[[str, np.ndarray, int], np.ndarray],
    ) -> None:
        self.plan = plan
        self.sites = dict(sites)
        self._values = values
        self._columns: dict[str, Column] = {}
        self._iterations = 0
        self._divergences = np.zeros(plan.chains, np.int64)

    @property
    def iterations(self) -> int:
        """Iterations of each chain so far, warm-up included."""
        return self._iterations

    @property
    def draws(self) -> int:
        """Draws of each chain that are kept so far."""
        return self.plan.draws_after(self._iterations)

    @property
    def warming_up(self) -> bool:
        """Whether the chains still adapt, and nothing is kept."""
        return self._iterations < self.plan.warmup

    @property
    def names(self) -> tuple[str, ...]:
        """Names of what :meth:`column` has."""
        return tuple(self._columns)

    def column(self, name: str) -> np.ndarray:
        """One value an iteration and chain, shape ``(iteration, chain)``, read-only.

        Of Hamiltonian samplers: ``potential_energy`` in nats, ``acceptance_rate``, ``diverging``,
        ``n_steps`` and ``step_size``. Other samplers have what they report.

        Raises:
            KeyError: If the sampler does not report it.
        """
        return self._columns[name].values.reshape(-1, self.plan.chains)

    def sampling(self, name: str) -> np.ndarray:
        """The part of :meth:`column` after the warm-up."""
        return self.column(name)[self.plan.warmup :]

    @property
    def divergences(self) -> np.ndarray | None:
        """Divergent iterations after the warm-up, by chain; ``None`` where no one counts."""
        return self._divergences.copy() if "diverging" in self._columns else None

    def values(self, site: str, at: Sequence[int] | np.ndarray, *, every: int = 1) -> np.ndarray:
        """Draws of some values of a latent site so far.

        Args:
            site: Its name.
            at: Which of its values, as positions in a flattened draw.
            every: One of so many draws is read, from the first on.

        Returns:
            A copy, shape ``(chain, draw, len(at))``.
        """
        return self._values(site, np.asarray(at, int), every)

    def extend(self, columns: Mapping[str, np.ndarray], iterations: int) -> None:
        """Append a chunk of iterations; for samplers.

        Args:
            columns: By name, shape ``(iterations, chain)``; the same names in each chunk.
            iterations: How many there are.
        """
        for name, values in columns.items():
            self._columns.setdefault(name, Column(np.float32)).extend(values.reshape(-1))
        if "diverging" in columns:
            first = max(self.plan.warmup - self._iterations, 0)
            self._divergences += np.count_nonzero(columns["diverging"][first:], axis=0)
        self._iterations += iterations
