"""Names that a kernel gives to event dimensions: ``infer={"event_dims": ["feature"]}``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from aimz_lab.errors import OutputWarning
from aimz_lab.kernel.spec import KernelSpec, Site
from aimz_lab.tracebacks import warn
from aimz_lab.types import SAMPLE_DIMS


def with_usable_names(spec: KernelSpec) -> KernelSpec:
    """Leave out names of event dimensions that cannot be used.

    A name has one length in all of the kernel, and is not that of a site, of a plate of the site,
    or of a dimension of every result.

    Args:
        spec: The kernel's structure, with names as the kernel gives them.

    Returns:
        The structure; it lists the sites whose names were left out.
    """
    named = {name: site for name, site in spec.sites.items() if site.event_dims}
    if not named:
        return spec
    lengths = _lengths(spec.sites)
    unnamed = tuple(
        name
        for name, site in named.items()
        if not _fit(site) or any(_is_taken(dim, spec, lengths) for dim in site.event_dims)
    )
    cleared = {name: replace(named[name], event_dims=()) for name in unnamed}
    return replace(spec, sites={**spec.sites, **cleared}, unnamed=unnamed)


def warn_of_unnamed(spec: KernelSpec) -> None:
    """Warn of names of event dimensions that were left out.

    Warns:
        OutputWarning: With the names of the sites.
    """
    if spec.unnamed:
        listed = ", ".join(map(repr, spec.unnamed))
        warn(
            f"The names in infer={{'event_dims': ...}} of {listed} cannot be used, so that these "
            "dimensions are numbered: there are more names than dimensions after the plates, a "
            "name stands twice, is that of a site, or would have two lengths.",
            OutputWarning,
        )


def _lengths(sites: Mapping[str, Site]) -> Mapping[str, set[int]]:
    """Return the lengths that each name would have."""
    lengths = defaultdict(set)
    for site in sites.values():
        for plate in site.plates:
            lengths[plate.name].add(plate.subsample_size)
        if _fit(site):
            sizes = site.shape[len(site.plates) :]
            for dim, size in zip(site.event_dims, sizes, strict=False):
                lengths[dim].add(size)
    return lengths


def _fit(site: Site) -> bool:
    """Whether the names suit the dimensions of their site."""
    names = site.event_dims
    return (
        all(isinstance(name, str) for name in names)
        and len({*names, *(plate.name for plate in site.plates)}) == len(names) + len(site.plates)
        and len(site.plates) + len(names) <= len(site.shape)
    )


def _is_taken(dim: str, spec: KernelSpec, lengths: Mapping[str, set[int]]) -> bool:
    return dim in SAMPLE_DIMS or dim in spec.sites or len(lengths[dim]) > 1
