"""What it costs to watch a fit in a real page: History, EarlyStopping and the live dashboard.

Run by hand from the checkout: ``python -m tests.benchmarks.bench_page slices``, or ``fits``.
JupyterLab serves a notebook to Chromium, which draws on the same cores. Two ways to measure:

``slices``: one long fit, whose listeners hear of half-second slices in turn and of none between. A
machine that others use drifts by a tenth within seconds; neighbouring slices differ far less.
``fits``: whole fits that are watched, and such that nobody watches, in turn. They also tell what
opening and closing the output costs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from tests.benchmarks.turns import machine_line
from tests.browser.jupyter import Notebook, chromium_browser, jupyterlab

STEPS = {32: 3_750_000, 256: 230_000, 4096: 150_000}
"""Steps of a fit: half a minute or so, as one watches a fit, not a blink of an eye."""

SLICE_S = 0.5

FITS = """
import json, time
from tests.benchmarks.bench_fit import OfModel, data, listeners

rows = data(20)
plain = OfModel("aimz_lab", rows, {size}, {steps})
watched = OfModel("aimz_lab", rows, {size}, {steps}, callbacks=listeners())
seconds = []
for turn in range({turns} + 1):
    # Who goes first takes turns too: a machine that others use drifts.
    order = (plain, watched) if turn % 2 else (watched, plain)
    took = {{}}
    for runner in order:
        time.sleep(2)  # what the page still does about the fit before is no part of this one
        began = time.perf_counter()
        runner()
        whole = time.perf_counter() - began
        took[runner] = whole, float(runner.model.last_run.column("seconds")[-1])
    seconds += [took[plain] + took[watched]] if turn else []
print("figures", json.dumps(seconds))
"""

SLICES = """
import json, random, time
from tests.benchmarks.bench_fit import OfModel, data, listeners
from aimz_lab import Callback
from aimz_lab.lab import LiveDashboard
from aimz_lab.lab.dashboard.widget import WidgetView

class HalfAsOften(WidgetView):
    # The page counts the time when nobody listens too, in which nothing is sent.
    @property
    def interval_s(self):
        return 2 * self.half_s

    @interval_s.setter
    def interval_s(self, seconds):
        self.half_s = seconds

class InSlices(Callback):
    every_epoch = False

    def __init__(self, *inner):
        self.inner, self.listens, self.rows = inner, True, []
        self.chance = random.Random(0)

    def on_fit_begin(self, run):
        self.begin(run, 3.0)
        for callback in self.inner:
            callback.on_fit_begin(run)

    def begin(self, run, seconds):
        self.began, self.step = time.perf_counter(), run.step
        self.until = self.began + seconds

    def on_steps_end(self, run, steps):
        now = time.perf_counter()
        if now >= self.until:
            self.rows.append([self.listens, now - self.began, run.step - self.step])
            self.listens = not self.listens
            self.begin(run, {slice_s} * self.chance.uniform(0.8, 1.2))
            if run.elapsed_s > {total_s}:
                run.control.stop()
        if self.listens:
            for callback in self.inner:
                callback.on_steps_end(run, steps)

    def on_fit_end(self, run):
        for callback in self.inner:
            callback.on_fit_end(run)

history, stopping, _ = listeners()
slices = InSlices(stopping, LiveDashboard(view=HalfAsOften()))
OfModel("aimz_lab", data(20), {size}, 10**10, callbacks=[history, slices])()
print("figures", json.dumps(slices.rows[1:]))
"""

# A page that nobody sends anything lets its clock go on; it must not in slices that count as
# unwatched. Where frames come at its pace, its clock adds no drawing.
STOP_CLOCKS = """() => {
  const every = window.setInterval;
  window.setInterval = (f, ms, ...more) => (ms === 1000 ? 0 : every(f, ms, ...more));
}"""


def mean_and_error(logs: np.ndarray, block: int = 10) -> tuple[float, float]:
    """Exponential of the mean of logarithms, and its standard error from means of blocks."""
    blocks = logs[: len(logs) // block * block].reshape(-1, block).mean(axis=1)
    error = blocks.std(ddof=1) / len(blocks) ** 0.5
    return round(float(np.exp(logs.mean())), 4), round(float(error), 4)


def of_slices(rows: list[list[float]]) -> dict[str, object]:
    """Rate in the slices that are heard of beside that of both neighbours, which are not."""
    heard, seconds, steps = np.array(rows).T
    logs = np.log(steps / seconds)
    apart = logs[1:-1] - (logs[:-2] + logs[2:]) / 2
    ratio, error = mean_and_error(np.where(heard[1:-1], apart, -apart))
    rate = round(steps[heard == 0].sum() / seconds[heard == 0].sum())
    return {"unwatched_steps_per_s": rate, "ratio": ratio, "error": error, "slices": len(apart)}


def of_fits(seconds: list[list[float]]) -> dict[str, object]:
    """Seconds of fits that nobody watches beside those of watched ones, whole and steps alone."""
    plain, plain_steps, watched, watched_steps = np.array(seconds).T
    ratio, error = mean_and_error(np.log(plain / watched), block=1)
    stepping, _ = mean_and_error(np.log(plain_steps / watched_steps), block=1)
    return {
        "plain_s": round(float(np.median(plain)), 3),
        "later_s": [round(float(of(watched - plain)), 3) for of in (np.median, np.min, np.max)],
        "ratio": ratio,
        "error": error,
        "stepping": stepping,
        "median": round(float(np.median(plain / watched)), 4),
        "pairs": np.round(plain / watched, 3).tolist(),
    }


def main() -> None:
    """Measure and print one line a batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("how", choices=["slices", "fits"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 256, 4096])
    parser.add_argument("--turns", type=int, default=10, help="pairs of fits")
    parser.add_argument("--steps", type=int, help="of a fit, instead of half a minute")
    parser.add_argument("--seconds", type=float, default=120, help="of all slices")
    options = parser.parse_args()
    print(machine_line())
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "notebooks"
        root.mkdir()
        with (
            jupyterlab(Path(folder), root) as server,
            chromium_browser(shutil.which("chromium")) as browser,
        ):
            for size in options.sizes:
                if options.how == "slices":
                    cell = SLICES.format(size=size, slice_s=SLICE_S, total_s=options.seconds)
                else:
                    steps = options.steps or STEPS[size]
                    cell = FITS.format(size=size, turns=options.turns, steps=steps)
                with Notebook(server, browser, f"{options.how}-{size}", [cell]) as notebook:
                    if options.how == "slices":
                        notebook.page.evaluate(STOP_CLOCKS)
                    notebook.run_all()
                    notebook.wait_until_done(0, 3600)
                    figures = json.loads(notebook.output(0, "figures").removeprefix("figures "))
                told = of_slices(figures) if options.how == "slices" else of_fits(figures)
                print(json.dumps({"batch": size, "how": options.how, **told}), flush=True)


if __name__ == "__main__":
    main()
