"""Which arguments of a kernel enter its sites from other rows, by runs with rows exchanged."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree, Shaped

from aimz_lab.kernel.rows.influence import Exchanges, influence_of, sampled_rows, statistics_in
from aimz_lab.kernel.rows.kernel_statistics import made_by
from aimz_lab.kernel.rows.proof import rows_are_independent
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Array, HasShape, Static

SIZES = (61, 59, 53, 47, 43, 41, 37)
"""Numbers of rows to run a kernel with: the first that no other axis has."""

MOST_ROWS = 100
"""A kernel that runs with all rows of a call alone is run with so many at most: each is exchanged
in turn, and a matrix of all may be decomposed each time."""

FOLDED = (60, 56, 72, 48)
"""Numbers of rows for a kernel that folds them, as by ``X.reshape(-1, 5)``."""

_LEAST = 8

Draw = Mapping[str, Shaped[Array, "..."]]


def exchanged_in_sites(
    kernel: Callable,
    spec: KernelSpec,
    sites: Collection[str],
    *,
    asked: Collection[str],
    rows: Mapping[str, Shaped[Array, "row ..."]],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
    params: Mapping[str, PyTree[HasShape]],
    draws: Sequence[Draw],
    given: Mapping[str, ArrayLike],
) -> dict[str, frozenset[str]]:
    """Return the arguments whose statistics, or fixed rows, enter what sites are made of.

    Args:
        kernel: The kernel.
        spec: Its structure for these arguments.
        sites: Names of sample sites and computed sites.
        asked: Per-row arguments, and set sites with rows, to ask about.
        rows: Per-row arguments.
        shared: Shared arguments.
        static: Arguments without arrays.
        params: Values of ``param`` sites and mutable state.
        draws: Values of latent sites, draw by draw; the kernel draws those that are left out.
        given: Sites with a value of their own.

    Returns:
        As :func:`aimz_lab.kernel.rows.kernel_statistics.statistics_in_sites`; nothing if the
        kernel cannot be run on a sample of the rows, nor on all of a few.
    """
    n_rows = len(next(iter(rows.values())))
    leaves = jax.tree.leaves((dict(shared), dict(params)))
    shapes = [*map(np.shape, leaves), *(np.shape(each)[1:] for each in rows.values())]
    sizes = {size for shape in shapes for size in shape}
    sizes |= {size for site in spec.sites.values() for size in site.shape} - {spec.n_rows}
    counts = [size for size in SIZES if size not in sizes][:1]
    counts += [size for size in FOLDED if size not in sizes]
    if _LEAST <= n_rows <= MOST_ROWS and n_rows not in sizes:
        counts.append(n_rows)
    run = made_by(kernel, sites, static, all_rows=True)
    for count in dict.fromkeys(counts):
        try:
            set_here = {name: _spread(value, spec, name, n_rows) for name, value in given.items()}
            values = [
                {name: np.asarray(each) for name, each in draw.items()} | set_here for draw in draws
            ]
            return _found(run, spec, count, asked, rows, values, (dict(shared), dict(params)))
        except Exception:  # noqa: BLE001  the kernel may run with its own rows alone
            continue
    return {}


def _spread(value: ArrayLike, spec: KernelSpec, name: str, n_rows: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(value, spec.sites[name].dtype), spec.shape_at(name, n_rows))


def _found(
    run: Callable,
    spec: KernelSpec,
    count: int,
    asked: Collection[str],
    rows: Mapping[str, Shaped[Array, "row ..."]],
    draws: Sequence[Draw],
    constants: tuple[PyTree, PyTree],
) -> dict[str, frozenset[str]]:
    axes = {name: spec.sites[name].row_axes[:1] for name in draws[0]}
    codes = {
        name
        for name, each in rows.items()
        if name in asked and each.ndim == 1 and np.issubdtype(each.dtype, np.integer)
    }

    def of_rows(moved: Mapping[str, jax.Array], others: Any) -> dict[str, list[jax.Array]]:
        values, (shared, params), key = others
        arguments = {name: moved[name] for name in rows}
        with_rows = {
            name: jnp.moveaxis(each, 0, axes[name][0])
            for name, each in moved.items()
            if name not in rows
        }
        return run(arguments, shared, {}, {**values, **with_rows}, params, key)

    cases = []
    for number, draw in enumerate(draws):
        with_rows = {
            name: np.moveaxis(each, *axes[name], 0) for name, each in draw.items() if axes[name]
        }
        sample = sampled_rows({**rows, **with_rows}, count, codes)
        without = {name: each for name, each in draw.items() if name not in with_rows}
        cases.append((sample, (without, constants, jax.random.key(number))))
    if _are_apart(of_rows, *cases[0]):
        return {}
    exchanges = Exchanges.of_rows(cases[0][0], asked)
    found: dict[str, frozenset[str]] = {}
    for changes in influence_of(of_rows, exchanges, cases):
        for site, names in statistics_in(changes, exchanges, are_folded=count in FOLDED).items():
            found[site] = found.get(site, frozenset()) | names
    return {site: names for site, names in found.items() if names}


def _are_apart(of_rows: Callable, sample: Mapping[str, np.ndarray], others: Any) -> bool:
    """Whether the program proves that rows are apart, so that none need be exchanged."""
    canonical = jax.dtypes.canonicalize_dtype

    def times(number: int) -> dict[str, jax.ShapeDtypeStruct]:
        return {
            name: jax.ShapeDtypeStruct((number * len(each), *each.shape[1:]), canonical(each.dtype))
            for name, each in sample.items()
        }

    try:
        with tracing_lock:
            return rows_are_independent(
                lambda rows: of_rows(rows, others), (times(1),), (times(2),)
            )
    except Exception:  # noqa: BLE001  the kernel may run with its own rows alone
        return False
