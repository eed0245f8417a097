"""Steps per second of ``fit`` with everything attached, in a real page, beside the rate without.

Run by hand from the checkout: ``python -m tests.benchmarks.bench_page``. JupyterLab serves a
notebook to Chromium, in which fits with History, EarlyStopping and the live dashboard take turns
with fits that nobody watches. The browser draws on the same cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from statistics import median

from tests.browser.jupyter import Notebook, chromium_browser, jupyterlab

EPOCHS = {32: 1200, 256: 2000, 4096: 4000}
"""Epochs of a fit: half a minute or so, as one watches a fit, not a blink of an eye."""

FITS = """
import json, time
from tests.benchmarks.bench_fit import OfModel, data, listeners

X, y = data()
plain = OfModel("aimz_lab", {size})
watched = OfModel("aimz_lab", {size}, callbacks=listeners())
rates = []
for turn in range({turns} + 1):
    # Who goes first takes turns too: a machine that others use drifts.
    order = (plain, watched) if turn % 2 else (watched, plain)
    rate = {{}}
    for runner in order:
        time.sleep(2)  # what the page still does about the fit before is no part of this one
        whole = runner.rate(X, y, {epochs} if turn else 40)
        run = runner._model.last_run
        rate[runner] = whole, run.step / run.column("seconds")[-1]
    rates += [rate[plain] + rate[watched]] if turn else []
print("rates", json.dumps(rates))
"""


def summary(plain: tuple[float, ...], watched: tuple[float, ...]) -> dict[str, object]:
    """Tell the ratio of the best turns, the median of the pairs, and the pairs."""
    pairs = [round(ours / without, 3) for without, ours in zip(plain, watched, strict=True)]
    best = round(max(watched) / max(plain), 3)
    return {"plain": round(max(plain)), "of_best": best, "median": median(pairs), "pairs": pairs}


def main() -> None:
    """Measure and print one line a batch size: whole fits, and their steps alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256, 4096])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "notebooks"
        root.mkdir()
        with (
            jupyterlab(Path(folder), root) as server,
            chromium_browser(shutil.which("chromium")) as browser,
        ):
            for size in options.sizes:
                cell = FITS.format(size=size, turns=options.turns, epochs=EPOCHS[size])
                with Notebook(server, browser, f"fits-{size}", [cell]) as notebook:
                    notebook.run_all()
                    notebook.wait_until_done(0, 1800)
                    rates = json.loads(notebook.output(0, "rates").removeprefix("rates "))
                plain, plain_steps, watched, steps = zip(*rates, strict=True)
                whole, stepping = summary(plain, watched), summary(plain_steps, steps)
                print(json.dumps({"batch": size, "whole": whole, "stepping": stepping}), flush=True)


if __name__ == "__main__":
    main()
