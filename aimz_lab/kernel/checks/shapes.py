"""Check the shapes of a traced kernel's sites, where broadcasting would multiply rows or data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aimz_lab.errors import SiteError
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.types import HasShape


def check_shapes(
    spec: KernelSpec, rows: Mapping[str, HasShape] | None = None, *, pairs: bool = False
) -> None:
    """Check that each site has one axis of rows, and that no data is repeated.

    Args:
        spec: The kernel's structure.
        rows: Per-row arguments, to name those with a trailing axis of one entry.
        pairs: Accept a site in several plates of rows, such as one value per pair of rows.

    Raises:
        SiteError: If a sampled or observed site has the rows on two axes, for instance because an
            input of shape ``(n, 1)`` meets a plate of ``n``; or if the data of a site has another
            shape than its distribution.
    """
    for site in spec.sites.values():
        # Computed sites have no density; a covariance matrix may have the rows on two axes.
        if site.kind not in ("param", "deterministic"):
            _check_rows_once(site, spec, rows or {}, pairs=pairs)
            _check_data(site, spec.n_rows)


def _check_rows_once(
    site: Site, spec: KernelSpec, rows: Mapping[str, HasShape], *, pairs: bool
) -> None:
    axes = [axis for axis in site.row_axes if axis < site.batch_ndim]
    times = max(len(axes), len(site.density_row_axes))
    if times < 2 or (pairs and sum(plate.is_rows for plate in site.plates) >= times):
        return
    narrow = [name for name, array in rows.items() if tuple(array.shape[1:]) == (1,)]
    advice = "".join(f" {name!r} has shape (n, 1): pass {name}[:, 0]." for name in narrow)
    shape = _with_n(site.shape, site.row_axes, spec.n_rows)
    if site.distribution_shape is not None:
        shape += f" and its distribution {_with_n(site.distribution_shape, (), spec.n_rows)}"
    msg = (
        f"The site {site.name!r} has shape {shape}: the rows appear {times} times in it, which "
        "happens when (n, 1) meets (n,)."
        f"{advice or ' Give input and output one shape, for example y of shape (n,).'} "
        "Or drop the axis in the kernel: .squeeze(-1)."
    )
    raise SiteError(msg)


def _check_data(site: Site, n_rows: int) -> None:
    """Refuse data that its distribution would repeat: each value would count several times."""
    expected = site.distribution_shape
    if expected is None:
        return
    events = site.event_dim
    same_events = not events or site.shape[-events:] == expected[-events:]
    try:
        fits = same_events and np.broadcast_shapes(site.shape, expected) == site.shape
    except ValueError:
        fits = False
    if not fits:
        msg = (
            f"The data of site {site.name!r} has shape "
            f"{_with_n(site.shape, site.row_axes, n_rows)}, and its distribution "
            f"{_with_n(expected, (), n_rows)}; data is not repeated. Give both one shape."
        )
        raise SiteError(msg)


def _with_n(shape: tuple[int, ...], rows: tuple[int, ...], n_rows: int) -> str:
    """Return a shape with ``n`` for the axes ``rows``; without any, for those of that size."""
    sizes = [
        "n" if size == n_rows and (axis in rows or not rows) else str(size)
        for axis, size in enumerate(shape)
    ]
    return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"
