"""The parameters of a guide, by the site that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from numpyro.infer.autoguide import AutoGuide

from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.inference.svi.parameter_sites import ParameterSites
from aimz_lab.lab.explorers.model_graph import KernelCall, model_graph
from aimz_lab.lab.panels.site_labels import entry_name

if TYPE_CHECKING:
    import pandas as pd

_MOST_VALUES = 2_000
COLUMNS = ("entry", "part", "value")


def guide_parameters(
    guide: Callable | None,
    params: Mapping[str, Any],
    site: str,
    call: KernelCall,
    labels: AxisLabels,
) -> pd.DataFrame:
    """Return the guide's parameters for a site.

    Args:
        guide: The guide, or ``None``.
        params: Its parameters.
        site: Name of the site.
        call: The kernel and its arguments, which a guide that the user wrote is traced with.
        labels: Labels along the axes of sites.

    Returns:
        A row for each value, by parameter: its entry of the site, which part of it (``"loc"``,
        ``"scale"``; ``"loc, unconstrained"`` on the unconstrained scale), and its value. A row of a
        Cholesky factor is shown by its norm, the scale of the entry.
    """
    import pandas as pd

    found: list[tuple[str, str, str, float]] = []
    if isinstance(guide, AutoGuide):
        sites = ParameterSites(guide)
        for name, value in params.items():
            found += _of_site(name, value, site, sites, labels)
    elif guide is not None and params:
        for name in _own(guide, site, call):
            for path, leaf in jax.tree_util.tree_leaves_with_path(params.get(name, ())):
                where = name + jax.tree_util.keystr(path)
                values = np.asarray(leaf).reshape(-1)[:_MOST_VALUES]
                several = leaf.size > 1
                found += [(where, str(i) if several else "", "", v) for i, v in enumerate(values)]
    index = pd.Index([row[0] for row in found], name="parameter")
    rows = [row[1:] for row in found]
    return pd.DataFrame(rows, index=index, columns=list(COLUMNS)).astype({"value": float})


def _of_site(
    name: str, value: Any, site: str, sites: ParameterSites, labels: AxisLabels
) -> Iterator[tuple[str, str, str, float]]:
    """Yield a parameter's values of a site, of NumPyro's autoguides."""
    if not hasattr(value, "shape"):
        return
    values = np.asarray(value, np.float64)
    if name.endswith("scale_tril") and values.ndim > 1:
        values = np.linalg.norm(values, axis=-1)
    found = 0
    for position in np.ndindex(values.shape):
        entry = sites.entry(name, values.shape, position)
        at_site = entry is not None and entry.site == site
        if entry is None or found == _MOST_VALUES or (found and not at_site):
            return  # the entries of a site follow each other
        if at_site:
            found += 1
            part = entry.part.removesuffix("_tril")
            part += ", unconstrained" if entry.is_unconstrained else ""
            label = entry_name(site, entry.index, entry.shape, labels)
            yield name, label, part, float(values[position])


def _own(guide: Callable, site: str, call: KernelCall) -> list[str]:
    """Return the parameters that a guide of the user's computes a site from."""
    own = KernelCall(guide, site, call.rows, call.shared, call.static)
    try:
        graph = model_graph(own)
    except Exception:  # noqa: BLE001  a guide for other arguments than these
        return []
    if site not in graph.sites or not graph.is_proven:
        return []
    near = {site, *graph.ancestors(site)}
    return [name for name in graph.sites if name in near and graph.sites[name].kind == "param"]
