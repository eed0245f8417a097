"""The plan of a run of Markov chains, and the record of its iterations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from aimz_lab.inference.run.buckets import Buckets, mean_of

EXACT_ITERATIONS = 2**14
"""Most iterations of a chain that are kept one by one; those of a longer run share buckets."""

_LATEST = 50


@dataclass(frozen=True)
class ChainPlan:
    """The numbers of chains, iterations and draws of a run.

    Attributes:
        chains: Number of chains.
        warmup: Warm-up iterations of each chain.
        samples: Iterations of each chain after the warm-up.
        thinning: One of this many iterations is kept.
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
        """Draws of each chain that the run keeps."""
        return self.samples // self.thinning

    @property
    def skipped(self) -> int:
        """Iterations before the first group of ``thinning``; the last one of a group is kept."""
        return self.warmup + self.samples % self.thinning

    def draws_after(self, iterations: int) -> int:
        """Return the draws of each chain that are kept after this many iterations of it.

        Example:
            >>> plan = ChainPlan(chains=4, warmup=100, samples=50, thinning=5)
            >>> plan.draws_after(100), plan.draws_after(109), plan.draws_after(150)
            (0, 1, 10)
        """
        return max(iterations - self.skipped, 0) // self.thinning


@dataclass(frozen=True)
class Convergence:
    """How far chains agree, and how much their draws are worth.

    Attributes:
        r_hat: The largest R-hat; ``None`` where it is not defined.
        r_hat_of: Name of the value that has it, such as ``"theta[3]"``.
        ess: The least effective sample size; ``None`` where it is not defined.
        ess_of: Name of the value that has it.
        judged: Number of values that were judged.
        total: Number of values of the latent sites.
        left_out: Which values were left out, and why; may be empty.
    """

    r_hat: float | None
    r_hat_of: str
    ess: float | None
    ess_of: str
    judged: int
    total: int
    left_out: str = ""


