"""Decisions: utilities against closed forms, allocations against every possible one."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest

from aimz_lab.effects.allocation import allocate
from aimz_lab.effects.monte_carlo import as_of_other_draws, unsettled
from aimz_lab.errors import ArgumentError, CallError, DataError
from aimz_lab.number_text import number, percentage
from tests.runs import mean_field_model

N, S = 300, 40
_rng = np.random.default_rng(6)
X = _rng.normal(size=N).astype(np.float32)
LIFT = _rng.normal(1.0, 0.6, S).astype(np.float32)
VALUE = _rng.gamma(3.0, size=N)
PRICE = _rng.gamma(2.0, size=N) + 0.1


def kernel(X, treated, y=None):
    lift = numpyro.sample("lift", dist.Normal())
    with numpyro.plate("person", X.shape[0]):
        numpyro.sample("y", dist.Normal(X + lift * treated * (1 + X), 0.5), obs=y)


@pytest.fixture(scope="module")
def im():
    return mean_field_model(kernel).set_posterior_sample({"lift": LIFT})


def actions(**more):
    zeros = np.zeros(N, np.float32)
    frame = pd.Series(X, index=pd.RangeIndex(100, 100 + N, name="person"), name="age")
    made = {"none": zeros, "all": zeros + 1, **more}
    return {name: {"X": frame, "treated": treated} for name, treated in made.items()}


def two_sides(other):
    rows = {"none": pd.Series(X), "all": other}
    return {name: {"X": x, "treated": np.ones(len(x))} for name, x in rows.items()}


@pytest.mark.slow
def test_expected_utilities_are_those_of_the_draws(im):
    decision = im.decide(actions(), benefits=VALUE, costs={"all": PRICE}, prob=0.9)
    gain = VALUE * LIFT.mean() * (1 + X) - PRICE
    np.testing.assert_allclose(
        decision.gain.values, np.where(decision.choice == "all", gain, 0), rtol=1e-3, atol=1e-3
    )
    assert ((decision.choice == "all").values == (gain > 0))[np.abs(gain) > 1e-3].all()
    assert decision.choice.person.values[0] == 100
    draws = LIFT * np.mean(VALUE * (1 + X)) - PRICE.mean()
    table = decision.table
    assert table.loc["all", "p_best"] == pytest.approx((draws > 0).mean())
    added = table.loc["all", "utility"] - table.loc["none", "utility"]
    assert added == pytest.approx(draws.mean(), rel=1e-3)
    assert table.loc["none", "regret"] == pytest.approx(np.maximum(draws, 0).mean(), rel=1e-3)
    halves = [VALUE * half.mean() * (1 + X) - PRICE for half in (LIFT[: S // 2], LIFT[S // 2 :])]
    targeted = np.mean([np.where(halves[i] > 0, halves[1 - i], 0) for i in (0, 1)])
    more = table.loc["targeted", "utility"] - table.loc["none", "utility"]
    assert more == pytest.approx(targeted, rel=1e-3)
    assert "'all' has the highest expected utility" in decision.text
    gained = decision.utility.sel(policy="targeted") - decision.utility.sel(policy="all")
    chance = percentage(float((gained > 0).mean()))
    assert f"more per row than that, with probability {chance}, as each half" in decision.text
    (line,) = [line for line in repr(decision).splitlines() if line.startswith("targeted")]
    assert "-" in line.split()  # it is no rival of its own parts
    assert "nan" not in repr(decision) + decision._repr_html_()
    assert f"{table.loc['all', 'p_best']:.1%}" in repr(decision)
    assert "<table" in decision._repr_html_()


def test_a_budget_that_binds_goes_to_the_best_gain_per_cost(im):
    free = im.decide(actions(), costs=1.0, budget=1e6)
    assert "The budget of 1,000,000 does not bind" in free.text
    decision = im.decide(actions(), costs=1.0, budget=50, site="y")
    treated = decision.choice.values == "all"
    assert treated.sum() == decision.spent == 50
    assert X[treated].min() >= np.sort(X)[-50]
    assert decision.price == pytest.approx(LIFT.mean() * (1 + np.sort(X)[-50]) - 1, abs=0.05)
    assert decision.gap == pytest.approx(0, abs=1e-6)
    assert "binds: 50 is spent, and one more unit would add about" in decision.text
    # What a larger budget adds is no choice within this one.
    assert "Within the budget no other choice is worth more" in decision.text
    assert "more per row than that" in decision.text


@pytest.mark.slow
def test_a_function_of_the_outcome_is_averaged_over_draws(im, key):
    decision = im.decide(actions(), benefits=lambda y: 1.0 * (y > 0), rng_key=key)
    y = im.predict(**actions()["all"], rng_key=key, progress=False).posterior_predictive.y
    assert decision.table.loc["all", "utility"] == pytest.approx(float((y > 0).mean()), abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_no_other_allocation_beats_it_by_more_than_the_gap(seed):
    rng = np.random.default_rng(seed)
    utility, cost = rng.normal(size=(3, 6)), rng.gamma(1.0, size=(3, 6))
    cost[0] = 0
    budget = 2.0
    found = allocate(utility, cost, budget)
    rows = np.arange(6)
    assert cost[found.choice, rows].sum() == pytest.approx(found.spent)
    assert found.spent <= budget
    best = max(
        utility[list(each), rows].sum()
        for each in itertools.product(range(3), repeat=6)
        if cost[list(each), rows].sum() <= budget
    )
    reached = utility[found.choice, rows].sum()
    assert reached <= best + 1e-9
    assert best <= reached + found.gap + 1e-9


def test_a_budget_that_pays_for_all_but_rounding_pays_for_all():
    gain, cost = np.array([[0.0] * 3, [1.0] * 3]), np.array([[0.0] * 3, [0.1] * 3])
    assert (allocate(gain, cost, 0.3).choice == 1).all()


def test_one_action_for_all_that_the_budget_does_not_pay_for_is_said(im):
    assert (
        "it costs 300 in all, which is beyond"
        in im.decide(actions(), benefits=10.0, costs=1.0, budget=9).text
    )
    nothing = im.decide(actions(), benefits=10.0, costs=1.0, budget=0.5)
    assert "The budget of 0.5 pays for none of the actions" in nothing.text


def test_under_a_budget_the_choice_is_compared_with_what_the_budget_pays_for(im):
    found = im.decide(actions(), benefits=10.0, costs=1.0, budget=9)
    added, utility = found.table["added"], found.table["utility"]
    assert added["none"] == 0
    assert added["all"] == pytest.approx(utility["all"] - utility["none"])
    assert added["targeted"] == pytest.approx(utility["targeted"] - utility["none"])
    assert 0 < added["targeted"] < added["all"]
    assert "'all' has the highest expected utility" in found.text
    assert "Of those that the budget pays for, it is 'none'" in found.text
    assert f"is worth {number(added['targeted'], 3)} more per row than that" in found.text
    half = np.arange(N) < N / 2
    dear = im.decide(actions(), costs={"none": 9.0 * half, "all": 9.0 * ~half}, budget=99)
    assert "The budget pays for no action for all rows." in dear.text
    assert "more per row than 'all' for all" in dear.text


@pytest.mark.slow
def test_an_interval_that_leaves_out_the_mean_is_not_given():
    lift = np.r_[np.zeros(39), 100].astype(np.float32)
    im = mean_field_model(kernel).set_posterior_sample({"lift": lift})
    rare = im.decide(actions(), benefits=lambda y: 1.0 * (y > 50))
    assert rare.table["hdi_low"].isna()[["none", "all"]].tolist() == [False, True]
    assert rare.table["hdi_high"].isna()["all"]
    assert "Where no interval is given, that of the draws leaves out their mean." in rare.text
    (line,) = (line for line in repr(rare).split("\n") if line.startswith("all "))
    assert line.split()[2:4] == ["-", "-"]


def test_ties_are_counted_and_go_to_the_first_rows():
    utility = np.stack([np.zeros(5), [1.0, 2.0, 2.0, 2.0, -1.0]])
    cost = np.stack([np.zeros(5), np.ones(5)])
    found = allocate(utility, cost, 2.0)
    assert found.choice.tolist() == [0, 1, 1, 0, 0]
    assert found.tied == 1
    assert allocate(0 * utility, cost, None).choice.tolist() == [0] * 5
    with pytest.raises(DataError, match="does not pay for the cheapest"):
        allocate(utility[1:], cost[1:], 3.0)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_breaks_no_tie(seed):
    """Groups of rows gain 4, 3 and 2 each, but for rounding; rows are chosen by their order."""
    rng = np.random.default_rng(seed)
    gain = np.repeat([2.0, 4.0, 3.0, -1e-7], [50, 10, 200, 40])
    order = np.random.default_rng(9).permutation(len(gain))
    noisy = gain[order] + rng.uniform(-1, 1, len(gain)) * 4e-7
    utility = np.stack([np.zeros(len(gain)), noisy])
    cost = np.stack([np.zeros(len(gain)), np.ones(len(gain))])
    found = allocate(utility, cost, 110.0, rounding=1e-6)
    first = np.flatnonzero(gain[order] == 3)[:100]
    assert set(np.flatnonzero(found.choice)) == set(first) | set(np.flatnonzero(gain[order] == 4))
    assert found.tied == 100
    assert found.gap == pytest.approx(0, abs=1e-5)
    assert found.price == pytest.approx(3, abs=1e-6)
    # What an action gains by rounding alone, it does not gain, even if it costs nothing.
    assert (allocate(utility, 0 * cost, None, 1e-6).choice == (gain[order] > 1)).all()


@pytest.mark.parametrize("rng_seed", range(3))
def test_ties_of_a_model_are_the_same_in_each_call(im, rng_seed):
    """The effect is one number within a group; rounding is that of outcomes of 1,000."""
    level, group = np.float32(1000) + X, np.arange(N) % 3
    given = {
        name: {"X": level, "treated": (on * group / (1 + level)).astype(np.float32)}
        for name, on in {"none": 0, "all": 1}.items()
    }
    found = im.decide(given, costs=0.5, budget=65, rng_key=jax.random.key(rng_seed))
    chosen = np.flatnonzero(found.choice.values == "all")
    assert set(chosen) == {*np.flatnonzero(group == 2), *np.flatnonzero(group == 1)[:30]}
    assert found.tied == 70
    assert found.unsettled == 0  # other draws move the price with the rows at it
    assert "70 other rows gain as much per cost as the last one chosen" in found.text


def test_text_and_table_compare_with_the_best_action_for_all_rows(im):
    found = im.decide(actions(), benefits=VALUE, costs={"all": PRICE})
    added = found.table["added"]
    assert added["all"] == 0
    assert added["targeted"] == pytest.approx(
        found.table.loc["targeted", "utility"] - found.table["utility"].drop("targeted").max()
    )
    assert f"is worth {number(added['targeted'], 3)} more per row than that" in found.text
    assert np.isnan(found.table.loc["targeted", "regret"])  # it is no rival of its own parts
    alike = im.decide(actions(some=np.ones(N, np.float32) * np.float32(1.0000001)))
    assert alike.table.loc["all", "p_best"] == alike.table.loc["some", "p_best"]
    assert alike.text.startswith("Of one action for all rows, 'all' has")


def test_utilities_have_the_digits_that_tell_actions_apart(im):
    found = im.decide(actions(more=np.full(N, 1.0001, np.float32)))
    assert found.table.loc["more", "hdi_high"] - found.table.loc["more", "hdi_low"] > 1
    written = {row[0]: row[1] for row in found._cells()}
    assert written["more"] != written["all"]  # 0.0001 apart, in each draw
    assert f"utility, {written['more']} per row" in found.text


def flags(X, treated, y=None):
    level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("person", X.shape[0]):
        p = numpyro.deterministic("p", jax.nn.sigmoid(level + X + 0.5 * treated))
        numpyro.sample("y", dist.Bernoulli(p), obs=y)


@pytest.mark.slow
def test_a_choice_by_noise_promises_nothing_and_says_so():
    """What treatment gains is what it costs: a choice gains nothing but by the noise."""
    draws = {"level": np.zeros(200, np.float32)}
    im = mean_field_model(flags).set_posterior_sample(draws)
    zeros = np.zeros(N, np.float32)
    given = {"none": {"X": X, "treated": zeros}, "all": {"X": X, "treated": zeros + 1}}
    costs = 10 * np.asarray(jax.nn.sigmoid(X + 0.5) - jax.nn.sigmoid(X), np.float64)
    for budget in (None, 0.2 * costs.sum()):
        found = im.decide(given, benefits=lambda y: 10.0 * y, costs=costs, budget=budget)
        # The error of a row is 0.2: the half of them seem to gain some of it.
        assert found.gain.mean() > 0.02
        promised = found.table.loc["targeted", "utility"] - found.table.loc["none", "utility"]
        assert promised < 0.3 * float(found.gain.mean())
        assert found.unsettled > N / 4
        assert f"For {found.unsettled} of 300 rows the noise of the 200 draws decides" in found.text
    im.set_posterior_sample({"level": np.zeros(5, np.float32)})
    few = im.decide(given, benefits=lambda y: 10.0 * y, costs=costs)
    assert few.unsettled is None
    assert "an upper estimate, as the same 5 draws choose and value" in few.text


@pytest.mark.slow
def test_rows_are_decided_by_the_mean_of_their_distribution_and_not_by_draws_of_it():
    """One in 8,000 has the outcome: most rows have none in all draws."""
    level = np.random.default_rng(5).normal(-9, 0.1, S * 5).astype(np.float32)
    im = mean_field_model(flags).set_posterior_sample({"level": level})
    zeros = np.zeros(N, np.float32)
    given = {"none": {"X": X, "treated": zeros}, "all": {"X": X, "treated": zeros + 1}}
    p = [jax.nn.sigmoid(level[:, None] + X + 0.5 * t).mean(0) for t in (0, 1)]
    gain = 1e5 * np.asarray(p[1] - p[0], np.float64) - 5
    found = im.decide(given, benefits=1e5, costs=5.0)
    assert 0.1 < (gain > 0).mean() < 0.9
    np.testing.assert_allclose(found.gain, np.maximum(gain, 0), atol=1e-3 * np.ptp(gain))
    assert found.unsettled < N / 10
    # The mean of a function is known from draws alone, which say nothing of a rare outcome.
    drawn = im.decide(given, benefits=lambda y: 1e5 * y, costs=5.0)
    wrong = (drawn.choice == "all").values != (gain > 0)
    assert wrong.sum() > N / 10
    assert drawn.unsettled >= wrong.sum()
    assert "Outcomes are drawn here" in drawn.text
    for exact in (found, im.decide(given, benefits=1e5, costs=5.0, site="p")):
        assert "drawn here" not in exact.text


def purchases(X, treated, y=None):
    level = numpyro.sample("level", dist.Normal())
    with numpyro.plate("person", X.shape[0]):
        numpyro.deterministic("expected", 10 * jax.nn.sigmoid(level + treated))
        buys = numpyro.sample("y", dist.Bernoulli(logits=level + treated), obs=y)
        numpyro.sample("amount", dist.Normal(10.0 * buys, 1.0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("site", "benefits", "is_drawn"),
    [
        ("y", 1.0, False),
        ("expected", 1.0, False),
        ("expected", lambda v: v, False),
        ("amount", 1.0, True),
        ("amount", lambda v: v, True),
    ],
)
def test_a_decision_by_values_drawn_for_each_row_says_so(site, benefits, is_drawn):
    level = np.random.default_rng(6).normal(0.0, 0.05, 40).astype(np.float32)
    im = mean_field_model(purchases).set_posterior_sample({"level": level})
    zeros = np.zeros(6, np.float32)
    some = {"X": zeros, "treated": zeros + 1}
    actions = {"no": {"X": zeros, "treated": zeros}, "yes": some}
    found = im.decide(actions, benefits=benefits, site=site)
    assert ("Outcomes are drawn here" in found.text) == is_drawn
    # One action whose outcome hangs on drawn values is enough.
    actions["yes"] = {**some, "intervention": {"y": 1}}
    set_by_hand = im.decide(actions, benefits=benefits, site=site) if site == "amount" else found
    assert ("with site='expected'" in set_by_hand.text) == is_drawn


def test_unsettled_rows_are_those_within_two_errors_of_the_difference():
    rng = np.random.default_rng(3)
    shared, own = rng.normal(size=(10, 4)), rng.normal(size=(10, 4))
    gain = own - own.mean(0) + np.array([0.0, 0.1, 9.0, 0.0])
    gain[:, 3] *= 1e-9  # a tie up to rounding
    parts = np.stack([shared, shared + gain])
    value = parts.mean(1)
    others = as_of_other_draws(value, parts)
    assert unsettled(value, others, np.full(4, 1e-6)).tolist() == [True, True, False, False]
    error = gain[:, 1].std(ddof=1) / np.sqrt(10)
    value[1, 1] = value[0, 1] + 2.01 * error
    assert not unsettled(value, others, np.zeros(4))[1]


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"actions": {"none": {}}}, CallError, "two or more actions"),
        ({"actions": {"none": 1, "all": 2}}, CallError, "'none' needs a data frame"),
        ({"actions": {"targeted": {"X": X}, "b": {"X": X}}}, ArgumentError, "cannot be called"),
        ({"budget": -1}, ArgumentError, "budget=-1"),
        ({"costs": {"some": 1.0}}, ArgumentError, "costs= names 'some'"),
        ({"costs": -1.0}, DataError, "negative"),
        ({"costs": PRICE[:5]}, DataError, "costs= has 5 values"),
        ({"benefits": "income"}, ArgumentError, "benefits='income': no column"),
        ({"benefits": VALUE[:5]}, DataError, "5"),
        (
            {"costs": pd.Series(PRICE, range(100, 100 + N))[::-1]},
            DataError,
            "costs= have other lab",
        ),
        ({"benefits": np.nan}, ArgumentError, "benefits=nan is not allowed"),
        ({"costs": {"all": np.float32("nan")}}, ArgumentError, "costs=.*nan.* is not allowed"),
        (
            {"benefits": np.asarray},
            ArgumentError,
            "benefits= calls a function of NumPy, .*jnp.where",
        ),
        (
            {"benefits": lambda y: y if y.sum() > 0 else 0 * y},
            ArgumentError,
            "as if, min and float",
        ),
        ({"benefits": lambda y: [1, 2][y[0].astype(int)]}, ArgumentError, "looks up a list"),
        ({"benefits": lambda y: y.nothing}, ArgumentError, "benefits= failed .AttributeError"),
        ({"site": "lift"}, ArgumentError, "'lift' has no rows"),
        ({"actions": two_sides(X[1:])}, DataError, r"shape \(300,\) under 'none' and \(299,\)"),
        ({"actions": two_sides(pd.Series(X)[::-1])}, DataError, "label their rows differently"),
    ],
)
def test_bad_input_is_refused_by_name(im, options, error, said):
    before = im.rng_key
    with pytest.raises(error, match=said):
        im.decide(**{"actions": actions(), **options})
    assert im.rng_key == before
