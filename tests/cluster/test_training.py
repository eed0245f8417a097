"""Training on several processes: the losses of one, a dead process, and another number later."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest

from aimz_lab.cluster import train
from aimz_lab.errors import ArgumentError, ClusterError
from aimz_lab.lab.tour.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SCRIPT = """
    import json, os, signal, sys, time
    import jax, numpy as np, numpyro, numpyro.distributions as dist
    from numpyro.infer import SVI, Trace_ELBO
    from numpyro.infer.autoguide import AutoNormal
    from aimz_lab import ArrayDataset, ArrayLoader, Callback, ImpactModel, lab

    folder, epochs, how, fault = sys.argv[1:]
    rank = jax.process_index()

    def linear(X, y=None):
        slopes = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([X.shape[1]]).to_event(1))
        with numpyro.plate("row", X.shape[0]):
            numpyro.sample("y", dist.Normal(X @ slopes, 1.0), obs=y)

    class Dies(Callback):
        def on_epoch_end(self, run, epoch):
            if fault == "dies" and rank == 1 and epoch == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            if fault == "hangs" and rank == 1 and epoch == 4:
                os.kill(os.getpid(), signal.SIGSTOP)
            if fault == "launcher dies" and epoch == 4:
                print("PID", os.getpid(), flush=True)
                os.kill(os.getppid(), signal.SIGTERM)
                signal.pause()

    rng = np.random.default_rng(0)
    X = rng.normal(size=(203, 3)).astype(np.float32)
    y = (X @ [1.0, 2.0, 3.0] + rng.normal(size=203)).astype(np.float32)
    svi = SVI(linear, AutoNormal(linear), numpyro.optim.Adam(0.01), Trace_ELBO())
    im = ImpactModel(linear, jax.random.key(0), svi=svi)
    loader = ArrayLoader(
        ArrayDataset(X=X, y=y), jax.random.key(1), batch_size=40, shuffle=True, process_shard=True
    )
    im.fit(
        loader, epochs=int(epochs), progress=False, resume=folder if how == "resume" else None,
        validation=(X[:50] + 1.0, y[:50]),
        callbacks=[lab.ModelCheckpoint(folder), Dies()],
    )
    if fault == "late" and rank == 0:
        time.sleep(4.0)
    tree = im.predict(X[:10], rng_key=jax.random.key(2), store="memory", progress=False)
    told = {
        "losses": np.asarray(im.vi_result.losses).tolist(),
        "validation": im.last_run.validation[-1][1],
        "mean": float(tree.posterior_predictive.y.mean()),
    }
    print("RESULT", json.dumps(told))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "fit.py"
    path.write_text(textwrap.dedent(SCRIPT))
    return path


@pytest.fixture(scope="module")
def alone(script, tmp_path_factory):
    """What one process finds: this one."""
    printed, folder = io.StringIO(), tmp_path_factory.mktemp("alone")
    with (
        pytest.MonkeyPatch.context() as patched,
        contextlib.redirect_stdout(printed),
        jax.numpy_rank_promotion("allow"),
    ):
        patched.setattr(sys, "argv", [str(script), str(folder), "6", "fresh", "none"])
        runpy.run_path(str(script), run_name="__main__")
    return json.loads(printed.getvalue().partition("RESULT ")[2])


def run(script, folder, processes, resume="fresh", fault="none"):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        train(script, [str(folder), "6", resume, fault], processes=processes)
    found = {}
    for line in printed.getvalue().splitlines():
        head, _, told = line.partition("RESULT ")
        if told:
            found[int(head.strip(" []"))] = json.loads(told)
    return found


@pytest.fixture
def short_heartbeat(monkeypatch):
    monkeypatch.setenv("AIMZ_LAB_HEARTBEAT_S", "3")


@pytest.mark.usefixtures("short_heartbeat")
def test_a_process_that_died_is_replaced_and_the_losses_are_those_of_one(script, alone, tmp_path):
    """The first process waits for the dead one, and writes the last checkpoint."""
    with pytest.raises(ClusterError, match="Process 1 of 2 was ended by SIGKILL.* resume="):
        run(script, tmp_path, 2, fault="dies")
    assert [path.name for path in tmp_path.iterdir()] == ["000001-step-24.npz"]
    found = run(script, tmp_path, 2, "resume", fault="late")  # the others wait for the first
    assert sorted(found) == [0, 1]
    assert found[0] == found[1]
    np.testing.assert_allclose(found[0]["losses"], alone["losses"], rtol=1e-5)
    np.testing.assert_allclose(found[0]["validation"], alone["validation"], rtol=1e-5)
    np.testing.assert_allclose(found[0]["mean"], alone["mean"], rtol=1e-4)


@pytest.mark.usefixtures("short_heartbeat")
def test_a_process_that_hangs_is_named_and_the_last_checkpoint_is_there(script, tmp_path):
    with pytest.raises(ClusterError, match="Process 1 of 2 did not answer any more"):
        run(script, tmp_path, 2, fault="hangs")
    assert [path.name for path in tmp_path.iterdir()] == ["000001-step-24.npz"]


def test_the_processes_end_with_the_one_that_started_them(script, tmp_path):
    """A scheduler ends a job by SIGTERM to its first process alone."""
    code = (
        "import sys; from aimz_lab.cluster import train; "
        "train(sys.argv[1], sys.argv[2:], processes=1)"
    )
    arguments = [str(script), str(tmp_path), "6", "fresh", "launcher dies"]
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    [pid] = re.findall(r"PID (\d+)", ended.stdout)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_wrong_use_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="There is no script"):
        train(tmp_path / "none.py", processes=2)
    with pytest.raises(ArgumentError, match="processes"):
        train(__file__, processes=0)


def test_an_option_behind_the_script_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    assert main(["train", str(tmp_path / "fit.py"), "--processes", "2"]) == 2
    assert f"Write aimz-lab train --processes N {tmp_path / 'fit.py'}" in capsys.readouterr().err