class ChainRecord:
    """The record of the chains of a run; see :attr:`aimz_lab.inference.run.run.Run.chains`.

    What the iterations report is bounded: of more than 16,384 iterations, neighbours share a
    bucket; see :meth:`column`. Draws and their sample statistics are not part of it.

    Args:
        plan: The planned numbers of chains, iterations and draws.
        sites: Shape of a draw by latent site.
        values: Returns chosen values of a site's draws so far; see :meth:`values`.

    Attributes:
        plan: The planned numbers of chains, iterations and draws.
        sites: Shape of a draw by latent site.
        convergence: How far the chains agree, once the draws of all iterations were judged, as the
            page of a run does; else ``None``.
    """

    def __init__(
        self,
        plan: ChainPlan,
        sites: Mapping[str, tuple[int, ...]],
        values: Callable[[str, np.ndarray, int], np.ndarray],
    ) -> None:
        self.plan = plan
        self.sites = dict(sites)
        self.convergence: Convergence | None = None
        self._values = values
        self._columns: dict[str, Buckets] = {}
        self._sums: dict[str, np.ndarray] = {}
        self._last: dict[str, np.ndarray] = {}
        self._iterations = 0
        self._lock = threading.Lock()  # a column is read by other threads while the run goes on
        self._divergences = np.zeros(plan.chains, np.int64)

    @property
    def iterations(self) -> int:
        """Iterations of each chain so far, warm-up included."""
        return self._iterations

    @property
    def draws(self) -> int:
        """Draws of each chain so far."""
        return self.plan.draws_after(self._iterations)

    @property
    def warming_up(self) -> bool:
        """Whether the chains are still in their warm-up, whose draws are not kept."""
        return self._iterations < self.plan.warmup

    @property
    def names(self) -> tuple[str, ...]:
        """Names that :meth:`column` takes."""
        return tuple(self._columns)

    @property
    def bucket_iterations(self) -> Int[np.ndarray, " bucket"]:
        """Iterations that each value of a :meth:`column` stands for: 1, up to 16,384 iterations.

        Beyond, neighbours are joined in pairs each time that there are more buckets than that. The
        last few iterations, which fill no bucket yet, have one each.
        """
        return next((c.sizes for c in self._columns.values()), np.empty(0, int))

    def column(self, name: str) -> Num[np.ndarray, "bucket chain"]:
        """Return one value an iteration and chain, shape ``(iteration, chain)``, read-only.

        Hamiltonian samplers have ``potential_energy`` in nats, ``acceptance_rate``, ``diverging``,
        ``n_steps`` and ``step_size``. Other samplers report some of these.

        Of more than 16,384 iterations, it is the mean of the finite values of each bucket of
        neighbouring iterations, shape ``(bucket, chain)``; see :attr:`bucket_iterations`.

        Raises:
            KeyError: If the sampler does not report it.
        """
        with self._lock:
            kept = self._columns[name].kept
        found = kept.view() if kept.ndim == 2 else mean_of(kept)
        found.flags.writeable = False
        return found

    def sampling(self, name: str) -> Num[np.ndarray, "bucket chain"]:
        """The part of :meth:`column` after the warm-up; without a bucket that has some of it."""
        sizes = self.bucket_iterations
        return self.column(name)[np.cumsum(sizes) - sizes >= self.plan.warmup]

    def last(self, name: str) -> Num[np.ndarray, " chain"]:
        """Return the value of the last iteration, shape ``(chain,)``.

        Raises:
            KeyError: If the sampler does not report it.
        """
        return self._last[name]

    def mean(self, name: str) -> Float[np.ndarray, " chain"]:
        """Return the mean since the warm-up, shape ``(chain,)``.

        During the warm-up it is that of the latest 50 iterations, or buckets.

        Raises:
            KeyError: If the sampler does not report it.
        """
        counted = self._iterations - self.plan.warmup
        if counted > 0:
            return self._sums[name] / counted
        stats, _ = self._columns[name].since(-_LATEST)
        return mean_of(stats.sum(axis=0)[None])[0]

    def buckets(self, name: str) -> Buckets:
        """Return the column behind :meth:`column`, for a curve that follows it."""
        return self._columns[name]

    @property
    def divergences(self) -> Int[np.ndarray, " chain"] | None:
        """Divergent iterations after the warm-up, by chain; ``None`` if not reported."""
        return self._divergences.copy() if "diverging" in self._columns else None

    def values(
        self, site: str, at: Sequence[int] | np.ndarray, *, every: int = 1
    ) -> Num[np.ndarray, "chain draw value"]:
        """Return the draws so far of some values of a latent site.

        Args:
            site: Its name.
            at: Positions of the values in a flattened draw.
            every: Read one of this many draws, from the first on.

        Returns:
            A copy, shape ``(chain, draw, len(at))``.
        """
        return self._values(site, np.asarray(at, int), every)

    def extend(self, columns: Mapping[str, np.ndarray], iterations: int) -> None:
        """Append a chunk of iterations; for samplers.

        Args:
            columns: By name, shape ``(iterations, chain)``; the same names in each chunk.
            iterations: Number of iterations.
        """
        first = max(self.plan.warmup - self._iterations, 0)
        for name, values in columns.items():
            if name not in self._columns:
                self._columns[name] = self._new_column()
                self._sums[name] = np.zeros(self.plan.chains)
            with self._lock:
                self._columns[name].extend(values)
            self._sums[name] += values[first:].sum(axis=0, dtype=np.float64)
            self._last[name] = values[-1]
        if "diverging" in columns:
            self._divergences += np.count_nonzero(columns["diverging"][first:], axis=0)
        self._iterations += iterations

    def _new_column(self) -> Buckets:
        shape = (self.plan.chains,)
        return Buckets(np.float32, "measured", limit=EXACT_ITERATIONS, shape=shape)
