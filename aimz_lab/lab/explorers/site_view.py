"""Numbers and charts of one entry of a site: prior against posterior, chains, pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Shaped

from aimz_lab.lab.explorers.charts import (
    MOST_POINTS,
    Area,
    Chart,
    Layer,
    Line,
    Points,
    Role,
    Rule,
    Steps,
)
from aimz_lab.lab.explorers.quantiles import quantiles
from aimz_lab.lab.formatting import number, numbers_of_row
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    import pandas as pd

_MOST_BINS = 60
_MOST_STEPS = 600  # of a chain's trace
_WIDE = 10.0
"""A prior this many times as wide as its posterior is cut, so that the posterior can be seen."""

_CHAINS: tuple[Role, ...] = ("main", "second", "pinned", "data", "bad", "quiet")

Values = Shaped[np.ndarray, " draw"]


def site_table(
    entries: Sequence[str],
    prior: Shaped[np.ndarray, "draw entry"] | None,
    posterior: Shaped[np.ndarray, "draw entry"] | None,
) -> pd.DataFrame:
    """Return the numbers of a site's entries, before and after the data.

    Args:
        entries: Names of the entries.
        prior: Draws from the prior, or ``None``.
        posterior: Draws from the posterior, or ``None``.

    Returns:
        By entry, mean, standard deviation and 5% and 95% quantiles of prior and posterior, and
        ``narrowed``: how many times the 90% interval of the posterior is narrower than the prior's.
    """
    import pandas as pd

    found = {}
    for name, draws in (("prior", prior), ("posterior", posterior)):
        if draws is not None:
            values = draws.astype(np.float64)
            with np.errstate(invalid="ignore"):  # of infinite draws there is no sd
                found[f"{name}_mean"] = values.mean(axis=0)
                found[f"{name}_sd"] = values.std(axis=0)
            found[f"{name}_5%"], found[f"{name}_95%"] = quantiles(values, [0.05, 0.95], axis=0)
    if prior is not None and posterior is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            widths = [found[f"{name}_95%"] - found[f"{name}_5%"] for name in ("prior", "posterior")]
            found["narrowed"] = widths[0] / widths[1]
    return pd.DataFrame(found, index=pd.Index(entries, name="entry"))


def numbers_in_words(row: Mapping[str, float]) -> str:
    """Say what a row of :func:`site_table` holds."""
    parts = []
    for name in ("prior", "posterior"):
        if f"{name}_mean" in row:
            columns = [f"{name}_{what}" for what in ("mean", "sd", "5%", "95%")]
            mean, sd, low, high = numbers_of_row({one: float(row[one]) for one in columns})
            parts.append(f"{name} mean {mean}, sd {sd}, 90% within {low} and {high}")
    text = "; ".join(parts)
    if np.isfinite(row.get("narrowed", np.nan)):
        text += f"; that interval is {number(float(row['narrowed']))} times narrower than before"
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def density_chart(
    title: str,
    groups: Sequence[tuple[str, Role, Values | None]],
    *,
    is_discrete: bool,
    observed: Values | None = None,
) -> Chart | None:
    """Return a chart of densities, or of the counts of whole numbers; ``None`` without values.

    Args:
        title: Name of the entry.
        groups: Name, role and values of each density.
        is_discrete: Whether the values are whole numbers.
        observed: Values of the data, or ``None``.
    """
    given = {name: _finite(values) for name, _, values in groups if values is not None}
    given = {name: values for name, values in given.items() if len(values)}
    layers: list[Layer] = []
    if is_discrete or observed is not None:
        parts = [(name, role, given[name]) for name, role, _ in groups if name in given]
        if observed is not None and len(_finite(observed)):
            parts.append(("data", "data", _finite(observed)))
        if parts:
            edges = _edges([values for _, _, values in parts], is_discrete=is_discrete)
            layers = [_steps(name, role, values, edges) for name, role, values in parts]
        return Chart(layers, title, title, "share") if layers else None
    for name, role, _ in groups:
        if name in given:
            layers.append(_density(name, role, given[name]))
    if not layers:
        return None
    ends = _ends(given.get("prior"), given.get("posterior"))
    return Chart(layers, title, title, "density", x_range=ends)


def trace_chart(entry: str, chains: Shaped[np.ndarray, "chain draw"]) -> Chart:
    """Return the values of each chain, draw by draw; of long chains some."""
    step = -(-chains.shape[1] // _MOST_STEPS)
    at = np.arange(0, chains.shape[1], step)
    layers = [
        Line(at, chain[at], label=f"chain {i}", role=_CHAINS[(i - 1) % len(_CHAINS)])
        for i, chain in enumerate(chains, 1)  # as the dashboard calls them
    ]
    return Chart(layers, f"Chains of {entry}", "draw", entry)


def pair_chart(entry: str, values: Values, other: str, others: Values) -> Chart:
    """Return the draws of two entries against each other; of many draws some."""
    at = np.arange(0, len(values), -(-len(values) // MOST_POINTS))
    correlation = _correlation(values, others)
    title = f"{entry} and {other}, correlation {correlation:.2f}"
    return Chart([Points(values[at], others[at])], title, entry, other)


def _correlation(one: Values, other: Values) -> float:
    one, other = (values.astype(np.float64) for values in (one, other))
    if not (one.std() > 0 and other.std() > 0):
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def _finite(values: Values) -> Float[np.ndarray, " draw"]:
    values = np.asarray(values, np.float64).reshape(-1)
    return values[np.isfinite(values)]


def _density(name: str, role: Role, values: Float[np.ndarray, " draw"]) -> Layer:
    if np.ptp(values) <= 1e-12 * max(abs(values[0]), 1e-300):
        return Rule(float(values[0]), label=name, role=role)
    array_stats = late_import("arviz_stats.base").array_stats
    if len(values) > 200:  # the kernel of a Cauchy would be as wide as its farthest draw
        low, high = np.quantile(values, [0.005, 0.995])
        if 3 * (high - low) < np.ptp(values) and high > low:
            values = values[(values >= low) & (values <= high)]
    # Without it, a density ends where its draws do; with it, one at zero would go on below zero.
    at_zero = 0 <= values.min() < 0.2 * values.std()
    x, y, _ = array_stats.kde(values, bound_correction=at_zero)
    return Area(x, y, label=name, role=role)


def _ends(prior: Values | None, posterior: Values | None) -> tuple[float, float] | None:
    """Return ends of the axis that let a narrow posterior be seen; ``None`` for all."""
    if prior is None or posterior is None or not np.ptp(posterior) > 0:
        return None
    low, high = np.quantile(prior, [0.005, 0.995])
    width = np.ptp(posterior)
    if high - low < _WIDE * width:
        return None
    middle = posterior.mean()
    return max(low, middle - _WIDE / 2 * width), min(high, middle + _WIDE / 2 * width)


def _edges(groups: Sequence[Values], *, is_discrete: bool) -> Float[np.ndarray, " edge"]:
    low, high = min(each.min() for each in groups), max(each.max() for each in groups)
    if is_discrete:
        width = -(-(high - low + 1) // _MOST_BINS)
        return np.arange(low - 0.5, high + width, width)
    return np.linspace(low, high if high > low else low + 1.0, 31)


def _steps(
    name: str, role: Role, values: Float[np.ndarray, " draw"], edges: Float[np.ndarray, " edge"]
) -> Steps:
    counts, _ = np.histogram(values, edges)
    return Steps(edges, counts / len(values), label=name, role=role)
