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
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32
from numpyro.distributions import Distribution, Independent, MaskedDistribution

from aimz_lab.data.keys import THREEFRY
from aimz_lab.kernel.rows.compare import differ
from aimz_lab.kernel.rows.proof import (
    results_that_use,
    rows_are_independent,
    unproven_results,
)
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.kernel.tracing import Message, site_kind

_NUMBERS = (jax.Array, np.ndarray, np.generic, int, float)
"""Types of the parameters of a distribution; its other attributes are not compared."""


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


class _Quantities(NamedTuple):
    """Quantities of a site that must not change when rows are cut.

    Attributes:
        density: Its log density, if it has one.
        values: Its value, or the parameters of its distribution.
        weights: Numbers that scale its log density; they may follow the number of rows.
    """

    density: list[jax.Array]
    values: list[jax.Array]
    weights: list[jax.Array]


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
    ) -> dict[str, _Quantities]:
        """The quantities, given the values of all latent sites; the noise is no site's."""
        return self._quantities(self.trace(rows, shared, values, jax.random.key(0)))

    def _proved(self, *arguments: Any) -> dict[str, _Quantities]:
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
            drawn = _Drawn(trace, self.spec, values, n_rows)
            if drawn.uncuttable:
                return dict.fromkeys(drawn.uncuttable, jnp.array(True))
            padding = drawn
            if n_rows < size:
                again = self.trace(rows, shared, values, jax.random.fold_in(key, 1))
                padding = _Drawn(again, self.spec, values, n_rows)
            whole = self._quantities(trace)

            def on_piece(numbers: jax.Array) -> dict[str, jax.Array]:
                part = jax.tree.map(lambda array: jnp.asarray(array)[numbers], rows)
                fixed = {**values, **drawn.of_rows(numbers, padding)}
                cut = self._quantities(self.trace(part, shared, fixed, key))
                return _differences(cut, whole, numbers, n_rows)

            found = jax.lax.map(on_piece, pieces)
        return {name: flags.any() for name, flags in found.items()}

    def crossing_sites(self, found: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the names of the sites that depend on other rows, in the kernel's order.

        Args:
            found: Results of :meth:`crossing`, for one draw or with any number of draws leading.
        """
        return self._in_order([name for name, flags in found.items() if np.any(flags)])

    def _quantities(self, trace: Mapping[str, Message]) -> dict[str, _Quantities]:
        """Quantities that must not change when rows are cut, by site.

        Of a computed site they are its value; of a drawn one and of a factor its log density and
        the parameters of its distribution. A density alone is not enough: that of a uniform
        distribution is the same wherever the distribution lies. A site that the structure lacks is
        one that only some numbers of rows have.
        """
        found: dict[str, _Quantities] = {}
        for name, message in trace.items():
            kind = site_kind(message)
            site = self.spec.sites.get(name)
            wanted = site is None or name in self.wanted
            if kind == "deterministic" and wanted:
                found[name] = _Quantities([], [jnp.asarray(message["value"])], [])
            with_rows = kind in ("latent", "observed") and not wanted and bool(site.row_axes)
            if with_rows or (kind in ("latent", "observed", "factor") and wanted):
                found[name] = self._of_site(site, message, trace)
        return found

    def _of_site(
        self, site: Site | None, message: Message, trace: Mapping[str, Message]
    ) -> _Quantities:
        distribution, value = message["fn"], message["value"]
        parameters = _parameters(distribution)
        if not self.in_training:
            return _Quantities([_unmasked(distribution).log_prob(value)], parameters, [])
        scales, weights = _scales(message, trace)
        density = distribution.log_prob(value)
        if site is not None and site.row_axes and site.row_batch_axis is None:
            density = _by_row(_unmasked(distribution), value)
        return _Quantities([density], [*parameters, *_masks(distribution), *scales], weights)


def _differences(
    cut: Mapping[str, _Quantities],
    whole: Mapping[str, _Quantities],
    numbers: jax.Array,
    n_rows: int,
) -> dict[str, jax.Array]:
    """For each site whether its quantities on a piece are others than on all rows."""

    def crosses(name: str) -> jax.Array:
        one, other = cut.get(name), whole.get(name)
        if one is None or other is None or jax.tree.structure(one) != jax.tree.structure(other):
            return jnp.array(True)
        flags = [
            differ(*pair, numbers, n_rows, is_density=is_density)
            for is_density, pairs in (
                (True, (one.density, other.density)),
                (False, (one.values, other.values)),
            )
            for pair in zip(*pairs, strict=True)
        ]
        share = n_rows / len(numbers)
        flags += [
            ~jnp.isclose(mine / its, jnp.array([1.0, share]), rtol=1e-3).any()
            for mine, its in zip(one.weights, other.weights, strict=True)
        ]
        return jnp.stack(flags).any()

    return {name: crosses(name) for name in dict.fromkeys((*whole, *cut))}


class _Drawn:
    """The values that a kernel drew on all rows, to be kept for the pieces.

    Args:
        trace: Its trace on all rows.
        spec: Its structure.
        given: The sites whose values are given.
        n_rows: The number of rows.

    Attributes:
        uncuttable: Names of sites with rows that do not have one entry for each.
    """

    def __init__(
        self, trace: Mapping[str, Message], spec: KernelSpec, given: Collection[str], n_rows: int
    ) -> None:
        self._n_rows = n_rows
        latent = [name for name in spec.of_kind("latent") if name in trace and name not in given]
        self._values = {name: jnp.asarray(trace[name]["value"]) for name in latent}
        self._axes = {name: spec.sites[name].row_axes for name in latent}
        self.uncuttable = tuple(
            name
            for name, axes in self._axes.items()
            if axes and (len(axes) > 1 or self._values[name].shape[axes[0]] != n_rows)
        )

    def of_rows(self, numbers: jax.Array, padding: _Drawn) -> dict[str, jax.Array]:
        """The values of some rows, other values of the padding, and those without rows."""
        found = dict(self._values)
        real = numbers[: self._n_rows]
        beyond = jnp.arange(len(numbers) - len(real)) % self._n_rows
        for name, axes in self._axes.items():
            if axes:
                values = jnp.take(self._values[name], real, axis=axes[0])
                others = jnp.take(padding._values[name], beyond, axis=axes[0])
                found[name] = jnp.concatenate([values, others], axes[0])
        return found


def _unmasked(distribution: Distribution) -> Distribution:
    """The distribution without masks, under which it has no density, but draws all the same."""
    while isinstance(distribution, MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _parameters(distribution: Distribution) -> list[jax.Array]:
    leaves = jax.tree.leaves(distribution)
    return [jnp.asarray(leaf) for leaf in leaves if isinstance(leaf, _NUMBERS)]


def _by_row(distribution: Distribution, value: jax.Array) -> jax.Array:
    """The log density of an event of independent entries, by entry."""
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return distribution.log_prob(value)


def _masks(distribution: Distribution) -> list[jax.Array]:
    found = []
    while isinstance(distribution, MaskedDistribution):
        if not isinstance(distribution._mask, bool):
            found.append(jnp.asarray(distribution._mask))
        distribution = distribution.base_dist
    return found


def _scales(
    message: Message, trace: Mapping[str, Message]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """What scales a site's log density: arrays, and numbers that are computed.

    An array is without the share of the plates' rows in it. A plain number is none of these:
    whether it follows the rows is another question.
    """
    scale = message.get("scale")
    if scale is None or isinstance(scale, (int, float, np.number)):
        return [], []
    if jnp.ndim(scale) == 0:
        return [], [jnp.asarray(scale)]
    for frame in message["cond_indep_stack"]:
        if frame.name in trace:
            scale = scale * (frame.size / trace[frame.name]["args"][0])
    return [scale], []
