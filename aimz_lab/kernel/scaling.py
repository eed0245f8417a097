"""Weights of a minibatch's rows in the ELBO.

To estimate the ELBO of all ``N`` rows from a batch of ``B`` valid rows, the terms of the rows, in
the kernel and in the guide, are multiplied by ``N / B``. Global terms (priors of global latents,
penalties) are not: Hoffman et al. (2013), "Stochastic variational inference", sec. 2.2. Padding has
weight 0, so a padded batch counts exactly as the batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped
from numpyro import handlers
from numpyro.primitives import Messenger

from aimz_lab.errors import ArgumentError, FitWarning
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Array, Rows

Scale = Literal["auto", "none"] | float
Weight = Literal["ours", "of_call", "of_batch"]
"""Who multiplies a row site by the minibatch factor.

``ours``: this package. ``of_call``: the kernel, by N over the rows of the call. ``of_batch``: the
kernel, by a constant equal to N over the nominal batch size.
"""

RowSites: TypeAlias = Mapping[str, tuple[int | None, Weight]]
"""For each row site: its axis of rows in the batch shape, counted from the right, and its scaler.

The axis is ``None`` if the rows are part of one event; such a site cannot be padded.
"""

Scalar: TypeAlias = int | float | Shaped[Array, ""]
"""A number, which may be traced."""


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
        self, rows: int, valid: Scalar, n_obs: Scalar, *, padded: bool
    ) -> dict[Weight, Scalar | Float[Array, " row"]]:
        """Return the weight of each row of a batch, by scaler.

        Args:
            rows: Rows of the batch, padding included.
            valid: Rows without padding; may be traced.
            n_obs: Rows of the data set; may be traced.
            padded: Whether padding may occur. If not, the weights are scalars, as enumeration
                requires.

        Returns:
            Scalars, or one weight per row, 0 on padding.
        """
        if self.factor == "none":
            ours, of_call, of_batch = 1.0, 1.0, 1.0
        elif self.factor == "auto":
            ours, of_call, of_batch = n_obs / valid, rows / valid, self.batch_size / valid
        else:
            ours, of_call, of_batch = self.factor, rows / valid, self.batch_size / valid
        by_scaler: dict[Weight, Scalar] = {"ours": ours, "of_call": of_call, "of_batch": of_batch}
        if not padded:
            return by_scaler
        is_valid = jnp.arange(rows) < valid
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
            shape = [1] * len(msg["fn"].batch_shape)
            shape[axis] = -1
            weight = weight.reshape(shape)
        msg["scale"] = weight if msg["scale"] is None else weight * msg["scale"]


def check_scale(scale: object) -> Scale:
    """Return ``scale`` if it is ``"auto"``, ``"none"`` or a positive finite number.

    Raises:
        ArgumentError: Otherwise.
    """
    if scale in ("auto", "none"):
        return scale
    number = isinstance(scale, (int, float, np.number)) and not isinstance(scale, bool)
    if number and np.isfinite(scale) and scale > 0:
        return float(scale)
    msg = f"scale={scale!r} is not known; use 'auto', 'none' or a positive number (N / B)."
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

    A row site is in the rows' plate. Without such a plate, a site is a row site if its batch shape
    follows the rows; the first such axis counts. A site that the kernel scales itself, by a plate
    larger than the batch or by ``handlers.scale`` with the minibatch factor, is only corrected for
    padding.

    Args:
        kernel: The kernel or guide that ``spec`` describes.
        spec: Its spec at the nominal batch size.
        batch: Arguments of one batch, to run the kernel if a scale is only known then.
        scale: ``"auto"``, ``"none"`` or a number.
        n_obs: Rows of the data set, or ``None`` if unknown.

    Returns:
        The plan.

    Warns:
        FitWarning: If the size of the rows' plate is not the number of rows in the data.
    """
    names = [
        name
        for name, site in spec.sites.items()
        if site.kind in ("latent", "observed", "factor")
        and (site.row_axes or site.row_batch_axis is not None)
    ]
    explicit = {name: _explicit_scale(spec.sites[name]) for name in names}
    unknown = [name for name, value in explicit.items() if value == "array"]
    factors = _run_scales(kernel, batch, unknown) if unknown else {}
    sites: dict[str, tuple[int | None, Weight]] = {}
    for name in names:
        site = spec.sites[name]
        sites[name] = (site.row_batch_axis, _scaled_by(site, explicit[name], factors, spec, n_obs))
    _warn_of_other_sizes(spec, n_obs)
    return RowScale(sites, scale, spec.n_rows)


def _explicit_scale(site: Site) -> float | Literal["array"]:
    """The kernel's own scale of a site, without the factor of its plates."""
    if site.scale is None:
        return 1.0
    if site.scale == "array":
        return "array"
    plates = np.prod([plate.size / plate.subsample_size for plate in site.plates])
    return float(site.scale / plates)


def _scaled_by(
    site: Site,
    explicit: float | Literal["array"],
    factors: Mapping[str, tuple[float, float]],
    spec: KernelSpec,
    n_obs: int | None,
) -> Weight:
    plate = site.rows_plate
    if plate is not None and plate.size != plate.subsample_size:
        return "of_call"
    if explicit == "array":
        if site.name not in factors:
            return "ours"
        here, there = factors[site.name]
        if not np.isclose(here, there, rtol=1e-6) and np.isclose(
            here * spec.n_rows, there * (spec.n_rows + 1), rtol=1e-3
        ):
            return "of_call"
        explicit = here
    elif site.scale_follows_rows:
        return "of_call"
    is_factor = n_obs is not None and n_obs != spec.n_rows
    return (
        "of_batch" if is_factor and np.isclose(explicit, n_obs / spec.n_rows, rtol=0.01) else "ours"
    )


def _run_scales(
    kernel: Callable, batch: KernelArguments, names: list[str]
) -> dict[str, tuple[float, float]]:
    """Values of the scalar scales, at the batch's number of rows and at one more."""

    def run(rows: Rows) -> dict[str, jax.Array]:
        seeded = handlers.seed(kernel, jax.random.key(0))
        sites = handlers.trace(seeded).get_trace(**rows, **batch.shared, **batch.static)
        return {name: sites[name]["scale"] for name in names if jnp.ndim(sites[name]["scale"]) == 0}

    one_more = {name: np.concatenate([v, v[-1:]]) for name, v in batch.rows.items()}
    try:
        with tracing_lock:
            here, there = jax.jit(run)(dict(batch.rows)), jax.jit(run)(one_more)
    except Exception:  # noqa: BLE001  a kernel for this number of rows only: its scale is constant
        return {}
    return {name: (float(here[name]), float(there[name])) for name in here}


def _warn_of_other_sizes(spec: KernelSpec, n_obs: int | None) -> None:
    sizes = {
        (site.rows_plate.name, site.rows_plate.size)
        for site in spec.sites.values()
        if site.rows_plate is not None and site.rows_plate.size != site.rows_plate.subsample_size
    }
    for name, size in sorted(sizes):
        if n_obs is not None and size != n_obs:
            msg = (
                f"The plate {name!r} has size={size:,}, but the data has {n_obs:,} rows; the "
                f"posterior will be as certain as {size:,} rows would make it. Give the plate "
                f"size={n_obs:,}, or leave its subsampling out: batches are scaled for you."
            )
            warnings.warn(msg, FitWarning, stacklevel=2)
