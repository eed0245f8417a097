"""The guide's parameters that still move, in units of the posterior's standard deviation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.inference.svi.parameter_sites import ParameterSites, SiteEntry
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.panels.site_labels import bracketed, entry_name, labels_of
from aimz_lab.lab.traces import float32

MOST_ROWS = 6
MOST_SNAPSHOTS = 48
MOST_VALUES = 2_000


class ParametersPanel(Panel):
    """The parameters that moved most over the second half of the run so far.

    A location with a scale in the guide moves in standard deviations. Any other parameter moves
    relative to its size. One that no longer moves has converged, as far as this can show.

    A frame asks for the values, and the next one reads them, as soon as the device has them: the
    loop waits for them only at its end. So a frame says of which step its values are. The first
    values have not moved, and have no rows.
    """

    name = "parameters"
    interval_s = 1.2  # and one update more, until the device has the values

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._snapshots: list[tuple[int, dict[str, np.ndarray]]] = []
        self._asked: tuple[int, dict[str, Any]] | None = None
        self._frame: Frame = {}
        self._labels: AxisLabels | None = None

    def begin(self, run: Run) -> None:  # noqa: ARG002
        """Forget the values of the previous run."""
        self._forget()

    def has_news(self) -> bool:
        """Return whether the device has the values that were asked for."""
        return self._asked is not None and all(map(_is_ready, self._asked[1].values()))

    def frame(self, run: Run) -> Frame:
        """Describe the parameters that moved most; empty if there are none."""
        if self._asked is None or run.finished:
            self._asked = (run.step, _arrays(run.params))
        if run.finished or self.has_news():
            (step, params), self._asked = self._asked, None
            self._frame = self._look(run, step, params) if params else {}
        return self._frame

    def _look(self, run: Run, step: int, params: dict[str, Any]) -> Frame:
        params = dict(map(_by_row, params.items()))
        n_values = sum(value.size for value in params.values())
        self._keep(step, {name: _sample(value) for name, value in params.items()})
        if n_values > sum(len(values) for values in self._snapshots[-1][1].values()):
            note = f"{n_values:,} values; {MOST_VALUES:,} of each array are followed."
        else:
            note = f"{n_values:,} value{'' if n_values == 1 else 's'}."
        sites = ParameterSites(run.guide)
        note = " ".join(filter(None, (note, sites.note)))
        rows = []
        if len(self._snapshots) > 1:
            if self._labels is None:  # finding them traces the kernel, so once
                self._labels = labels_of(run)
            rows = self._rows(params, sites, self._labels)
        steps = float32([kept_at for kept_at, _ in self._snapshots])
        return {"rows": rows, "step": step, "steps": steps, "note": note}

    def _keep(self, step: int, values: dict[str, np.ndarray]) -> None:
        if self._snapshots and self._snapshots[-1][0] == step:
            self._snapshots.pop()
        if len(self._snapshots) >= MOST_SNAPSHOTS:
            self._snapshots = self._snapshots[::2]
        self._snapshots.append((step, values))

    def _rows(
        self, params: Mapping[str, Any], sites: ParameterSites, labels: AxisLabels
    ) -> list[Frame]:
        step, now = self._snapshots[-1]
        then_step, then = min(self._snapshots, key=lambda kept: abs(kept[0] - step / 2))
        found = []
        for name, values in now.items():
            width = now.get(scale_of(name) or "")
            moved = _moved(then[name], values, width)
            for i in np.argsort(-moved)[:MOST_ROWS]:
                found.append((float(moved[i]), name, int(i)))
        found.sort(reverse=True)
        return [
            {
                **_label(name, i, params[name].shape, sites, labels),
                "value": _finite(float(now[name][i])),
                "moved": _finite(moved),
                "unit": "sd" if scale_of(name) in now else "relative",
                "over_steps": step - then_step,
                "path": float32([kept[name][i] for _, kept in self._snapshots]),
            }
            for moved, name, i in found[:MOST_ROWS]
        ]


def scale_of(name: str) -> str | None:
    """Name of the parameter that holds the scale of this location, as NumPyro's guides name them.

    Example:
        >>> scale_of("beta_auto_loc"), scale_of("beta_auto_scale")
        ('beta_auto_scale', None)
    """
    return name.removesuffix("loc") + "scale" if name.endswith("loc") else None


def _arrays(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of real numbers by name; those in the tree of a network one by one."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(params))
    return {_path(path): value for path, value in leaves if _is_real(value)}


def _path(path: tuple[Any, ...]) -> str:
    first, *rest = (str(getattr(key, "key", getattr(key, "idx", key))) for key in path)
    return ".".join([first.removesuffix("$params"), *rest])


def _is_real(value: Any) -> bool:
    return hasattr(value, "dtype") and np.issubdtype(value.dtype, np.floating) and value.size > 0


def _by_row(item: tuple[str, Any]) -> tuple[str, Any]:
    """Return the scales of a Cholesky factor instead of its single values."""
    name, value = item
    if not name.endswith("scale_tril"):
        return item
    return name.removesuffix("_tril"), np.linalg.norm(np.asarray(value, np.float64), axis=-1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _is_ready(value: Any) -> bool:
    return not isinstance(value, jax.Array) or value.is_ready()


def _sample(value: Any) -> np.ndarray:
    flat = np.asarray(value, np.float64).reshape(-1)
    return flat[_positions(flat.size)]


def _positions(size: int) -> np.ndarray:
    if size <= MOST_VALUES:
        return np.arange(size)
    return np.linspace(0, size - 1, MOST_VALUES).astype(int)


def _moved(then: np.ndarray, now: np.ndarray, width: np.ndarray | None) -> np.ndarray:
    if width is None or width.shape != now.shape:
        width = np.maximum(np.abs(now), np.abs(then))
    change = np.abs(now - then)
    moved = np.divide(change, width, out=np.zeros_like(change), where=width > 0)
    return np.where(np.isfinite(change), moved, np.inf)


_KINDS = {"loc": "location", "scale": "scale", "scale_tril": "scale", "mass_matrix": "mass"}


def _label(
    name: str, i: int, shape: tuple[int, ...], sites: ParameterSites, labels: AxisLabels
) -> Frame:
    """Name a value of a parameter after its site, or else after the parameter."""
    position = ()
    if shape:
        flat = int(_positions(int(np.prod(shape)))[i])
        position = tuple(int(at) for at in np.unravel_index(flat, shape))
    entry = sites.entry(name, shape, position)
    if entry is not None:
        return {
            "site": entry_name(entry.site, entry.index, entry.shape, labels),
            "kind": _kind(entry),
        }
    kind = next((kind for end, kind in _KINDS.items() if name.endswith(end)), "value")
    site = name.removesuffix("_auto_loc").removesuffix("_auto_scale")
    return {"site": site + bracketed(map(str, position)), "kind": kind}


def _kind(entry: SiteEntry) -> str:
    kind = _KINDS.get(entry.part.removeprefix("z_0_"), "value")
    if entry.part == "cov_factor":
        kind = f"factor {entry.more[0] + 1} of the covariance"
    return f"{kind}, unconstrained" if entry.is_unconstrained else kind
