"""Charts of priors with their handles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import ArgumentError
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.lab import formatting
from aimz_lab.lab.explorers.charts import Area, Chart, Handle, Steps
from aimz_lab.lab.explorers.moved_priors import Numbers
from aimz_lab.lab.explorers.prior_sites import PriorSite, control_name
from aimz_lab.lab.explorers.remade import Path, remade
from aimz_lab.lab.explorers.value_axis import axis_for

_PLACES = 161
_TINY = 1e-6


def is_plain(site: PriorSite) -> bool:
    """Whether a prior is one distribution of single numbers, whose density can be drawn.

    Args:
        site: The prior.
    """
    return site.written is not None and not site.fixed and not site.written.event_shape


class Densities:
    """Densities of the plain priors, by one compiled program for all numbers.

    Args:
        sites: The priors.
    """

    def __init__(self, sites: Iterable[PriorSite]) -> None:
        self._sites = {site.name: site for site in sites if site.numbers and is_plain(site)}
        self._compute = jax.jit(self._heights)

    def of(
        self, numbers: Numbers, draws: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return places and densities by site, but of those too wide to be drawn.

        Args:
            numbers: All numbers of the priors.
            draws: Draws of the sites, which say where the densities are of interest.

        Raises:
            ArgumentError: If numbers make no distribution.
        """
        names = [name for name in self._sites if name in draws]
        flat = {name: np.ravel(draws[name]) for name in names}
        places = {name: _places(flat[name]) for name in names}
        safe = {name: np.sort(flat[name])[len(flat[name]) // 2] for name in names}
        with tracing_lock:
            found = self._compute({name: dict(numbers[name]) for name in names}, places, safe)
        heights = {name: np.asarray(found[name][0], float) for name in names}
        drawable = {name for name in names if np.any(heights[name] > 0)}
        for name in names:
            if name not in drawable and not found[name][1]:
                its = ", ".join(f"{path[-1]}={one:g}" for path, one in numbers[name].items())
                msg = f"{self._sites[name].family}({its}) of {name!r} is no distribution."
                raise ArgumentError(msg)
        return {name: (places[name], heights[name]) for name in names if name in drawable}

    def _heights(self, numbers: dict, places: dict, safe: dict) -> dict[str, tuple]:
        """Return densities at the places, and whether a draw of its own has one, by site."""
        found = {}
        for name, its in numbers.items():
            one = remade(self._sites[name].written, its)
            spread = places[name].reshape(-1, *(1 for _ in one.batch_shape))
            inside = one.support(spread)
            density = jnp.exp(one.log_prob(jnp.where(inside, spread, safe[name])))
            shown = jnp.where(inside & jnp.isfinite(density), density, 0.0)
            shape = len(places[name]), *one.batch_shape
            at_places = jnp.broadcast_to(shown, shape).reshape(len(places[name]), -1)[:, 0]
            is_inside = one.support(safe[name]) & jnp.isfinite(one.log_prob(safe[name]))
            found[name] = at_places, jnp.all(is_inside)
        return found


def _places(draws: np.ndarray) -> np.ndarray:
    """Return where to draw a density, always as many places so that nothing is compiled anew."""
    if draws.dtype.kind in "biu":
        return np.arange(_PLACES) + int(draws.min()) - 1
    finite = draws[np.isfinite(draws)].astype(float)
    if not len(finite):
        return np.linspace(0.0, 1.0, _PLACES).astype(draws.dtype)
    low, high = np.quantile(finite, [0.02, 0.98])
    room, beyond = 0.4 * (high - low), 0.1 * (high - low)
    left, right = max(low - room, finite.min() - beyond), min(high + room, finite.max() + beyond)
    most = np.finfo(draws.dtype).max
    return np.linspace(max(left, -most), min(right, most), _PLACES).astype(draws.dtype)


def why_refused(site: PriorSite, numbers: Mapping[Path, float]) -> dict[str, str]:
    """Say which numbers are not in the ranges that the family has for each, by control.

    Args:
        site: The prior.
        numbers: Numbers of it.
    """
    why = {control_name(site.name, path): _why(site, path, one) for path, one in numbers.items()}
    return {name: words for name, words in why.items() if words}


def _why(site: PriorSite, path: Path, number: float) -> str:
    if not math.isfinite(number):
        return f"{control_name(site.name, path)} takes a finite number, not {number}."
    owner = site.written
    for name in path[:-1]:
        owner = getattr(owner, name)
    constraint = type(owner).arg_constraints.get(path[-1]) if owner is not None else None
    if constraint is None or "Dependent" in type(constraint).__name__:
        return ""
    if np.all(constraint(np.float32(number))):
        return ""
    return f"{control_name(site.name, path)} cannot be {number:g}: it is {_said(constraint)}."


def _said(constraint: Any) -> str:
    low, high = (getattr(constraint, f"{end}_bound", None) for end in ("lower", "upper"))
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    if low is not None:
        return f"above {low:g}"
    return f"below {high:g}" if high is not None else "a number of its family's range"


def handles_of(site: PriorSite, numbers: Mapping[Path, float]) -> list[Handle]:
    """Return the places of a density that the reader drags.

    Args:
        site: The prior.
        numbers: Its numbers.
    """
    by_name = {path[-1]: number for path, number in numbers.items()}
    moves = _moves(site.family, by_name)
    found = []
    for path in site.numbers:
        if path[-1] in moves and len(path) == 1:
            at, value_at, said = moves[path[-1]]
            name = control_name(site.name, path)
            found.append(
                Handle(
                    name, at, partial(_short, value_at), f"{name}{said}",
                    mark=str(path[-1]), text=formatting.number(numbers[path]),
                )
            )  # fmt: skip
    return [handle for handle in found if math.isfinite(handle.at)]


def _short(value_at: Callable[[float], float], place: float) -> float:
    """Return the value for a place, as exact as a hand is."""
    return float(f"{value_at(place):.3g}")


def _moves(family: str, n: Mapping[str, float]) -> dict[str, tuple[float, Callable, str]]:
    """Return place, way back and words of each number that can be dragged."""
    above = lambda value: max(value, _TINY)  # noqa: E731
    if family == "LogNormal":
        return {
            "loc": (math.exp(n["loc"]), lambda x: math.log(above(x)), " (median)"),
            "scale": (
                math.exp(n["loc"] + n["scale"]),
                lambda x: above(math.log(above(x)) - n["loc"]),
                " (median times its exponential)",
            ),
        }
    if family == "Gamma":
        mean, root = n["concentration"] / n["rate"], math.sqrt(n["concentration"])
        return {
            "concentration": (mean, lambda x: above(x * n["rate"]), " (mean)"),
            "rate": (
                mean + root / n["rate"],
                lambda x: (n["concentration"] + root) / above(x),
                " (mean and one sd)",
            ),
        }
    if family == "Beta":
        a, b = n["concentration1"], n["concentration0"]
        return {
            "concentration1": (
                a / (a + b),
                lambda x: above(b * x / max(1 - x, _TINY)),
                " (mean)",
            )
        }
    moves: dict[str, tuple[float, Callable, str]] = {}
    for end in ("low", "high"):
        if family == "Uniform":
            moves[end] = (n[end], lambda x: x, "")
    if "loc" in n:
        moves["loc"] = (n["loc"], lambda x: x, "")
    if "scale" in n:
        start = n.get("loc", 0.0)
        said = " (loc and one scale)" if "loc" in n else ""
        least = n["scale"] / 100  # of a drag to the other side
        moves["scale"] = (start + n["scale"], lambda x: max(x - start, least), said)
    if family == "Exponential":
        moves["rate"] = (1 / n["rate"], lambda x: 1 / above(x), " (mean)")
    if family == "Poisson":
        moves["rate"] = (n["rate"], above, " (mean)")
    if family == "BernoulliProbs":
        moves["probs"] = (n["probs"], lambda x: min(max(x, 0.0), 1.0), "")
    return moves


def prior_chart(
    site: PriorSite,
    numbers: Mapping[Path, float],
    density: tuple[np.ndarray, np.ndarray] | None,
    values: np.ndarray,
) -> Chart:
    """Draw a site's prior: its density with handles, or a histogram of its draws.

    Args:
        site: The prior.
        numbers: Its numbers.
        density: Places and densities, if they are known.
        values: Draws of all its entries.
    """
    title = f"{site.name} ~ {site.family}"
    if density is None:
        drawn = np.ravel(np.asarray(values, float))
        axis = axis_for(drawn, None)
        bins = Steps(axis.edges, axis.density(drawn))
        drawn_as = {"x_scale": axis.scale, "x_range": axis.ends, "size": "small"}
        return Chart([bins], f"{title}, draws", **drawn_as)
    x, y = density
    handles = handles_of(site, numbers)
    if x.dtype.kind not in "iu":
        return Chart([Area(x, y)], title, size="small", handles=handles)
    last = max(int(np.max(np.nonzero(y > 1e-4 * y.max()))), 2) + 1
    edges = np.append(x[:last], x[last - 1] + 1) - 0.5
    return Chart([Steps(edges, y[:last])], title, size="small", handles=handles)
