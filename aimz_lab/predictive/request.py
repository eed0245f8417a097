"""The record of one predictive call, as ``predictive/call.py`` makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Shaped

from aimz_lab.data import BatchSource, RowCoord
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.kernel.cache_keys import key_of
from aimz_lab.predictive.call_labels import CallLabels
from aimz_lab.predictive.reducers import ReduceSpec
from aimz_lab.system.lazy_modules import xr
from aimz_lab.types import (
    Coords,
    Held,
    Params,
    RowDependence,
    Rows,
    ShardAxis,
    Shared,
    Static,
    StaticKey,
    Store,
)

Group = Literal["posterior_predictive", "predictions", "prior_predictive", "log_likelihood"]

Quantity = Literal["values", "log_likelihood"]

Expected = Literal["means", "probabilities"] | None
"""Which sites return what is expected of them; see :class:`Request`."""


class ScaleOfOutput(Protocol):
    """Takes values of the output site to the scale on which they are returned; it is hashable."""

    @property
    def is_linear(self) -> bool:
        """Whether it takes the mean of values to the mean of what they become."""

    def __call__(self, values: ArrayLike, /) -> ArrayLike:
        """Return values on the other scale."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One predictive call.

    Attributes:
        kernel: The kernel.
        output: Name of its output site.
        output_scale: Takes values of the output site to the scale on which they are returned.
            ``None`` returns them as the kernel draws them.
        key: A typed key, the source of all noise.
        rows: The kernel's per-row arrays by argument name, or a
            :class:`~aimz_lab.data.BatchSource` that yields them in batches. For a log-likelihood
            they hold the observed output.
        fields: The fields of a source's batches that are arguments of the kernel; ``None`` for all.
        shared: The kernel's shared arguments.
        static: Kernel arguments that are not arrays.
        draws: Posterior draws by site, ``(S, ...)``, chain by chain; ``None`` for the prior.
        kept_draws: Posterior draws by site to keep beside draws from the prior.
        num_draws: Number of draws from the prior.
        num_chains: Number of chains.
        params: Values of the kernel's ``param`` sites and its mutable state.
        intervention: Sites to cut from their parents (``do``), and the values they get.
        condition: Sites that take a given value while sampling.
        held: What becomes of posterior draws of a site that a set value changes: ``"refuse"`` the
            call, ``"redraw"`` the site from the kernel, or ``"keep"`` the draws.
        changed: Arrays in arguments with other values than in training, as far as that is known, by
            the names of :mod:`aimz_lab.kernel.argument_leaves`; those by row if the rows are
            others, too.
        other_rows: Per-row arguments that are not known to have the values of all training rows,
            in any order; none if these are the training rows, or rows are read from a source.
        anew: Further sites that are drawn from the kernel, whatever draws the posterior holds.
        return_sites: Sites to return; ``None`` for the output and the deterministic sites.
        expected: Which drawn sites return the mean of their distribution, given the other sites, in
            place of a draw: ``"means"`` for all of which NumPyro knows a finite one, or
            ``"probabilities"`` for those of flags and of shares alone.
        shard_axis: ``"obs"`` cuts the rows into blocks, ``"draw"`` keeps them together.
        row_dependence: ``"independent"`` if the user says that each row is computed from that row
            alone; ``"auto"`` to find out.
        batch_size: Rows (``"obs"``) or draws (``"draw"``) computed at a time; never changes a
            result. ``None`` chooses it by the size of the result.
        store: Location of the result.
        output_dir: Directory or fsspec URL of a persistent result. ``None`` for a temporary store,
            which lives as long as a tree reads it.
        reduce: A reducer or its name, or several, to summarise instead of keeping the draws.
        combine: Makes the result of the values of one scenario, or of two; it is hashable. ``None``
            for the values themselves, or the difference.
        progress: Whether to show a line of progress.
        group: Name of the tree's group.
        group_note: Why it is that one, where most rows speak for another; else empty.
        row_coord: Labels of the rows, for the result.
        labels: Labels of rows, columns and set values, to compare.
        dims: Names of a site's dimensions, without chain, draw and rows, by site.
        coords: Labels of dimensions, by dimension.
        posterior_rows: Labels of the rows of the draws, if they are known.
        devices: The devices to use; ``None`` for all local ones.
        engine: Makes what carries out the call; ``None`` for this process.
        kept_rows: Positions of the rows of a table that were kept; ``None`` for all.
        trained: Schema of the training data, or ``None``.
        trained_sites: Sites of the kernel in training, which may have others than this call.
        observed: The observed output, if known; rows first.
        constant: Per-row inputs to keep with the result, by name.
        groups: Further groups of the tree.
        attrs: Further attributes of the group.
    """

    kernel: Callable
    output: str
    output_scale: ScaleOfOutput | None = None
    key: jax.Array
    rows: Rows | BatchSource
    fields: tuple[str, ...] | None = None
    shared: Shared = field(default_factory=dict)
    static: Static = field(default_factory=dict)
    draws: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]] | None = None
    kept_draws: Mapping[str, Shaped[jax.Array | np.ndarray, "draw ..."]] | None = None
    num_draws: int = 1000
    num_chains: int = 1
    params: Params = field(default_factory=dict)
    intervention: Mapping[str, ArrayLike] = field(default_factory=dict)
    condition: Mapping[str, ArrayLike] = field(default_factory=dict)
    held: Held = "refuse"
    changed: frozenset[str] = frozenset()
    other_rows: frozenset[str] = frozenset()
    anew: frozenset[str] = frozenset()
    return_sites: tuple[str, ...] | None = None
    expected: Expected = None
    shard_axis: ShardAxis = "obs"
    row_dependence: RowDependence = "auto"
    batch_size: int | None = None
    store: Store = "memory"
    output_dir: str | Path | None = None
    reduce: ReduceSpec | None = None
    combine: Callable | None = None
    progress: bool = False
    group: Group = "posterior_predictive"
    group_note: str = ""
    row_coord: RowCoord | None = None
    labels: CallLabels = field(default_factory=CallLabels)
    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coords: Coords = field(default_factory=dict)
    posterior_rows: RowCoord | None = None
    devices: tuple[jax.Device, ...] | None = None
    engine: Callable | None = None
    kept_rows: np.ndarray | None = None
    trained: InputSchema | None = None
    trained_sites: tuple[str, ...] = ()
    observed: Shaped[jax.Array | np.ndarray, "row ..."] | None = None
    constant: Mapping[str, Shaped[jax.Array | np.ndarray, "row ..."]] = field(default_factory=dict)
    groups: Mapping[str, xr.Dataset] = field(default_factory=dict)
    attrs: Mapping[str, object] = field(default_factory=dict)

    @property
    def n_draws(self) -> int:
        """Number of draws, over all chains."""
        if not self.draws:
            return self.num_draws
        return len(next(iter(self.draws.values())))

    @property
    def chains(self) -> int:
        """Number of chains of the result; the prior has one."""
        return self.num_chains if self.draws else 1

    @property
    def local_devices(self) -> tuple[jax.Device, ...]:
        """The devices to compute on."""
        return self.devices or tuple(jax.local_devices())

    @property
    def static_key(self) -> StaticKey:
        """The static arguments as a hashable key."""
        return key_of(self.static)
