"""Published effects of real people come out, and where naive ones fail, the tools say so."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from aimz_lab import summarize_effect
from aimz_lab.effects import adjusted_for, e_value, partial_r2, robustness_value
from tests.published_data import (
    PEOPLE,
    SMOKERS,
    experiment,
    linear_model,
    sides,
    smokers,
    with_survey_controls,
)

pytest.importorskip("causaldata")
pytestmark = [pytest.mark.slow, pytest.mark.allow_rank_promotion]
STEPS = {"num_steps": 1500, "num_samples": 2000, "progress": False}


def found(im, frame, treatment):
    effect = im.estimate_effect(**sides(frame, treatment), average=True)
    values = summarize_effect(effect, 0.95)["mean"]
    return {name: float(values.sel(summary=name)) for name in values.summary.values}


def least_squares(columns, outcome):
    """Slopes, their standard errors and the degrees of freedom."""
    design = np.stack([np.ones(len(outcome)), *columns], axis=1)
    slopes, squares, *_ = np.linalg.lstsq(design, outcome, rcond=None)
    dof = len(outcome) - design.shape[1]
    spread = np.linalg.inv(design.T @ design) * squares / dof
    return slopes, np.sqrt(np.diag(spread)), dof


@pytest.fixture(scope="module")
def people():
    """LaLonde's experiment."""
    return experiment()


@pytest.fixture(scope="module")
def survey():
    """Its treated, with controls of a survey."""
    return with_survey_controls()


def test_the_experiment_has_its_published_effect(people):
    """Dehejia and Wahba (1999), table 2: 1,794 (633) dollars; adjusted 1,672 (637)."""
    im = linear_model(f"1 + treat + {PEOPLE} + scale(re75)", "re78")
    effect = found(im.fit_on_batch(people, **STEPS), people, "treat")
    assert (effect["mean"], effect["sd"]) == pytest.approx((1.67, 0.64), abs=0.04)
    assert effect["hdi_low"] > 0
    report = im.overlap(people, people.assign(treat=1), treatment="treat")
    assert report.level == "green"
    assert report.extreme < 0.01
    # A confounder far weaker than that of the survey could explain it away: as of any small trial.
    assert robustness_value(effect["mean"] / effect["sd"], len(people) - 10) < 0.15


def test_survey_controls_mislead_and_every_tool_says_so(people, survey):
    """Table 3: -8,498 (712) dollars, where the experiment has 1,794."""
    key = jax.random.key(2)
    naive = linear_model("1 + treat", "re78").placebo(
        survey,
        treatment="treat",
        outcomes={"re75": survey.re75},
        outcome="re78",
        on_batch=True,
        fit={**STEPS, "num_samples": 500},
        prob=0.95,
        rng_key=key,
    )
    assert naive.table.loc["real", "mean"] == pytest.approx(-8.50, abs=0.15)
    assert naive.table.loc["real", "hdi_high"] < 0
    # Earnings of 1975 lie before the programme, which "took" 12,119 dollars of them.
    assert naive.table.loc["re75", "mean"] == pytest.approx(-12.12, abs=0.15)
    assert naive.covered == 0
    assert naive.level == "red"
    report = linear_model(f"1 + treat + {PEOPLE}", "re78").overlap(
        survey, survey.assign(treat=1), treatment="treat"
    )
    assert report.level == "red"
    assert report.extreme > 0.9
    assert report.auc > 0.95
    assert report.effective[0] < 0.2


def test_a_confounder_like_earnings_before_takes_the_naive_effect_away(survey):
    """Cinelli and Hazlett (2020): what they say of an omitted column is what including it does."""
    (_, naive, *_), (_, se, *_), dof = least_squares([survey.treat], survey.re78)
    (_, adjusted, *_), (_, adjusted_se, slope_se), _ = least_squares(
        [survey.treat, survey.re75], survey.re78
    )
    slopes, _, _ = least_squares([survey.treat, survey.re75], survey.re78)
    of_outcome = partial_r2(slopes[2] / slope_se, dof - 1)
    of_treatment = np.corrcoef(survey.treat, survey.re75)[0, 1] ** 2
    left = adjusted_for(naive, se, dof, r2_treatment=of_treatment, r2_outcome=of_outcome)
    assert left.estimate == pytest.approx(adjusted, rel=1e-6)
    assert left.se == pytest.approx(adjusted_se, rel=1e-4)
    # Its strength is beyond the robustness value, seen from the outcome.
    assert abs(adjusted) < 0.1 * abs(naive)
    assert of_outcome > robustness_value(naive / se, dof)
    # The adjusted effect has nothing left that would need explaining away.
    spread = survey.re78.std()
    assert e_value(adjusted, measure="difference", sd=spread, se=adjusted_se).limit == 1.0
    assert robustness_value(adjusted / adjusted_se, dof - 1, alpha=0.05) == 0.0


def test_quitting_smoking_has_its_published_effect_on_weight():
    """Hernan and Robins, "What If", sections 12.2 and 13.3: 2.5 kg crude; 3.5 kg (2.6 to 4.5)."""
    frame = smokers()
    assert len(frame) == 1566
    by_quitting = frame.groupby("qsmk").wt82_71.mean()
    assert by_quitting[1.0] - by_quitting[0.0] == pytest.approx(2.54, abs=0.005)
    im = linear_model(SMOKERS, "wt82_71").fit_on_batch(frame, **STEPS)
    effect = found(im, frame, "qsmk")
    assert effect["mean"] == pytest.approx(3.517, abs=0.04)
    assert (effect["hdi_low"], effect["hdi_high"]) == pytest.approx((2.6, 4.4), abs=0.1)
    assert im.overlap(frame, frame.assign(qsmk=1), treatment="qsmk").level != "red"
