"""The front end's pure functions in Node, next to their Python counterparts."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.inference.run.run_words import no_training
from aimz_lab.inference.run.smoothing import averaged_steps
from aimz_lab.lab import formatting
from aimz_lab.lab.dashboard import static
from aimz_lab.lab.explorers import static as explorers
from aimz_lab.lab.panels import LossPanel, TracePanel
from aimz_lab.lab.pictures.vertical_view import linear_view, vertical_view
from aimz_lab.lab.traces import Trace, float32, smooth, unpack
from tests.lab.pictures.test_vertical_view import LOSSES, curve
from tests.lab.runs import begun, feed

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="needs Node.js, 18 or newer, on the PATH (Debian: apt-get install nodejs)"
)

# Answers a line of JSON `[function, ...arguments]` with a line of JSON. Numbers that JSON has not
# go as text; a `{"$f4": base64}` becomes the view of a buffer, as a widget's message brings it.
SERVER = """
import readline from "node:readline";
import * as math from "./math.js";
import * as chart from "./chart.js";
import * as marks from "./marks.js";
import * as view from "./view.js";
import * as position from "./position.js";
const special = { NaN, Infinity, "-Infinity": -Infinity };
const revive = (_, value) => {
  if (typeof value === "string" && value in special) return special[value];
  if (value?.$f4 === undefined) return value;
  const bytes = Buffer.from(value.$f4, "base64");
  const padded = new Uint8Array(bytes.length + 1);  // at an odd offset, as in a message
  padded.set(bytes, 1);
  return new DataView(padded.buffer, 1);
};
const replace = (_, value) => {
  if (ArrayBuffer.isView(value)) return Array.from(value);
  return typeof value === "number" && !Number.isFinite(value) ? String(value) : value;
};
const calls = {
  ...math,
  ...chart,
  ...view,
  ...position,
  scaled: (kind, domain, range, values) => {
    const scale = math.scale(kind, domain, range);
    return values.map((value) => [scale.at(value), scale.invert(scale.at(value))]);
  },
  ticks: (kind, domain, about) => math.scale(kind, domain, [0, 100]).ticks(about),
  drawn: (loss, previousRuns, options, box) => {
    const all = chart.series(loss, previousRuns, options);
    const { x, y, ...rest } = chart.scene(all, options, box);
    const line = rest.smoothed ?? rest.mean;
    const pixels = { x: Array.from(rest.steps, x.at), y: Array.from(line, y.at) };
    return { ...rest, pixels, words: chart.describe(all, "running") };
  },
  // The ends of each text that is painted; a letter is 6 pixels wide.
  texts: (loss, options, box) => {
    const found = [];
    const measureText = (text) => ({ width: 6 * text.length });
    const fillText = (text, x) => {
      const { width } = measureText(text);
      const left = x - { left: 0, center: width / 2, right: width }[ctx.textAlign];
      found.push([text, left, left + width]);
    };
    const known = { measureText, fillText };
    const ctx = new Proxy(known, { get: (of, name) => (name in of ? of[name] : () => {}) });
    chart.paint(ctx, chart.scene(chart.series(loss, [], options), options, box), {});
    return found;
  },
  // Where the lines of changes of the rate begin.
  tops: (loss, options, box) => {
    const found = [];
    const known = { moveTo: (x, y) => found.push(y) };
    const ctx = new Proxy(known, { get: (of, name) => of[name] ?? (() => {}) });
    marks.rateMarks(ctx, chart.scene(chart.series(loss, [], options), options, box), {});
    return found;
  },
};
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [name, ...args] = JSON.parse(line, revive);
  console.log(JSON.stringify(calls[name](...args) ?? null, replace));
}
"""


class Node:
    """Calls a function of the front end."""

    def __init__(self, folder):
        for source in static.SOURCES.glob("*.js"):
            shutil.copy(source, folder)
        (folder / "package.json").write_text('{"type": "module"}')
        (folder / "server.js").write_text(SERVER)
        self.process = subprocess.Popen(
            [NODE, "server.js"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __call__(self, *call):
        self.process.stdin.write(json.dumps(_plain(call)) + "\n")
        answer = self.process.stdout.readline()
        assert answer, "Node ended"
        return _numbers(json.loads(answer))


def _plain(value):
    if isinstance(value, bytes):
        return {"$f4": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(float(value))]
    return value.item() if isinstance(value, np.generic) else value


def _numbers(value):
    special = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    if isinstance(value, dict):
        return {name: _numbers(part) for name, part in value.items()}
    return special.get(value, value) if isinstance(value, str) else value


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    node = Node(tmp_path_factory.mktemp("front_end"))
    yield node
    node.process.communicate(timeout=10)


# Halves, which the page and Python would round to different sides by default.
halves = st.integers(-(10**7), 10**7).flatmap(lambda n: st.sampled_from([n / 2, n / 16, n / 80]))
numbers = st.floats(-1e12, 1e12) | halves | st.sampled_from([1e-7, 0.00012, 999.96, np.nan, np.inf])


class TestSameAsPython:
    @given(numbers, st.integers(2, 5))
    @example(-0.0, 4)
    @example(-0.4, 2)
    @example(1000.5, 4)
    @example(-2500.5, 4)
    @example(0.12345, 4)
    @example(2.0625, 4)
    @example(9.99996e-5, 4)
    @example(999_999_999.7, 4)
    @example(1e9, 4)
    def test_numbers(self, node, value, digits):
        assert node("number", value, digits) == formatting.number(value, digits)

    @pytest.mark.parametrize("value", [1182.123456, -0.034567, 12.5, 0.0, 3e-7, 2.5e10])
    @pytest.mark.parametrize("spread", [0.0651, 0.0996, 400.0, 1e-9])
    def test_numbers_beside_their_spread(self, node, value, spread):
        assert node("numberBeside", value, spread) == formatting.number_beside(value, spread)

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (-0.0, "0"),
            (1000.5, "1,001"),
            (-1000.5, "-1,001"),
            (2.0625, "2.063"),
            (5e-324, "4.941e-324"),
        ],
    )
    def test_halves_go_away_from_zero_and_zero_has_no_sign(self, node, value, text):
        assert (node("number", value), formatting.number(value)) == (text, text)

    @given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e3), st.integers(2, 8))
    @example(1000.3, 0.4, 2)
    @example(-0.2, 0.4, 2)
    @example(1000.0, 2.0, 4)
    @example(0.0, 0.00025, 5)
    def test_the_labels_of_an_axis_and_they_are_what_they_stand_for(self, node, low, span, about):
        high = low + max(span, 1e-6 * abs(low))  # no finer than single precision tells apart
        ticks = node("ticks", "linear", [low, high], about)
        labels = node("tickLabels", ticks)
        assert labels == formatting.tick_labels(ticks)
        assert len({"e" in label for label, tick in zip(labels, ticks, strict=True) if tick}) < 2
        written = [float(label.replace(",", "")) for label in labels]
        if len(ticks) > 1:
            np.testing.assert_allclose(written, ticks, rtol=0, atol=0.01 * min(np.diff(ticks)))
        else:
            np.testing.assert_allclose(written, ticks, rtol=1e-9)

    @given(numbers.filter(np.isfinite))
    @example(1000.5)
    @example(1.23456789e-10)
    @example(0.1 + 0.2)
    @example(-0.0)
    def test_the_label_of_a_value_alone_is_exact(self, node, value):
        [label] = formatting.tick_labels([value])
        assert node("tickLabels", [value]) == [label]
        assert float(label.replace(",", "")) == pytest.approx(value, rel=1e-8, abs=0)

    @given(st.floats(0, 1e7) | halves.map(abs))
    @example(0.25)
    @example(9.95)
    @example(10.5)
    @example(59.5)
    def test_durations(self, node, seconds):
        assert node("duration", seconds) == formatting.duration(seconds)

    @given(st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e5))
    @example(0.0, 0.0, 0.0, 0.04)
    @example(0.0, 0.0, 6.3, 0.0)
    @example(0.05, 1.5, 6.3, 11.0)
    def test_times_that_are_no_training(self, node, prepared, compiling, waited, paused):
        progress = {"prepared_s": prepared, "compiling_s": compiling, "waited_s": waited,
                    "paused_s": paused}  # fmt: skip
        assert node("noTraining", progress) == no_training(prepared, compiling, waited, paused)

    def test_the_words_for_smoothing_have_the_steps_of_the_numbers_beside_them(self, node):
        for step, epoch in [(450, 15), (100_000, None), (9, 3)]:
            n = int(averaged_steps(step, epoch))
            told = f"Mean of the last {n:,} steps; at earlier steps, of {n:,} or fewer"
            assert node("smoothing", step, epoch) == (told if n > 1 else node("smoothing", 0, None))
        run, panel = begun(n_obs=1, steps_per_epoch=15), LossPanel()
        panel.begin(run)
        losses = np.linspace(9, 1, 450)
        feed(run, losses)
        frame = panel.frame(run)
        assert frame["now"] == pytest.approx(losses[-45:].mean(), rel=1e-6)
        words = node("smoothing", frame["traces"]["loss"]["steps"], frame["averaged_epoch"])
        assert words.startswith("Mean of the last 45 steps;")

    @given(st.none() | st.floats(0, 1e5))
    @example(0.0)
    @example(0.04)
    def test_time_that_is_used_up_is_not_left(self, node, seconds):
        assert node("timeLeft", seconds) == formatting.time_left(seconds)
        progress = {"status": "running", "words": "running", "epoch": 2, "eta_s": seconds}
        assert node("position", {}, progress, None, None).endswith(" left") == bool(
            formatting.time_left(seconds)
        )

    def test_statistics_of_chains_have_the_field_s_names(self, node):
        run, panel = begun(is_sampling=True), TracePanel()
        run.chains = ChainRecord(ChainPlan(1, 0, 2), {}, lambda *chosen: None)
        columns = {"diverging": [[0], [1]], "n_steps": [[7], [7]]}
        run.chains.extend({name: np.array(values) for name, values in columns.items()}, 2)
        feed(run, [1.0, 1.0], diverging=[0, 1], n_steps=[7, 7])
        panel.begin(run)
        frame = panel.frame(run)
        options = {"smooth": True, "perRow": True}
        shown = {n: node("series", frame, [], options | {"curve": n}) for n in frame["traces"]}
        assert [one["unit"] for one in shown.values()] == ["divergences", "leapfrog steps"]
        found = node("readout", shown["n_steps"], 1)
        assert node("readoutLines", shown["n_steps"], found)[1] == "leapfrog steps 7"
        for is_chains, words in [(True, "leapfrog steps"), (False, "n steps")]:
            assert node("curveWords", "n_steps", is_chains) == words
            assert formatting.curve_words("n_steps", is_sampling=is_chains) == words

    def test_the_readout_is_of_its_steps_alone(self, node):
        losses = np.random.default_rng(0).normal(1e4, 1e3, 5_000).astype(np.float32)
        run, panel = begun(n_obs=1000), LossPanel()
        panel.begin(run)
        feed(run, losses, rate=0.5)
        feed(run, losses, rate=0.25)
        losses, frame = np.concatenate([losses, losses]), panel.frame(run)
        options = {"curve": "loss", "smooth": True, "perRow": True}
        shown = node("series", frame, [], options)
        for step in (1, 3_000, 10_000):
            found = node("readout", shown, step)
            kept = losses[found["first"] - 1 : found["step"]] / 1000
            assert len(kept) == found["step"] - found["first"] + 1 <= 16
            assert found["raw"] == pytest.approx(kept.mean(dtype=float), rel=1e-6)
            assert (found["low"], found["high"]) == pytest.approx((kept.min(), kept.max()))
        lines = node("readoutLines", shown, found)
        assert lines[0] == f"steps {found['first']:,} to 10,000"
        assert lines[1].startswith(f"mean of {len(kept)} steps ")
        low, high = map(formatting.number, (kept.min(), kept.max()))
        assert lines[2] == f"from {low} to {high}"
        rates = node("series", frame, [], {**options, "curve": "learning_rate"})
        for step, rate in [(1, 0.5), (4_990, 0.5), (5_010, 0.25), (10_000, 0.25)]:
            found = node("readout", rates, step)  # the rate of this very step
            assert run.column("learning_rate")[found["step"] - 1] == found["raw"] == rate
            at = f"step {found['step']:,}"
            assert node("readoutLines", rates, found) == [at, f"learning rate {rate}"]
        few = node("readout", {"steps": [1, 2], "mean": [3.0, 4.0], "curve": "loss"}, 2)
        assert node("readoutLines", {"curve": "loss"}, few) == ["step 2", "this step 4"]

    def test_the_clock_that_goes_on_is_the_one_that_counts(self, node):
        progress = {"status": "paused", "trained_s": 6.0, "prepared_s": 0.0, "paused_s": 1.0,
                    "elapsed_s": 7.0, "seconds_in": {"steps": 4.9, "paused": 1.0}}  # fmt: skip
        later = node("later", {**progress, "eta_s": None}, 10.0)
        assert (later["trained_s"], later["paused_s"], later["elapsed_s"]) == (6, 11, 17)
        shares = {"steps": 0.288, "paused": 0.647, "other": 0.065}
        assert dict(node("shares", later)) == pytest.approx(shares)
        begun = {**progress, "status": "running", "words": "preparing", "prepared_s": 2.0}
        later = node("later", begun, 10.0)
        assert (later["trained_s"], later["prepared_s"]) == (6, 12)
        assert node("position", {}, later, {}, None) == "compiling the first step · 12 s"
        compiles = {**progress, "status": "running", "words": "running", "epoch": 2}
        told = "compiling the steps for the new learning rate · 2.0 s"
        assert node("position", {}, compiles, {}, told) == told
        ended = {**progress, "status": "completed", "epoch": 2, "words": "completed"}
        assert node("position", {}, ended, {}, None) == "epoch 2 · in 6.0 s · 1.0 s paused"

    def test_steps_on_all_rows_are_counted_in_place_of_epochs(self, node):
        running = {"status": "running", "words": "running", "epoch": 1, "step": 20, "eta_s": 30.0,
                   "total_steps": 3_000}  # fmt: skip
        for meta, place in [
            ({"epochs": 1, "has_all_rows_each_step": True}, "step 20 of 3,000"),
            ({"epochs": 1, "has_all_rows_each_step": False}, "epoch 1 of 1"),
        ]:
            assert node("position", meta, running, {}, None) == f"{place} · 30 s left"

    def test_chains_that_have_ended_tell_their_draws_and_no_epoch(self, node):
        ended = {"status": "stopped", "epoch": 1, "words": "stopped", "trained_s": 14.0,
                 "prepared_s": 0.0, "paused_s": 0.0}  # fmt: skip
        meta = {"is_sampling": True, "epochs": 1}
        draws = {"draws": 10_704, "of": 300_000, "warming_up": False}
        found = node("position", meta, ended, draws, None)
        assert found == "draw 10,704 of 300,000 · in 14 s"
        assert node("position", meta, ended, {}, None) == "in 14 s"

    def test_the_numbers_of_a_run_that_trains_are_all_of_its_last_report(self, node):
        progress = {"status": "running", "words": "running", "epoch": 2, "trained_s": 6.0,
                    "elapsed_s": 7.0, "eta_s": 30.0}  # fmt: skip
        for since, told in (
            (1.0, ""),
            (4.9, " · last report 4 s ago"),
            (70, " · last report 1:10 ago"),
        ):
            later = node("later", progress, since)
            assert {name: later[name] for name in progress} == progress
            assert node("position", {}, later, {}, None) == f"epoch 2 · 30 s left{told}"

    @given(st.integers(0, 2**60))
    @example(23_040)
    @example(2**40 + 2**38)
    def test_sizes(self, node, n_bytes):
        assert node("size", n_bytes) == formatting.size(n_bytes)

    @given(st.floats(0, 1) | st.integers(0, 1000).map(lambda per_mille: per_mille / 1000))
    @example(0.1)
    @example(0.00125)
    @example(1e-7)
    def test_shares(self, node, fraction):
        assert node("share", fraction) == formatting.share(fraction)

    @given(st.floats(0, 1e9) | halves.map(abs))
    @example(2.5)
    @example(1.125)
    @example(1.0104)
    @example(1.0099)
    @example(1234.5)
    def test_counts_rates_and_ratios(self, node, value):
        for name in ("count", "rate", "ratio"):
            assert node(name, value) == getattr(formatting, name)(value)

    @given(
        st.lists(st.floats(-1e6, 1e6) | st.just(np.nan), max_size=60),
        st.none() | st.integers(1, 300),
    )
    def test_smoothing(self, node, values, epoch):
        steps = max(4 * len(values) - 3, 0)  # the last value stands for a single step
        found = np.array(node("smooth", values, 4, steps, epoch), float)
        expected = smooth(np.array(values), 4, steps, epoch)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)

    @given(st.integers(1, 10**7), st.none() | st.integers(1, 1000))
    def test_the_steps_that_are_averaged(self, node, step, epoch):
        assert node("averagedSteps", step, epoch) == averaged_steps(step, epoch)

    @settings(max_examples=15)
    @given(st.integers(1, 5000))
    def test_traces_as_the_page_reads_them(self, node, n):
        trace = Trace()
        trace.add(np.random.default_rng(n).normal(size=n))
        read = node("readTrace", trace.frame())
        np.testing.assert_array_equal(read["steps"], trace.steps)
        for name in ("low", "high", "mean"):
            np.testing.assert_allclose(read[name], getattr(trace, name), rtol=1e-6)


class TestScales:
    @given(
        st.sampled_from(["linear", "log"]),
        st.lists(st.floats(0.01, 1e6), min_size=2, max_size=5, unique=True),
    )
    def test_they_are_monotonic_and_can_be_inverted(self, node, kind, values):
        values = sorted(values)
        if values[-1] - values[0] < 1e-6 * values[-1]:
            return
        found = np.array(node("scaled", kind, [values[0], values[-1]], [300, 10], values))
        assert found[0, 0] == pytest.approx(300)
        assert found[-1, 0] == pytest.approx(10)
        assert (np.diff(found[:, 0]) <= 1e-9).all()
        np.testing.assert_allclose(found[:, 1], values, rtol=1e-6)

    @given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
    @example(1.0, 400_401.0, 2)
    def test_linear_ticks_are_round_within_and_about_as_many_as_asked(self, node, low, span, about):
        high = low + span
        if high <= low:
            return
        ticks = np.array(node("ticks", "linear", [low, high], about))
        assert 1 <= len(ticks) + (span < 1e-9 * abs(low)) <= 2.6 * about + 1
        assert (ticks >= low - 1e-6 * span).all()
        assert (ticks <= high + 1e-6 * span).all()
        if len(ticks) > 2:
            np.testing.assert_allclose(np.diff(ticks), np.diff(ticks)[0], rtol=1e-5)

    @given(st.floats(-1e3, 1e3), st.floats(0.1, 1e3))
    @example(-3.2, 6.8)
    def test_a_small_axis_has_three_ticks_or_more(self, node, low, span):
        ticks = np.array(node("enoughTicks", "linear", low, low + span, 3))
        assert 3 <= len(ticks) <= 9
        assert (ticks >= low - 1e-6 * span).all()
        assert (ticks <= low + 1.000001 * span).all()

    @given(st.floats(1e-6, 1e6), st.floats(1.01, 1e9))
    def test_log_ticks_lie_within_and_there_are_some(self, node, low, factor):
        ticks = np.array(node("ticks", "log", [low, low * factor], 5))
        assert 1 <= len(ticks) <= 16
        assert (ticks >= low * 0.998).all()
        assert (ticks <= low * factor * 1.002).all()
        assert (np.diff(ticks) > 0).all()

    def test_an_axis_of_counts_begins_at_zero(self, node):
        ticks = node("ticks", "log1p", [-0.5, 2000.0], 8)
        assert ticks[:2] == [0, 1]
        assert ticks[-1] in (1000, 2000)
        found = np.array(node("scaled", "log1p", [-0.5, 2000.0], [0, 100], [0.0, 9.0, 99.0, 999.0]))
        np.testing.assert_allclose(np.diff(found[:, 0]), np.diff(found[:, 0])[0], rtol=1e-9)
        np.testing.assert_allclose(found[:, 1], [0, 9, 99, 999], rtol=1e-9, atol=1e-9)


def test_drawing_takes_a_hundredth_of_the_time(node):
    assert node("restAfter", 4) == 400
    assert node("restAfter", 1000) == 1500


def test_one_slow_drawing_does_not_silence_the_page(node):
    assert node("usual", None, 5) == 5
    assert node("usual", 5, 105) == pytest.approx(35)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200), st.integers(2, 40))
def test_thinning_keeps_the_extremes(node, values, most):
    xs, ys = node("thin", list(range(len(values))), values, most)
    assert len(xs) <= max(most, 2)
    assert xs == sorted(set(xs))
    assert (min(ys), max(ys)) == (min(values), max(values))


@given(st.lists(st.integers(0, 100), min_size=1, max_size=20, unique=True), st.floats(-10, 110))
def test_the_nearest_step_is_found(node, steps, x):
    steps = sorted(steps)
    found = steps[node("nearest", steps, x)]
    assert abs(found - x) == pytest.approx(min(abs(step - x) for step in steps))


def test_the_nearest_of_nothing_is_nothing(node):
    assert node("nearest", [], 3) == -1


BOX = {"width": 700, "height": 280, "left": 60}
OPTIONS = {"curve": "loss", "smooth": True, "perRow": True, "log": False, "whole": False}
OPTIONS["half"] = False


@pytest.fixture
def loss():
    run = begun(n_obs=10)
    panel = LossPanel()
    panel.begin(run)
    losses = 10 * np.exp(-np.arange(3000) / 500) + 20
    feed(run, losses, rate=0.1, grad_norm=losses**2)
    run.validation = [(1000, 2.5), (3000, 2.25)]
    return panel.frame(run)


class TestScene:
    def drawn(self, node, loss, previous_runs=(), **options):
        return node("drawn", loss, list(previous_runs), {**OPTIONS, **options}, BOX)

    def test_all_is_within_the_box(self, node, loss):
        drawn = self.drawn(node, loss, whole=True)
        x, y = (np.array(drawn["pixels"][axis]) for axis in "xy")
        assert x[0] >= 60
        assert x[-1] == pytest.approx(686)
        assert ((y > 12) & (y < 252)).all()
        assert drawn["view"]["kind"] == "linear"

    def test_per_row_and_total_differ_by_the_rows_in_every_curve(self, node, loss):
        per_row, total = self.drawn(node, loss), self.drawn(node, loss, perRow=False)
        np.testing.assert_allclose(total["mean"], 10 * np.array(per_row["mean"]), rtol=1e-6)
        assert per_row["validation"]["values"] == [2.5, 2.25]
        assert total["validation"]["values"] == [25, 22.5]
        assert (per_row["unit"], total["unit"]) == ("loss per row (nats)", "loss (nats)")

    def test_a_held_out_loss_that_is_not_per_row_says_that_it_is_scaled(self, node, loss):
        per_row, total = self.drawn(node, loss), self.drawn(node, loss, perRow=False)
        assert per_row["validation"]["legend"] == "held-out loss"
        assert total["validation"]["legend"] == "held-out loss, scaled to 10 training rows"
        texts = [text for text, _, _ in node("texts", loss, {**OPTIONS, "perRow": False}, BOX)]
        assert "best held-out loss, scaled 22.5" in texts
        names = [node("bestName", loss, per_row) for per_row in (True, False)]
        assert names == ["best held-out loss", "best held-out loss, scaled"]
        lines = node("readoutLines", total, node("readout", total, 3000))
        assert "held-out loss, scaled 22.5 at step 3,000" in lines

    def test_a_best_above_the_loss_says_what_it_is(self, node):
        falling = {"best": 2.5, "best_step": 100, "best_name": "best", "now": 2.0}
        words = node("bestWords", {**falling, "best_held_out": False})
        assert words["below"] == "later steps confirm it"
        assert "later steps confirm" in words["about"]
        assert node("bestWords", {**falling, "now": 3.0})["below"] == ""
        held_out = node("bestWords", {**falling, "best_held_out": True})
        assert held_out == {"about": "The lowest held-out loss so far.", "below": ""}
        none = {"best": None, "best_step": None, "best_name": None, "best_held_out": False}
        assert node("bestWords", none) == {"about": None, "below": ""}
        words = node("bestWords", {**none, "not_kept": "none that later steps confirm"})
        about, below = "None that later steps confirm.", "later steps confirm none"
        assert words == {"about": about, "below": below}

    def test_the_best_is_that_of_the_kernel(self, node, loss):
        drawn = self.drawn(node, loss)
        assert drawn["best"]["value"] == pytest.approx(loss["best"], rel=1e-5)
        assert drawn["best"]["step"] == loss["best_step"]
        texts = [text for text, _, _ in node("texts", loss, OPTIONS, BOX)]
        assert "best held-out loss 2.25" in texts  # the loss beside it is another one

    def test_the_last_half_leaves_out_the_first(self, node, loss):
        drawn = self.drawn(node, loss, half=True)
        assert min(drawn["steps"]) >= 1500
        assert drawn["validation"]["steps"] == [3000]
        assert drawn["pixels"]["x"][0] == pytest.approx(60, abs=2)

    def test_a_learning_rate_is_not_smoothed_and_has_no_best(self, node, loss):
        drawn = self.drawn(node, loss, curve="learning_rate")
        assert drawn["smoothed"] is drawn["best"] is drawn["validation"] is None
        assert drawn["unit"] == "learning rate"

    def test_the_curve_of_the_rate_begins_at_the_first_step(self, node, loss):
        rate = {"width": 64, "steps": 3000, "mean": float32(np.full(47, 0.005)), "first": 0.01}
        loss = {**loss, "traces": {**loss["traces"], "learning_rate": rate}}
        drawn = self.drawn(node, loss, curve="learning_rate")
        assert drawn["steps"][:2] == [1, 64]
        assert (drawn["mean"][0], len(drawn["mean"])) == (np.float32(0.01), 48)
        assert ", from 0.01 to 0.005" in drawn["words"]

    def test_a_rate_that_stays_has_a_linear_axis(self, node, loss):
        rate = {"width": 64, "steps": 3000, "mean": float32(np.full(47, 0.01)), "first": 0.01}
        loss = {**loss, "traces": {**loss["traces"], "learning_rate": rate}}
        assert self.drawn(node, loss, curve="learning_rate")["view"]["kind"] == "linear"

    def test_a_log_axis(self, node, loss):
        drawn = self.drawn(node, loss, log=True)
        assert drawn["view"]["kind"] == "log"
        assert drawn["view"]["base"] == pytest.approx(min(drawn["low"]))  # the distance to it
        assert np.isfinite(drawn["pixels"]["y"]).all()
        norms = self.drawn(node, loss, log=True, curve="grad_norm")
        assert (norms["view"]["kind"], norms["view"]["base"]) == ("log", 0)

    def test_previous_runs_come_along_and_a_long_one_does_not_squeeze_the_new(self, node, loss):
        long = Trace()
        long.add(np.full(10**6, 25.0))
        runs = [{"label": f"run {i}", "n_obs": 10, "trace": long.frame()} for i in range(6)]
        drawn = self.drawn(node, loss, runs)
        assert [run["label"] for run in drawn["previous"]] == ["run 2", "run 3", "run 4", "run 5"]
        assert drawn["previous"][0]["values"][0] == pytest.approx(2.5)
        assert drawn["pixels"]["x"][-1] == pytest.approx(686)
        assert len(drawn["previous"][0]["steps"]) < 20  # what is drawn of it

    @pytest.mark.parametrize("n_steps", [3_000, 3_001, 30_000])
    def test_no_label_is_cut_off_at_an_edge(self, node, n_steps):
        run = begun()
        panel = LossPanel()
        panel.begin(run)
        feed(run, np.linspace(3, 2, n_steps))
        texts = node("texts", panel.frame(run), OPTIONS, BOX)
        assert f"{n_steps // 1000 * 1000:,}" in [text for text, _, _ in texts]
        assert min(left for _, left, _ in texts) >= 0
        assert max(right for _, _, right in texts) <= BOX["width"]

    @pytest.mark.parametrize("width", [260, 686, 1100])
    @pytest.mark.parametrize("half", [False, True])
    def test_numbers_of_steps_do_not_lie_on_each_other_or_on_their_name(self, node, width, half):
        mean = float32(np.linspace(3, 2, 500))
        run = begun()
        panel = LossPanel()
        panel.begin(run)
        feed(run, [3.0, 2.0])
        frame = panel.frame(run)
        long = {"width": 4096, "steps": 500 * 4096, "mean": mean, "low": mean, "high": mean}
        frame = {**frame, "traces": {"loss": long}}
        painted = node("texts", frame, {**OPTIONS, "half": half}, {**BOX, "width": width})
        texts = [text for text, _, _ in painted]
        ends = [ends for ends in painted[texts.index("step") :] if ends[0][0] in "s0123456789"]
        assert len(ends) > 2
        assert all(right < left for (_, _, right), (_, left, _) in pairwise(ends))

    def test_changes_of_the_rate_are_marked_and_told(self, node, loss):
        loss = {**loss, "rate_changes": [[1000, 0.05], [2000, 50.0]]}
        painted = node("texts", loss, OPTIONS, BOX)
        left = {text: left for text, left, _ in painted if text.startswith("rate")}
        assert left.keys() == {"rate 0.05", "rate 50"}
        assert left["rate 0.05"] == pytest.approx(60 + (686 - 60) / 3, abs=1)
        assert self.drawn(node, loss)["words"].endswith("rate changed to 50 after step 2000")

    def test_rates_of_changes_side_by_side_do_not_lie_on_each_other(self, node, loss):
        steps = [1000, 2000, 2050, 2100, 2150, 2980]
        loss = {**loss, "rate_changes": [[step, step / 1e6] for step in steps]}
        painted = [p for p in node("texts", loss, OPTIONS, BOX) if p[0].startswith("rate")]
        there = {"rate 0.001", "rate 0.002", "rate 0.00215", "rate 0.00298"}
        assert {text for text, _, _ in painted} == there
        ends = sorted((left, right) for _, left, right in painted)
        assert all(right < left for (_, right), (left, _) in pairwise(ends))
        assert ends[-1][1] <= 60 + (686 - 60) * 2980 / 3000 + 1  # to the left of its line
        assert min(node("tops", loss, OPTIONS, BOX)) > 7 + 12  # below the labels
        points = {"steps": steps, "mean": steps, "rateChanges": loss["rate_changes"]}
        assert node("readout", points, 2049)["rateChange"] == [2050, 0.00205]

    def test_the_first_of_two_close_changes_has_its_rate_on_its_left(self, node, loss):
        loss = {**loss, "rate_changes": [[2000, 0.05], [2050, 50.0]]}
        texts = node("texts", loss, OPTIONS, BOX)
        (_, *second), (_, *first) = [p for p in texts if p[0].startswith("rate")]
        at = [60 + (686 - 60) * step / 3000 for step in (2000, 2050)]
        assert [first[1], second[0]] == pytest.approx(at, abs=1)

    def test_words_for_who_cannot_see_it(self, node, loss):
        said = self.drawn(node, loss)["words"]
        assert said.startswith("loss per row (nats) over 3000 steps, running, from 2.997 to 2.003")
        assert said.endswith("best held-out loss 2.25 at step 3000")

    @pytest.mark.parametrize("losses", [[5.0], [5.0, 5.0], [np.nan, 5.0], [np.nan]])
    @pytest.mark.parametrize("log", [False, True])
    def test_little_to_draw_breaks_nothing(self, node, losses, log):
        run = begun()
        panel = LossPanel()
        panel.begin(run)
        feed(run, losses)
        drawn = self.drawn(node, panel.frame(run), log=log)
        pixels = np.array(drawn["pixels"]["y"])
        assert np.isfinite(pixels).sum() == np.isfinite(losses).sum()

    def test_a_curve_that_nobody_reported_is_none(self, node, loss):
        assert node("series", loss, [], {**OPTIONS, "curve": "unheard_of"}) is None


class TestVerticalView:
    def shown(self, curve):
        """A curve as the page has it."""
        held = curve.validation
        return {
            "curve": curve.name,
            "steps": curve.steps,
            "mean": curve.mean,
            "low": curve.low,
            "high": curve.high,
            "smoothed": curve.smoothed,
            "validation": held and {"steps": held.steps, "values": held.values},
            "previous": [{"steps": o.steps, "values": o.values} for o in curve.others],
        }

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "options",
        [{}, {"log": True}, {"whole": True}, {"wasLog": True}, {"log": True, "whole": True}],
    )
    @pytest.mark.parametrize("name", LOSSES)
    def test_the_page_and_the_picture_have_the_same_ends_and_words(self, node, name, options):
        held = [(step, 1.5) for step in range(400, 4000, 400)]
        others = [LOSSES["far"] + 0.8, LOSSES["ordinary"] + 1e5]
        for plain in (curve(LOSSES[name]), curve(LOSSES[name], others=others, validation=held)):
            found = node("verticalView", self.shown(plain), options)
            named = {{"wasLog": "was_log"}.get(name, name): on for name, on in options.items()}
            expected = vertical_view(plain, **named)
            assert found["kind"] == expected.kind
            ends = ("low", "high", "base", "above")
            assert [found[end] is None for end in ends] == [False] * 3 + [expected.above is None]
            for end in ends:
                wanted = getattr(expected, end) or 0.0
                assert (found[end] or 0.0) == pytest.approx(wanted, rel=1e-9, abs=0), end
            assert node("axisWords", "loss", found) == expected.words("loss")


class TestChains:
    @pytest.fixture
    def curve(self):
        """The frame of two chains that come down from far above in a warm-up of 50."""
        run = begun(is_sampling=True)
        run.chains = ChainRecord(ChainPlan(2, 50, 150), {}, lambda *chosen: None)
        panel = TracePanel()
        panel.begin(run)
        rng = np.random.default_rng(0)
        energies = 10 + rng.normal(size=(200, 2)) + 1e4 * np.exp(-np.arange(200) / 4)[:, None]
        columns = {"potential_energy": energies, "step_size": np.full((200, 2), 0.5)}
        run.chains.extend(columns, 200)
        feed(run, energies.mean(1), step_size=np.full(200, 0.5))
        return panel.frame(run)

    def test_each_is_a_line_and_the_warmup_does_not_squeeze_them(self, node, curve):
        options = {**OPTIONS, "curve": "potential_energy"}
        drawn = node("drawn", curve, [], options, BOX)
        assert [chain["label"] for chain in drawn["chains"]] == ["chain 1", "chain 2"]
        assert len(drawn["chains"][0]["values"]) == 200
        assert (drawn["warmup"], drawn["smoothed"], drawn["best"]) == (50, None, None)
        assert drawn["unit"] == "potential energy (nats)"
        top, bottom = max(drawn["yTicks"]), min(drawn["yTicks"])
        assert 6 <= bottom < top <= 16
        assert drawn["words"].startswith("potential energy (nats) over 200 iterations, running")
        assert drawn["view"]["above"] > 1e4  # the fall of the warm-up

    @pytest.mark.parametrize(("rare", "is_inside"), [(12.5, True), (40.0, False)])
    def test_a_rare_energy_is_inside_or_told(self, node, curve, rare, is_inside):
        for trace in curve["chains"]["potential_energy"]:
            values = 10 + np.sin(np.arange(200))
            values[150] = rare
            trace |= {"width": 1, "steps": 200, "mean": float32(values)}
        drawn = node("drawn", curve, [], {**OPTIONS, "curve": "potential_energy"}, BOX)
        assert (drawn["view"]["high"] >= rare) == is_inside
        assert drawn["view"]["above"] == (None if is_inside else rare)

    @pytest.mark.parametrize("draws", [200, 2_000, 40_000])
    def test_the_axis_has_the_spread_of_the_draws_however_many_share_a_point(
        self, node, curve, draws
    ):
        rng = np.random.default_rng(0)
        energies = rng.gamma(5, size=(2, draws))
        for trace, values in zip(curve["chains"]["potential_energy"], energies, strict=True):
            chain = Trace(256)
            chain.add([1e5, *rng.normal(5, 1, size=999), *values])
            trace |= chain.frame()
        drawn = node("drawn", curve, [], {**OPTIONS, "curve": "potential_energy"}, BOX)
        view = drawn["view"]
        assert view["low"] < energies.min() < energies.max() < view["high"]
        assert np.ptp(energies) > 0.5 * (view["high"] - view["low"])
        assert view["above"] == 1e5
        names = [item[0] for item in node("chainItems", drawn["chains"])]
        width = drawn["chains"][0]["width"]
        assert names == ["chain 1", "chain 2", f"mean and range of each {width:,} iterations"]

    def test_the_last_half_leaves_out_the_first(self, node, curve):
        options = {**OPTIONS, "curve": "potential_energy", "half": True}
        chain = node("drawn", curve, [], options, BOX)["chains"][1]
        assert min(chain["steps"]) >= 100

    def test_what_is_not_kept_by_chain_is_their_mean(self, node, curve):
        drawn = node("drawn", curve, [], {**OPTIONS, "curve": "step_size"}, BOX)
        assert drawn["chains"] == []
        assert set(drawn["mean"]) == {0.5}

    def test_a_bucket_with_a_part_of_the_warmup_does_not_count(self, node, curve):
        for trace in curve["chains"]["potential_energy"]:
            values = unpack(trace["mean"])[: 200 // 32 * 32].reshape(-1, 32).mean(1)
            trace |= {"width": 32, "steps": 192, "mean": float32(values)}
        drawn = node("drawn", curve, [], {**OPTIONS, "curve": "potential_energy"}, BOX)
        assert 6 <= min(drawn["yTicks"]) < max(drawn["yTicks"]) <= 16

    def test_a_bucket_that_has_just_begun_is_not_drawn(self, node, curve):
        for trace in curve["chains"]["potential_energy"]:
            means = [*[10.0] * 6, 1e4]  # the last one of 8 iterations, the others of 32
            trace |= {"width": 32, "steps": 200, "mean": float32(means)}
        drawn = node("drawn", curve, [], {**OPTIONS, "curve": "potential_energy"}, BOX)
        for chain in drawn["chains"]:
            assert chain["steps"] == [32, 64, 96, 128, 160, 192]
            assert set(chain["values"]) == {10}

    def test_before_the_first_iteration_there_is_no_curve(self, node):
        run = begun(is_sampling=True)
        panel = TracePanel()
        panel.begin(run)
        assert node("series", {**panel.frame(run), "traces": {}}, [], OPTIONS) is None


def test_energies_have_the_same_ends_on_the_page_and_in_the_picture(node):
    assert node("linearView", [2.0, 4.0]) == {
        "kind": "linear", "low": 1.88, "high": 4.12, "base": 0, "above": None
    }  # fmt: skip
    view = linear_view(2.0, 4.0)
    assert (view.low, view.high) == (1.88, 4.12)


@pytest.mark.parametrize(
    ("view", "values", "seen"),
    [
        ({"kind": "linear", "low": 1, "high": 3, "base": 0}, [9, 2], True),
        ({"kind": "linear", "low": 1, "high": 3, "base": 0}, [9, 4, "NaN"], False),
        ({"kind": "log", "low": 0.1, "high": 3, "base": -5}, [-4], True),
        ({"kind": "log", "low": 0.1, "high": 3, "base": -5}, [1], False),
    ],
)
def test_a_run_that_the_axis_leaves_out_is_known(node, view, values, seen):
    assert node("shows", view, values) is seen


@pytest.mark.parametrize(
    "module",
    [static.module, partial(static.module, "running"), partial(static.module, "worker_map"),
     explorers.module],
    ids=["dashboard", "running", "workers", "explorer"],
)  # fmt: skip
def test_a_joined_module_is_one_that_a_widget_can_load(module, tmp_path):
    """Names of its parts are unique, else it does not load."""
    (tmp_path / "joined.mjs").write_text(module())
    code = "import('./joined.mjs').then(m => console.log(typeof m.default.render))"
    done = subprocess.run(
        [NODE, "-e", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "function"
    assert not any(line.startswith("import ") for line in module().splitlines())


def test_the_front_end_fetches_nothing():
    for text in (static.module(), static.style()):
        # The one address is the name space of SVG, which is not fetched.
        assert text.replace("http://www.w3.org/2000/svg", "").count("://") == 0
        assert "@import" not in text
