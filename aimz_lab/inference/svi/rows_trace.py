"""Run a kernel or a guide on any number of its rows, at values to test it with."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.infer import init_to_uniform

from aimz_lab.inference.compiling import named
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.rows.pinned_plates import pin_plates
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.kernel.tracing import Message, tracing_lock
from aimz_lab.types import Params, Rows, Shared, Static

_WIDE = 2.0
"""Half-width of the interval of wide values in unconstrained space; NumPyro begins chains there."""

_NEAR = 0.5
"""Half-width of the interval of parameters around their initial values."""


class SharedValues(NamedTuple):
    """What all rows share.

    Attributes:
        arguments: Shared arguments.
        params: Values of parameters and of mutable sites.
        is_wide: Whether latent sites without a value get a wide one, not a draw from the prior.
    """

    arguments: Shared
    params: Params
    is_wide: bool


class RowsTrace:
    """Runs a kernel or a guide on any rows; see :class:`~aimz_lab.kernel.rows.row_test.TraceRows`.

    Args:
        function: The kernel or the guide.
        static: Its static arguments.
        spec: Its structure.
    """

    def __init__(self, function: Callable, static: Static, spec: KernelSpec) -> None:
        self._function, self._static, self._spec = function, static, spec
        self._beginning = jax.jit(named("parameters to test with", self._params))

    def __call__(
        self, rows: Any, shared: SharedValues, values: Mapping[str, jax.Array], key: jax.Array
    ) -> Mapping[str, Message]:
        """Return NumPyro's trace on these rows; random draws depend on the key and their site."""
        n_rows = jax.tree.leaves(rows)[0].shape[0]
        given = handlers.substitute(self._function, data={**shared.params, **values})
        seeded = handlers.seed(pin_plates(given, n_rows), key)
        draw = partial(_draw, key=key, is_wide=shared.is_wide)
        # Validation would trace, and compute, the eigenvalues of a covariance of all rows.
        with tracing_lock, numpyro.validation_enabled(False):
            drawn = handlers.substitute(seeded, substitute_fn=draw)
            arguments = {**rows, **shared.arguments, **self._static}
            return handlers.trace(drawn).get_trace(**arguments)

    def abstract(
        self, batch: KernelArguments, n_rows: int
    ) -> tuple[Any, SharedValues, dict[str, jax.ShapeDtypeStruct]]:
        """Return shapes and types of rows, shared values and latent values.

        Args:
            batch: Arguments at some number of rows.
            n_rows: The number of rows to return them at.
        """
        rows = {
            name: jax.ShapeDtypeStruct((n_rows, *array.shape[1:]), array.dtype)
            for name, array in batch.rows.items()
        }
        shared = jax.tree.map(_abstract, dict(batch.shared))
        values = {
            name: jax.ShapeDtypeStruct(self._spec.shape_at(name, n_rows), site.dtype)
            for name, site in self._spec.sites.items()
            if site.kind == "latent"
        }
        params = jax.eval_shape(self._params, rows, shared, jax.random.key(0), 0.0)
        return rows, SharedValues(shared, params, jax.ShapeDtypeStruct((), bool)), values

    def shared(self, batch: KernelArguments, number: int, *, is_wide: bool) -> SharedValues:
        """Return what all rows share at one draw; the first keeps the parameters' initial values.

        Args:
            batch: Arguments at some number of rows.
            number: Number of the draw, from 0.
            is_wide: Whether latent values are to be wide.
        """
        shared = dict(batch.shared)
        start = dict(batch.rows), shared, jax.random.key(number), _NEAR if number else 0.0
        params = self._beginning(*start) if jax.eval_shape(self._params, *start) else {}
        return SharedValues(shared, params, np.bool_(is_wide))

    def _params(self, rows: Rows, shared: Shared, key: jax.Array, near: float) -> Params:
        """Values of parameters near their initial ones, and of mutable sites."""
        trace = self(rows, SharedValues(shared, {}, np.bool_(False)), {}, key)
        return {
            name: _near(site, jax.random.fold_in(key, _number_of(name)), near)
            if site["type"] == "param"
            else site["value"]
            for name, site in trace.items()
            if site["type"] in ("param", "mutable") and jax.tree.leaves(site["value"])
        }


def _draw(site: Message, *, key: jax.Array, is_wide: jax.Array) -> Any:
    """Draw the value of a latent site that has none, from the prior or far around it."""
    if site["type"] != "sample" or site["is_observed"] or site["value"] is not None:
        return None
    key = jax.random.fold_in(key, _number_of(site["name"]))
    site = {**site, "kwargs": {**site["kwargs"], "rng_key": key}}
    try:
        wide = init_to_uniform(site, radius=_WIDE)
    except NotImplementedError:  # no transform from the real line to the support
        wide = None
    try:
        drawn = site["fn"](rng_key=key, sample_shape=site["kwargs"]["sample_shape"])
    except NotImplementedError:  # a distribution without a sampler
        return wide
    return drawn if wide is None else jnp.where(is_wide, wide, drawn)


def _near(site: Message, key: jax.Array, near: float) -> Any:
    """Values around those of a parameter, by a step in unconstrained space."""
    constraint = site["kwargs"].get("constraint", constraints.real)

    def move(leaf: jax.Array) -> jax.Array:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        to = biject_to(constraint)
        free = to.inv(jnp.asarray(leaf))
        return to(free + near * jax.random.uniform(key, free.shape, free.dtype, -1.0, 1.0))

    return jax.tree.map(move, site["value"])


def _number_of(name: str) -> int:
    return zlib.crc32(name.encode())


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)
