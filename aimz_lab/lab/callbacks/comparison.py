"""Runs side by side: a table that shows itself below a picture of their losses."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from aimz_lab.data.html import html_table
from aimz_lab.errors import OptionalDependencyError
from aimz_lab.inference.run.events import Run
from aimz_lab.lab import formatting
from aimz_lab.lab.environment import has_matplotlib
from aimz_lab.lab.pictures import ink
from aimz_lab.lab.record import loss_trace
from aimz_lab.system.imports import late_import

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = ((), (6, 2), (2, 2), (8, 2, 2, 2))
_SIZE_IN, _DPI, _WIDTH = (7.2, 3.0), 148, 820

_WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "method": ("method", str),
    "status": ("status", str),
    "epochs": ("epochs", formatting.count),
    "steps": ("steps", formatting.count),
    "batch_size": ("rows of a batch", formatting.count),
    "elapsed_s": ("time", formatting.duration),
    "steps_per_s": ("steps/s", formatting.rate),
    "padded_share": ("padding", formatting.share),
    "loss": ("loss per row", formatting.number),
    "total_loss": ("loss of all rows", formatting.number),
    "best": ("best loss per row", formatting.number),
    "best_step": ("best at step", formatting.count),
    "validation": ("held-out loss per row", formatting.number),
    "draws": ("draws of each chain", formatting.count),
    "divergences": ("divergences", formatting.count),
}


class Comparison(pd.DataFrame):
    """Runs side by side, a column each; a data frame that shows a picture of their losses too.

    Its parts and what is computed from it are plain data frames.

    Args:
        facts: The facts of each run, by the name of the run.
        runs: The runs by name, as many.
    """

    _metadata = ("_runs",)

    def __init__(self, facts: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Run]) -> None:
        super().__init__(facts)
        object.__setattr__(self, "_runs", dict(runs))

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def figure(self) -> Figure:
        """Draw the smoothed loss of each run over its steps, per row where the rows are known.

        Raises:
            OptionalDependencyError: If matplotlib is missing.
        """
        if not has_matplotlib():
            msg = "Pictures need matplotlib: pip install 'aimz_lab[lab]'"
            raise OptionalDependencyError(msg)
        return _losses(self._runs)

    def __repr__(self) -> str:
        header, *rows = self._cells()
        return pd.DataFrame(rows, columns=header).set_index("").rename_axis(None).to_string()

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        return self._picture() + html_table("", header, rows)

    def _cells(self) -> list[list[str]]:
        rows = []
        for name, values in self.iterrows():
            words, write = _WORDS[name]
            cells = ["" if _is_missing(value) else write(value) for value in values]
            if any(cells):
                rows.append([words, *cells])
        return [["", *map(str, self.columns)], *rows]

    def _picture(self) -> str:
        if not has_matplotlib() or not any(map(_has_curve, self._runs.values())):
            return ""
        encoding = late_import("aimz_lab.lab.pictures.encoding")
        encoded = base64.b64encode(encoding.png(_losses(self._runs))).decode("ascii")
        ends = ", ".join(
            f"{name} ends at {formatting.number(self.at['loss', name])}"
            for name, run in self._runs.items()
            if _has_curve(run)
        )
        return encoding.image_tag(encoded, f"Losses over the steps: {ends}.", _WIDTH)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _has_curve(run: Run) -> bool:
    """Whether a run has losses; what chains report is none."""
    return bool(run.step) and not run.info.is_sampling


def _losses(runs: Mapping[str, Run]) -> Figure:
    """Draw the losses on transparent paper."""
    layout = late_import("aimz_lab.lab.pictures.figure_layout")
    agg = late_import("matplotlib.backends.backend_agg")
    ticker = late_import("matplotlib.ticker")
    drawn = {name: run for name, run in runs.items() if _has_curve(run)}
    figure = layout.ShownFigure(
        figsize=_SIZE_IN, dpi=_DPI, facecolor="none", layout=layout.Margins()
    )
    agg.FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor="none")
    for i, (name, run) in enumerate(drawn.items()):
        trace = loss_trace(run)
        dashes = _DASHES[i // len(ink.LINES) % len(_DASHES)]
        marker = "o" if trace.n_steps == 1 else ""
        values, color = trace.smooth() / (run.info.n_obs or 1), ink.LINES[i % len(ink.LINES)]
        axes.plot(
            trace.steps, values, color=color,
            linewidth=1.8, dashes=dashes or (None, None), marker=marker, label=f" {name}",
        )  # fmt: skip
    per_row = all(run.info.n_obs for run in drawn.values())
    axes.set_xlabel("step", color=ink.TEXT, fontsize=8.5)
    axes.set_ylabel(
        "loss per row (nats)" if per_row else "loss (nats)", color=ink.TEXT, fontsize=8.5
    )
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: formatting.count(value)))
    axes.tick_params(colors=ink.TEXT, labelsize=8, length=0)
    axes.grid(color=ink.TEXT, alpha=0.2, linewidth=0.8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_ylim(*_limits([line.get_ydata() for line in axes.lines]))
    layout.legend_below(axes, ink.TEXT)
    return figure


def _limits(curves: list[np.ndarray]) -> tuple[float, float]:
    """Limits that show the curves' ends: from the lowest value to what most steps stay below."""
    values = np.concatenate([curve[np.isfinite(curve)] for curve in curves] or [np.zeros(1)])
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    after_fall = max(
        (float(np.quantile(c[np.isfinite(c)], 0.9)) for c in curves if np.isfinite(c).any()),
        default=high,
    )
    if high - low > 4 * (after_fall - low) > 0:
        high = low + 1.5 * (after_fall - low)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room
