"""Summarise a run in a few facts: as text, as HTML, and as the description of its picture."""

from __future__ import annotations

from html import escape

import numpy as np

from aimz_lab.calls import public
from aimz_lab.data.options import check_text
from aimz_lab.inference.run.chain_words import chain_facts
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.loss_words import best_words, trend_words, with_total
from aimz_lab.inference.run.run_words import (
    ended_words,
    heading,
    notes,
    rate_words,
    skipped,
    status_then,
    steps_words,
)
from aimz_lab.lab import formatting
from aimz_lab.lab.panels.chains import judged_at_the_end
from aimz_lab.lab.panels.padding import advice
from aimz_lab.lab.pictures.encoding import image_tag
from aimz_lab.lab.record import RunSource, padded_share, run_of

_MOST_NOTES = 5
WIDTH = 640  # of the picture of a run on a page, in pixels


def facts(source: RunSource) -> dict[str, str]:
    """Return the facts of a run as text, by name.

    Args:
        source: A run, or an object with one.
    """
    run = run_of(source)
    found = _facts(run)
    return found | {"trust": run.trust} if run.trust else found


def _facts(run: Run) -> dict[str, str]:
    found = {"status": ended_words(run) if run.finished else status_then(run)}
    if run.info.is_sampling:
        if run.finished and run.chains is not None:
            judged_at_the_end(run)
        return found | chain_facts(run) | {"time": formatting.time_words(run)}
    found |= _losses(run)
    if run.validation:
        found["held-out loss"] = f"{formatting.number(run.validation[-1][1])} per row"
    found["steps"] = steps_words(run)
    if run.skipped:
        found["skipped"] = skipped(run)
    if words := rate_words(run):
        found["learning rate"] = words
    found["time"] = f"{formatting.time_words(run)}{_rates(run)}"
    if padded := padded_share(run):
        found["padding"] = f"{formatting.share(padded)} of the rows computed only fill up batches"
        if suggestion := advice(run):
            found["advice"] = suggestion
    if run.checkpoints:
        step, path = run.checkpoints[-1]
        found["checkpoint"] = f"{path} at step {step:,}"
    return found


def _losses(run: Run) -> dict[str, str]:
    if not np.isfinite(run.losses).any():
        return {}
    found = {"loss": with_total(run)}
    if words := best_words(run):
        found["best"] = words
    if words := trend_words(run):
        found["trend"] = words
    return found


def _rates(run: Run) -> str:
    steps_per_s, rows_per_s = formatting.mean_rates(run)
    if not steps_per_s:
        return ""
    steps = f"; {formatting.rate(steps_per_s)} steps/s"
    return f"{steps}, {formatting.rate(rows_per_s)} rows/s" if rows_per_s else steps


class Summary:
    """Facts of a run, as text, HTML and a sentence.

    Args:
        source: A run, or an object with one.
    """

    def __init__(self, source: RunSource) -> None:
        self._run = run_of(source)
        self._facts = facts(self._run)

    def text(self) -> str:
        """Return a line with the name of the run, and a line for each fact."""
        lines = [heading(self._run)]
        lines += [f"  {name:<13} {text}" for name, text in self._facts.items()]
        return "\n".join(
            [*lines, *(f"  {'note':<13} {note}" for note in notes(self._run, _MOST_NOTES))]
        )

    def html(self, picture: str = "", alt: str = "") -> str:
        """Return a table as HTML, below an image or the run's name.

        Args:
            picture: Source of the image.
            alt: What it shows; by default the loss of the run.
        """
        rows = [*self._facts.items(), *(("note", note) for note in notes(self._run, _MOST_NOTES))]
        cells = "".join(
            f'<tr><th scope="row" style="text-align:left;font-weight:600">{escape(name)}</th>'
            f'<td style="text-align:left;overflow-wrap:anywhere">{escape(text)}</td></tr>'
            for name, text in rows
        )
        if picture:
            image = image_tag(picture, alt or self.alt(), WIDTH)
        else:
            image = f"<strong>{escape(heading(self._run))}</strong>"
        return (
            f'<div>{image}<table style="margin:4px 0 0;font-size:13px"><tbody>{cells}</tbody>'
            "</table></div>"
        )

    def alt(self, curve: str = "") -> str:
        """Return a sentence for readers who cannot see the picture.

        Args:
            curve: What it shows, in words; by default the loss, or the energy of chains.
        """
        run, found = self._run, self._facts
        curve = curve[:1].upper() + curve[1:]
        status = found["status"] if run.finished else f"the run {found['status']}"
        if run.info.is_sampling:
            more = ", ".join(f"{name} {found[name]}" for name in ("R-hat", "ESS") if name in found)
            more = f" {more}." if more else ""
            curve = curve or "Potential energy"
            return f"{curve} of the chains of {run.info.model}, {status}.{more}"
        loss = f" Loss {found['loss']}." if "loss" in found else ""
        curve = curve or "Loss"
        return f"{curve} of {run.info.model} over {run.step:,} steps, {status}.{loss}"


def notice_html(text: str) -> str:
    """Return a line of text as HTML, calm in any theme."""
    return f'<div style="font-size:13px;opacity:0.75">{escape(text)}</div>'


@public
def summary_text(source: RunSource) -> str:
    """Return the summary of a run as plain text.

    Args:
        source: A run, or an object with one.

    Returns:
        A line with the name of the run, and a line for each fact.

    Example:
        >>> print(summary_text(im.fit(X, y, epochs=5, progress=False).last_run))
        kernel · SVI with AutoNormal
          status     ...
    """
    return Summary(source).text()


@public
def summary_html(source: RunSource, *, picture: str = "") -> str:
    """Return the summary of a run as a small HTML table that needs no style sheet.

    Args:
        source: A run, or an object with one.
        picture: Source of an image to show above the table, such as a ``data:`` URL.

    Returns:
        A fragment of HTML.

    Raises:
        DataTypeError: If ``source`` has no run.
        ArgumentError: If ``picture`` is no text.

    Example:
        >>> "<table" in summary_html(im.last_run)
        True
    """
    return Summary(source).html(check_text("picture", picture))
