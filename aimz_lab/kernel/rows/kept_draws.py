"""Keep the values that a kernel drew on all rows, when it runs again on a piece of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import jax
import jax.numpy as jnp

from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import Message


class KeptDraws:
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

    def of_rows(self, numbers: jax.Array, padding: KeptDraws) -> dict[str, jax.Array]:
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
