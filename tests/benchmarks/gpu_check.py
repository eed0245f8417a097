"""Right and fast on a GPU? Numbers, then speeds, in under eight minutes, as one table.

Run by hand from the checkout, on any machine with a GPU:

    pip install -e '.[bench]' 'jax[cuda13]'
    python -m tests.benchmarks.gpu_check

Each section has a process and a time limit of its own, prints its rows as it goes, and loses none
of the others' when it fails. All rows are written to ``--out`` as JSON. Without a GPU it runs on
the CPU and says so; ``--tiny`` shows in a minute that all sections work.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SECTIONS = {
    "numbers": 110,
    "float64": 45,
    "hardware": 35,
    "fit": 130,
    "predict": 80,
    "mcmc": 60,
}
"""The sections, with the most seconds that each may take: 7 minutes and 40 seconds together."""

_RESERVE_S = 12
"""Seconds that a section leaves of its limit, to end by itself."""

_ROW = "@row "

_MODULE = "tests.benchmarks.gpu_check"


def run_section(name: str, tiny: bool, limit_s: float, is_first: bool) -> None:
    """Run a section in this process, and print its rows for the parent."""
    began = time.perf_counter()

    def report(what: str, value: float | None, unit: str, **more: object) -> None:
        row = {"section": name, "what": what, "value": value, "unit": unit, **more}
        print(_ROW + json.dumps(row), flush=True)

    import jax

    from tests.benchmarks import gpu_hardware, gpu_numbers, gpu_predictions, gpu_training, gpu_work
    from tests.benchmarks.turns import machine

    speeds = {
        "hardware": gpu_hardware.hardware,
        "fit": gpu_training.fits,
        "predict": gpu_predictions.predictions,
        "mcmc": gpu_training.chains,
    }

    if is_first:
        told = machine()
        report("machine", None, "", note="; ".join(f"{k} {v}" for k, v in told.items() if v))
    deadline = began + limit_s - _RESERVE_S
    if name in ("fit", "predict", "mcmc"):
        # All ways multiply float32 as float32, as ours does by itself.
        jax.config.update("jax_default_matmul_precision", "float32")
    if name in speeds:
        speeds[name](report, gpu_work.TINY if tiny else gpu_work.WHOLE, deadline)
    else:
        jax.config.update("jax_enable_x64", name == "float64")
        sizes = gpu_numbers.TINY if tiny else gpu_numbers.Sizes()
        checks = gpu_numbers.CHECKS if name == "numbers" else (gpu_numbers.predictions,)
        for check in checks:
            with gpu_work.kept_going(report, check.__name__):
                for one in check(sizes):
                    most = one.most * 1e-6 if name == "float64" and one.most < 1e-3 else one.most
                    limit = f"at most {most:.1g}; {one.note}".rstrip("; ")
                    report(one.what, one.value, "", ok=bool(one.value <= most), note=limit)
    _report_memory(report)


def _report_memory(report) -> None:
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        report("memory of the device, at most", stats["peak_bytes_in_use"] / 1e9, "GB")


def run_apart(
    name: str, limit_s: float, environment: dict[str, str], *, tiny: bool, is_first: bool
) -> list[dict]:
    """Run a section in a process of its own, and return its rows; print them as they come."""
    command = [sys.executable, "-m", _MODULE, "--section", name, "--limit", str(limit_s)]
    command += ["--tiny"] * tiny + ["--first"] * is_first
    rows: list[dict] = []
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        timer = threading.Timer(limit_s, process.kill)
        timer.start()
        with process.stdout as lines:
            for line in lines:
                if line.startswith(_ROW):
                    rows.append(json.loads(line.removeprefix(_ROW)))
                    print(as_text(rows[-1]), flush=True)
        code, in_time = process.wait(), timer.is_alive()
        timer.cancel()
        errors.seek(0)
        tail = errors.read()[-1500:]
    if code:
        why = f"ended with {code}" if in_time else f"was stopped after its {limit_s:.0f} s"
        rows.append({"section": name, "what": why, "value": None, "unit": "", "ok": False})
        print(as_text(rows[-1]), flush=True)
        print(tail, file=sys.stderr, flush=True)
    return rows


def as_text(row: dict) -> str:
    """Return a row as a line of a Markdown table."""
    value = "" if row["value"] is None else f"{row['value']:,.4g}"
    ratio, beside = row.get("ratio"), ""
    if ratio:
        beside = f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})"
    mark = {True: "right", False: "WRONG", None: ""}[row.get("ok")]
    figure = f"{value} {row['unit']}".strip()
    cells = (row["section"], row["what"], figure, beside, row.get("beside", ""), mark)
    return "| " + " | ".join([*map(str, cells), row.get("note", "")]) + " |"


def not_done(rows: list[dict]) -> list[str]:
    """Return what could not be checked or measured, as sentences."""
    found = []
    machine = next((row["note"] for row in rows if row["what"] == "machine"), "")
    if "(gpu)" not in machine and "(cuda)" not in machine and "(rocm)" not in machine:
        found.append("There is no GPU here: these are a CPU's figures, and show that it runs.")
    if importlib.util.find_spec("aimz") is None:
        found.append("aimz is not installed: a loop that dispatches step by step stands for it.")
    if any("JAX has no CPU" in row.get("note", "") for row in rows):
        found.append("JAX has no CPU here (JAX_PLATFORMS): nothing was compared with it.")
    failed = [f"{row['section']}: {row['what']}" for row in rows if row.get("ok") is False]
    found += [f"Wrong or failed: {what}." for what in failed]
    return found


def main() -> None:
    """Run all sections, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--tiny", action="store_true", help="small sizes: does it run?")
    parser.add_argument("--scale-limits", type=float, default=1.0, help="more time a section")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.section:
        run_section(options.section, options.tiny, options.limit, options.first)
        return
    began, rows = time.perf_counter(), []
    print("| section | what | figure | ratio (least to most) | beside | | note |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as cache:
        # Sections share compiled programs, and a GPU's choices of algorithms with them.
        environment = {"JAX_COMPILATION_CACHE_DIR": cache, **os.environ}
        for name in options.only:
            limit_s = SECTIONS[name] * options.scale_limits
            first = name == options.only[0]
            rows += run_apart(name, limit_s, environment, tiny=options.tiny, is_first=first)
            options.out.write_text(json.dumps(rows, indent=1))
    print(f"\n{time.perf_counter() - began:.0f} s; all rows: {options.out}")
    for sentence in not_done(rows):
        print(sentence)


if __name__ == "__main__":
    main()
