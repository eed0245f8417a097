"""Weights of a minibatch's rows in the ELBO.

To estimate the ELBO of all ``N`` rows from a batch of ``B`` valid rows in random order, the terms
of the rows, in the kernel and in the guide, are multiplied by ``N / B``. Global terms (priors of
global latents, penalties) are not (Hoffman et al., 2013, "Stochastic variational inference").
Where an epoch always has the same ``K`` batches, the terms are multiplied by ``K`` instead: then
the mean loss of an epoch is the loss of all rows, also if the last batch is short. Padding has
weight 0, so a padded batch counts exactly as the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int32, Shaped
from numpyro.primitives import Messenger

from aimz_lab.data.options import real_number
from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.own_scales import Weight, own_scales
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import Array, shown

Scale = Literal["auto", "none"] | float
RowSites: TypeAlias = Mapping[str, tuple[int | None, Weight]]
"""For each row site: its axis of rows in the log density, counted from the right, and its scaler.

The axis is ``None`` if the rows are part of one event; such a site cannot be padded.
"""

Scalar: TypeAlias = int | float | Shaped[Array, ""]
"""A number, which may be traced."""


class DataSize(NamedTuple):
    """How many rows the rows of a batch stand for.

    Attributes:
        n_obs: Rows of the data set; may be traced. ``None`` if unknown: a batch stands for itself.
        row_weight: Weight of each row where the batches of an epoch are always the same; may be
            traced. It is their number, so that a row of a short last batch weighs as any other.
            ``None`` where the order of the rows is random: each batch then stands for all rows.
    """

    n_obs: Scalar | None
    row_weight: Scalar | None = None

    def typed(self) -> DataSize:
        """Return numbers of fixed types, so that one program serves all sizes."""
        return DataSize(*[None if number is None else np.float32(number) for number in self])


@dataclass(frozen=True)
class RowScale:
    """How to scale the row sites of a kernel or a guide.

    Attributes:
        sites: The row sites.
        factor: ``"auto"``, ``"none"`` or a number in place of N / B.
        batch_size: Nominal rows of a batch.
    """

    sites: RowSites
    factor: Scale
    batch_size: int

    @property
    def can_pad(self) -> bool:
        """Whether every site can give padded rows the weight 0."""
        return all(axis is not None for axis, _ in self.sites.values())

    @property
    def key(self) -> Hashable:
        """A hashable key, the same for equal plans."""
        return tuple(sorted(self.sites.items())), self.factor, self.batch_size

    def weights(
        self,
        rows: int,
        valid: Scalar | Int32[Array, " part"],
        size: DataSize,
        *,
        padded: bool,
        held_out: bool = False,
    ) -> dict[Weight, Scalar | Float[Array, " row"]]:
        """Return the weight of each row of a batch, by scaler.

        Args:
            rows: Rows of the batch, padding included.
            valid: Rows without padding; may be traced. Of each part, if the rows are parts of equal
                length with padding at the end of each.
            size: How many rows they stand for.
            padded: Whether padding may occur. If not, the weights are scalars, as enumeration
                requires.
            held_out: Whether the rows are held out: they then count as a batch of the nominal size.

        Returns:
            Scalars, or one weight per row, 0 on padding.
        """
        parts = valid if jnp.ndim(valid) else None
        valid = valid if parts is None else valid.sum()
        of_call = rows / valid
        if self.factor != "none" and size.row_weight is not None:
            of_call = size.row_weight * rows / size.n_obs
        if self.factor == "auto" and size.n_obs is not None:
            ours = size.n_obs / valid if size.row_weight is None else size.row_weight
        else:
            ours = 1.0 if isinstance(self.factor, str) else float(self.factor)
            ours = ours * self.batch_size / valid if held_out else ours
        by_scaler: dict[Weight, Scalar] = {"ours": ours, "of_call": of_call}
        if not padded:
            return by_scaler
        if parts is None:
            is_valid = jnp.arange(rows) < valid
        else:
            is_valid = (jnp.arange(rows // len(parts)) < parts[:, None]).reshape(-1)
        return {who: jnp.where(is_valid, weight, 0.0) for who, weight in by_scaler.items()}


class scale_rows(Messenger):
    """Effect handler that multiplies the log density of row sites by the row weights.

    Args:
        fn: The kernel or the guide.
        sites: The row sites.
        weights: From :meth:`RowScale.weights`.
    """

    def __init__(
        self,
        fn: Callable,
        sites: RowSites,
        weights: Mapping[Weight, Scalar | Float[Array, " row"]],
    ) -> None:
        self._sites = sites
        self._weights = weights
        super().__init__(fn)

    def process_message(self, msg: dict[str, Any]) -> None:
        """Multiply the scale of the message if it is a row site's."""
        if msg["type"] != "sample" or msg["name"] not in self._sites:
            return
        axis, who = self._sites[msg["name"]]
        weight = self._weights[who]
        if jnp.ndim(weight):
            weight = weight.reshape(-1, *[1] * (-axis - 1))
        msg["scale"] = weight if msg["scale"] is None else weight * msg["scale"]


def check_scale(scale: object) -> Scale:
    """Return ``scale`` if it is ``"auto"``, ``"none"`` or a positive finite number.

    Raises:
        ArgumentError: Otherwise.
    """
    if isinstance(scale, str) and scale in ("auto", "none"):
        return scale
    if 0 < real_number(scale) < math.inf:
        return real_number(scale)
    msg = f"scale={shown(scale)} is not known; use 'auto', 'none' or a positive number (N / B)."
    raise ArgumentError(msg)


def plan_row_scale(
    kernel: Callable,
    spec: KernelSpec,
    batch: KernelArguments,
    *,
    scale: Scale,
    n_obs: int | None,
) -> RowScale:
    """Find the row sites of a kernel or a guide, and who scales them.

    A row site is in the rows' plate. Without such a plate, a site is a row site if its log density
    follows the rows; the first such axis counts. A site that the kernel scales itself by the
    minibatch factor is only corrected for padding and for a short batch.

    Args:
        kernel: The kernel or guide that ``spec`` describes.
        spec: Its spec at the nominal batch size.
        batch: Arguments of one batch, to run the kernel if a scale is only known then.
        scale: ``"auto"``, ``"none"`` or a number.
        n_obs: Rows of the data set, or ``None`` if unknown.

    Returns:
        The plan.

    Raises:
        KernelError: If a scale of the kernel's own depends on which rows are in the batch.

    Warns:
        FitWarning: If a constant scale of the kernel's own may be meant as the minibatch factor.
    """
    axes = {
        name: site.row_density_axis
        for name, site in spec.sites.items()
        if site.kind in ("latent", "observed", "factor")
        and (site.row_axes or site.row_density_axis is not None)
    }
    scaled_by = own_scales(
        kernel, spec, batch, axes, n_obs, as_written=scale == "none" or n_obs is None
    )
    sites = {name: (axis, scaled_by[name]) for name, axis in axes.items()}
    return RowScale(sites, scale, spec.n_rows)
