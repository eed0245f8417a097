"""What each panel says of a run, against counts made here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aimz_lab.errors import DataError
from aimz_lab.inference.compiling import compile_on_thread, named
from aimz_lab.inference.run.events import Callback, Callbacks, Control, Run, RunInfo
from aimz_lab.inference.run.loss_words import loss_per_row
from aimz_lab.inference.run.run_words import run_facts
from aimz_lab.lab.panels import (
    CheckPanel,
    DevicesPanel,
    LossPanel,
    PaddingPanel,
    ParametersPanel,
    ProgressPanel,
)
from aimz_lab.lab.panels.compilations import Compilation, CompilationLog
from aimz_lab.lab.panels.padding import shards
from aimz_lab.lab.panels.predictive_check import densities
from aimz_lab.lab.pictures.curves import curve_of
from aimz_lab.lab.traces import unpack
from aimz_lab.preparing import Preparation
from tests.lab.runs import begun, chunk, feed


def watched(panel, run, chunks):
    """The last frame of a panel that looked after every chunk."""
    panel.begin(run)
    frame = panel.frame(run)
    for columns in chunks:
        panel.take(feed(run, **columns))
        frame = panel.frame(run)
    return frame


class TestLoss:
    def test_curves_are_kept_step_by_step(self):
        run = begun(n_obs=10)
        frame = watched(LossPanel(), run, [{"loss": [30.0, 20.0]}, {"loss": [10.0]}])
        np.testing.assert_array_equal(unpack(frame["traces"]["loss"]["mean"]), [30, 20, 10])
        assert frame["n_obs"] == 10

    def test_now_is_smoothed_and_best_is_the_lowest_both_per_row(self):
        run = begun(n_obs=10, steps_per_epoch=100)
        frame = watched(
            LossPanel(), run, [{"loss": [loss] * 100} for loss in (50.0, 20.0, 20.0, 30.0)]
        )
        assert (frame["best"], frame["best_step"]) == (2.0, 200)
        assert frame["now"] == 3.0

    def test_in_a_steep_fall_the_best_is_the_last_state_that_later_steps_have_judged(self):
        losses, run = 10 * np.exp(-np.arange(900) / 99), begun(n_obs=1)
        frame = watched(LossPanel(), run, [{"loss": part} for part in losses.reshape(9, 100)])
        assert (frame["best"], frame["best_step"]) == (loss_per_row(run, 800), 800)
        assert run_facts(run)[2][1].endswith("at step 800, the best that later steps confirm")
        run.judge_last(losses[-1:])
        assert run_facts(run)[2][1].endswith("at step 900")
        frame = watched(LossPanel(), run, [])
        assert (frame["best"], frame["best_step"]) == (frame["now"], 900)

    @pytest.mark.parametrize("n_steps", [700, 5000])
    def test_the_best_is_one_number(self, n_steps, rng):
        """Live, and at the end; it lies on the smoothed curve, and is not low by noise."""
        losses = 3 + np.abs(np.linspace(-1, 1, n_steps)) + 0.1 * rng.normal(size=n_steps)
        run, panel, found = begun(n_obs=10, steps_per_epoch=7), LossPanel(), {}
        panel.begin(run)
        for start in range(0, n_steps, 50):
            feed(run, losses[start : start + 50])
            frame = panel.frame(run)
            if frame["best"] is not None:
                assert frame["best"] == loss_per_row(run, frame["best_step"])
                found[frame["best_step"]] = frame["best"]
        assert frame["best"] == pytest.approx(min(found.values()), abs=0.005)
        assert frame["best_step"] < n_steps
        assert len(found) > 3
        run.finish("completed", "")
        assert panel.frame(run)["best"] == frame["best"] == run.best_so_far.value
        assert run.best_so_far.value == loss_per_row(run, frame["best_step"])
        drawn = curve_of(run, per_row=True, smooth=True)
        assert drawn.best[2] == frame["best"]
        on_the_curve = np.interp(frame["best_step"], drawn.steps, drawn.smoothed)
        assert frame["best"] == pytest.approx(on_the_curve, rel=2e-3)  # of 1,024 buckets

    def test_without_rows_the_loss_is_total(self):
        frame = watched(LossPanel(), begun(), [{"loss": [20.0] * 256}] * 2)
        assert frame["now"] == frame["best"] == 20.0

    def test_nothing_finite_is_no_number(self):
        frame = watched(LossPanel(), begun(), [{"loss": [np.nan, np.inf]}])
        assert frame["now"] is frame["best"] is frame["best_step"] is None

    def test_learning_rate_and_metrics_have_curves_aligned_with_the_loss(self):
        chunks = [{"loss": [1.0, 1.0]}, {"loss": [1.0], "rate": 0.5, "grad_norm": [7.0]}]
        frame = watched(LossPanel(), begun(), chunks)
        assert set(frame["traces"]) == {"loss", "learning_rate", "grad_norm"}
        expected = {"learning_rate": 0.5, "grad_norm": 7.0}
        for name, value in expected.items():
            values = unpack(frame["traces"][name]["mean"])
            np.testing.assert_array_equal(values, [np.nan, np.nan, value])

    @pytest.mark.parametrize("n_steps", [300, 5000, 300_000])
    def test_the_rate_begins_with_that_of_the_first_step_and_has_no_means(self, n_steps):
        rates = 0.01 * 0.5 ** (np.arange(n_steps) / n_steps * 4)
        run = Run(RunInfo("kernel", "SVI"))
        run.learning_rate = 0.01
        run.begin()
        steps = chunk(1, np.zeros(n_steps), rate=float(rates[-1]))
        run.record(replace(steps, rates=rates))
        panel = LossPanel()
        panel.begin(run)
        frame = panel.frame(run)["traces"]["learning_rate"]
        values, width = unpack(frame["mean"]), frame["width"]
        assert frame["first"] == 0.01
        assert len(values) == -(-n_steps // width) <= 1024
        ends = np.minimum(np.arange(1, len(values) + 1) * width, n_steps)
        np.testing.assert_allclose(values, rates[ends - 1], rtol=1e-5)

    def test_validation_is_thinned_and_keeps_its_lowest(self):
        run = begun()
        run.validation = [(i, 1.0 if i == 777 else 2.0 + i / 1e6) for i in range(5000)]
        frame = watched(LossPanel(), run, [{"loss": [1.0]}])
        steps, losses = (unpack(frame["validation"][name]) for name in ("steps", "loss"))
        assert len(steps) == len(losses) <= 400
        assert steps[np.argmin(losses)] == 777

    def test_a_new_run_begins_with_empty_curves(self):
        panel = LossPanel()
        watched(panel, begun(), [{"loss": [1.0, 2.0], "grad_norm": [1.0, 1.0]}])
        frame = watched(panel, begun(), [{"loss": [5.0]}])
        assert list(frame["traces"]) == ["loss"]
        assert frame["traces"]["loss"]["steps"] == 1


class TestProgress:
    def test_it_tells_what_was_asked_for_until_it_is_done(self):
        run = begun()
        panel = ProgressPanel()
        panel.begin(run)
        assert panel.frame(run)["asked"] == ""
        run.control.pause()
        assert panel.frame(run)["asked"] == "pause"
        run.status = "paused"
        assert panel.frame(run)["asked"] == ""
        run.control.stop("enough")
        assert panel.frame(run)["asked"] == "stop"
        run.finish("stopped", "enough")
        assert (panel.frame(run)["asked"], panel.frame(run)["reason"]) == ("", "enough")

    def test_it_names_switched_off_callbacks_and_the_latest_notes(self):
        run = begun()

        class Broken(Callback):
            kind = "display"

            def on_fit_begin(self, run):
                raise ValueError("no luck")

        callbacks = Callbacks([Broken()], run)
        with pytest.warns(UserWarning, match="switched off"):
            callbacks.emit("on_fit_begin")
        run.notes += [f"note {i}" for i in range(9)]
        run.skipped = 3
        notes = ProgressPanel().frame(run)["notes"]
        assert notes[0] == "Broken failed and was switched off: ValueError: no luck"
        assert notes[1].startswith("3 of 0 steps were skipped")
        assert notes[2:] == [f"note {i}" for i in range(4, 9)]

    def test_the_age_of_a_checkpoint_begins_anew_with_each(self, monkeypatch):
        clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
        monkeypatch.setattr("aimz_lab.lab.panels.progress.time", clock)
        run = begun()
        panel = ProgressPanel()
        panel.begin(run)
        assert panel.frame(run)["checkpoint"] is None
        run.checkpoints.append((7, "a"))
        assert panel.frame(run)["checkpoint"]["age_s"] == 0
        clock.now += 100
        assert panel.frame(run)["checkpoint"]["age_s"] == 100
        run.checkpoints.append((9, "b"))
        assert panel.frame(run)["checkpoint"]["step"] == 9
        assert panel.frame(run)["checkpoint"]["age_s"] == 0

    def test_it_tells_what_can_be_asked_for(self):
        run = begun(control=Control(can_set_learning_rate=True))
        frame = ProgressPanel().frame(run)
        flags = (frame["can_set_learning_rate"], frame["can_checkpoint"], frame["best_state"])
        assert flags == (True, False, None)

    def test_its_seconds_by_activity_and_its_clock_are_of_one_moment(self, monkeypatch):
        clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
        monkeypatch.setattr("aimz_lab.inference.run.run_clock.time", clock)
        run, panel = begun(), ProgressPanel(lambda: 0.25)
        clock.now = 6.0
        assert (panel.frame(run)["trained_s"], panel.frame(run)["prepared_s"]) == (0, 6)
        run.clock.begin_steps()
        run.clock.seconds_in |= {"dispatch": 1.0, "steps": 2.0, "callbacks": 1.0}
        clock.now = 10.0
        run.begin_pause()
        clock.now = 12.0
        frame = panel.frame(run)
        times = frame["trained_s"], frame["prepared_s"], frame["paused_s"], frame["elapsed_s"]
        assert times == (4, 6, 2, 12)
        assert frame["seconds_in"] == {
            "preparing": 6, "steps": 3, "callbacks": 0.75, "display": 0.25, "paused": 2,
        }  # fmt: skip

    def test_its_seconds_of_steps_have_those_that_are_under_way(self, monkeypatch):
        """A display tells while the first steps of a large model take seconds."""
        clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
        monkeypatch.setattr("aimz_lab.inference.run.run_clock.time", clock)
        run, panel = begun(), ProgressPanel()
        run.clock.begin_steps()
        for activity, so_far in [("steps", 3), ("callbacks", 4), ("steps", 7)]:
            with run.clock.spending(activity):
                clock.now += 3.0
                assert panel.frame(run)["seconds_in"]["steps"] == so_far
                clock.now += 1.0
        assert panel.frame(run)["seconds_in"]["steps"] == 8


class TestPadding:
    def test_the_last_batch_of_an_epoch_is_told_while_the_next_epoch_goes_on(self):
        chunks = [{"loss": [1.0] * 3, "rows": [100, 100, 70], "n_pad": [0, 0, 30], "epoch": 1},
                  {"loss": [1.0], "rows": 100, "epoch": 2}]  # fmt: skip
        frame = watched(PaddingPanel(), begun(n_obs=270, batch_size=100), chunks)
        assert (frame["n_pad"], frame["most"], frame["share_of_epoch"]) == (0, 30, 0.1)

    def test_a_batch_of_a_long_run_has_the_rows_of_a_batch(self):
        run = begun(n_obs=1470, batch_size=100)
        n_pad = np.tile([0] * 14 + [30], 20_000)
        feed(
            run,
            np.zeros(len(n_pad)),
            rows=100 - n_pad,
            n_pad=n_pad,
            epoch=np.arange(300_000) // 15 + 1,
        )
        panel = PaddingPanel()
        panel.begin(run)
        frame = panel.frame(run)
        assert frame["rows"] + frame["n_pad"] == 100
        assert frame["most"] == 30

    def test_the_documented_example(self):
        run = begun(n_obs=1000, batch_size=10, row_multiple=8)
        frame = watched(PaddingPanel(), run, [{"loss": [1.0] * 4, "rows": 10, "n_pad": 6}])
        assert (frame["share_of_run"], frame["share_of_epoch"]) == (0.375, None)
        assert frame["shards"] == [[2, 0]] * 5 + [[0, 2]] * 3
        assert frame["advice"].startswith("batch_size=10 on 8 devices wastes 37.5%")

    def test_shares_by_epoch_are_those_of_whole_epochs(self):
        run = begun()
        epochs = [1, 1, 2, 2, 2, 3]
        n_pad = [0, 10, 0, 0, 0, 30]
        chunks = [
            {"loss": [1.0] * 4, "epoch": epochs[:4], "n_pad": n_pad[:4]},
            {"loss": [1.0] * 2, "epoch": epochs[4:], "n_pad": n_pad[4:]},
        ]
        frame = watched(PaddingPanel(), run, chunks)
        np.testing.assert_allclose(unpack(frame["by_epoch"]["mean"]), [10 / 30, 0], rtol=1e-6)
        assert frame["share_of_epoch"] == 0  # of the second, the last whole one
        assert frame["share_of_run"] == 40 / 100
        np.testing.assert_array_equal(unpack(frame["by_step"]["mean"]), n_pad)

    def test_without_steps_there_is_nothing_to_waste(self):
        frame = watched(PaddingPanel(), begun(), [])
        assert (frame["rows"], frame["n_pad"], frame["share_of_run"]) == (0, 0, 0.0)
        assert frame["advice"] == ""

    @pytest.mark.parametrize(("rows", "n_pad", "n"), [(10, 6, 8), (1, 7, 8), (16, 0, 4), (5, 1, 3)])
    def test_shards_hold_all_rows_in_order(self, rows, n_pad, n):
        found = np.array(shards(rows, n_pad, n))
        np.testing.assert_array_equal(found.sum(axis=0), [rows, n_pad])
        assert set(found.sum(axis=1)) == {(rows + n_pad) // n}
        assert (np.diff(found[:, 0]) <= 0).all()


class TestDevices:
    def test_it_tells_devices_and_memory(self):
        run = begun(devices=tuple(jax.local_devices()))
        run.transferred_bytes = 800
        frame = watched(DevicesPanel(), run, [{"loss": [1.0] * 4}])
        assert frame["devices"][0]["name"] == f"{jax.local_devices()[0].platform}:0"
        assert frame["process"]["peak"] >= frame["process"]["in_use"] > 2**20
        assert frame["bytes_per_step"] == 200.0
        run._history.resumed_at = 2  # an earlier process has sent the batches of these steps
        assert DevicesPanel().frame(run)["bytes_per_step"] == 400.0

    @pytest.mark.usefixtures("compiled_anew")
    def test_it_lists_the_compilations_of_its_own_call(self):
        def compile_as(what, run):
            jax.jit(named(f"{what}_of_{run.call}", lambda x: x * 4.0))(np.ones(2))

        panels = []
        for _ in range(2):
            run, panel, preparation = begun(), DevicesPanel(), Preparation("kernel")
            run.call = preparation.number
            panel.begin(run)
            panels.append((panel, run, preparation))
        for _, run, preparation in panels:
            with preparation.under_way():
                compile_as("run", run)
                compile_on_thread(partial(compile_as, "ahead", run)).result()
                with Preparation("within").under_way():
                    compile_as("within", run)
            compile_as("none", run)
        for panel, run, _ in panels:
            compiled = panel.frame(run)["compiled"]
            names = {name for name in panel._programs if "_of_" in name}
            assert names == {f"{what}_of_{run.call}" for what in ("run", "ahead", "within")}
            assert compiled["count"] >= 3

    @pytest.mark.usefixtures("compiled_anew")
    def test_it_counts_compilations_of_this_run_and_says_what_came_with_them(self):
        def freshly_compiled(x):
            return (x * 2.0).sum()

        panel = DevicesPanel()
        run = begun()
        jax.jit(freshly_compiled)(np.ones(2))  # of no run
        panel.begin(run)
        fn = jax.jit(freshly_compiled)
        fn(np.ones(3))
        panel.take(feed(run, [1.0], rows=3))
        panel.frame(run)
        fn(np.ones(5))
        panel.take(feed(run, [1.0], rows=5))
        panel.frame(run)
        panel.take(feed(run, [1.0], rows=5))
        compiled = panel.frame(run)["compiled"]
        assert compiled["count"] == 2
        [row] = [row for row in compiled["longest"] if row["name"] == "freshly_compiled"]
        assert row["count"] == 2
        assert row["cause"] == "by step 2, first batch of 5 rows"
        assert 0 < row["seconds"] <= compiled["seconds"]

    def test_programs_that_compile_side_by_side_take_the_run_no_longer_than_it_lives(
        self, monkeypatch
    ):
        run = begun()
        run.call = 9
        began = run.clock._began
        spans = {"chain_setup": (0.0, 15.0), "chain_iterations": (2.0, 25.0), "later": (31.0, 39.0)}
        kept = [
            Compilation(i, name, ((began + begin, began + end),), (9,), 0)
            for i, (name, (begin, end)) in enumerate(spans.items())
        ]
        log = SimpleNamespace(count=0, since=lambda number: kept[number:])
        monkeypatch.setattr("aimz_lab.lab.panels.devices.compilation_log", lambda: log)
        panel = DevicesPanel()
        panel.begin(run)
        run.clock.begin_steps()
        run.clock.first_step_at = began + 29
        run.clock.spend("compiling", 0.5)  # the steps waited for no more of the last one
        compiled = panel.frame(run)["compiled"]
        assert (compiled["count"], compiled["seconds"]) == (3, pytest.approx(46.0))
        assert compiled["passed"] == [pytest.approx(25.0), 0.5]
        run.call, panel._looked_at = None, 3
        assert panel.frame(run)["compiled"]["passed"] == pytest.approx([25.0, 8.0])

    def test_before_the_first_compilation_has_ended_there_is_no_number(self):
        run, panel = begun(), DevicesPanel()
        run.call = Preparation("kernel").number
        panel.begin(run)
        assert panel.frame(run)["compiled"] is None
        run.clock.begin_steps()
        assert panel.frame(run)["compiled"]["count"] == 0

    def test_a_program_of_the_folder_is_read_and_not_compiled(self):
        log = CompilationLog()
        for loads in (True, False):
            log.record("/jax/core/compile/jaxpr_trace_duration", 0.1, fun_name="steps")
            if loads:
                log.record("/jax/compilation_cache/cache_retrieval_time_sec", 0.1)
            log.record("/jax/core/compile/backend_compile_duration", 0.2, fun_name="jit(steps)")
        [compiled] = log.since(0)
        assert (log.count, compiled.name) == (1, "steps")
        assert compiled.seconds == pytest.approx(0.3)

    def test_a_panel_that_joins_a_run_later_tells_no_number_of_compilations(self):
        run = begun()
        feed(run, [1.0])
        panel = DevicesPanel()
        panel.begin(run)
        assert panel.frame(run)["compiled"] is None


class TestParameters:
    @staticmethod
    def moving(values):
        values = iter(values)
        return lambda: next(values)

    def test_a_location_moves_in_units_of_its_scale(self):
        params = [
            {"b_auto_loc": jnp.array([0.0, 0.0]), "b_auto_scale": jnp.array([1.0, 1.0])},
            {"b_auto_loc": jnp.array([0.0, 0.1]), "b_auto_scale": jnp.array([1.0, 0.1])},
        ]
        jax.block_until_ready(params)
        run = begun(get_params=self.moving(params))
        panel = ParametersPanel()
        panel.begin(run)
        panel.frame(run)
        feed(run, [1.0] * 100)
        rows = panel.frame(run)["rows"]
        assert (rows[0]["site"], rows[0]["kind"], rows[0]["unit"]) == ("b[1]", "location", "sd")
        assert rows[0]["moved"] == pytest.approx(1.0)
        assert rows[0]["over_steps"] == 100
        np.testing.assert_allclose(unpack(rows[0]["path"]), [0.0, 0.1], rtol=1e-6)
        assert (rows[1]["site"], rows[1]["kind"], rows[1]["unit"]) == ("b[1]", "scale", "relative")
        assert rows[1]["moved"] == pytest.approx(0.9)

    def test_values_are_of_the_step_that_the_frame_names_and_have_moved(self):
        class Later(_NotReady):
            is_there, shape = False, (1,)

            def is_ready(self):
                return self.is_there

            def __array__(self, *_, **__):
                return np.array([7.0])

        later = Later()
        values = [{"w": np.array([5.0])}, {"w": later}, {"w": np.array([8.0])}, {}]
        run = begun(get_params=self.moving(values))
        panel = ParametersPanel()
        panel.begin(run)
        first = panel.frame(run)
        assert (first["rows"], first["step"], first["note"]) == ([], 0, "1 value.")
        feed(run, [1.0] * 10)
        assert panel.frame(run)["rows"] == []  # asks for the values of step 10
        assert not panel.has_news()
        feed(run, [1.0] * 90)
        later.is_there = True
        assert panel.has_news()
        frame = panel.frame(run)
        assert (frame["step"], frame["rows"][0]["value"]) == (10, 7.0)
        assert frame["rows"][0]["over_steps"] == 10
        assert not panel.has_news()
        feed(run, [1.0] * 100)
        frame = panel.frame(run)
        assert (frame["step"], frame["rows"][0]["value"]) == (200, 8.0)
        assert unpack(frame["steps"]).tolist() == [0, 10, 200]
        assert unpack(frame["rows"][0]["path"]).tolist() == [5, 7, 8]

    def test_a_cholesky_factor_gives_the_scale_of_each_location(self):
        params = [
            {"auto_loc": np.array([0.0, 0.0]), "auto_scale_tril": np.array([[2.0, 0], [3, 4]])},
            {"auto_loc": np.array([1.0, 1.0]), "auto_scale_tril": np.array([[2.0, 0], [3, 4]])},
        ]
        run = begun(get_params=self.moving(params))
        panel = ParametersPanel()
        panel.begin(run)
        panel.frame(run)
        feed(run, [1.0] * 10)
        moved = [(r["site"], r["moved"], r["unit"]) for r in panel.frame(run)["rows"][:2]]
        assert moved == [("auto_loc[0]", 0.5, "sd"), ("auto_loc[1]", 0.2, "sd")]

    def test_a_run_that_tells_no_parameters_has_an_empty_panel(self):
        run = begun()
        panel = ParametersPanel()
        panel.begin(run)
        assert panel.frame(run) == {}

    def test_what_is_not_finite_comes_first_and_breaks_nothing(self):
        run = begun(
            get_params=self.moving([{"w": np.ones(3)}, {"w": np.array([1.0, np.nan, 1.1])}])
        )
        panel = ParametersPanel()
        panel.begin(run)
        panel.frame(run)
        feed(run, [1.0] * 10)
        rows = panel.frame(run)["rows"]
        assert rows[0]["site"] == "w[1]"
        assert rows[0]["moved"] is rows[0]["value"] is None
        assert rows[1]["site"] == "w[2]"

    def test_large_arrays_are_sampled_and_it_says_so(self):
        run = begun(get_params=lambda: {"w": np.zeros((100, 100))})
        panel = ParametersPanel()
        panel.begin(run)
        frame = panel.frame(run)
        assert frame["note"] == "10,000 values; 2,000 of each array are followed."
        feed(run, [1.0])
        assert len(panel.frame(run)["rows"]) == 6

    def test_snapshots_stay_few(self):
        run = begun(get_params=lambda: {"w": np.array([float(run.step)])})
        panel = ParametersPanel()
        panel.begin(run)
        for _ in range(300):
            feed(run, [1.0])
            frame = panel.frame(run)
        assert len(unpack(frame["rows"][0]["path"])) <= 48
        assert unpack(frame["rows"][0]["path"])[-1] == 300

    def test_the_loop_does_not_wait_for_values_that_are_still_computed(self):
        asked = []

        def params():
            asked.append(len(asked))
            return {"w": _NotReady()}

        run = begun(get_params=params)
        panel = ParametersPanel()
        panel.begin(run)
        assert panel.frame(run) == panel.frame(run) == {}
        assert asked == [0]


class _NotReady(jax.Array):
    dtype = np.dtype(np.float32)
    size = 1

    def is_ready(self):
        return False


class TestCheck:
    def test_densities_integrate_to_one_and_see_a_shift(self, rng):
        y = rng.normal(size=5000)
        frame = densities(y, rng.normal(1.0, 1.0, size=(20, 5000)))
        width = (frame["high"] - frame["low"]) / 48
        for name in ("observed", "replicated"):
            assert unpack(frame[name]).sum() * width == pytest.approx(1.0, abs=0.01)
        assert frame["mean_below"] == 0.0
        low, high = map(unpack, frame["band"])
        assert (low <= high).all()

    def test_a_constant_outcome_has_a_picture_too(self):
        frame = densities(np.ones(10), np.ones((3, 10)))
        assert frame["high"] > frame["low"]

    @pytest.mark.parametrize(("y", "draws"), [([], np.ones((2, 3))), ([1.0], np.ones(3))])
    def test_shapes_that_cannot_be_compared_are_refused(self, y, draws):
        with pytest.raises(DataError, match="shape"):
            densities(y, draws)

    def test_it_shows_the_last_check_and_nothing_before_the_first(self, rng):
        run = begun()
        panel = CheckPanel(lambda run: (rng.normal(size=50), rng.normal(size=(4, 50))))
        panel.begin(run)
        assert panel.frame(run) == {}
        run.epoch = 3
        panel.refresh(run)
        assert (panel.frame(run)["epoch"], panel.frame(run)["n_draws"]) == (3, 4)
