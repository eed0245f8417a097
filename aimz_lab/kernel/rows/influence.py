"""Which arguments enter the results of other rows: a kernel is run with rows exchanged.

One draw of the latent sites is fixed, and some rows get the values of another row, one at a time
and argument by argument. Of a kernel that treats rows one by one, only the results of that row
change. What goes along rows, as a scan, a cumulative sum or a lag, changes rows on one side, or
near ones. A statistic of the rows, or the value of a fixed row, changes rows wherever they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aimz_lab.kernel.rows.compare import allowed_rounding
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.system.random_streams import own_rng

_FEW_LEVELS = 8
"""Whole numbers of more values than this are taken from few rows, so that groups have several."""

_LEVELS = 5
"""These few."""

_N_ORDERS = 2
"""Other orders of the rows that a kernel is run with."""

_LEAST = 1e-4
"""The least change that counts, as a share of the greatest: a solver's tolerance is below."""

_OF_OWN = 5e-4
"""Likewise, as a share of the greatest by the same exchange, of a row that reaches others."""

_SAME = 1e-2
"""The greatest change by another order of the rows, likewise, that is rounding."""

_NEARLY_ALL = 0.8
"""The share of other rows that one reaches, before and behind it, to reach all."""

_LARGE = float(np.finfo(np.float32).max)

_SQUARE = 2
"""An array with so many axes of rows holds pairs of rows."""

Named = Mapping[str, Shaped[np.ndarray, "row ..."]]
Changes = dict[str, list[Float[np.ndarray, "run row"]]]


class Exchanges(NamedTuple):
    """Rows with which a kernel is run.

    Attributes:
        of: For each run and name, the row from which each row takes its values; the first run
            changes nothing.
        order: For each run, the row whose results each row should have.
        at: For each name that is asked about, the runs in which one row after the other is
            exchanged.
    """

    of: dict[str, Int[np.ndarray, "run row"]]
    order: Int[np.ndarray, "run row"]
    at: dict[str, slice]

    @classmethod
    def of_rows(cls, rows: Named, asked: Collection[str]) -> Exchanges:
        """Exchange rows of each argument that is asked about, and then change their order."""
        size = len(next(iter(rows.values())))
        own, row = np.arange(size), np.eye(size, dtype=bool)
        n_runs, at, of = 1 + size * len(asked) + _N_ORDERS, {}, {}
        order = np.tile(own, (n_runs, 1))
        order[-_N_ORDERS:] = own[::-1], own_rng("orders of rows", size).permutation(size)
        for name in rows:
            of[name] = order.copy()
        for number, name in enumerate(sorted(asked)):
            at[name] = slice(1 + number * size, 1 + (number + 1) * size)
            of[name][at[name]] = np.where(row, _farthest(rows[name]), own)
        return cls(of, order, at)


def sampled_rows(rows: Named, size: int, codes: Collection[str]) -> dict[str, np.ndarray]:
    """Return rows that are spread over those given, in their order.

    Where there are fewer, further ones lie between them. Values that are all alike are made to
    differ.

    Args:
        rows: Values by name, with rows leading.
        size: Number of rows to return.
        codes: Names of those that number groups or rows, perhaps.
    """
    n_rows = len(next(iter(rows.values())))
    places = np.linspace(0, n_rows - 1, size)
    nearest = np.rint(places).astype(np.int64)
    lower, upper = np.floor(places).astype(np.int64), np.ceil(places).astype(np.int64)
    few = nearest[(np.arange(size) * _LEVELS // size) * size // _LEVELS]
    found = {}
    for name, values in rows.items():
        values = np.asarray(values)
        taken = values[nearest]
        if values.dtype.kind == "f" and n_rows < size:
            share = (places - lower).reshape(-1, *[1] * (values.ndim - 1))
            taken = ((1 - share) * values[lower] + share * values[upper]).astype(values.dtype)
        elif name in codes and len(np.unique(taken)) > _FEW_LEVELS:
            taken = taken * size // n_rows if _may_be_places(values) else values[few]
        found[name] = _unlike(taken)
    return found


def _may_be_places(values: np.ndarray) -> bool:
    """Whether whole numbers may be those of rows; few rows have others."""
    n_rows = len(values)
    is_within = values.min() >= 0 and values.max() < n_rows
    return bool(is_within and len(np.unique(values)) > n_rows / 2)


def _unlike(values: np.ndarray) -> np.ndarray:
    """Values that differ between rows; those that do already are kept."""
    if values.dtype.kind not in "fiub" or not (values == values[:1]).all():
        return values
    steps = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    if values.dtype.kind == "f":
        share = steps / (4 * len(values))
        return np.where(values == 0, share, values * (1 - share)).astype(values.dtype)
    other = np.where(values > 0, values.astype(np.int64) - 1, 1)
    return np.where(steps % 2, other, values).astype(values.dtype)


def _standardised(values: np.ndarray) -> Float[np.ndarray, "row column"]:
    flat = np.nan_to_num(values.reshape(len(values), -1).astype(np.float64), posinf=0, neginf=0)
    spread = flat.std(0)
    return np.divide(flat - flat.mean(0), spread, out=np.zeros_like(flat), where=spread > 0)


def _farthest(values: np.ndarray) -> Int[np.ndarray, " row"]:
    """For each row the one whose values are the farthest from its own."""
    columns = _standardised(values)
    squares = (columns**2).sum(1)
    return (squares[:, None] + squares - 2 * columns @ columns.T).argmax(1)


def influence_of(
    run: Callable[[Mapping[str, jax.Array], Any], Mapping[str, Sequence[jax.Array]]],
    exchanges: Exchanges,
    draws: Sequence[tuple[Named, Any]],
) -> list[Changes]:
    """Return by how much exchanges change each row of the results, for each draw.

    Args:
        run: Computes arrays by site from rows by name, and from what else there is.
        exchanges: Which rows are exchanged.
        draws: The rows of each draw, and what else there is.

    Returns:
        Changes beyond rounding. None at all if the program has side effects.

    Raises:
        Exception: What the function raises.
    """
    size = exchanges.order.shape[1]

    def results(rows: Any, of: Any, other: Any) -> dict[str, list[jax.Array]]:
        with jax.default_matmul_precision("highest"):
            found = run({name: rows[name][of[name]] for name in rows}, other)
        return {
            site: [each for each in arrays if each.shape.count(size) < _SQUARE]
            for site, arrays in found.items()
        }

    def all_runs(rows: Any, of: Any, order: jax.Array, other: Any) -> Changes:
        def step(first: Any, this: Any) -> tuple[Any, Changes]:
            number, of, order = this
            mine = results(rows, of, other)
            first = jax.tree.map(lambda one, its: jnp.where(number, its, one), mine, first)
            return first, jax.tree.map(lambda one, its: _change(one, its, order), mine, first)

        blank = jax.eval_shape(results, rows, jax.tree.map(lambda each: each[0], of), other)
        start = jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), blank)
        return jax.lax.scan(step, start, (jnp.arange(len(order)), of, order))[1]

    with tracing_lock:
        traced = jax.jit(all_runs).trace(draws[0][0], exchanges.of, exchanges.order, draws[0][1])
    if traced.jaxpr.effects:
        return []
    program = traced.lower().compile()
    return [
        jax.device_get(program(rows, exchanges.of, exchanges.order, other)) for rows, other in draws
    ]


