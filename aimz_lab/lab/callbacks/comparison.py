"""Runs side by side: a table that shows itself below a picture of their losses."""

from __future__ import annotations

import base64
import html
import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aimz_lab.data.html import html_table
from aimz_lab.inference.run.events import Run
from aimz_lab.lab import environment, formatting
from aimz_lab.lab.pictures.compared_losses import comparison_figure, has_curve
from aimz_lab.number_text import SEEN_S
from aimz_lab.system.imports import late_import
from aimz_lab.system.lazy_modules import pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 640

_TEXT_WIDTH, _LABEL_WIDTH, _CELL_WIDTH = 80, 30, 23
"""Characters of a line of text; and of a label and a cell, where a table is too wide for it."""


def _if_seen(seconds: float) -> str:
    """Write a time that is left out where it is too short to see."""
    return formatting.duration(seconds) if seconds >= SEEN_S else ""


_WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "method": ("method", str),
    "status": ("status", str),
    "epochs": ("epochs", formatting.count),
    "steps": ("steps", formatting.count),
    "batch_size": ("rows of a batch", formatting.count),
    "trained_s": ("time", formatting.duration),
    "prepared_s": ("time to prepare", _if_seen),
    "compiling_s": ("time tracing and compiling", _if_seen),
    "waited_s": ("time waiting for other runs", _if_seen),
    "paused_s": ("time paused", _if_seen),
    "steps_per_s": ("steps/s", formatting.rate),
    "padded_share": ("padding", formatting.share),
    "loss": ("loss per row", formatting.number),
    "total_loss": ("loss of all rows", formatting.number),
    "best": ("best loss per row", formatting.number),
    "best_by": ("best by", str),
    "best_step": ("best at step", formatting.count),
    "validation": ("held-out loss per row", formatting.number),
    "draws": ("draws of each chain", formatting.count),
    "divergences": ("divergences", formatting.count),
    "r_hat": ("largest R-hat (limit 1.01)", formatting.ratio),
    "ess": ("fewest effective draws", formatting.count),
    "kernel": ("kernel", str),
    "outcome": ("outcome", str),
    "n_obs": ("rows", formatting.count),
    "learning_rate": ("learning rate at first", formatting.number),
    "last_learning_rate": ("learning rate at last", formatting.number),
    "scaled": ("weight of the rows of a batch", str),
    "posterior_draws": ("draws of the posterior", formatting.count),
    "held_out_elbo": ("held-out ELBO per row", formatting.number),
    "held_out_elbo_se": ("error of the ELBO by its draws", formatting.number),
    "held_out_lpd": ("held-out log density per row", formatting.number),
    "held_out_joint_lpd": ("that of all rows together", formatting.number),
    "k_hat": ("k-hat of the guide", formatting.number),
    "verdict": ("verdict", str),
    "elpd_loo": ("elpd, leave-one-out", formatting.number),
    "se": ("its standard error", formatting.number),
    "p_loo": ("effective parameters", formatting.number),
    "draws_se": ("error of elpd by its draws", formatting.number),
    "pareto_k": ("largest k-hat of a row", formatting.number),
    "bad_k": ("rows of too large k-hat", formatting.share),
    "loo_rank": ("rank, from 0", formatting.count),
    "elpd_diff": ("elpd compared with the best", formatting.number),
    "dse": ("standard error of that", formatting.number),
    "weight": ("weight, stacking", formatting.share),
}

_BESIDE = {"held_out_elbo": "held_out_elbo_se", "elpd_loo": "draws_se", "elpd_diff": "dse"}
"""The error that stands below a number."""


