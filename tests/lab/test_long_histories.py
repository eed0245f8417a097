"""What the lab says of a run that is too long to keep every step of."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.inference.run.events import Callbacks
from aimz_lab.lab import compare, loss_figure
from aimz_lab.lab.callbacks import CSVLogger, History, ParamDrift
from aimz_lab.lab.dashboard.dashboard import LiveDashboard
from aimz_lab.lab.dashboard.replay import frames_of
from aimz_lab.lab.dashboard.views import RecordingDisplay
from aimz_lab.lab.panels import PaddingPanel
from aimz_lab.lab.panels.chains import TracePanel
from aimz_lab.lab.pictures.summary import summary_text
from aimz_lab.lab.record import padded_share
from aimz_lab.lab.traces import unpack
from tests.lab.runs import begun, feed

N = 300_005
PER_EPOCH = 5_000
STEP = np.arange(1, N + 1)
LOSS = (20 + 1e6 / STEP + STEP % 7).astype(np.float32)
NORM = (STEP % 13).astype(np.float32)
N_PAD = np.where(STEP % PER_EPOCH == 0, 6, 0)
EPOCH = (STEP - 1) // PER_EPOCH + 1


@pytest.fixture(scope="module")
def told():
    """A long run that a dashboard watched, and its frames after each report."""
    run = begun(n_obs=10, batch_size=10, epochs=61, steps_per_epoch=PER_EPOCH)
    history, screen = History(), RecordingDisplay()
    called = Callbacks([history, LiveDashboard(view=screen, share=1.0)], run)
    called.emit("on_fit_begin")
    for start in range(0, N, 40_003):
        at = slice(start, start + 40_003)
        columns = {"epoch": EPOCH[at], "n_pad": N_PAD[at], "rows": 10 - N_PAD[at], "rate": 0.1}
        called.steps_end(feed(run, LOSS[at], grad_norm=NORM[at], **columns), [])
        run.validation.append((run.step, 1.0 / run.step))
    run.finish("completed", "all steps done")
    called.emit("on_fit_end")
    return history, screen


def test_a_row_of_the_table_says_how_many_steps_it_stands_for(told):
    history, _ = told
    frame = history.to_frame()
    assert frame.index[-1] == N
    np.testing.assert_array_equal(np.diff(frame.index, prepend=0), frame["bucket_steps"])
    assert frame["bucket_steps"].value_counts().to_dict() == {4: N // 4, 1: N % 4}
    whole = frame.iloc[: N // 4]
    np.testing.assert_allclose(whole["loss"], LOSS[:-1].reshape(-1, 4).mean(1, dtype=float))
    np.testing.assert_array_equal(whole["loss_high"], LOSS[:-1].reshape(-1, 4).max(1))
    np.testing.assert_array_equal(whole["grad_norm_low"], NORM[:-1].reshape(-1, 4).min(1))
    np.testing.assert_array_equal(frame["epoch"], EPOCH[frame.index - 1])
    assert frame["n_pad"].sum() == N_PAD.sum()
    assert frame["rows"].sum() == 10 * N - N_PAD.sum()
    validation = frame["validation"].dropna()
    assert len(validation) == len(history.run.validation)
    assert validation.iloc[-1] == 1.0 / N
    np.testing.assert_array_equal(history.losses, LOSS)


@pytest.mark.slow
def test_files_give_back_the_same_run(told, tmp_path):
    history, _ = told
    history.to_json(tmp_path / "run.json")
    again = History.from_json(tmp_path / "run.json")
    pd.testing.assert_frame_equal(again.to_frame(), history.to_frame())
    np.testing.assert_array_equal(again.losses, LOSS)
    # Numbers of runs are those of a session.
    assert repr(again) == re.sub(r" · run \d+", "", repr(history))
    assert again.run.steps_per_s == pytest.approx(history.run.steps_per_s, rel=1e-4)
    assert (again.run.resumed_at, again.run.learning_rate) == (0, np.float32(0.1))
    one, other = frames_of(again.run), frames_of(history.run)
    assert one["padding"] == other["padding"]
    assert one["loss"]["traces"] == other["loss"]["traces"]


def test_curves_that_were_watched_are_those_that_are_replayed(told):
    history, screen = told
    replayed = frames_of(history.run)["loss"]["traces"]
    for name, values in (("loss", LOSS), ("grad_norm", NORM)):
        watched = screen.final["loss"]["traces"][name]
        width = watched["width"]
        whole = values[: N // width * width].reshape(-1, width)
        assert watched["steps"] == replayed[name]["steps"] == N
        for frame in (watched, replayed[name]):
            np.testing.assert_array_equal(unpack(frame["high"])[: len(whole)], whole.max(1))
            mean = unpack(frame["mean"])[: len(whole)]
            np.testing.assert_allclose(mean, whole.mean(1, dtype=float), rtol=1e-6)


def test_padding_is_that_of_all_rows_and_of_whole_epochs(told):
    history, screen = told
    watched = screen.final["padding"]
    share = 6 / (10 * PER_EPOCH)
    np.testing.assert_allclose(unpack(watched["by_epoch"]["mean"]), np.full(60, share), rtol=1e-6)
    assert watched["share_of_epoch"] == pytest.approx(share)
    total = N_PAD.sum() / (10 * N)
    for frame in (watched, frames_of(history.run)["padding"]):
        assert frame["share_of_run"] == padded_share(history.run) == total
        assert unpack(frame["by_step"]["high"]).max() == 6
        assert (frame["rows"], frame["n_pad"]) == (10, 0)


def test_after_a_resumption_the_epochs_are_those_that_began_since(told):
    history, _ = told
    run, panel = begun(), PaddingPanel()
    run.take_over(*history.run.kept())
    panel.begin(run)
    for epoch, n_pad in ((61, 9), (62, 2), (63, 4), (64, 0)):
        panel.take(feed(run, [1.0] * 4, epoch=epoch, n_pad=n_pad))
    frame = panel.frame(run)
    np.testing.assert_allclose(unpack(frame["by_epoch"]["mean"]), [2 / 12, 4 / 14], rtol=1e-6)
    assert frame["share_of_epoch"] == pytest.approx(4 / 14)
    rows = 10 * N + 4 * (19 + 12 + 14 + 10)
    assert frame["share_of_run"] == (N_PAD.sum() + 4 * 15) / rows


def test_summary_picture_and_comparison_count_steps(told):
    history, _ = told
    text = summary_text(history.run)
    assert f"{N:,} on all rows" in text
    table = compare({"kernel": history})["kernel"]
    assert (table["steps"], table["padded_share"]) == (N, padded_share(history.run))
    assert table["steps_per_s"] == pytest.approx(N / history.run.trained_s)
    pytest.importorskip("matplotlib")
    [axes] = loss_figure(history.run).axes
    assert axes.lines[0].get_xdata()[-1] == N


def test_the_file_has_every_step_exactly(tmp_path):
    run = begun()
    logger = CSVLogger(tmp_path / "run.csv")
    called = Callbacks([logger], run)
    called.emit("on_fit_begin")
    n = 140_000
    for start in range(0, n, 35_000):
        at = slice(start, start + 35_000)
        called.steps_end(feed(run, LOSS[at], epoch=EPOCH[at], grad_norm=NORM[at], seconds=1.0), [])
    called.emit("on_fit_end")
    read = pd.read_csv(logger.path, dtype={"loss": np.float32, "grad_norm": np.float32})
    assert len(run.bucket_steps) < n
    np.testing.assert_array_equal(read["step"], STEP[:n])
    np.testing.assert_array_equal(read["loss"], LOSS[:n])
    np.testing.assert_array_equal(read["epoch"], EPOCH[:n])
    np.testing.assert_array_equal(read["grad_norm"], NORM[:n])
    np.testing.assert_array_equal(read["seconds"], np.repeat([1.0, 2.0, 3.0, 4.0], 35_000))


def test_the_energies_of_long_chains_are_drawn_and_watched():
    run = begun(is_sampling=True, epochs=1, steps_per_epoch=60_000)
    run.chains = ChainRecord(ChainPlan(2, 20_000, 40_000), {}, lambda *_: None)
    panel = TracePanel()
    panel.begin(run)
    energies = np.stack([STEP[:60_000] % 50, 100 + STEP[:60_000] % 50], 1).astype(np.float32)
    for start in range(0, 60_000, 9_000):
        part = energies[start : start + 9_000]
        run.chains.extend({"potential_energy": part}, len(part))
        feed(run, part.mean(1))
        frame = panel.frame(run)
    run.finish("completed", "")
    assert len(run.chains.bucket_iterations) < 2**14 + 4
    for chain, trace in enumerate(frame["chains"]["potential_energy"]):
        assert (unpack(trace["low"]).min(), unpack(trace["high"]).max()) == (
            100 * chain,
            100 * chain + 49,
        )
    pytest.importorskip("matplotlib")
    [axes] = loss_figure(run).axes
    assert axes.lines[1].get_ydata().min() > 100 > 50 > axes.lines[0].get_ydata().max()


def test_the_drift_of_the_newest_epochs_is_kept(monkeypatch):
    monkeypatch.setattr("aimz_lab.lab.callbacks.metrics.LEAST_KEPT", 10)
    run = begun(get_params=lambda: {"b": np.ones(1)})
    drift = ParamDrift()
    drift.on_fit_begin(run)
    for epoch in range(1, 56):
        drift.on_epoch_end(run, epoch)
    assert drift.epochs == list(range(41, 56)) == drift.to_frame().index.tolist()
