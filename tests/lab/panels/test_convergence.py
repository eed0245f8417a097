"""R-hat and ESS against ArviZ's own, and which values are judged."""

from __future__ import annotations

import arviz_stats as azs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aimz_lab.inference.run.chain_record import ChainPlan, ChainRecord
from aimz_lab.lab import formatting
from aimz_lab.lab.panels import ConvergencePanel, chain_statistics
from aimz_lab.lab.panels import chains as chain_panels
from aimz_lab.lab.panels.convergence import judge
from aimz_lab.lab.pictures.summary import facts
from tests.lab.runs import begun


def autoregressive(rng, rho, chains, draws, apart=0.0):
    """Chains that forget at the rate ``rho`` and have means that differ."""
    noise = rng.normal(size=(chains, draws + 50))
    for i in range(1, draws + 50):
        noise[:, i] += rho * noise[:, i - 1]
    return noise[:, 50:] + apart * np.arange(chains)[:, None]


def judge_one(values):
    """Judge one value, of which ``values`` are the draws, shape ``(chain, draw)``."""
    chains, draws = values.shape
    chain_record = ChainRecord(
        ChainPlan(chains, 0, draws), {"a": ()}, lambda _, at, every: values[:, ::every, None]
    )
    chain_record.extend({}, draws)
    [row], _ = judge(chain_record, most=10**6)
    return row


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rho=st.floats(-0.9, 0.99),
    chains=st.integers(2, 4),
    draws=st.integers(8, 201),
    apart=st.sampled_from([0.0, 0.1, 3.0]),
    is_rounded=st.booleans(),
)
def test_they_are_arvizs(seed, rho, chains, draws, apart, is_rounded):
    values = autoregressive(np.random.default_rng(seed), rho, chains, draws, apart)
    if is_rounded:  # ties, as rejected proposals make them
        values = values.round(1)
    found = judge_one(values)
    assert found.r_hat == pytest.approx(azs.rhat(values), rel=1e-9)
    assert found.ess_bulk == pytest.approx(azs.ess(values, method="bulk"), rel=1e-9)
    tail = azs.ess(values, method="tail", prob=(0.05, 0.95))
    assert found.ess_tail == pytest.approx(tail, rel=1e-9)
    assert (found.mean, found.sd) == pytest.approx((values.mean(), values.std()))


def test_many_values_are_judged_on_threads_as_one_is(monkeypatch):
    values = np.random.default_rng(0).normal(size=(5, 2, 40)).cumsum(axis=2)
    values[3, 0, 7] = np.nan
    together = chain_statistics.chain_statistics(values)
    monkeypatch.setattr(chain_statistics, "_SLICE", 80)
    for joined, apart in zip(together, chain_statistics.chain_statistics(values), strict=True):
        np.testing.assert_array_equal(joined, apart)


def test_what_does_not_move_or_is_not_finite_is_no_number():
    constant = judge_one(np.ones((2, 20)))
    assert np.isnan(constant.r_hat)
    assert constant.ess == 40
    values = np.random.default_rng(0).normal(size=(2, 20))
    for bad in (np.nan, np.inf):
        values[1, 3] = bad
        found = judge_one(values)
        assert np.isnan([found.r_hat, found.ess_bulk, found.ess_tail, found.mean]).all()


@pytest.mark.parametrize("draws", [8, 9, 400])
def test_the_halves_of_a_single_chain_are_compared(draws):
    steady = np.random.default_rng(0).normal(size=(1, draws))
    half = draws // 2
    both = np.concatenate([steady[:, :half], steady[:, -half:]])
    assert judge_one(steady).r_hat == pytest.approx(azs.rhat(both))
    assert judge_one(steady).ess_bulk == pytest.approx(azs.ess(steady))
    if draws == 400:
        assert judge_one(steady).r_hat < 1.02
        assert judge_one(steady + np.linspace(0, 5, draws)).r_hat > 1.5


