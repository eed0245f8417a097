"""The kernel as a function of one draw and one block of rows.

Noise depends on names and numbers alone. The key of a block is
``fold_in(fold_in(key, draw), block)``, the key of a site in it ``fold_in(block key, crc32(name))``,
and a block always has the same number of rows. So a row's noise depends neither on the cuts of
the call nor on interventions at other sites: two scenarios with one key are paired. A key from
``numpyro.prng_key`` depends on the draw alone, so that all blocks share its values, such as the
initial weights of a network.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro import handlers
from numpyro.primitives import Messenger

from aimz_lab.kernel.checks.samplers import refuse_without_sampler
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import Params, Static

Trace: TypeAlias = Mapping[str, Message]
"""NumPyro's record of a kernel: a message by site."""

Run: TypeAlias = Callable[[Mapping[str, jax.Array]], Trace]
"""Runs the kernel, given the values of some sites."""


class Blocks(NamedTuple):
    """Rows of the kernel's arguments and of set values, cut into blocks.

    Attributes:
        rows: Kernel arguments by name, ``(G, B, ...)``.
        intervention: Values by site with one entry per row, ``(G, B, ...)``.
        condition: Likewise.
    """

    rows: Mapping[str, ArrayLike]
    intervention: Mapping[str, ArrayLike]
    condition: Mapping[str, ArrayLike]


class Keys(NamedTuple):
    """The random keys of a block.

    Attributes:
        block: The key of the sites.
        draw: The key of ``numpyro.prng_key``.
    """

    block: jax.Array
    draw: jax.Array


class Shared(NamedTuple):
    """Values shared by all blocks and draws.

    Attributes:
        arguments: Kernel arguments without rows, by name.
        params: Values of ``param`` sites and mutable state.
        intervention: Values of sites, the same for all rows.
        condition: Likewise.
    """

    arguments: Mapping[str, PyTree[ArrayLike]]
    params: Params
    intervention: Mapping[str, ArrayLike]
    condition: Mapping[str, ArrayLike]


@dataclass(frozen=True)
class Simulator:
    """The kernel with its static arguments fixed.

    Attributes:
        kernel: The kernel.
        static: Its static arguments.
        shapes: Shape of each site with a set value, with ``None`` for the rows.
        dtypes: Type of each of these sites.
        replaced: The sites whose own value an intervention replaces.
        collect: Returns the results; its argument runs the kernel, given values of more sites.
        output: Name of the output site.
    """

    kernel: Callable
    static: Static
    shapes: Mapping[str, tuple[int | None, ...]]
    dtypes: Mapping[str, np.dtype]
    collect: Callable[[Run], dict[str, jax.Array]]
    output: str
    replaced: frozenset[str] = frozenset()

    def trace(
        self,
        block: Blocks,
        shared: Shared,
        sites: Mapping[str, jax.Array],
        keys: Keys,
    ) -> Trace:
        """Run the kernel on one block, given the values of some sites.

        Args:
            block: Its rows, without the leading axis of blocks.
            shared: Values shared by all blocks.
            sites: Values of latent sites; they win over a condition. A site that is intervened on
                comes back with its value here; only the sites below it see the one set.
            keys: The keys of the block and the draw.

        Returns:
            NumPyro's trace.
        """
        n_rows = jax.tree.leaves(block.rows)[0].shape[0]
        condition = self._filled({**shared.condition, **self._placed(block.condition)}, n_rows)
        values = self._filled({**shared.intervention, **self._placed(block.intervention)}, n_rows)
        # `do` knows neither computed sites nor loops.
        replaced = {name: values.pop(name) for name in self.replaced}
        kernel = handlers.do(self.kernel, data=values) if values else self.kernel
        kernel = handlers.substitute(
            kernel, data={**shared.params, **condition, **sites, **replaced}
        )
        kernel = pin_plates(kernel, n_rows)
        with tracing_lock:
            seeded = _SeedByName(kernel, keys)
            drawn = refuse_without_sampler(seeded, self.output, unused=values)
            return handlers.trace(drawn).get_trace(**block.rows, **shared.arguments, **self.static)

    def trace_rows(
        self, rows: Blocks, shared: Shared, values: Mapping[str, jax.Array], key: jax.Array
    ) -> Trace:
        """Run the kernel on any number of rows, with one key for all of its noise."""
        return self.trace(rows, shared, values, Keys(key, key))

    def __call__(
        self, block: Blocks, shared: Shared, sites: Mapping[str, jax.Array], keys: Keys
    ) -> dict[str, jax.Array]:
        """Run the kernel on one block and collect; see :meth:`trace`."""

        def run(values: Mapping[str, jax.Array]) -> Trace:
            return self.trace(block, shared, {**sites, **values}, keys)

        return self.collect(run)

    def _placed(self, values: Mapping[str, ArrayLike]) -> dict[str, jax.Array]:
        """Move the leading axis of rows to its place in the site."""
        return {
            name: jnp.moveaxis(value, 0, self.shapes[name].index(None) - len(self.shapes[name]))
            for name, value in values.items()
        }

    def _filled(self, values: Mapping[str, ArrayLike], n_rows: int) -> dict[str, jax.Array]:
        """Give set values the shape and type of their sites."""
        filled = {}
        for name, value in values.items():
            shape = tuple(n_rows if size is None else size for size in self.shapes[name])
            kind = self.dtypes[name]
            dtype = kind if np.issubdtype(kind, np.floating) else None
            filled[name] = jnp.broadcast_to(jnp.asarray(value, dtype), shape)
        return filled


class _SeedByName(Messenger):
    """Like NumPyro's ``seed``, but the key of a site depends on its name and not its order."""

    def __init__(self, fn: Callable, keys: Keys) -> None:
        self._keys = keys
        self._unnamed = itertools.count()
        super().__init__(fn)

    def process_message(self, msg: Message) -> None:
        if msg["type"] not in ("sample", "plate", "prng_key", "control_flow"):
            return
        if msg["value"] is not None or msg.get("is_observed"):
            return
        if msg["kwargs"].get("rng_key") is not None:
            return
        # Statements without a name (keys, loops) are numbered in their order.
        name = msg.get("name") or f"{msg['type']}:{next(self._unnamed)}"
        key = self._keys.draw if msg["type"] == "prng_key" else self._keys.block
        msg["kwargs"]["rng_key"] = random.fold_in(key, zlib.crc32(name.encode()))


def collect_values(
    row_axes: Mapping[str, int | None],
    scales: Mapping[str, Callable[[ArrayLike], ArrayLike]],
    expected: Collection[str] = (),
) -> Callable:
    """Collect values of sites, with the rows first where a site has rows.

    Args:
        row_axes: The sites, each with its axis of rows.
        scales: For some sites, what takes their values to the scale to return.
        expected: Sites of which to return the mean of their distribution.
    """

    def value(trace: Trace, name: str) -> jax.Array:
        site = trace[name]
        return jnp.asarray(site["fn"].mean if name in expected else site["value"])

    def collect(run: Run) -> dict[str, jax.Array]:
        trace = run({})
        return {
            name: _rows_first(_scaled(value(trace, name), scales.get(name)), axis)
            for name, axis in row_axes.items()
            if name in trace
        }

    return collect


def _scaled(value: jax.Array, scale: Callable | None) -> jax.Array:
    return value if scale is None else jnp.asarray(scale(value))


def _rows_first(value: jax.Array, axis: int | None) -> jax.Array:
    return value if axis is None else jnp.moveaxis(value, axis, 0)
