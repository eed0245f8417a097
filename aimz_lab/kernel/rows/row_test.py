"""A proof or a test that a kernel treats rows one by one, so that they may be cut.

Rows are independent, given the sites without rows, if each row's log density, the parameters of its
distributions and each computed value follow from that row alone while every drawn value is held
fixed. Of most kernels the traced program proves that. Others are tested: they run on all rows at
once, and again on each of the pieces that the rows would be cut to, and each quantity of each row
must be the same. A lag, a cumulative sum, a row's number or the mere number of rows shows up as a
difference. Nothing random is compared, so that rounding is the only tolerance needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from aimz_lab.data.keys import THREEFRY
from aimz_lab.kernel.rows.kept_draws import KeptDraws
from aimz_lab.kernel.rows.proof import (
    results_that_use,
    rows_are_independent,
    unproven_results,
)
from aimz_lab.kernel.rows.quantities import Quantities, differences, quantities_of
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import Message


class TraceRows(Protocol):
    """Runs a kernel on rows."""

    def __call__(
        self, rows: Any, shared: Any, values: Mapping[str, jax.Array], key: jax.Array
    ) -> Mapping[str, Any]:
        """Return NumPyro's trace.

        Args:
            rows: A tree of arrays with rows leading.
            shared: A tree of values that all rows share.
            values: Values of sites to substitute.
            key: The key of all other sites.
        """


@dataclass(frozen=True, eq=False)
class RowTest:
    """Proves or tests that a kernel treats rows one by one.

    Args:
        trace: Runs the kernel on rows.
        spec: Its structure.
        wanted: Names of the sites that are computed from rows that may be cut, factors among them;
            the sample sites with rows are always compared.
        in_training: Whether log densities are compared with their masks and scales, and by row
            where all rows form one event. If not, they are compared as predictions need them.
    """

    trace: TraceRows
    spec: KernelSpec
    wanted: Collection[str]
    in_training: bool = False

    def is_proven(self, few: tuple[Any, Any, Any], many: tuple[Any, Any, Any]) -> bool:
        """Whether the traced program proves that rows are independent.

        Args:
            few: Shapes and types of ``(rows, shared, values of all latent sites)`` at the number of
                rows of a piece.
            many: Likewise, at the number of all rows.
        """
        try:
            return rows_are_independent(self._proved, few, many) and not self._weighted(few)
        except Exception:  # noqa: BLE001  an error of the kernel itself shows when it is tested
            return False

    def unproven_sites(
        self, few: tuple[Any, Any, Any], many: tuple[Any, Any, Any]
    ) -> tuple[str, ...]:
        """Return the names of the sites of which :meth:`is_proven` does not hold.

        Raises:
            Exception: What the kernel raises.
        """
        unproven = {*unproven_results(self._proved, few, many), *self._weighted(few)}
        return self._in_order(unproven)

    def _of_values(
        self, rows: Any, shared: Any, values: Mapping[str, Any]
    ) -> dict[str, Quantities]:
        """The quantities, given the values of all latent sites; the noise is no site's."""
        return self._quantities(self.trace(rows, shared, values, jax.random.key(0)))

    def _proved(self, *arguments: Any) -> dict[str, Quantities]:
        """The quantities that a proof is about; weights may follow the number of rows."""
        return {
            name: quantities._replace(weights=[])
            for name, quantities in self._of_values(*arguments).items()
        }

    def _weighted(self, arguments: tuple[Any, Any, Any]) -> set[str]:
        """Names of the sites with a weight that is computed from values of the rows."""

        def weights(*arguments: Any) -> dict[str, list[jax.Array]]:
            return {name: found.weights for name, found in self._of_values(*arguments).items()}

        computed = any(site.scale == "array" for site in self.spec.sites.values())
        return results_that_use(weights, *arguments) if self.in_training and computed else set()

    def _in_order(self, names: Collection[str]) -> tuple[str, ...]:
        """Names in the order of the kernel's sites."""
        order = (*self.spec.sites, *(name for name in names if name not in self.spec.sites))
        return tuple(name for name in order if name in names)

    def crossing(
        self,
        rows: Any,
        shared: Any,
        values: Mapping[str, Any],
        key_data: UInt32[jax.Array, " words"],
        pieces: Int[jax.Array, "piece position"],
    ) -> dict[str, Bool[Array, ""]]:
        """Run the kernel on all rows at once and on each piece of them, and compare row by row.

        It is a function to compile. Quantities without rows must be the same on all pieces. If a
        piece is as long as all rows together, its rows must be in their order. A piece that is
        longer begins with all of them; what follows is padding, of which other values are drawn.

        Args:
            rows: A tree of arrays with all rows leading.
            shared: A tree of values that all rows share.
            values: Values of sites without rows, of one draw; values that the kernel draws on all
                rows are kept for the pieces.
            key_data: Data of a Threefry key.
            pieces: The numbers of the rows of each piece.

        Returns:
            For each site whether it depends on which rows there are beside a row, or on its place
            among them.
        """
        key = jax.random.wrap_key_data(key_data, impl=THREEFRY)
        # Otherwise an accelerator would round products of long and of short arrays differently.
        with jax.default_matmul_precision("highest"):
            trace = self.trace(rows, shared, values, key)
            n_rows, size = jax.tree.leaves(rows)[0].shape[0], pieces.shape[1]
            drawn = KeptDraws(trace, self.spec, values, n_rows)
            if drawn.uncuttable:
                return dict.fromkeys(drawn.uncuttable, jnp.array(True))
            padding = drawn
            if n_rows < size:
                again = self.trace(rows, shared, values, jax.random.fold_in(key, 1))
                padding = KeptDraws(again, self.spec, values, n_rows)
            whole = self._quantities(trace)

            def on_piece(numbers: jax.Array) -> dict[str, jax.Array]:
                part = jax.tree.map(lambda array: jnp.asarray(array)[numbers], rows)
                fixed = {**values, **drawn.of_rows(numbers, padding)}
                cut = self._quantities(self.trace(part, shared, fixed, key))
                return differences(cut, whole, numbers, n_rows)

            found = jax.lax.map(on_piece, pieces)
        return {name: flags.any() for name, flags in found.items()}

    def crossing_sites(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the sites that depend on other rows, in the kernel's order.

        Args:
            found: Results of :meth:`crossing`, for one draw or with any number of draws leading.
        """
        return self._in_order([name for name, flags in found.items() if np.any(flags)])

    def _quantities(self, trace: Mapping[str, Message]) -> dict[str, Quantities]:
        return quantities_of(trace, self.spec, self.wanted, in_training=self.in_training)
