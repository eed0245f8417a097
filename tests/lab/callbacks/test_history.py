"""Histories: a table of a run that survives files, and runs side by side."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from aimz_lab.errors import ArgumentError, DataError, DataTypeError
from aimz_lab.files import sealed_text, unsealed
from aimz_lab.inference.run.loss_words import loss_words
from aimz_lab.lab.callbacks import CSVLogger, History, LambdaCallback, ProgressLine, compare
from aimz_lab.lab.monitor import monitor
from tests.lab.runs import begun, feed, play


@pytest.fixture
def history():
    info = {"n_obs": 20, "batch_size": 10, "epochs": 2, "steps_per_epoch": 2}
    run = begun(**info, scaled="N / B = 2", outcome="log(y)")
    history = History()
    play(run, [history], [])
    feed(run, [40.0, np.nan], grad_norm=[3.0, 2.0], n_pad=[0, 6])
    feed(run, [20.0, 10.0], epoch=2, grad_norm=[1.0, np.inf], rate=0.5)
    run.validation = [(2, 1.5), (4, 0.75)]
    run.checkpoints = [(4, "somewhere")]
    run.notes = ["one step was skipped"]
    return history


def test_a_row_a_step(history):
    frame = history.to_frame()
    assert frame.index.name == "step"
    assert frame.index.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(frame["loss"], [40, np.nan, 20, 10])
    np.testing.assert_array_equal(frame["epoch"], [1, 1, 2, 2])
    np.testing.assert_array_equal(frame["n_pad"], [0, 6, 0, 0])
    np.testing.assert_array_equal(frame["validation"], [np.nan, 1.5, np.nan, 0.75])
    np.testing.assert_array_equal(frame["learning_rate"], [np.nan, np.nan, 0.5, 0.5])
    np.testing.assert_allclose(frame["seconds"], [0.05, 0.05, 0.1, 0.1])


def test_the_table_is_the_reader_s_own(history):
    frame = history.to_frame()
    frame.loc[1, "loss"] = -1.0
    assert history.losses[0] == 40.0


def test_json_gives_back_the_whole_run(history, tmp_path):
    history.run.skipped = history.run.unmoved_steps = 2
    history.run.has_spent_rate = True
    history.run.clock.spend("waiting", 6.3)
    history.run.clock.spend("tracing", 1.2)
    history.to_json(tmp_path / "run.json")
    json.loads((tmp_path / "run.json").read_text(), parse_constant=pytest.fail)  # strict JSON
    again = History.from_json(tmp_path / "run.json")
    pd.testing.assert_frame_equal(again.to_frame(), history.to_frame(), check_dtype=False)
    for name in ("status", "reason", "validation", "checkpoints", "notes", "elapsed_s", "epoch",
                 "skipped", "trained_s", "prepared_s", "compiling_s", "waited_s",
                 "paused_s"):  # fmt: skip
        assert getattr(again.run, name) == getattr(history.run, name), name
    assert (again.run.info.scaled, again.run.info.outcome) == ("N / B = 2", "log(y)")
    assert again.run.finished
    assert repr(again) == repr(history)


def test_csv_is_the_table(history, tmp_path):
    history.to_csv(tmp_path / "run.csv")
    read = pd.read_csv(tmp_path / "run.csv", index_col="step")
    np.testing.assert_allclose(read["loss"], history.losses)


@pytest.mark.parametrize("content", ["{}", "[]", "nonsense", '{"version": 1}'])
def test_what_is_no_history_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError, match="no history written by"):
        History.from_json(tmp_path / "x.json")


def test_a_history_of_a_newer_version_is_refused(history, tmp_path):
    history.to_json(tmp_path / "x.json")
    content = unsealed((tmp_path / "x.json").read_bytes()) | {"version": 99}
    (tmp_path / "x.json").write_bytes(sealed_text(content))
    with pytest.raises(DataError, match="version 99"):
        History.from_json(tmp_path / "x.json")


def test_before_a_run_it_says_that_there_is_none():
    assert repr(History()) == "History(no run yet)"
    assert History()._repr_html_() == "History: no run yet"
    with pytest.raises(DataTypeError, match="holds no run yet"):
        History().to_frame()


def test_it_shows_the_summary(history):
    assert "completed: all steps done" in repr(history)
    assert "<td" in history._repr_html_()


def test_comparison_against_numpy():
    slow, quick = begun(n_obs=10, steps_per_epoch=100, model="slow"), begun(model="quick")
    for _ in range(2):  # a state is judged by later steps
        feed(slow, [50.0] * 100, seconds=10.0)
    feed(quick, [np.nan] * 4, seconds=1.0)
    slow.finish("completed", "")
    quick.finish("diverged", "")
    table = compare(slow, quick)
    assert table.columns.tolist() == ["slow 1", "quick 2"]
    assert table.loc["loss", "slow 1"] == pytest.approx(5.0)
    assert table.loc["best", "slow 1"] == pytest.approx(5.0)
    assert table.loc["best_by", "slow 1"] == "training loss"
    assert table.loc["steps_per_s", "slow 1"] == pytest.approx(10.0, rel=0.01)
    assert table.loc["status", "quick 2"] == "diverged"
    assert np.isnan(table.loc["loss", "quick 2"])


def test_comparing_nothing_is_an_error():
    with pytest.raises(ArgumentError, match="at least one"):
        compare()


class TestCSVLogger:
    def test_rows_are_there_while_the_run_goes_on(self, tmp_path):
        path = tmp_path / "log.csv"
        sizes = []
        spy = LambdaCallback(on_epoch_end=lambda run, epoch: sizes.append(len(pd.read_csv(path))))
        watch = monitor([1.0, 2.0], epochs=3, callbacks=[CSVLogger(path), spy])
        for i, batch in enumerate(watch):
            watch.step(batch, grad_norm=i)
        assert sizes == [2, 4, 6]
        log = pd.read_csv(path)
        assert log["step"].tolist() == [1, 2, 3, 4, 5, 6]
        assert log["loss"].tolist() == [1.0, 2.0] * 3
        assert log["grad_norm"].tolist() == [0, 1, 2, 3, 4, 5]

    def test_appending_writes_one_header(self, tmp_path):
        path = tmp_path / "log.csv"
        for append in (False, True):
            play(begun(), [CSVLogger(path, append=append)], [[1.0, 2.0]])
        assert pd.read_csv(path)["loss"].tolist() == [1.0, 2.0, 1.0, 2.0]

    def test_a_new_run_replaces_the_file(self, tmp_path):
        logger = CSVLogger(tmp_path / "log.csv")
        play(begun(), [logger], [[1.0, 2.0]])
        play(begun(), [logger], [[3.0]])
        assert pd.read_csv(logger.path)["loss"].tolist() == [3.0]


class TestLambdaCallback:
    def test_functions_are_called_with_the_event_s_arguments(self):
        seen = []
        callback = LambdaCallback(
            on_fit_begin=lambda run: seen.append(run.status),
            on_steps_end=lambda run, steps: seen.append(len(steps)),
        )
        play(begun(), [callback], [[1.0, 2.0]])
        assert seen == ["running", 2]

    def test_it_asks_for_nothing_that_it_does_not_use(self):
        from aimz_lab.inference.run.events import Callbacks

        callbacks = Callbacks([LambdaCallback(on_fit_end=print)], begun())
        assert not callbacks.aligned_to_epochs

    def test_unknown_events_are_refused(self):
        with pytest.raises(ArgumentError, match="'on_lunch'; use one of on_fit_begin"):
            LambdaCallback(on_lunch=print)


class TestProgressLine:
    def test_a_terminal_sees_one_line(self, capsys):
        import io

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        out = Terminal()
        play(begun(n_obs=10, epochs=1, steps_per_epoch=4), [ProgressLine(out)], [[20.0] * 2] * 2)
        *_, last = out.getvalue().split("\r")
        assert last.startswith("kernel: completed · epoch 1 of 1 · step 4 of 4 · loss 2 per row")
        assert out.getvalue().count("\n") == 1
        assert capsys.readouterr() == ("", "")

    def test_the_last_line_has_the_loss_that_the_run_has(self, capsys):
        run = begun(n_obs=10, epochs=100, steps_per_epoch=4)
        noise = np.random.default_rng(0).normal(20, 5, 400)
        play(run, [ProgressLine()], noise.reshape(20, 20))
        assert f"loss {loss_words(run)} ·" in capsys.readouterr().err.splitlines()[-1]

    def test_a_pipe_gets_few_lines_and_the_end(self, capsys):
        play(begun(), [ProgressLine()], [[1.0]] * 50, status="failed", reason="out of luck")
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2
        assert lines[-1].endswith("· out of luck")
