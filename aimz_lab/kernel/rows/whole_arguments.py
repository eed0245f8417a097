"""Tell a table that happens to have as many entries as there are rows from a per-row array.

The kernel is traced with another number of rows than the argument has entries. Where that works,
the argument is not tied to the rows: it may be a table, passed whole to every batch. Where the
kernel runs only if both have the same number, it is a per-row array. Nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.extend.core import Var
from jaxtyping import PyTree
from numpyro import handlers

from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import HasShape, Static

Tie = Literal["rows", "none", "either", "unused"]
"""Whether an argument is tied to the rows, is not, may be either, or is not read."""


class _Trace(NamedTuple):
    """One trace of the kernel.

    Attributes:
        sites: Shapes of the output and of all that is observed, by site.
        used: The arguments that the kernel reads.
    """

    sites: dict[str, tuple[int, ...]]
    used: frozenset[str]


@dataclass(frozen=True)
class RowTrial:
    """A kernel to be traced with arguments of several lengths.

    Attributes:
        kernel: The kernel.
        rows: All arrays with as many entries as there are rows, input and output among them.
        shared: Other arrays.
        static: Values that are not arrays.
        output: Name of the output site.
    """

    kernel: Callable
    rows: Mapping[str, HasShape]
    shared: Mapping[str, PyTree[HasShape]]
    static: Static
    output: str

    def ties(self, names: Iterable[str]) -> dict[str, Tie]:
        """Return how each of these arguments, all of them in ``rows``, is tied to the rows."""
        names = tuple(names)
        n_rows = next(iter(self.rows.values())).shape[0]
        # A length of 1 broadcasts with any other, so that a single row needs a table of another.
        own = n_rows if n_rows > 1 else 3
        more_rows = self._trace(n_rows + 1, {})
        found: dict[str, Tie] = {}
        for name in names:
            others = dict.fromkeys((other for other in names if other != name), 1)
            if more_rows is not None and name not in more_rows.used:
                found[name] = "unused"
            elif self._runs(n_rows + 1, {name: own}, others, more_rows):
                found[name] = "either" if more_rows else "none"
            elif more_rows is None and self._runs(  # perhaps a kernel for this number of rows only
                n_rows, {name: n_rows + 2}, others, self._trace(n_rows, {})
            ):
                found[name] = "either"
            else:
                found[name] = "rows"
        return found

    def _runs(
        self, n_rows: int, own: dict[str, int], others: dict[str, int], expected: _Trace | None
    ) -> bool:
        """Whether the kernel runs with these lengths, to the same output.

        Tables that the kernel combines must keep the same length. So it also counts if the kernel
        runs once the other arguments are cut to one entry, which fits any length.
        """
        for lengths in [own, {**others, **own}][: 1 + bool(others)]:
            trace = self._trace(n_rows, lengths)
            if trace is not None and (expected is None or trace.sites == expected.sites):
                return True
        return False

    def _trace(self, n_rows: int, lengths: Mapping[str, int]) -> _Trace | None:
        """Trace with so many rows, and some arguments of their own length; ``None`` if it fails."""
        rows = {
            name: _abstract(array, (lengths.get(name, n_rows), *array.shape[1:]))
            for name, array in self.rows.items()
        }
        sites: dict[str, tuple[int, ...]] | None = None

        def run(key: jax.Array, rows: dict[str, Any], shared: dict[str, Any]) -> list[jax.Array]:
            nonlocal sites
            drawn = seeded(pin_plates(self.kernel, n_rows), key)
            try:
                found = handlers.trace(drawn).get_trace(**rows, **shared, **self.static)
                sites = _density_shapes(found, self.output)
            except Exception:  # noqa: BLE001  caught here, before JAX spends time on its traceback
                return []
            parts = [[site["value"], site.get("scale"), site.get("fn")] for site in found.values()]
            return [leaf for leaf in jax.tree.leaves(parts) if isinstance(leaf, jax.Array)]

        with tracing_lock:
            shared = jax.tree.map(_abstract, dict(self.shared))
            program = jax.make_jaxpr(run)(jax.random.key(0), rows, shared).jaxpr
        if sites is None:
            return None
        atoms = [*program.outvars, *(atom for each in program.eqns for atom in each.invars)]
        read = {atom for atom in atoms if isinstance(atom, Var)}
        variables = zip(sorted(rows), program.invars[1:], strict=False)
        return _Trace(sites, frozenset(name for name, variable in variables if variable in read))


def _density_shapes(trace: Mapping[str, Message], output: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the log densities of the output and of all that is observed.

    Raises:
        ValueError: If a value, its distribution and its weight do not fit together.
    """
    shapes = {}
    for name, site in trace.items():
        if site["type"] == "sample" and (site["is_observed"] or name == output):
            value, scale = np.shape(site["value"]), np.shape(site.get("scale"))
            # The value of a factor is empty.
            own = value[: len(value) - site["fn"].event_dim] if np.prod(value) else ()
            shapes[name] = np.broadcast_shapes(own, site["fn"].batch_shape, scale)
    return shapes


def _abstract(array: HasShape, shape: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    return jax.ShapeDtypeStruct(np.shape(array) if shape is None else shape, dtype)
