"""What a kernel consists of: its sites, its plates, and which axis is rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

SiteKind = Literal["latent", "observed", "factor", "deterministic", "param"]


@dataclass(frozen=True)
class Plate:
    """A plate that a site lies in.

    Attributes:
        name: Its name.
        dim: Its dimension, counted from the right of the batch shape; negative.
        size: Its full size.
        subsample_size: Entries of it that one call of the kernel sees.
        is_rows: Whether ``subsample_size`` follows the number of rows.
    """

    name: str
    dim: int
    size: int
    subsample_size: int
    is_rows: bool = False


@dataclass(frozen=True)
class Site:
    """A site of the kernel.

    Attributes:
        name: Its name.
        kind: ``latent``, ``observed``, ``factor``, ``deterministic`` or ``param``.
        shape: Shape of its value at the traced number of rows; of a network whose weights are
            learned, their number.
        dtype: Type of its value.
        event_dim: Trailing dimensions that belong to one event.
        plates: The plates around it, outermost first.
        row_axes: Axes of the value that follow the number of rows.
        density_row_axes: Axes of the log density that do, of observed data.
        scale: The scale that the kernel itself gives it: a number, ``"array"`` if it is one that
            is only known when the kernel runs, or ``None``.
        scale_follows_rows: Whether that number is inversely proportional to the rows of the call.
        is_discrete: Whether a latent takes discrete values.
    """

    name: str
    kind: SiteKind
    shape: tuple[int, ...]
    dtype: np.dtype
    event_dim: int = 0
    plates: tuple[Plate, ...] = ()
    row_axes: tuple[int, ...] = ()
    density_row_axes: tuple[int, ...] = ()
    scale: float | Literal["array"] | None = None
    scale_follows_rows: bool = False
    is_discrete: bool = False

    @property
    def batch_ndim(self) -> int:
        """Number of dimensions in front of the event."""
        return len(self.shape) - self.event_dim

    @property
    def rows_plate(self) -> Plate | None:
        """The plate of the rows around it, or ``None``."""
        return next((plate for plate in self.plates if plate.is_rows), None)

    @property
    def row_batch_axis(self) -> int | None:
        """The batch axis that is rows, counted from the right of the batch shape; or ``None``."""
        plate = self.rows_plate
        if plate is not None:
            return plate.dim
        axes = [axis for axis in self.row_axes if axis < self.batch_ndim]
        return axes[0] - self.batch_ndim if axes else None


@dataclass(frozen=True)
class KernelSpec:
    """The structure of a kernel for one kind of call.

    Attributes:
        sites: Sites by name, in the order in which the kernel reaches them.
        output: Name of the output site.
        n_rows: Rows of the trace that the shapes are of.
        traced: Whether a trace has run; always true.
    """

    sites: Mapping[str, Site]
    output: str
    n_rows: int
    traced: bool = True

    def shape_at(self, name: str, n_rows: int | None) -> tuple[int | None, ...]:
        """Shape of a site at ``n_rows`` rows; an axis that follows them by an offset keeps it."""
        site = self.sites[name]
        return tuple(
            (None if n_rows is None else size - self.n_rows + n_rows)
            if axis in site.row_axes
            else size
            for axis, size in enumerate(site.shape)
        )

    def row_axis(self, name: str) -> int | None:
        """The first axis of a site that is as long as the rows; increments of rows have none."""
        site = self.sites[name]
        return next((axis for axis in site.row_axes if site.shape[axis] == self.n_rows), None)

    def of_kind(self, *kinds: SiteKind) -> tuple[str, ...]:
        """Names of the sites of these kinds, in the kernel's order."""
        return tuple(name for name, site in self.sites.items() if site.kind in kinds)

    @property
    def sample_sites(self) -> tuple[str, ...]:
        """Names of latent and observed sites."""
        return self.of_kind("latent", "observed")

    @property
    def latent_sites(self) -> tuple[str, ...]:
        """Names of the sites that the posterior is about; the output is none, observed or not."""
        return tuple(name for name in self.of_kind("latent") if name != self.output)

    @property
    def return_sites(self) -> tuple[str, ...]:
        """What predictive methods return by default: the output, then deterministic sites."""
        return (self.output, *self.of_kind("deterministic"))

    @property
    def output_observed(self) -> bool:
        """Whether the trace was given data for the output."""
        return self.output in self.sites and self.sites[self.output].kind == "observed"

    @property
    def row_sites(self) -> tuple[str, ...]:
        """Names of sample sites and factors with one entry a row."""
        return tuple(
            name
            for name, site in self.sites.items()
            if site.kind in ("latent", "observed", "factor") and site.row_batch_axis is not None
        )

    @property
    def row_dim(self) -> str:
        """What the dimension of rows is called: the rows' plate, else ``"obs"``."""
        for site in self.sites.values():
            if site.rows_plate is not None:
                return site.rows_plate.name
        return "obs"


def variable_name(site: str) -> str:
    """Return what a site is called in results, where a ``/`` would be a path.

    NumPyro's random modules name the weights of a network that way.

    Example:
        >>> variable_name("net/dense.bias")
        'net.dense.bias'
    """
    return site.replace("/", ".")
