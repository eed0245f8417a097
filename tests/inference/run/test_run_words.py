"""What runs, handles and models say of themselves, in a person's words."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest

from aimz_lab.errors import FitWarning
from aimz_lab.inference.describe import Standing, describe_html, describe_in_a_line
from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord, Convergence
from aimz_lab.inference.run.handle import RunHandle
from aimz_lab.inference.run.records import Best
from aimz_lab.inference.run.run_words import rate_words, run_facts, run_line, skipped_words
from aimz_lab.lab.dashboard.contents import meta
from aimz_lab.lab.formatting import line_then, status_line
from aimz_lab.lab.pictures.summary import facts, summary_text
from tests.kernels import regression_data
from tests.lab.runs import begun, feed
from tests.runs import regression_model, told_run


def run_with(losses=(30.0, 20.0), *, status="completed", reason="", model="sales", **info):
    run = begun(model=model, **{"n_obs": 10, "epochs": 2, "steps_per_epoch": 2, **info})
    if len(losses):
        feed(run, losses)
    if status:
        run.finish(status, reason)
    return run


def test_how_a_run_ended_is_said_once():
    run = run_with(status="interrupted", reason="interrupted after step 2")
    assert dict(run_facts(run))["status"] == "interrupted after step 2"
    assert dict(run_facts(run_with(reason="all done")))["status"] == "completed: all done"


def without_time(text):
    """A text without the moment at which a run did what it did."""
    return re.sub(r" at [-\d]{10} \d\d:\d\d:\d\d", "", text)


@pytest.mark.parametrize(
    ("status", "losses", "told"),
    [
        ("completed", (30.0,) * 4, "completed, step 4 of 4, loss 3 per row, in "),
        ("stopped", (30.0,), "stopped, step 1 of 4, loss 3 per row, in "),
        ("diverged", (30.0,), "diverged, step 1 of 4, loss 3 per row, in "),
        ("", (30.0,), "was running, step 1 of 4, loss 3 per row, for "),
        ("failed", (), "failed, step 0 of 4, in "),
    ],
)
def test_a_run_in_a_line(status, losses, told):
    line = without_time(repr(run_with(losses, status=status)))
    assert line.startswith(f"<Run sales (SVI with AutoNormal): {told}")
    assert line.endswith(" s>")


def test_steps_on_all_rows_are_told_without_epochs():
    told = {"n_obs": 40, "epochs": 1, "steps_per_epoch": 3}
    for batch_size, steps, line in [
        (40, "2 on all rows", "kernel: running · step 2 of 3 · "),
        (20, "2 in 1 epoch", "kernel: running · epoch 1 of 1 · step 2 of 3 · "),
    ]:
        run = begun(**told, batch_size=batch_size)
        feed(run, [3.0, 2.0])
        assert dict(run_facts(run))["steps"] == facts(run)["steps"] == steps
        assert status_line(run).startswith(line)
        assert meta(run)["has_all_rows_each_step"] == ("epoch" not in line)


def test_a_run_of_chains_tells_its_draws():
    run = run_with((), status="", is_sampling=True)
    plan = ChainPlan(chains=2, warmup=3, samples=5)
    run.chains = ChainRecord(plan, {"mu": ()}, lambda *_: np.zeros((2, 0, 1)))
    assert "was preparing, warm-up 0 of 3 in 2 chains, for" in without_time(repr(run))
    run.chains.extend({"diverging": np.array([[0, 0]] * 3 + [[0, 1]])}, 4)
    feed(run, [1.0] * 4)
    assert "was running, draw 1 of 5 in 2 chains, 1 divergence, for" in without_time(repr(run))
    assert dict(run_facts(run))["draws"] == "1 of 5 in each of 2 chains, after 3 of warm-up"


def test_the_table_of_a_run_is_short_and_escaped():
    run = run_with(status="stopped", reason="<b>enough</b>", model="<script>")
    run.notes.append("a < b")
    run.validation = [(2, 2.5)]
    html = run._repr_html_()
    assert "stopped: &lt;b&gt;enough&lt;/b&gt;" in html
    assert "a &lt; b" in html
    assert "<script>" not in html
    assert "color:inherit" in html  # in the colours of the page, light or dark
    assert [name for name, _ in run_facts(run)] == [
        "status", "loss", "best", "held-out loss", "steps", "time", "note"
    ]  # fmt: skip


def test_the_best_loss_is_called_held_out_where_it_stands_beside_the_training_loss():
    run = run_with(status="")
    run.validation = [(1, 9.5), (2, 9.75)]
    run.best["validation"] = Best(9.5, 1, None, "validation")
    assert ", best held-out loss 9.5 at step 1, " in repr(run)


def test_skipped_steps_are_told_wherever_a_run_is():
    run = run_with([30.0] * 20 + [np.nan] * 20, epochs=20)
    run.skipped = 20
    words = "20 of 40 steps were skipped, the last 20 in a row, as their loss or parameters were"
    assert skipped_words(run).startswith(words)
    assert "loss not finite, 20 steps skipped, in" in repr(run)
    assert dict(run_facts(run))["skipped"] == "20 of 40 steps"
    assert "20 of 40 steps skipped, 1,000 posterior" in describe_in_a_line(DESCRIBED, Standing(run))
    assert "skipped" not in repr(run_with()) + run_with()._repr_html_()


def test_chains_that_failed_say_so_wherever_they_are():
    run = run_with((), is_sampling=True)
    run.chains = ChainRecord(ChainPlan(4, 10, 50), {"tau": ()}, None)
    run.chains.extend({"diverging": np.ones((60, 4))}, 60)
    model = Standing(run, divergent=200)
    assert "200 divergences, in" in repr(run)
    assert "1,000 posterior draws, 200 divergent>" in describe_in_a_line(DESCRIBED, model)
    run.chains.convergence = Convergence(3.061, "tau", 9.2, "mu", judged=2, total=2)
    worst = "R-hat up to 3.06 (tau), above 1.01"
    assert f"200 divergences, {worst}, ESS at least 9 (mu), in" in repr(run)
    assert f"200 divergent, {worst}>" in describe_in_a_line(DESCRIBED, model)
    advice = f"200 divergent, {worst}: diagnose() says whether to trust these draws"
    assert advice in describe_html(DESCRIBED, model)
    run.chains.convergence = Convergence(1.004, "tau", 90.0, "mu", judged=2, total=2)
    worst = "R-hat at most 1.00 (tau), within the limit of 1.01"
    assert f"200 divergences, {worst}, ESS at least 90 (mu), in" in repr(run)
    assert "R-hat" not in describe_in_a_line(DESCRIBED, Standing(run))
    given = Standing(run, has_given_draws=True)
    assert "divergent" not in describe_in_a_line(DESCRIBED, given)


def test_a_rate_that_was_changed_is_told_with_the_one_at_first():
    run = run_with()
    run.learning_rate = 0.2
    run.rate_changed(0.44)
    told = "0.2 at first, 0.44 after step 2"
    assert dict(run_facts(run))["learning rate"] == facts(run)["learning rate"] == told
    run.rate_changed(0.1)
    assert rate_words(run) == "0.2 at first, 0.1 after step 2, the last of 2 changes"
    assert "learning rate" not in facts(run_with())


def test_the_present_rate_is_no_change_as_single_precision_has_it():
    run = run_with()
    run.learning_rate = float(np.float32(0.005))
    run.rate_changed(0.005)
    assert run.rate_changes == []


def test_a_rate_of_a_schedule_is_told_at_first_and_before_its_change():
    run = run_with()
    run.first_learning_rate, run.learning_rate = 0.05, 0.0002
    run.rate_changed(0.001)
    assert rate_words(run) == "0.05 at first, 0.0002 before and 0.001 after step 2"


def test_a_rate_that_was_set_before_the_first_step_is_told():
    run = told_run()
    run.learning_rate = 0.01
    run.rate_changed(0.02)
    assert rate_words(run) == "0.02 from the start, in place of 0.01"


def test_a_rate_for_a_run_that_has_ended_is_warned_of():
    im = regression_model()
    X, y = regression_data(40, 2)
    handle = im.fit(X, y, epochs=1, num_samples=2, progress=False, blocking=False).wait()
    with pytest.warns(FitWarning, match="The run has ended"):
        handle.set_learning_rate(0.5)
    assert handle.run.rate_changes == []


def test_a_request_is_told_until_the_run_gets_to_it():
    run = run_with(status="")
    run.control.can_set_learning_rate = True
    run.control.set_learning_rate(0.003)
    run.control.pause()
    both = "pausing and setting the learning rate to 0.003 after the steps under way"
    assert f": was running, {both}, step 2" in without_time(run_line(run))
    assert without_time(dict(run_facts(run))["status"]) == f"was running, {both}"
    assert f"sales: running · {both} · epoch 1" in status_line(run)
    run.begin_pause()
    rate = "setting the learning rate to 0.003 once it goes on"
    assert f": was paused, {rate}, step 2" in without_time(run_line(run))
    run.end_pause("running")
    run.control.resume()
    run.control.take_learning_rate()
    assert ": was running, step 2" in without_time(run_line(run))
    run.activity = "compiling the steps for the new learning rate"
    assert f"sales: running · {run.activity} · epoch 1" in status_line(run)
    run.control.stop()
    assert f"{run.activity}, stopping once the steps are compiled, step 2" in run_line(run)
    run.finish("stopped", "asked to stop")
    assert ": stopped, step 2" in run_line(run)


def test_a_handle_says_how_to_go_on():
    run = run_with(status="")

    def fails():
        raise ZeroDivisionError("<mine>")

    handle = RunHandle(None, run, lambda: run.finish("completed", ""))
    handle.wait(10)
    assert repr(handle).startswith("<RunHandle sales (SVI with AutoNormal): completed, step 2 of 4")
    assert repr(handle).endswith("; handle.result() is the model>")
    failed = RunHandle(None, run_with((), status="failed", reason="ZeroDivisionError: <i>"), fails)
    failed.wait(10)
    assert "it raised ZeroDivisionError (<mine>); handle.result() raises it again" in repr(failed)
    assert "&lt;i&gt;" in failed._repr_html_()


def test_what_is_written_of_a_run_that_goes_on_stays_true_when_it_is_gone():
    """A saved notebook shows it when the kernel may have been restarted."""
    run, go_on = run_with(status=""), threading.Event()
    handle = RunHandle(None, run, go_on.wait)
    texts = [repr(run), run._repr_html_(), repr(handle), handle._repr_html_(), summary_text(run)]
    for text in [*texts, line_then(run), describe_in_a_line(UNTRAINED, Standing(run))]:
        assert re.search(r"was (running|training) at [-\d]{10} \d\d:\d\d:\d\d", text)
        assert not re.search(r"(?<!was )(running|training)\b", text.replace("training_", ""))
    run.finish("completed", "all done")
    go_on.set()
    handle.wait(10)
    texts = [repr(run), run._repr_html_(), repr(handle), handle._repr_html_(), line_then(run)]
    assert "was " not in "".join(texts)


DESCRIBED = {
    "kernel": "sales", "arguments": ["X", "y"], "inference": "SVI", "guide": "AutoNormal",
    "trained_on": {"n_obs": 2000, "batch_size": 64, "fields": {"X": {}, "y": {}}},
    "ending": "", "fitted": True, "num_chains": 1, "num_samples": 1000,
    "sites": {"<i>": {"kind": "latent", "shape": [3], "draw_shape": [3], "plates": ["shop"]}},
}  # fmt: skip
UNTRAINED = {**DESCRIBED, "trained_on": None, "fitted": False, "num_samples": 0, "sites": {}}


@pytest.mark.parametrize(
    ("described", "standing", "told"),
    [
        (UNTRAINED, Standing(), "not trained yet"),
        (UNTRAINED, Standing(run_with(status="")), "was training, step 2 of 4, loss 2 per row"),
        (
            DESCRIBED,
            Standing(run_with((30.0,))),
            "trained on 2,000 rows of X and y, loss 3 per row, 1,000 posterior draws",
        ),
        (
            DESCRIBED,
            Standing(run_with((30.0,), status="stopped")),
            "training stopped at step 1 of 4 on 2,000 rows of X and y, loss 3 per row, "
            "1,000 posterior draws",
        ),
        (
            {**DESCRIBED, "fitted": False, "ending": "diverged after step 1"},
            Standing(run_with((30.0,), status="diverged")),
            "diverged after step 1, on 2,000 rows of X and y, loss 3 per row, "
            "1,000 posterior draws",
        ),
        (
            {**DESCRIBED, "ending": "diverged after step 1 and went back"},
            Standing(run_with((30.0,), status="diverged")),
            "diverged after step 1 and went back, trained on 2,000 rows of X and y, loss 3 per "
            "row, 1,000 posterior draws",
        ),
        (
            DESCRIBED,
            Standing(loaded_from="slope"),
            "loaded from slope, trained on 2,000 rows of X and y, 1,000 posterior draws",
        ),
        (
            DESCRIBED,
            Standing(steps_by_hand=23),
            "23 steps of train_on_batch on 2,000 rows of X and y, 1,000 posterior draws",
        ),
        (
            {**UNTRAINED, "fitted": True, "num_samples": 1000},
            Standing(has_given_draws=True),
            "not trained yet, 1,000 posterior draws set by hand",
        ),
    ],
)
def test_a_model_says_what_it_has_been_through(described, standing, told):
    line = without_time(describe_in_a_line(described, standing))
    assert line == f"<ImpactModel sales(X, y): SVI with AutoNormal, {told}>"
    html = describe_html(described, standing)
    is_idle = not described["fitted"] and not told.startswith("was training, ")
    assert ("fit(X, y) or fit_on_batch(X, y) trains it" in html) == is_idle
    assert "<i>" not in html


def test_a_hand_written_loop_says_how_its_state_is_used():
    trained = {**DESCRIBED, "fitted": False, "num_samples": 0}
    html = describe_html(trained, Standing(steps_by_hand=1))
    assert "1 step of train_on_batch on 2,000 rows" in html
    assert "im.set_posterior_sample(im.sample(return_datatree=False)) draws from its guide" in html
    assert "trains it" not in html


def test_what_gives_a_model_draws_is_said_for_its_data_and_after_a_divergence():
    wrecked = {**DESCRIBED, "fitted": False, "ending": "diverged after step 1"}
    diverged = Standing(run_with((30.0,), status="diverged"), has_diverged=True, reads_tables=True)
    assert ">fit(df) trains it at a lower learning rate</td>" in describe_html(wrecked, diverged)
    assert ">fit(df) trains it</td>" in describe_html(UNTRAINED, Standing(reads_tables=True))
    chains = {**UNTRAINED, "inference": "MCMC"}
    html = describe_html(chains, Standing(reads_tables=True))
    assert ">fit_on_batch(df) runs its chains</td>" in html


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ("best", "loss 2.5 per row (best state, step 1)"),
        ("monitor", "loss 2.5 per row (best state, step 1)"),
        ("before", "1,000 posterior draws"),
    ],
)
def test_the_loss_of_a_model_is_that_of_the_state_that_it_has(kept, told):
    run = run_with((30.0, 9e9), status="")
    state = object()
    if kept != "before":
        run.best["loss over 64 steps"] = Best(2.5, 1, state, "loss over 64 steps")
    if kept == "monitor":  # of two, the model has that of the callback that asked
        run.best["validation"] = Best(1.0, 2, object(), "validation")
    run.end_with(state)
    run.finish("stopped", "Stop and restore best was clicked")
    line, html = (make(DESCRIBED, Standing(run)) for make in (describe_in_a_line, describe_html))
    assert f"rows of X and y, {told}" in line
    assert told.removeprefix("loss ") in html
    assert ("loss" in html) == (kept != "before")
    assert repr(run).startswith("<Run sales (SVI with AutoNormal): stopped, step 2 of 4")


def test_the_total_stands_in_the_table_of_a_model():
    html = describe_html(DESCRIBED, Standing(run_with((30.0,), reason="all 1 steps done")))
    assert "3 per row, 30 for all 10 rows" in html
    assert "trained on 2,000 rows of X and y (all 1 steps done)" in html
    assert "per row" not in describe_html(DESCRIBED, Standing())