def record(sites, draws=40, chains=2):
    """A record of standard normal draws, but for the last value of ``b``, whose chains differ."""
    rng = np.random.default_rng(3)
    drawn = {name: rng.normal(size=(chains, draws, *shape)) for name, shape in sites.items()}
    if "b" in drawn:
        drawn["b"].reshape(chains, draws, -1)[0, :, -1] += 4
    plan = ChainPlan(chains, 10, draws)
    asked = []

    def values(name, at, every):
        asked.append((name, len(at)))
        return drawn[name].reshape(chains, draws, -1)[:, ::every, at]

    chains_so_far = ChainRecord(plan, sites, values)
    chains_so_far.extend({}, 10 + draws)
    return chains_so_far, asked


def test_values_are_judged_by_name_the_worst_first():
    chains, _ = record({"a": (), "b": (2, 3)})
    judged, total = judge(chains, most=10**6)
    assert total == len(judged) == 7
    assert judged[0].name == "b[1, 2]"
    assert {row.name for row in judged} > {"a", "b[0, 0]"}
    assert judged[0].r_hat > 1.5 > judged[1].r_hat
    assert judged[0].ess == min(judged[0].ess_bulk, judged[0].ess_tail)


@pytest.mark.parametrize("most", [0, 80 * 3, 80 * 50])
def test_of_many_values_some_of_each_site_are_judged(most):
    chains, asked = record({"a": (), "b": (500,)})
    judged, total = judge(chains, most)
    assert total == 501
    assert len(judged) == sum(count for _, count in asked) <= max(most / 80, 2)
    assert {name for name, _ in asked} == {"a", "b"}
    if most:
        assert judged[0].name == "b[499]"


def test_what_is_left_out_at_the_end_is_named_with_the_reason(monkeypatch):
    run = begun(is_sampling=True)
    run.chains, _ = record({"a": (), "b": (4,)})
    monkeypatch.setattr(chain_panels, "_AT_THE_END", 80 * 3)
    run.finish("completed", "")
    assert facts(run)["judged"] == (
        "3 of 5 values: b[1] and b[2] left out, as up to 240 draws are read to save time; "
        "im.summary() has all values"
    )
    run.chains, _ = record({"a": (), "b": (500,)})
    assert facts(run)["judged"].startswith("3 of 501 values: b[1], b[2], b[3] and 495 more left ")
    run.chains, _ = record({"a": (), "b": (2,)})
    assert "judged" not in facts(run)


def test_of_many_draws_some_of_each_chain_are_judged():
    chains, _ = record({"a": ()}, draws=990)
    [row] = judge(chains, 10**6, most_draws=100)[0]
    thinned = chains.values("a", [0], every=10)[:, :, 0]
    assert row.r_hat == pytest.approx(azs.rhat(thinned))
    assert row.ess_bulk == pytest.approx(azs.ess(thinned))
    assert row.ess_bulk < judge(chains, 10**6)[0][0].ess_bulk


def test_the_ess_of_a_part_of_the_draws_says_of_how_many():
    run = begun(is_sampling=True)
    run.chains, _ = record({"a": ()}, draws=3_000)
    frame = ConvergencePanel().frame(run)
    assert frame["read"] == 2 * 1_000 >= frame["ess"]
    words = f"ESS {frame['ess']:,.0f} of 2,000 draws read"
    assert words in formatting.status_line(run, None, None, frame)
    run.finish("completed", "")
    at_the_end = ConvergencePanel().frame(run)
    assert at_the_end["read"] is None
    assert at_the_end["ess"] > frame["ess"]
    assert "draws read" not in formatting.status_line(run, None, None, at_the_end)


def test_few_draws_are_not_judged():
    chains, asked = record({"a": ()}, draws=7)
    assert judge(chains, 10**6) == ([], 1)
    assert not asked


def test_draws_are_thinned_before_values_are_left_out():
    chains, _ = record({"a": (16,)}, draws=900, chains=4)
    judged, total = judge(chains, most=40_000, most_draws=1_000)
    assert len(judged) == total == 16
    judged, total = judge(chains, most=4_000, most_draws=1_000)
    assert len(judged) < total  # rather than by fewer than 200 draws
