"""A proof or a test that a kernel treats rows one by one, so that they may be cut.

Rows are independent, given the sites without rows, if each row's log density, the parameters of its
distributions and each computed value follow from that row alone while every drawn value is held
fixed. Of most kernels the traced program proves that. Others are tested: they run on some rows, in
several orders, and again on each half of them. A scan, a cumulative sum, a statistic of the batch,
or the mere number of rows shows up as a difference. Nothing random is compared, so that rounding is
the only tolerance needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, UInt32
from numpyro.distributions import Distribution, MaskedDistribution

from aimz_lab.data.keys import THREEFRY
from aimz_lab.kernel.rows.proof import rows_are_independent
from aimz_lab.kernel.spec import KernelSpec

_COLUMNS = 64
"""Columns of an argument whose extremes are looked for, at most."""

_LOOKED_AT = 2**24
"""Values of an argument that are searched for its extremes: hundredths of a second at most."""

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


@dataclass(frozen=True, eq=False)
class RowTest:
    """Proves or tests that a kernel treats rows one by one.

    Args:
        trace: Runs the kernel on rows.
        spec: Its structure.
        wanted: Names of the sites that are computed from rows that may be cut; the sample sites
            with rows are always compared.
    """

    trace: TraceRows
    spec: KernelSpec
    wanted: Collection[str]

    def is_proven(self, few: tuple[Any, Any, Any], many: tuple[Any, Any, Any]) -> bool:
        """Whether the traced program proves that rows are independent.

        Args:
            few: Shapes and types of ``(rows, shared, values of all latent sites)`` at some number
                of rows.
            many: Likewise, at another number.
        """
        key = jax.random.key(0)  # of noise that is no site's

        def run(rows: Any, shared: Any, values: Mapping[str, Any]) -> dict[str, list[jax.Array]]:
            return self._quantities(self.trace(rows, shared, values, key))

        try:
            return rows_are_independent(run, few, many)
        except Exception:  # noqa: BLE001  an error of the kernel itself shows when it is tested
            return False

    def on_all_and_halves(
        self,
        orders: Any,
        shared: Any,
        values: Mapping[str, Any],
        key_data: UInt32[jax.Array, " words"],
    ) -> tuple[dict[str, list[jax.Array]], dict[str, list[jax.Array]]]:
        """Run the kernel on rows in several orders, and on each half of them.

        Args:
            orders: A tree of arrays with the orders leading, then an even number of rows.
            shared: A tree of values that all rows share.
            values: Values of sites without rows; values drawn on all rows are kept for the halves.
            key_data: Data of a Threefry key.

        Returns:
            Arguments of :meth:`crossing_sites`: quantities by site, with the orders leading, of all
            rows, and, with a further axis behind the orders, of the halves.
        """
        key = jax.random.wrap_key_data(key_data, impl=THREEFRY)
        return jax.vmap(lambda rows: self._on_one_order(rows, shared, values, key))(orders)

    def _on_one_order(
        self, rows: Any, shared: Any, values: Mapping[str, Any], key: jax.Array
    ) -> tuple[dict[str, list[jax.Array]], dict[str, list[jax.Array]]]:
        on_all = self.trace(rows, shared, values, key)
        axes = {name: self.spec.sites[name].row_axes for name in self.spec.of_kind("latent")}
        drawn = {n: on_all[n]["value"] for n in axes if n in on_all and n not in values}
        fixed = {name: value for name, value in drawn.items() if not axes[name]}
        by_row = {
            name: _halves(value, axes[name][0]) for name, value in drawn.items() if axes[name]
        }
        halves = jax.tree.map(lambda array: _halves(array, 0), rows)

        def on_half(half: Any, by_row: Mapping[str, Any]) -> dict[str, list[jax.Array]]:
            trace = self.trace(half, shared, {**values, **fixed, **by_row}, key)
            return self._quantities(trace)

        return self._quantities(on_all), jax.vmap(on_half)(halves, by_row)

    def crossing_sites(
        self, on_all: Mapping[str, Any], on_halves: Mapping[str, Any], n_rows: int
    ) -> tuple[str, ...]:
        """Return the sites that depend on other rows.

        Args:
            on_all: Quantities of all rows, from :meth:`on_all_and_halves`.
            on_halves: Quantities of the halves.
            n_rows: Number of rows of an order.
        """

        def crosses(name: str) -> bool:
            computed = self.spec.sites[name].kind == "deterministic"
            pairs = zip(on_halves[name], on_all[name], strict=True)
            return any(
                _differ(*order, n_rows, is_density=index == 0 and not computed)
                for index, pair in enumerate(pairs)
                for order in zip(*pair, strict=True)
            )

        return tuple(name for name in on_all if crosses(name))

    def _quantities(self, trace: Mapping[str, Any]) -> dict[str, list[jax.Array]]:
        """Quantities that must not change when rows are cut, by site.

        Of a computed site they are its value; of a drawn one its log density and the parameters of
        its distribution. A density alone is not enough: that of a uniform distribution is the same
        wherever the distribution lies.
        """
        found: dict[str, list[jax.Array]] = {}
        for name, site in self.spec.sites.items():
            if name not in trace:
                continue
            if site.kind == "deterministic" and name in self.wanted:
                found[name] = [jnp.asarray(trace[name]["value"])]
            if site.kind in ("latent", "observed") and (site.row_axes or name in self.wanted):
                distribution, value = trace[name]["fn"], trace[name]["value"]
                found[name] = [_unmasked(distribution).log_prob(value), *_parameters(distribution)]
        return found


def choose_rows(arrays: Iterable[np.ndarray], n_rows: int) -> Int[np.ndarray, "order row"]:
    """Choose rows to test with, in orders whose halves, and whose rows at the cut, differ much.

    Args:
        arrays: Arrays with rows leading.
        n_rows: Number of rows to choose; even.

    Returns:
        Indices of rows from all over the input and of those with the extremes of each column; of
        few rows, a random sample with repetitions. They are ordered by the sum of their
        standardised columns, up and down, so that any statistic of a half differs from that of all;
        low and high in turn, so that neighbours differ; as in the input; and at random.
    """
    arrays = list(arrays)
    rng, n_input = np.random.default_rng(0), len(arrays[0])
    if n_input < n_rows:
        chosen = rng.integers(n_input, size=n_rows)
    else:
        spread = np.linspace(0, n_input - 1, n_rows).astype(np.int64)
        extreme = _extremes(arrays)[: n_rows // 2]
        chosen = np.concatenate([extreme, spread[rng.permutation(n_rows)]])[:n_rows]
    upwards = chosen[np.argsort(_score(arrays, chosen), kind="stable")]
    in_turn = np.stack(np.split(upwards, 2), axis=1).ravel()
    return np.stack([upwards, upwards[::-1], in_turn, np.sort(chosen), rng.permutation(chosen)])


def _score(arrays: list[np.ndarray], chosen: np.ndarray) -> np.ndarray:
    score = np.zeros(len(chosen))
    for values in arrays:
        columns = np.asarray(values[chosen], dtype=np.float64).reshape(len(chosen), -1)
        spread = columns.std(0)
        score += np.divide(columns, spread, out=np.zeros_like(columns), where=spread > 0).sum(1)
    return score


def _extremes(arrays: list[np.ndarray]) -> np.ndarray:
    """Rows with the least and the greatest value of columns: rare values show there."""
    found = []
    for values in arrays:
        columns = np.asarray(values).reshape(len(values), -1)[:, :_COLUMNS]
        step = -(-columns.size // _LOOKED_AT)
        found += [columns[::step].argmin(0) * step, columns[::step].argmax(0) * step]
    return np.unique(np.concatenate(found))


def _unmasked(distribution: Distribution) -> Distribution:
    """The distribution without masks, under which it has no density, but draws all the same."""
    while isinstance(distribution, MaskedDistribution):
        distribution = distribution.base_dist
    return distribution


def _parameters(distribution: Distribution) -> list[jax.Array]:
    leaves = jax.tree.leaves(distribution)
    return [jnp.asarray(leaf) for leaf in leaves if isinstance(leaf, _NUMBERS)]


def _halves(array: Any, axis: int) -> Any:
    """Cut an axis in two, with the halves on a new leading axis."""
    axis %= array.ndim
    shape = (*array.shape[:axis], 2, array.shape[axis] // 2, *array.shape[axis + 1 :])
    halves = array.reshape(shape)
    order = (axis, *[other for other in range(halves.ndim) if other != axis])
    return halves.transpose(order)


def _differ(halves: np.ndarray, on_all: np.ndarray, n_rows: int, *, is_density: bool) -> bool:
    if halves.ndim != on_all.ndim + 1:
        return True
    sizes = zip(halves.shape[1:], on_all.shape, strict=True)
    rows = [axis for axis, (of_half, of_all) in enumerate(sizes) if of_half != of_all]
    if [on_all.shape[axis] for axis in rows] not in ([], [n_rows]):
        return True
    for axis in rows:
        on_all = _halves(on_all, axis)
    got, expected = np.broadcast_arrays(halves.astype(np.float64), on_all.astype(np.float64))
    size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
    # A log density magnifies the rounding of its site's parameters; a plain value does not.
    allowed = 1e-2 + 1e-3 * size if is_density else 1e-6 + 1e-3 * size.max(initial=0.0)
    with np.errstate(invalid="ignore"):
        near = np.abs(got - expected) <= allowed
    return not (near | (got == expected) | (np.isnan(got) & np.isnan(expected))).all()
