"""Tell which entry of which site a value among the guide's parameters belongs to.

Many of NumPyro's autoguides hold all sites in one vector, and name its parameters after themselves:
``auto_loc[13]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from numpyro.distributions import constraints
from numpyro.infer.autoguide import (
    AutoBNAFNormal,
    AutoContinuous,
    AutoDelta,
    AutoGuide,
    AutoIAFNormal,
    AutoNormal,
    AutoSemiDAIS,
)

from aimz_lab.inference.autoguides import autoguides_in

_ALONG_SITES = (
    "loc",
    "scale",
    "scale_tril",
    "cov_factor",
    "z_0_loc",
    "z_0_scale",
    "z_0_scale_tril",
    "mass_matrix",
)
"""Parameters with an entry, or a row of entries, for each entry of the packed sites."""

Shapes = Mapping[str, tuple[int, ...]]


class SiteEntry(NamedTuple):
    """An entry of a site.

    Attributes:
        site: Name of the site.
        index: Position in the site, of the unconstrained value if it is one.
        shape: Shape of that.
        part: What of it the parameter holds: ``"loc"``, ``"scale"``, ``"mass_matrix"``, ...
        is_unconstrained: Whether the parameter is of the site's unconstrained value.
        more: Further position, such as the column of a factor of the covariance.
    """

    site: str
    index: tuple[int, ...]
    shape: tuple[int, ...]
    part: str
    is_unconstrained: bool
    more: tuple[int, ...] = ()


class ParameterSites:
    """Entries of sites behind the parameters of a guide.

    Args:
        guide: The guide; sites are known of NumPyro's autoguides that have been set up.
    """

    def __init__(self, guide: Callable | None) -> None:
        known = autoguides_in(guide)
        self._guides = [one for one in known if getattr(one, "prototype_trace", None) is not None]

    @property
    def note(self) -> str:
        """What cannot be told of the parameters; empty if nothing."""
        has_flow = any(isinstance(one, AutoIAFNormal | AutoBNAFNormal) for one in self._guides)
        return "The weights of a flow belong to all sites together." if has_flow else ""

    def entry(
        self, parameter: str, shape: tuple[int, ...], position: tuple[int, ...]
    ) -> SiteEntry | None:
        """Return the entry that a value of a parameter belongs to, or ``None``.

        Args:
            parameter: Name of the parameter.
            shape: Its shape; of a Cholesky factor, without its last axis.
            position: Position of the value.
        """
        for guide in self._guides:
            for found in _entries(guide, parameter, shape, position):
                return found
        return None


def _entries(
    guide: AutoGuide, parameter: str, shape: tuple[int, ...], position: tuple[int, ...]
) -> Iterator[SiteEntry]:
    if isinstance(guide, AutoNormal | AutoDelta):
        yield from _of_site(guide, parameter, shape, position)
        return
    part = parameter.removeprefix(f"{guide.prefix}_")
    if part == parameter or part not in _ALONG_SITES:
        return
    if isinstance(guide, AutoContinuous):
        yield from _packed(guide, _shapes(guide), part, shape, position)
    elif isinstance(guide, AutoSemiDAIS):
        yield from _packed_by_row(guide, part, shape, position)


def _of_site(
    guide: AutoGuide, parameter: str, shape: tuple[int, ...], position: tuple[int, ...]
) -> Iterator[SiteEntry]:
    for part in ("loc", "scale"):
        site = parameter.removesuffix(f"_{guide.prefix}_{part}")
        if site != parameter and site in guide.prototype_trace:
            free = not isinstance(guide, AutoDelta) and _is_constrained(guide, site)
            yield SiteEntry(site, position, shape, part, free)


def _packed(
    guide: AutoGuide,
    sites: Shapes,
    part: str,
    shape: tuple[int, ...],
    position: tuple[int, ...],
) -> Iterator[SiteEntry]:
    """Yield the entry at a position whose leading axes are all sites, one after another."""
    size = sum(map(math.prod, sites.values()))
    axes = next((n for n in range(1, len(shape) + 1) if math.prod(shape[:n]) == size), 0)
    if not axes:
        return
    flat = int(np.ravel_multi_index(position[:axes], shape[:axes]))
    for site, of_site in sites.items():
        if flat < math.prod(of_site):
            index = tuple(map(int, np.unravel_index(flat, of_site))) if of_site else ()
            free = _is_constrained(guide, site)
            yield SiteEntry(site, index, of_site, part, free, position[axes:])
            return
        flat -= math.prod(of_site)


def _packed_by_row(
    guide: AutoSemiDAIS, part: str, shape: tuple[int, ...], position: tuple[int, ...]
) -> Iterator[SiteEntry]:
    """Yield the entry at a row, and at a position among the row's entries of all local sites."""
    plate = guide._local_plate[0]
    axes, sites = {}, {}
    for name, of_site in _shapes(guide).items():
        site = guide.prototype_trace[name]
        dims = [frame.dim for frame in site["cond_indep_stack"] if frame.name == plate]
        if dims:
            axes[name] = len(of_site) + dims[0] - site["fn"].event_dim
            sites[name] = of_site[: axes[name]] + of_site[axes[name] + 1 :]
    if len(shape) not in (1, 2):
        return
    for found in _packed(guide, sites, part, shape[-1:], position[-1:]):
        if len(shape) == 1:  # one for all rows
            yield found
            continue
        at = axes[found.site]
        yield found._replace(
            index=(*found.index[:at], position[0], *found.index[at:]),
            shape=(*found.shape[:at], shape[0], *found.shape[at:]),
        )


def _shapes(guide: AutoGuide) -> Shapes:
    """Shapes of the sites' unconstrained values, in the guide's order."""
    return {name: tuple(jnp.shape(value)) for name, value in guide._init_locs.items()}


def _is_constrained(guide: AutoGuide, name: str) -> bool:
    support = guide.prototype_trace[name]["fn"].support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support is not constraints.real
