"""Draws of a kernel's prior, with the same noise for all numbers of its priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpyro import handlers

from aimz_lab.errors import SiteError
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.known_means import mean_kind
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.lab.explorers.moved_priors import MovedPriors, Numbers

_AT_ONCE = 2_000_000
"""Values of a site of rows that are computed at a time."""


class PriorProgram:
    """Draws sites of a kernel from its prior, by one compiled program for all numbers.

    Each draw has its own key, which stays: while a number moves, every draw moves with it.

    Args:
        kernel: The kernel.
        arguments: The arguments of one call, without the output.
        params: Values of ``param`` sites.
        key: Source of all noise.
        draws: Number of draws.

    Attributes:
        draws: Number of draws.
        computed: Names of the deterministic sites.
        shares: Names of the sites whose distribution has values from 0 to 1 alone.
    """

    def __init__(
        self,
        kernel: Callable,
        arguments: KernelArguments,
        params: Mapping[str, Any],
        key: jax.Array,
        draws: int,
    ) -> None:
        self._kernel = handlers.substitute(kernel, data=params) if params else kernel
        self._arguments = arguments
        self._keys = jax.random.split(key, draws)
        self._compiled: dict[tuple[str, ...], Callable] = {}
        self.draws = draws
        self.computed: set[str] = set()
        self.shares: set[str] = set()

    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Return shape and type of each site with values, in the order of the kernel."""
        found: dict[str, Any] = {}

        def run(key: jax.Array, rows: dict, shared: dict) -> dict:
            sites = self._sites(key, {}, rows, shared)
            found.update(dict.fromkeys(sites))
            return sites

        given = dict(self._arguments.rows), dict(self._arguments.shared)
        with tracing_lock:
            shapes = jax.eval_shape(run, self._keys[0], *given)
        return {name: shapes[name] for name in found}

    def run(self, numbers: Numbers, sites: Sequence[str]) -> dict[str, np.ndarray]:
        """Draw.

        Args:
            numbers: The numbers that differ from those of the kernel.
            sites: Names of the sites to return.

        Returns:
            Draws by site, of shape ``(draw, ...)``.
        """
        wanted = tuple(sorted(sites))
        given = {name: dict(its) for name, its in numbers.items()}
        with tracing_lock:
            if wanted not in self._compiled:
                self._compiled[wanted] = jax.jit(self._program(wanted))
            found = self._compiled[wanted](
                self._keys, given, dict(self._arguments.rows), dict(self._arguments.shared)
            )
        return {name: np.asarray(values) for name, values in found.items()}

    def _program(self, wanted: tuple[str, ...]) -> Callable:
        at_once = max(1, min(self.draws, _AT_ONCE // max(self._arguments.n_rows, 1)))

        def draw(keys: jax.Array, numbers: dict, rows: dict, shared: dict) -> dict:
            def one(key: jax.Array) -> dict:
                sites = self._sites(key, numbers, rows, shared)
                if missing := set(wanted) - sites.keys():
                    raise SiteError(f"The kernel has no site {sorted(missing)[0]!r}.")
                return {name: sites[name] for name in wanted}

            return jax.lax.map(one, keys, batch_size=at_once)

        return draw

    def _sites(self, key: jax.Array, numbers: Numbers, rows: dict, shared: dict) -> dict:
        moved = MovedPriors(self._kernel, numbers)
        trace = handlers.trace(handlers.seed(moved, key)).get_trace(
            **rows, **shared, **self._arguments.static
        )
        self.computed = {n for n, site in trace.items() if site["type"] == "deterministic"}
        sampled = {n: site["fn"] for n, site in trace.items() if site["type"] == "sample"}
        self.shares = {n for n, fn in sampled.items() if mean_kind(fn) == "share"}
        return {
            name: site["value"]
            for name, site in trace.items()
            if site["type"] in ("sample", "deterministic")
            and not site.get("is_observed")  # data, and no draws
            and hasattr(site["value"], "dtype")
        }
