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

EPOCHS = {32: 600, 256: 2000, 4096: 4000}
"""Epochs of a fit: ten seconds and more, as one watches a fit, not a blink of an eye."""

FITS = """
import json
from tests.benchmarks.bench_fit import OfModel, data, listeners

X, y = data()
plain = OfModel("aimz_lab", {size})
watched = OfModel("aimz_lab", {size}, callbacks=listeners())
rates = []
for turn in range({turns} + 1):
    # Who goes first takes turns too: a machine that others use drifts.
    order = (plain, watched) if turn % 2 else (watched, plain)
    rate = {{runner: runner.rate(X, y, {epochs}) for runner in order}}
    rates += [[rate[plain], rate[watched]]] if turn else []
print("rates", json.dumps(rates))
"""


def main() -> None:
    """Measure and print one line a batch size."""
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
                pairs = [round(watched / plain, 3) for plain, watched in rates]
                plain, watched = (max(column) for column in zip(*rates, strict=True))
                found = {"batch": size, "plain": round(plain), "watched": round(watched)}
                found |= {"of_best": round(watched / plain, 3), "median": median(pairs)}
                print(json.dumps({**found, "pairs": pairs}), flush=True)


if __name__ == "__main__":
    main()
