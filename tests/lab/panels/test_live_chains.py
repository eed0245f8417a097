"""A run of chains on the displays: frames, line, picture and summary, against the sampler's own."""

from __future__ import annotations

import io

import arviz_stats as azs
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import HMC, MCMC
from PIL import Image

from aimz_lab import ImpactModel
from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.inference.run.run_words import run_facts
from aimz_lab.lab import History, LiveDashboard, ProgressLine, formatting, loss_figure
from aimz_lab.lab.dashboard import previous_runs, replay
from aimz_lab.lab.dashboard.views import LineView, RecordingDisplay
from aimz_lab.lab.panels import ConvergencePanel, SamplingPanel, TracePanel
from aimz_lab.lab.panels.chains import judged_at_the_end
from aimz_lab.lab.pictures.choices import Choices
from aimz_lab.lab.pictures.encoding import png
from aimz_lab.lab.pictures.figures import picture_bundle
from aimz_lab.lab.pictures.summary import Summary, facts, summary_text
from aimz_lab.lab.traces import unpack
from aimz_lab.progress import StatusLine
from tests.lab.runs import begun, feed

X = np.linspace(-1, 1, 20, dtype=np.float32)


def line(X, y=None):
    level = numpyro.sample("level", dist.Normal(0.0, 5.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 5.0).expand([2]).to_event(1))
    numpyro.deterministic("total", slope.sum())
    with numpyro.plate("obs", X.shape[0]):
        numpyro.sample("y", dist.Normal(level + slope.sum() * X, 1.0), obs=y)


