"""The structure of a kernel: its sites, its plates, and which axes are rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from aimz_lab.types import SAMPLE_DIMS

SiteKind = Literal["latent", "observed", "factor", "deterministic", "param"]

ScaleCourse = Literal["constant", "inverse", "other"]
"""How a scale changes with the rows of the call: not, as one over their number, or otherwise."""

DensityKind = Literal["density", "mass", "censored"]
"""What a distribution has of a value; if it is censored, a density of it or the mass beyond it."""

MeanKind = Literal["mean", "share"]
"""Whether an observed value has a density, which depends on its unit, or a probability."""


@dataclass(frozen=True)
class Plate:
    """A plate around a site.

    Attributes:
        name: Name of the plate.
        dim: Dimension in the batch shape, counted from the right; negative.
        size: Full size.
        subsample_size: Entries that one call of the kernel sees.
        is_rows: Whether its entries are the rows: ``subsample_size`` follows their number, or is
            that of the trace, for this many rows only.
        size_follows_rows: Whether ``size`` follows the number of rows.
    """

    name: str
    dim: int
    size: int
    subsample_size: int
    is_rows: bool = False
    size_follows_rows: bool = False

    def at(self, n_rows: int, traced_rows: int) -> Plate:
        """Return the plate at another number of rows than that of its trace."""
        more = n_rows - traced_rows
        return replace(
            self,
            size=self.size + more * self.size_follows_rows,
            subsample_size=self.subsample_size + more * self.is_rows,
        )


@dataclass(frozen=True)
class Site:
    """A site of the kernel.

    Attributes:
        name: Name of the site.
        kind: ``latent``, ``observed``, ``factor``, ``deterministic`` or ``param``.
        shape: Shape of the value at the traced number of rows; for a network with learned weights,
            their number.
        dtype: Type of the value.
        event_dim: Number of trailing dimensions that form one event.
        joint_ndim: Number of those over which the values may depend on one another.
        plates: The plates around the site, outermost first.
        row_axes: Axes of the value that follow the number of rows.
        density_row_axes: Axes of the log density that follow it; observed sites only.
        density_ndim: Number of axes of the log density; observed sites only.
        distribution_shape: Shape of an observed site's distribution, batch and event; else
            ``None``.
        density_kind: Of an observed site; ``None`` where it may be both, or is not known.
        mean_kind: Of the distribution of a sampled site; ``None`` where its mean is not known.
        n_categories: Of a sampled site whose values are the numbers of categories; else ``None``.
        is_ordinal: Whether these are in an order, by their distribution.
        is_drawn: Whether the kernel draws its value: it is neither computed nor observed, nor set
            by a handler of the kernel.
        is_cut: Whether the kernel draws it and goes on with another value, by ``handlers.do``.
        is_looped: Whether it is in a ``scan`` or a ``cond`` of NumPyro.
        scale: The kernel's own scale: a number, ``"array"`` if it is only known when the kernel
            runs, or ``None``.
        scale_course: How that number changes with the rows of the call; ``None`` if unknown.
        is_discrete: Whether a latent site takes discrete values.
        support_is_computed: Whether it has a flat prior with bounds that the kernel computes.
        argument: The per-row argument that an observed site observes as it is, or ``None``.
        event_dims: Names of the dimensions after the plates, from ``infer={"event_dims": ...}``.
    """

    name: str
    kind: SiteKind
    shape: tuple[int, ...]
    dtype: np.dtype
    event_dim: int = 0
    joint_ndim: int = 0
    plates: tuple[Plate, ...] = ()
    row_axes: tuple[int, ...] = ()
    density_row_axes: tuple[int, ...] = ()
    density_ndim: int = 0
    density_kind: DensityKind | None = None
    mean_kind: MeanKind | None = None
    n_categories: int | None = None
    is_ordinal: bool = False
    is_drawn: bool = False
    is_cut: bool = False
    is_looped: bool = False
    scale: float | Literal["array"] | None = None
    scale_course: ScaleCourse | None = None
    is_discrete: bool = False
    support_is_computed: bool = False
    argument: str | None = None
    distribution_shape: tuple[int, ...] | None = None
    event_dims: tuple[str, ...] = ()

    @property
    def batch_ndim(self) -> int:
        """Number of batch dimensions."""
        return len(self.shape) - self.event_dim

    @property
    def joins_rows(self) -> bool:
        """Whether its value is one draw over several rows."""
        return any(axis >= len(self.shape) - self.joint_ndim for axis in self.row_axes)

    @property
    def rows_plate(self) -> Plate | None:
        """The plate of the rows around the site, or ``None``."""
        return next((plate for plate in self.plates if plate.is_rows), None)

    @property
    def row_batch_axis(self) -> int | None:
        """The axis of rows in the batch shape, counted from the right, or ``None``."""
        plate = self.rows_plate
        if plate is not None:
            return plate.dim
        axes = [axis for axis in self.row_axes if axis < self.batch_ndim]
        return axes[0] - self.batch_ndim if axes else None

    @property
    def row_density_axis(self) -> int | None:
        """The axis of rows in the log density, counted from the right, or ``None``."""
        if self.density_row_axes and self.rows_plate is None:
            return self.density_row_axes[0] - self.density_ndim
        return self.row_batch_axis


@dataclass(frozen=True)
class KernelSpec:
    """The structure of a kernel for one kind of call.

    Attributes:
        sites: Sites by name, in the kernel's order.
        output: Name of the output site.
        n_rows: Number of rows in the trace.
        traced: Whether a trace has run; always true.
        unnamed: Sites whose ``event_dims`` cannot name their dimensions, and are left out.
        takes_keys: Whether the kernel calls ``numpyro.prng_key``.
        output_transform: What the output site observes in place of its argument, such as
            ``"log(y)"``; empty for the argument itself, and where it is not known.
    """

    sites: Mapping[str, Site]
    output: str
    n_rows: int
    traced: bool = True
    unnamed: tuple[str, ...] = ()
    takes_keys: bool = False
    output_transform: str = ""

    def shape_at(self, name: str, n_rows: int | None) -> tuple[int | None, ...]:
        """Shape of a site at ``n_rows`` rows; an axis of n - 1 entries keeps this offset."""
        site = self.sites[name]
        return tuple(
            (None if n_rows is None else size - self.n_rows + n_rows)
            if axis in site.row_axes
            else size
            for axis, size in enumerate(site.shape)
        )

    def row_axis(self, name: str) -> int | None:
        """The first axis with exactly one entry per row, or ``None``."""
        site = self.sites[name]
        return next((axis for axis in site.row_axes if site.shape[axis] == self.n_rows), None)

    def joined(self, other: KernelSpec | None) -> KernelSpec:
        """Add the sites that another call has, such as those of ``if y is None:``.

        Args:
            other: The structure of the other call; its sites take shapes at ``n_rows`` of this one.
        """
        if other is None:
            return self
        added = {
            name: replace(
                site,
                shape=other.shape_at(name, self.n_rows),
                plates=tuple(plate.at(self.n_rows, other.n_rows) for plate in site.plates),
            )
            for name, site in other.sites.items()
            if name not in self.sites
        }
        return replace(self, sites={**self.sites, **added}) if added else self

    def of_kind(self, *kinds: SiteKind) -> tuple[str, ...]:
        """Names of the sites of these kinds, in the kernel's order."""
        return tuple(name for name, site in self.sites.items() if site.kind in kinds)

    @property
    def sample_sites(self) -> tuple[str, ...]:
        """Names of the latent and observed sites."""
        return self.of_kind("latent", "observed")

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """Names of the posterior's sites; the output is never among them."""
        return tuple(name for name in self.of_kind("latent") if name != self.output)

    @property
    def learned_by_row(self) -> tuple[str, ...]:
        """Names of the latent sites and parameters with one value per row."""
        learned = (*self.latent_sites, *self.of_kind("param"))
        return tuple(name for name in learned if self.sites[name].row_axes)

    @property
    def return_sites(self) -> tuple[str, ...]:
        """Sites that predictions return by default: the output, then deterministic sites."""
        computed = self.of_kind("deterministic")
        return (self.output, *(name for name in computed if name != self.output))

    @property
    def output_observed(self) -> bool:
        """Whether the trace had data for the output."""
        return self.output in self.sites and self.sites[self.output].kind == "observed"

    @property
    def other_outcomes(self) -> tuple[str, ...]:
        """Observed sites beside the output, such as a mediator or a second outcome."""
        own = {self.output, observed_part(self.output)}
        return tuple(name for name in self.of_kind("observed") if name not in own)

    @property
    def is_imputed(self) -> bool:
        """Whether missing entries of the output are drawn, as ``obs_mask=`` makes NumPyro do."""
        parts = {observed_part(self.output), imputed_part(self.output)}
        computed = self.output in self.sites and self.sites[self.output].kind == "deterministic"
        return computed and parts <= self.sites.keys()

    @property
    def row_sites(self) -> tuple[str, ...]:
        """Names of the sample sites and factors with one entry per row."""
        return tuple(
            name
            for name, site in self.sites.items()
            if site.kind in ("latent", "observed", "factor") and site.row_batch_axis is not None
        )

    @property
    def row_dim(self) -> str:
        """Name of the dimension of rows: that of the rows' plate, else ``"obs"``.

        If a site is called ``"obs"``, it is ``"obs_row"``.
        """
        for site in self.sites.values():
            if site.rows_plate is not None and site.rows_plate.name not in SAMPLE_DIMS:
                return variable_name(site.rows_plate.name)
        return "obs_row" if "obs" in self.sites else "obs"


def observed_part(output: str) -> str:
    """Name of NumPyro's site of the observed entries of an output with ``obs_mask=``."""
    return f"{output}_observed"


def imputed_part(output: str) -> str:
    """Name of NumPyro's site of the missing entries of an output with ``obs_mask=``."""
    return f"{output}_unobserved"


def variable_name(site: str) -> str:
    """Return the name of a site or plate in results, where a ``/`` would be a path.

    NumPyro's random modules use ``/`` in the names of a network's weights, and its scopes in
    those of sites and plates. :mod:`aimz_lab.kernel.checks.names` has the whole rule.

    Example:
        >>> variable_name("net/dense.bias")
        'net.dense.bias'
    """
    return site.replace("/", ".")
