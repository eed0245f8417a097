"""The tour: a first model on real data, from a terminal, in about a minute."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from aimz_lab.errors import FitWarning
from aimz_lab.lab import formatting
from aimz_lab.lab.callbacks import ProgressLine
from aimz_lab.lab.tour.experiment import (
    BATCH_SIZE,
    EPOCHS,
    PROB,
    Answer,
    Estimate,
    ask,
    difference_in_means,
    load_experiment,
    make_model,
)
from aimz_lab.lab.tour.tutorial import check_target, live_command, notebook_path, write_html
from aimz_lab.progress import StatusLine
from aimz_lab.system.old_jax import cost_of_old_jax


def tour(out: Path, *, epochs: int = EPOCHS) -> None:
    """Fit, ask, print the answer, and write the first tutorial; progress goes to standard error.

    Args:
        out: Where to write the tutorial as HTML.
        epochs: Passes over the data.

    Raises:
        ArgumentError: If the file cannot be written.
        AimzLabError: If the tutorial fails.
        KeyboardInterrupt: If the fit was interrupted.
        OptionalDependencyError: If a package of the ``lab`` extra is missing.
    """
    began = time.monotonic()
    check_target(out)
    notebook = notebook_path()
    experiment = load_experiment()
    print(_QUESTION, flush=True)
    im = make_model(epochs)
    with warnings.catch_warnings():
        # The line of progress reports it, and the tour ends.
        warnings.filterwarnings("ignore", ".*interrupted", FitWarning)
        im.fit(
            experiment.X,
            experiment.y,
            treat=experiment.treat,
            batch_size=BATCH_SIZE,
            epochs=epochs,
            callbacks=[ProgressLine()],
        )
    if im.last_run.status == "interrupted":
        raise KeyboardInterrupt
    print(report(ask(im, experiment), difference_in_means(experiment)), flush=True)
    _write_tutorial(notebook, out)
    if cost := cost_of_old_jax():
        print(f"\n{cost}.")
    took = formatting.duration(time.monotonic() - began)
    print(_FAREWELL.format(out, live_command(notebook), took))


_QUESTION = """\
Did a job programme raise earnings?

In the National Supported Work experiment, 445 men without steady work took part
in a lottery: 185 of them got a job for about a year, 260 did not. The model
learns who earned anything in 1978, and how much those earned who did.
"""

_FAREWELL = """
Look at the tutorial, which tells the whole story, in a browser:

    {}

Open it in JupyterLab, watch its fit live, and change its model:

    {}

All that took {}.
"""


def report(answer: Answer, difference: Estimate) -> str:
    """Put the model's answer next to the experiment's, in at most 80 columns.

    Args:
        answer: The model's.
        difference: The difference in means, in thousands of dollars.
    """
    rows = [
        ("", "without", "with", "effect", f"{PROB:.0%} interval"),
        ("share who earn", *_cells(answer, "works_p", _percent)),
        ("mean earnings", *_cells(answer, "expected", _dollars)),
        ("difference in means", "", "", *_effect(difference, _dollars)),
    ]
    table = "\n".join(f"  {a:<20}{b:>9}{c:>9}{d:>10}  {e:>18}" for a, b, c, d, e in rows)
    return f"""
The programme's effect, by the model and by the experiment alone:

{table}

The model compares men of like age, schooling and earlier earnings; the
difference in means takes the two groups as the lottery made them.
"""


def _cells(answer: Answer, site: str, write: Callable[[float], str]) -> list[str]:
    without, with_it, effect = (
        Estimate(*(float(part[site].sel(summary=s)) for s in ("mean", "hdi_low", "hdi_high")))
        for part in (answer.without, answer.with_it, answer.effect)
    )
    return [write(without.mean), write(with_it.mean), *_effect(effect, write)]


def _effect(estimate: Estimate, write: Callable[[float], str]) -> tuple[str, str]:
    sign = "+" if estimate.mean > 0 else ""
    return sign + write(estimate.mean), f"{write(estimate.low)} to {write(estimate.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _dollars(thousands: float) -> str:
    return f"{'-' if thousands < 0 else ''}${1000 * abs(thousands):,.0f}"


def _write_tutorial(notebook: Path, out: Path) -> None:
    line = StatusLine()

    def show(cell: int, cells: int) -> None:
        if line.rewrite:
            line.write(f"Executing the tutorial: cell {cell} of {cells}")
        elif cell == 1:
            line.write("Executing the tutorial ...")

    write_html(notebook, out, show)
    line.close(f"The tutorial was executed and written to {out}")
