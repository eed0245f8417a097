"""A process that is killed at any moment loses nothing but the steps since its last checkpoint."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimz_lab.inference.checkpoint.archive import read_archive
from aimz_lab.inference.checkpoint.checkpoint import load_checkpoint, numbered
from tests.inference.checkpoint.killed import EPOCHS, train
from tests.runs import same_bits

pytestmark = [
    pytest.mark.allow_rank_promotion,
    pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL"),
]


def start(way, folder, resume="new"):
    command = [sys.executable, "-m", "tests.inference.checkpoint.killed", way, str(folder), resume]
    root = Path(__file__).resolve().parents[3]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE)


def kill_within(process, folder, after_s):
    """Kill it a while after its next checkpoint is there; it must still be at work."""
    before = len(list(numbered(folder))) and max(numbered(folder))[0]
    give_up = time.monotonic() + 120
    while not any(number > before for number, _ in numbered(folder)):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < give_up
        time.sleep(0.001)
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize(("way", "seed", "kills"), [("arrays", 0, 2), ("loader", 1, 1)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, way, seed, kills):
    """It is killed at random moments, the second time as it goes on; we finish it here."""
    rng = random.Random(seed)
    steps = []
    for resume in ("new", "resume")[:kills]:
        kill_within(start(way, tmp_path, resume), tmp_path, rng.uniform(0, 0.3))
        steps.append(load_checkpoint(tmp_path).step)
        for _, file in numbered(tmp_path):
            read_archive(file)  # whatever has its final name is whole
    assert 0 < steps[0] <= steps[-1] < 6 * EPOCHS
    whole = train(way)
    losses, posterior = whole.vi_result.losses.copy(), whole.posterior
    assert len(losses) == 6 * EPOCHS
    resumed = train(way, im=whole, resume=tmp_path)
    assert resumed.last_run.resumed_at == steps[-1]
    assert same_bits(resumed.vi_result.losses, losses)
    assert same_bits(resumed.posterior, posterior)
