"""How the page of an explorer places a chart, run in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import pairwise

import pytest

from aimz_lab.lab.dashboard import static

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(
    NODE is None, reason="needs Node.js, 18 or newer, on the PATH (Debian: apt-get install nodejs)"
)

# Writes the labels along the horizontal axis and their ends; a letter is 6 pixels wide.
LABELS = """
import { place, readChart } from "./lab/explorers/static/plot.js";
const measure = (text) => 6 * text.length;
const found = JSON.parse(process.argv[2]).map(([limits, width]) => {
  const chart = readChart({ layers: [], x_names: [], size: "small", lowest_tick: null,
    x_scale: "linear", x_limits: limits, y_scale: "linear", y_limits: [0, 1] });
  const { x, xTicks } = place(chart, width, measure);
  const half = (label) => measure(label) / 2;
  return xTicks.map(([at, label]) => [label, x.at(at) - half(label), x.at(at) + half(label)]);
});
console.log(JSON.stringify(found));
"""


def test_the_numbers_of_an_axis_stand_apart_in_narrow_charts_too(tmp_path):
    for room, name in (("explorers", "plot.js"), ("dashboard", "math.js")):
        there = tmp_path / "lab" / room / "static"
        there.mkdir(parents=True)
        source = static.SOURCES.parents[1] / room / "static" / name
        shutil.copy(source, there)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "labels.js").write_text(LABELS)
    charts = [([30_000, 650_000], width) for width in (100, 180, 280, 900)]
    charts += [([17.0, 81.0], 180), ([0.00012, 0.00013], 180)]
    done = subprocess.run(
        [NODE, "labels.js", json.dumps(charts)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    placed = json.loads(done.stdout)
    for labels in placed:
        ends = [(left, right) for _, left, right in labels]
        assert all(right < left for (_, right), (left, _) in pairwise(ends))
    assert [[text for text, *_ in labels] for labels in placed[1:5]] == [
        ["200,000", "600,000"],
        ["200,000", "400,000", "600,000"],
        [f"{number}00,000" for number in range(1, 7)],
        ["20", "40", "60", "80"],
    ]