@pytest.fixture(scope="module")
def seen():
    """One run and what four displays showed of it."""
    previous_runs.forget()
    kernel = HMC(line, num_steps=4, trajectory_length=None)
    mcmc = MCMC(
        kernel,
        num_warmup=60,
        num_samples=80,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    im = ImpactModel(line, jax.random.key(0), inference=mcmc)
    screen, text, view = RecordingDisplay(), io.StringIO(), io.StringIO()
    history = History()
    displays = [
        LiveDashboard(view=screen),
        LiveDashboard(view=LineView(StatusLine(view, rewrite=True))),
        ProgressLine(text),
        history,
    ]
    im.fit_on_batch(X, 2 * X + 1, callbacks=displays, steps_per_call=20)
    return {"im": im, "screen": screen, "view": view, "text": text, "history": history}


@pytest.mark.slow
def test_frames_tell_of_warmup_and_draws(seen):
    frames = seen["screen"].frames
    first = frames[0]
    assert first["meta"]["is_sampling"]
    assert first["sampling"] == {
        "chains": 2,
        "draws": 0,
        "of": 80,
        "iterations": 0,
        "warmup": 60,
        "warming_up": True,
        "divergences": None,
        "by_chain": [{}, {}],
        "advice": "",
    }
    shown = [frame["progress"]["words"] for frame in frames if "progress" in frame]
    assert shown[1] == "warming up"
    final = seen["screen"].final
    assert (final["sampling"]["draws"], final["sampling"]["warming_up"]) == (80, False)
    assert not {"padding", "parameters"} & final.keys()
    assert (
        final["progress"]["can_set_learning_rate"] is final["progress"]["can_checkpoint"] is False
    )


@pytest.mark.slow
def test_the_first_chunk_is_shown_at_once(seen):
    steps = [frame["progress"]["step"] for frame in seen["screen"].frames[:2]]
    assert steps == [0, 20]


@pytest.mark.slow
def test_each_chain_tells_what_its_sampler_does(seen):
    last = seen["im"].inference.last_state
    of_each = seen["screen"].final["sampling"]["by_chain"]
    stats = seen["im"].sample()["sample_stats"]
    for chain, reported in enumerate(of_each):
        assert reported["step_size"] == pytest.approx(float(last.adapt_state.step_size[chain]))
        accepted = float(stats["acceptance_rate"][chain].mean())
        assert reported["acceptance_rate"] == pytest.approx(accepted, rel=1e-5)
        assert reported["divergences"] == int(stats["diverging"][chain].sum())
        assert reported["n_steps"] == 4


def test_r_hat_and_ess_are_arvizs_of_the_latent_sites(seen):
    judged, table = seen["screen"].final["convergence"], seen["im"].summary()
    posterior = seen["im"].sample()["posterior"].to_dataset()
    assert judged["total"] == len(judged["rows"]) == 3  # "total" is no latent site
    for row in judged["rows"]:
        name, _, at = row["name"].rstrip("]").partition("[")
        values = posterior[name].values[..., int(at)] if at else posterior[name].values
        assert row["r_hat"] == pytest.approx(azs.rhat(values), rel=1e-6)
        assert row["ess_bulk"] == pytest.approx(azs.ess(values), rel=1e-6)
        tail = azs.ess(values, method="tail", prob=(0.05, 0.95))
        assert row["ess_tail"] == pytest.approx(tail, rel=1e-6)
        assert table.loc[row["name"], "ess_tail"] == pytest.approx(tail, rel=1e-6)
    assert judged["r_hat"] == max(row["r_hat"] for row in judged["rows"])
    worst = min(min(row["ess_bulk"], row["ess_tail"]) for row in judged["rows"])
    assert judged["ess"] == worst
    assert judged_at_the_end(seen["im"].last_run) is judged  # once, for all who ask
    known = seen["im"].last_run.chains.convergence
    for name in ("r_hat", "r_hat_of", "ess", "ess_of", "judged", "total"):
        assert getattr(known, name) == judged[name]


def test_the_curve_is_the_energy_of_each_chain(seen):
    curve = seen["screen"].final["loss"]
    energies = seen["im"].last_run.chains.column("potential_energy")
    assert next(iter(curve["traces"])) == "potential_energy"
    assert set(curve["traces"]) == {
        *("potential_energy", "acceptance_rate", "diverging", "n_steps", "step_size")
    }
    for chain, trace in enumerate(curve["chains"]["potential_energy"]):
        np.testing.assert_array_equal(unpack(trace["mean"]), energies[:, chain])
    np.testing.assert_allclose(
        unpack(curve["traces"]["potential_energy"]["mean"]), energies.mean(1), rtol=1e-6
    )
    assert (curve["warmup"], curve["best"]) == (60, None)


def test_lines_tell_the_phase_and_how_far_the_chains_agree(seen):
    shown = seen["view"].getvalue().split("\r")
    assert shown[1].startswith("line: preparing · ")
    assert any("warming up · warm-up 20 of 60 in 2 chains" in text for text in shown)
    last = seen["text"].getvalue().splitlines()[-1]
    judged = seen["screen"].final["convergence"]
    assert last.startswith("line: completed · draw 80 of 80 in 2 chains · ")
    assert (
        f"R-hat {formatting.ratio(judged['r_hat'])} > 1.01 · ESS {judged['ess']:,.0f} · in " in last
    )
    narrow = formatting.status_line(seen["im"].last_run, None, 70, judged)
    assert "step size" not in narrow
    assert "R-hat" in narrow


def test_the_picture_shows_each_chain_and_the_warmup(seen):
    figure = loss_figure(seen["im"].last_run)
    [axes] = figure.axes
    energies = seen["im"].last_run.chains.column("potential_energy")
    for chain, drawn in enumerate(axes.lines):
        np.testing.assert_allclose(drawn.get_ydata(), energies[:, chain])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["warm-up", "chain 1", "chain 2"]
    assert axes.get_xlabel() == "iteration"
    most = formatting.number(float(energies.max()))
    assert axes.get_ylabel() == f"potential energy (nats)\nup to {most} above the picture"
    low, high = axes.get_ylim()
    usual = np.quantile(energies[60:], [0.01, 0.99])
    assert low < usual[0] < usual[1] < high < energies.max()


@pytest.mark.parametrize("curve", ["n_steps", "acceptance_rate"])
def test_the_picture_of_any_curve_shows_the_warmup(seen, curve):
    run = seen["im"].last_run
    figure = loss_figure(run, curve=curve)
    [axes] = figure.axes
    extent = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert extent.x1 == pytest.approx(60)
    assert "warm-up" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert figure.alt.endswith("The warm-up is shaded.")
    [half] = loss_figure(run, curve=curve, last_half=True).axes
    assert half.get_xlim()[0] > 60
    assert not half.patches


def test_the_record_of_another_curve_has_the_energy_below_it(seen):
    _, metadata = picture_bundle(seen["im"].last_run, Choices(curve="n_steps"))
    alt = metadata["image/png"]["alt"]
    assert alt.startswith("Leapfrog steps of the chains of line, completed")
    assert alt.endswith("Below it, the potential energy.")


def test_the_summary_says_what_came_out(seen):
    found = facts(seen["im"].last_run)
    assert found["status"] == "completed: all 80 draws of each chain done"
    assert found["draws"] == "80 in each of 2 chains, after 60 of warm-up"
    assert found["R-hat"].startswith("up to ")
    assert found["ESS"].startswith("at least ")
    assert "loss" not in found
    assert "MCMC with HMC" in summary_text(seen["im"].last_run).splitlines()[0]
    assert (
        Summary(seen["im"].last_run)
        .alt()
        .startswith("Potential energy of the chains of line, completed")
    )


def test_the_table_of_the_run_says_the_facts_of_its_record(seen):
    run = seen["im"].last_run
    table, record = dict(run_facts(run)), facts(run)
    assert {"draws", "divergences", "step size", "R-hat", "ESS"} < table.keys()
    assert table == {name: record[name] for name in table}
    assert f", step size {table['step size']}, R-hat up to " in repr(run)
    assert f", ESS {table['ESS']}, in " in repr(run)


def test_it_is_no_curve_to_compare_losses_with(seen):
    assert previous_runs.frame(begun(model="line")) == {"runs": []}


def test_a_history_is_written_read_and_shown(seen, tmp_path):
    seen["history"].to_json(tmp_path / "run.json")
    again = History.from_json(tmp_path / "run.json")
    assert again.run.info.is_sampling
    np.testing.assert_allclose(again.to_frame()["loss"], seen["im"].last_run.losses)
    assert facts(again)["iterations"] == "140 of each chain, warm-up included"
    assert len(loss_figure(again).axes[0].lines) == 1
    frames = replay.frames_of(again.run)
    assert frames["sampling"] == frames["convergence"] == {}
    assert "potential_energy" in frames["loss"]["traces"]


def sampling(**columns):
    """A run of two chains of 4 + 4 iterations, of which as many are done as the columns have."""
    run = begun(is_sampling=True, epochs=1, steps_per_epoch=8)
    run.chains = ChainRecord(ChainPlan(2, 4, 4), {}, lambda *chosen: None)
    count = len(next(iter(columns.values())))
    feed(run, [1.0] * count)
    run.chains.extend({name: np.array(values) for name, values in columns.items()}, count)
    return run


def test_the_picture_leaves_out_a_mean_of_few_iterations():
    energies = np.full((801, 2), 10.0)
    energies[-1] = 1e4  # alone in a bucket of 4
    [axes] = loss_figure(sampling(potential_energy=energies)).axes
    for drawn in axes.lines:
        assert set(drawn.get_ydata()) == {10}
        assert drawn.get_xdata()[-1] == 800


def long_chains(draws):
    """A run of two chains that come down in a warm-up of 500, and its energies after that."""
    run = begun(is_sampling=True)
    run.chains = ChainRecord(ChainPlan(2, 500, draws), {}, lambda *chosen: None)
    energies = 19_215 + np.random.default_rng(0).gamma(5, size=(500 + draws, 2))
    energies[:300] += np.linspace(1e4, 0, 300)[:, None]
    run.chains.extend({"potential_energy": energies}, len(energies))
    feed(run, energies.mean(1))
    return run, energies[500:]


@pytest.mark.parametrize("draws", [1_000, 4_000, 40_000])
def test_the_picture_shows_the_spread_of_the_draws_however_many_share_a_point(draws):
    run, energies = long_chains(draws)
    [axes] = loss_figure(run).axes
    low, high = axes.get_ylim()
    assert low < energies.min() < energies.max() < high
    assert np.ptp(energies) > 0.5 * (high - low)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    width = np.diff(axes.lines[0].get_xdata()).max()
    assert labels == [
        "warm-up",
        "chain 1",
        "chain 2",
        f"mean and range of each {width:,.0f} iterations",
    ]
    for chain, shade in enumerate(axes.collections[:2]):
        lowest = shade.get_paths()[0].vertices[:, 1].min()
        assert lowest < energies[:, chain].min() + 0.01  # in single precision


def test_the_labels_of_energies_differ():
    [axes] = loss_figure(long_chains(40_000)[0]).axes
    axes.figure.canvas.draw()
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(set(labels)) == len(labels) >= 4


def test_the_highest_energy_that_is_told_does_not_fall_as_the_chains_go_on():
    run = begun(is_sampling=True)
    run.chains = ChainRecord(ChainPlan(2, 500, 40_000), {}, lambda *chosen: None)
    told = []
    for n_iterations in (300, 4_700, 35_000):
        energies = np.random.default_rng(0).normal(50, 1, size=(n_iterations, 2))
        energies[0] += 1e5 * (not told)  # where the chains begin
        run.chains.extend({"potential_energy": energies}, len(energies))
        feed(run, energies.mean(1))
        told.append(loss_figure(run).axes[0].get_ylabel().split("\n")[1])
    assert told == [f"up to {formatting.number(1e5 + 50)} above the picture"] * 3


def test_the_picture_of_a_run_from_a_file_leaves_the_way_down_out():
    run = begun(is_sampling=True)
    feed(run, 10 + np.sin(np.arange(300.0)) + 1e4 * np.exp(-np.arange(300) / 4))
    low, high = loss_figure(run).axes[0].get_ylim()
    assert 8 < low < 9.1 < 10.9 < high < 12


def test_the_picture_of_chains_that_left_the_numbers_spans_what_was_before():
    [axes] = loss_figure(sampling(potential_energy=[[900.0, 901.0]] * 2 + [[np.nan] * 2] * 4)).axes
    low, high = axes.get_ylim()
    assert 890 < low < 900 < 901 < high < 910


def test_the_picture_keeps_the_colours_by_which_the_chains_are_told_apart():
    run = begun(is_sampling=True)
    run.chains = ChainRecord(ChainPlan(4, 400, 2000), {}, lambda *chosen: None)
    energies = 46 + 2 * np.random.default_rng(0).normal(size=(1178, 4))
    run.chains.extend({"potential_energy": energies}, len(energies))
    feed(run, energies.mean(1))
    figure = loss_figure(run)
    kept = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGBA"), int)
    drawn = np.asarray(figure.canvas.buffer_rgba()).astype(int)
    for key in figure.axes[0].get_legend().get_lines():
        x, y = key.get_window_extent().get_points().mean(axis=0)
        where = slice(len(drawn) - int(y) - 3, len(drawn) - int(y) + 3), int(x)
        assert np.abs(kept[where] - drawn[where]).max() < 20


def test_divergences_count_after_the_warmup_and_come_with_advice():
    diverging = [[True, True]] * 4 + [[True, False], [True, False]]
    frame = SamplingPanel().frame(sampling(diverging=diverging))
    assert frame["divergences"] == 2
    assert [chain["divergences"] for chain in frame["by_chain"]] == [2, 0]
    assert "target_accept_prob" in frame["advice"]
    calm = SamplingPanel().frame(sampling(diverging=diverging[:4]))
    assert (calm["divergences"], calm["advice"]) == (0, "")
    assert formatting.status_line(sampling(diverging=diverging)).startswith(
        "kernel: running · draw 2 of 4 in 2 chains · 2 divergences"
    )


def test_means_are_those_since_the_warmup_however_often_one_looks():
    run, panel = sampling(n_steps=[[1.0, 2.0]] * 3), SamplingPanel()
    panel.begin(run)
    for more in ([[3.0, 4.0]] * 3, [[5.0, 8.0]], [[7.0, 6.0]]):
        reported = panel.frame(run)["by_chain"]
        run.chains.extend({"n_steps": np.array(more)}, len(more))
    assert [chain["n_steps"] for chain in reported] == [(3 + 3 + 5) / 3, (4 + 4 + 8) / 3]
    reported = panel.frame(run)["by_chain"]
    assert [chain["n_steps"] for chain in reported] == [(3 + 3 + 5 + 7) / 4, (4 + 4 + 8 + 6) / 4]


def test_a_sampler_that_tells_nothing_has_panels_too():
    run = sampling(acceptance_rate=[[0.5, 0.25]] * 5)
    panel = TracePanel()
    panel.begin(run)
    run.record(feed(begun(), [np.nan], acceptance_rate=[0.375]))
    assert SamplingPanel().frame(run)["divergences"] is None
    assert formatting.draws(run) == "draw 1 of 4 in 2 chains"


def test_values_of_chains_are_named_by_the_labels_of_their_sites():
    run = begun(is_sampling=True)
    drawn = np.random.default_rng(0).normal(size=(2, 20, 2))
    sites, plan = {"lift": (2,), "more": (2,)}, ChainPlan(chains=2, warmup=0, samples=20)
    run.chains = ChainRecord(plan, sites, lambda _, at, every: drawn[:, ::every, at])
    run.chains.extend({}, 20)
    run.axis_labels = lambda: {"lift": (["north", "south"],), "more": (["of another size"],)}
    told = ConvergencePanel().frame(run)
    names = ["lift[north]", "lift[south]", "more[0]", "more[1]"]
    assert sorted(row["name"] for row in told["rows"]) == names
    run.finish("completed", "")
    assert judged_at_the_end(run)["r_hat_of"] in names