def _change(one: jax.Array, first: jax.Array, order: jax.Array) -> Float[jax.Array, " row"]:
    """By how much each row of an array is another; one without rows is the same for all.

    What was not finite tells nothing. What is no longer finite is another by any measure.
    """
    axis = next((axis for axis, size in enumerate(one.shape) if size == len(order)), None)
    expected = first if axis is None else jnp.take(first, order, axis=axis)
    one, expected, first = (each.astype(jnp.float32) for each in (one, expected, first))
    change = jnp.abs(one - expected)
    change = jnp.where(jnp.isfinite(change), change, jnp.inf)
    is_other = jnp.isfinite(expected) & (change > allowed_rounding(expected, first))
    change = jnp.where(is_other, change, 0.0)
    if axis is None:
        return jnp.full(len(order), change.max(initial=0.0))
    return jnp.moveaxis(change, axis, 0).reshape(len(order), -1).max(1, initial=0.0)


def statistics_in(
    changes: Changes, exchanges: Exchanges, *, are_folded: bool = False
) -> dict[str, frozenset[str]]:
    """Return, by site, the arguments of which statistics, or fixed rows, enter it.

    Args:
        changes: As :func:`influence_of` returns them for one draw.
        exchanges: The rows.
        are_folded: Whether the kernel folds its rows into a table, in whose columns rows that stand
            far apart belong together.
    """
    found = {}
    for site, arrays in changes.items():
        each = [_names_in(array, exchanges, are_folded) for array in arrays]
        found[site] = frozenset().union(*each)
    return found


def _names_in(
    changes: Float[np.ndarray, "run row"], exchanges: Exchanges, are_folded: bool
) -> frozenset[str]:
    """The arguments with a statistic in one array.

    Where something goes along rows in the order of their own values, these say where a row stands.
    """
    found, goes_in_order = set(), False
    for name, runs in exchanges.at.items():
        mine = changes[runs]
        greatest = mine[np.isfinite(mine)].max(initial=0.0)
        beside = (mine > _LEAST * greatest) & ~np.eye(len(mine), dtype=bool)
        if not beside.any():
            continue
        follows = bool((changes[-_N_ORDERS:] <= _SAME * greatest).all())
        mutual = beside & beside.T
        is_mutual = bool(mutual.any())
        of_column = are_folded and bool(np.triu(mutual, len(mutual) // 2).any())
        reach_all, others = _reaching(mine, beside)
        is_one_row = reach_all == 1 and others < len(beside) / 2
        if is_one_row or of_column or (is_mutual and (follows or reach_all > 1)):
            found.add(name)
        elif follows and not is_mutual:
            goes_in_order = True
    return frozenset() if goes_in_order else frozenset(found)


def _reaching(
    changes: Float[np.ndarray, "exchanged row"], beside: Bool[np.ndarray, "exchanged row"]
) -> tuple[int, int]:
    """How many rows change nearly all others, before and behind them; and how many others do most.

    The first row alone does so too where something goes along rows without end; but then the next
    rows reach far as well.
    """
    own = np.minimum(changes.max(1, keepdims=True), _LARGE)
    reached = beside & (changes > _OF_OWN * own)
    before = np.tri(len(changes), k=-1, dtype=bool)
    full = np.ones(len(changes), bool)
    for side in (before, before.T):
        full &= (reached & side).sum(1) >= _NEARLY_ALL * side.sum(1)
    return int(full.sum()), int(beside[~full].sum(1).max(initial=0))
