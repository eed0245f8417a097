"""Which statistics over the rows of a call enter the sites of a kernel, by its traced program."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro import handlers

from aimz_lab.kernel.argument_leaves import leaf_name
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.rows.statistics import LAGS, statistics_of
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import HasShape, Static

_LEAST = 101
"""Fewer rows may be as many as other axes have entries."""

COMPUTE_BEFORE = "Compute it before, and pass it as an argument."
"""What to do about a statistic of the rows."""


def across_rows(site: str, names: Iterable[str]) -> str:
    """Say that statistics of all rows enter a site, as a clause.

    Args:
        site: The site.
        names: The arguments, or sites, of which they are.
    """
    listed = " or ".join(map(repr, sorted(names)))
    return (
        f"the kernel computes across rows at {site!r}, such as a mean of {listed} over the rows of "
        "the call, or the value of one row: other rows, and each minibatch, get other values"
    )


def statistics_in_sites(
    kernel: Callable,
    spec: KernelSpec,
    sites: Collection[str],
    *,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
    params: Mapping[str, PyTree[HasShape]],
    fixed: Collection[str],
    given: Collection[str] = (),
) -> dict[str, frozenset[str]]:
    """Return the statistics over rows that enter what sites are made of.

    Args:
        kernel: The kernel.
        spec: Its structure for these arguments.
        sites: Names of sample sites and computed sites.
        rows: Per-row arguments; only types and the shapes behind the rows matter.
        shared: Shared arguments.
        static: Arguments without arrays.
        params: Values of ``param`` sites and mutable state.
        fixed: Latent sites with draws: how they are made does not matter.
        given: Sites with a value of their own, which is asked about like an argument.

    Returns:
        By site, the arguments and sites with values of their own whose statistics enter the
        parameters of its distribution, or its computed value. Sites without any are left out, and
        all sites if the kernel cannot be traced with enough rows to tell them from other axes.
    """
    n_rows = next(iter(rows.values())).shape[0]
    leaves = jax.tree.leaves((dict(rows), dict(shared), dict(params)))
    sizes = {size for leaf in leaves for size in np.shape(leaf)} - {n_rows}
    sizes |= {size for site in spec.sites.values() for size in site.shape} - {spec.n_rows}
    for count in dict.fromkeys((_unlike(sizes, n_rows), n_rows)):
        if count < 4:
            continue  # any axis may have as many entries
        try:
            found = _traced(kernel, spec, sites, count, rows, shared, static, params, fixed, given)
        except Exception:  # noqa: BLE001  the kernel may run with these rows alone
            continue
        return {name: names for name, names in found.items() if names}
    return {}


def made_by(
    kernel: Callable, sites: Collection[str], static: Static, *, all_rows: bool = False
) -> Callable[..., dict[str, list[jax.Array]]]:
    """Return a function that computes what sites are made of.

    Args:
        kernel: The kernel.
        sites: Names of sample sites and computed sites.
        static: Arguments without arrays.
        all_rows: Whether each row must have its entry in a plate that subsamples; else the function
            raises.

    Returns:
        A function of arguments by row, shared ones, the values of set sites, of fixed sites and
        of params, and a key. It returns the parameters of distributions, and computed values.
    """

    def run(
        rows: PyTree, shared: PyTree, given: PyTree, fixed: PyTree, params: PyTree, key: jax.Array
    ) -> dict[str, list[jax.Array]]:
        n_rows = next(iter(rows.values())).shape[0]
        substituted = handlers.substitute(kernel, data={**params, **fixed, **given})
        drawn = seeded(pin_plates(substituted, n_rows, all_rows=all_rows), key)
        trace = handlers.trace(drawn).get_trace(**rows, **shared, **static)
        return {name: _made_of(trace[name]) for name in sites if name in trace}

    return run


def _unlike(sizes: Collection[int], n_rows: int) -> int:
    """Return a prime number of rows, at least as many, that no axis has by any lag."""
    for count in itertools.count(max(n_rows, _LEAST)):
        is_prime = all(count % factor for factor in range(2, int(count**0.5) + 1))
        if is_prime and all(abs(count - size) > 2 * LAGS for size in sizes):
            return count
    raise AssertionError


def _traced(
    kernel: Callable,
    spec: KernelSpec,
    sites: Collection[str],
    n_rows: int,
    rows: Mapping[str, HasShape],
    shared: Mapping[str, PyTree[HasShape]],
    static: Static,
    params: Mapping[str, PyTree[HasShape]],
    fixed: Collection[str],
    given: Collection[str],
) -> dict[str, frozenset[str]]:
    run = made_by(kernel, sites, static)
    by_row = {name: _abstract(each, (n_rows, *each.shape[1:])) for name, each in rows.items()}
    blank = [
        {n: jax.ShapeDtypeStruct(spec.shape_at(n, n_rows), spec.sites[n].dtype) for n in names}
        for names in (given, fixed)
    ]
    others = jax.tree.map(_abstract, (dict(shared), *blank, dict(params)))
    arguments = by_row, *others, jax.random.key(0)
    with tracing_lock:
        program, shapes = jax.make_jaxpr(run, return_shape=True)(*arguments)
    paths, _ = jax.tree_util.tree_flatten_with_path(arguments)
    inputs = [
        leaf_name(path[1].key, path[2:]) if path[0].idx < _ASKED_ABOUT else None
        for path, _ in paths
    ]
    found = statistics_of(program.jaxpr, inputs, n_rows)
    by_site = jax.tree.unflatten(jax.tree.structure(shapes), found)
    return {name: frozenset().union(*each) for name, each in by_site.items()}


_ASKED_ABOUT = 3
"""Rows, shared arguments and given sites come first."""


def _made_of(site: Message) -> list[jax.Array]:
    """The parameters of a site's distribution, or its computed value."""
    parts = site["fn"] if site["type"] == "sample" else site["value"]
    return [leaf for leaf in jax.tree.leaves(parts) if isinstance(leaf, jax.Array)]


def _abstract(leaf: Any, shape: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    dtype = leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf)
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jax.ShapeDtypeStruct(jnp.shape(leaf) if shape is None else shape, dtype)