class Comparison(pd.DataFrame):
    """Runs side by side, a column each; a data frame that shows a picture of their losses too.

    Its parts and what is computed from it are plain data frames.

    Args:
        facts: The facts of each run, by the name of the run.
        runs: The runs by name; a model that was loaded has none.
        notes: Sentences about what is missing, by the name of the run.

    Attributes:
        notes: These sentences.
    """

    _metadata = ("_runs", "notes")

    def __init__(
        self,
        facts: Mapping[str, Mapping[str, Any]],
        runs: Mapping[str, Run],
        notes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(facts)
        object.__setattr__(self, "_runs", dict(runs))
        object.__setattr__(self, "notes", dict(notes or {}))

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def figure(self) -> Figure:
        """Draw the smoothed loss of each run over its steps, per row where the rows are known.

        Below it are the differences of leave-one-out, with two standard errors, if models were
        compared by it.

        Raises:
            OptionalDependencyError: If matplotlib is missing.
        """
        environment.require_matplotlib()
        return comparison_figure(self._runs, self._differences(), list(map(str, self.columns)))

    def __repr__(self) -> str:
        return "\n".join([_text_table(self._cells()), *self._sentences()])

    def _repr_html_(self) -> str:
        header, *rows = self._cells()
        notes = "".join(f"<p>{html.escape(text)}</p>" for text in self._sentences())
        return self._picture() + html_table("", header, rows) + notes

    def _sentences(self) -> list[str]:
        return [f"{name}: {text}." for name, said in self.notes.items() for text in said]

    def _differences(self) -> dict[str, tuple[float, float]]:
        """Return the difference of leave-one-out to the best, and its error, by run."""
        if "elpd_diff" not in self.index:
            return {}
        both = self.loc[["elpd_diff", "dse"]].dropna(axis=1)
        return {str(name): (float(both[name].iloc[0]), float(both[name].iloc[1])) for name in both}

    def _uncertain(self) -> set[Any]:
        """Return the runs that leave-one-out does not tell from the best one, and that one."""
        facts = self.loc[["elpd_diff", "dse", "draws_se"]].dropna(axis=1).astype(float)
        best = facts.columns[facts.loc["elpd_diff"] == 0][0]
        of_draws = np.hypot(facts.loc["draws_se"], facts.loc["draws_se", best])
        error = np.maximum(facts.loc["dse"], of_draws)
        near = set(facts.columns[(facts.loc["elpd_diff"].abs() < 2 * error).to_numpy()])
        return near | {best} if near - {best} else set()

    def _cells(self) -> list[list[str]]:
        rows = []
        for name, values in self.iterrows():
            words, write = _WORDS[name]
            if (beside := _BESIDE.get(name)) in self.index:
                pairs = zip(values, self.loc[beside], strict=True)
                cells = [_with_error(*pair) for pair in pairs]
            else:
                cells = ["" if _is_missing(value) else write(value) for value in values]
            if name == "weight":
                near, pairs = self._uncertain(), zip(self.columns, cells, strict=True)
                cells = [cell + ", uncertain" * (run in near) for run, cell in pairs]
            if any(cells):
                # The words are for people; the name is what `.loc` takes.
                rows.append([words if words == name else f"{words} ({name})", *cells])
        return [["", *map(str, self.columns)], *rows]

    def _picture(self) -> str:
        if not environment.has_matplotlib() or not any(map(has_curve, self._runs.values())):
            return ""
        encoding = late_import("aimz_lab.lab.pictures.encoding")
        figure = self.figure()
        encoded = base64.b64encode(encoding.png(figure)).decode("ascii")
        return encoding.image_tag(encoded, figure.alt, _WIDTH)


def _text_table(rows: Sequence[Sequence[str]]) -> str:
    """Write a table in lines of 80 characters: cells wrap, and columns go on below."""
    lines = [[[cell] for cell in row] for row in rows]
    if _width(lines) > _TEXT_WIDTH:
        limits = [_LABEL_WIDTH, *[_CELL_WIDTH] * (len(rows[0]) - 1)]
        lines = [[_wrapped(*pair) for pair in zip(row, limits, strict=True)] for row in rows]
    parts, first, end = [], 1, len(rows[0])
    while first < end:
        last = end
        while last > first + 1 and _width(_part(lines, first, last)) > _TEXT_WIDTH:
            last -= 1
        parts.append(_written(_part(lines, first, last)))
        first = last
    return "\n\n".join(parts)


def _wrapped(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) or [""]


def _part(lines: Sequence[Sequence[list[str]]], first: int, last: int) -> list[list[list[str]]]:
    """Return the labels, and the columns from one to before another."""
    return [[row[0], *row[first:last]] for row in lines]


def _widths(lines: Sequence[Sequence[list[str]]]) -> list[int]:
    columns = zip(*lines, strict=True)
    return [max(len(text) for cell in column for text in cell) for column in columns]


def _width(lines: Sequence[Sequence[list[str]]]) -> int:
    widths = _widths(lines)
    return sum(widths) + 2 * (len(widths) - 1)


def _written(lines: Sequence[Sequence[list[str]]]) -> str:
    """Write rows of wrapped cells: labels to the left, the others to the right."""
    width, *widths = _widths(lines)
    return "\n".join(
        "  ".join([label.ljust(width), *map(str.rjust, cells, widths)]).rstrip()
        for row in lines
        for label, *cells in itertools.zip_longest(*row, fillvalue="")
    )


def _with_error(value: Any, error: Any) -> str:
    if _is_missing(value):
        return ""
    return formatting.number_beside(value, math.nan if _is_missing(error) else error)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
