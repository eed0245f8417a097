"""Kill a process of a training run ten times, and compare what the resumed runs find. By hand:

    PYTHONPATH=$PWD python tests/cluster/kill_ten.py [first] [count]

Each time one of two processes gets SIGKILL: at a random moment, or while a checkpoint is half
written, or before the first step; the first process, which coordinates, as often as the other. The
run must end within a minute with a sentence, no half-written checkpoint may be read, and the run
that goes on in two processes must find the losses of a run that nobody has killed, bit for bit; in
one or three processes to rounding.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EPOCHS, MOST_S = 400, 60
SCRIPT = f"""
import json, sys
import jax, numpy as np, numpyro, numpyro.distributions as dist
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoNormal
from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, lab

folder, how = sys.argv[1:]

def linear(X, y=None):
    slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
    with numpyro.plate("row", X.shape[0]):
        numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)

class Tells(Callback):
    def on_fit_begin(self, run):
        print("BEGINS", run.step, flush=True)

rng = np.random.default_rng(0)
X = rng.normal(size=(2003, 200)).astype(np.float32)
y = (X[:, 0] + rng.normal(size=2003)).astype(np.float32)
svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
im = ImpactModel(linear, jax.random.key(0), svi=svi)
loader = ArrayLoader(
    ArrayDataset(X=X, y=y), jax.random.key(1), batch_size=96, shuffle=True, process_shard=True
)
im.fit(
    loader, epochs={EPOCHS}, progress=False, steps_per_call=64,
    resume=folder if how == "resume" else None,
    callbacks=[Tells(), lab.ModelCheckpoint(folder, every_s=0.0, keep=2)],
)
print("RESULT", json.dumps([im.last_run.resumed_at, np.asarray(im.vi_result.losses).tolist()]))
"""
KINDS = [(rank, when) for when in ("any", "any", "writing", "any", "starting") for rank in (0, 1)]


def tell(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def started(script, folder, how, processes):
    code = "import sys; from aimz_lab.lab.tour.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "train", "--processes", str(processes)]
    return subprocess.Popen(
        [*command, str(script), str(folder), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(process):
    """Where the run was resumed, and the losses of each process."""
    printed, _ = process.communicate(timeout=150)
    told = [line.partition("RESULT ")[2] for line in printed.splitlines() if "RESULT " in line]
    assert process.returncode == 0, printed
    resumed, losses = zip(*map(json.loads, told), strict=True)
    assert all(one == losses[0] for one in losses), "the processes differ"
    return resumed[0], losses[0]


def member(launcher, rank):
    """The process of a rank, among those that the launcher has started."""
    wanted = [f"AIMZ_LAB_RANK={rank}".encode(), f"AIMZ_LAB_LAUNCHER={launcher}".encode()]
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if all(one in environment for one in wanted):
            return int(entry.name)
    return None


def wait_for_moment(process, folder, rank, when, dice):
    if when == "starting":
        while member(process.pid, rank) is None:
            time.sleep(0.01)
        time.sleep(dice.uniform(0.0, 3.0))
        return
    for line in process.stdout:
        if "BEGINS" in line:
            break
    while not list(folder.glob("*.npz")):
        time.sleep(0.01)
    time.sleep(dice.uniform(0.0, 1.0))
    while when == "writing" and not list(folder.glob("*.partial*")):
        time.sleep(0.0001)


def kill(number, script, whole):
    rank, when = KINDS[number]
    dice = random.Random(number)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = started(script, folder, "fresh", 2)
        wait_for_moment(process, folder, rank, when, dice)
        victim = member(process.pid, rank)
        os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        printed, _ = process.communicate(timeout=MOST_S)
        seconds = time.monotonic() - began
        sentence = f"Process {rank} of 2 was ended by SIGKILL; the others were ended."
        assert process.returncode == 1, printed
        assert sentence in printed, printed
        partial = len(list(folder.glob("*.partial*")))
        kept = bool(list(folder.glob("*.npz")))
        how, others = ("resume", (2, 1, 3)[number % 3]) if kept else ("fresh", 2)
        copy = Path(tempfile.mkdtemp(dir=name))
        for path in folder.glob("*.npz*"):
            (copy / path.name).write_bytes(path.read_bytes())
        resumed, losses = result(started(script, folder, how, 2))
        assert losses == whole, "another loss"
        if others != 2:
            _, rounded = result(started(script, copy, how, others))
            np.testing.assert_allclose(rounded, whole, rtol=1e-4)
    tell(
        f"{number}: rank {rank}, {when}: ended after {seconds:.1f} s, {partial} half-written; "
        f"resumed at step {resumed or 0} of {len(whole)} in 2 processes bitwise"
        + (f", in {others} to rounding" if others != 2 else "")
    )


def main(first=0, count=10):
    with tempfile.TemporaryDirectory() as name:
        script = Path(name) / "fit.py"
        script.write_text(SCRIPT)
        whole_folder = Path(name) / "whole"
        whole_folder.mkdir()
        _, whole = result(started(script, whole_folder, "fresh", 2))
        passed = 0
        for number in range(first, first + count):
            try:
                kill(number, script, whole)
                passed += 1
            except Exception as error:  # noqa: BLE001  the others are tried all the same
                tell(f"{number}: FAILED: {type(error).__name__}: {error}")
        tell(f"{passed} of {count} passed")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
