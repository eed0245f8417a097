"""Does the model predict the rows it was trained on: p-values, calibration, and leave-one-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aimz_lab.kernel.censoring import LEFT, RIGHT
from aimz_lab.number_text import number_beside
from aimz_lab.system.random_streams import own_rng
from aimz_lab.trust.report import Finding
from aimz_lab.trust.smoothing import smoothed, trusted_k
from aimz_lab.trust.uniformity import Uniformity, uniformity

MOST_ROWS = 1000
"""Rows whose draws are kept whole, for leave-one-out and calibration; more are sampled."""

_WRONG = (
    "Look at im.predict(X) beside y (lab.plot_ppc): choose a likelihood with the right spread and "
    "tails, or add what the rows depend on."
)


class LeaveOneOut(NamedTuple):
    """Leave-one-out estimates; see :func:`leave_one_out`.

    Attributes:
        elpd: Expected log predictive density of all rows, in nats.
        se: Its standard error, over rows.
        p_loo: Effective number of parameters.
        k: k-hat of each kept row.
        weights: Smoothed weights of each kept row, each column sums to 1.
        sampling_se: Standard error from taking a sample of the rows; 0 where all were taken.
        draws_se: Standard error from taking as many draws: how far ``elpd`` of other draws would
            be, in nats.
        kept: Numbers of the kept rows, among those of ``pointwise``.
        gap: What each kept row loses by being left out, in nats: ``lppd`` less ``elpd``.
        pointwise: ``elpd`` of each row that no mask leaves out, in nats; that of one that was not
            kept is its ``lppd``, less what the kept rows lose on average.
    """

    elpd: float
    se: float
    p_loo: float
    k: Float[np.ndarray, " kept"]
    weights: Float[np.ndarray, "draw kept"]
    sampling_se: float
    draws_se: float
    kept: Shaped[np.ndarray, " kept"]
    gap: Float[np.ndarray, " kept"]
    pointwise: Float[np.ndarray, " row"]

    @property
    def bad_share(self) -> float:
        """Share of the kept rows whose k-hat is too large."""
        return float((self.k > trusted_k(len(self.weights))).mean())

    def gaining(self, log_jacobian: Float[np.ndarray, " row"]) -> LeaveOneOut:
        """Return the estimates in other units of the outcome.

        Args:
            log_jacobian: What the log density of each row gains there, in nats.
        """
        pointwise = self.pointwise + log_jacobian
        se = np.sqrt(len(pointwise) * pointwise[self.kept].var())
        elpd = self.elpd + float(log_jacobian.sum())
        return self._replace(elpd=elpd, se=float(se), pointwise=pointwise)

    def in_order(self, order: Int[np.ndarray, " row"]) -> LeaveOneOut:
        """Return the estimates of rows in another order, given by their numbers; all are kept."""
        return self._replace(
            k=self.k[order],
            weights=self.weights[:, order],
            gap=self.gap[order],
            pointwise=self.pointwise[order],
        )


def leave_one_out(
    log_likelihood: Float[np.ndarray, "draw kept"],
    lppd: Float[np.ndarray, " row"],
    kept: Shaped[np.ndarray, " kept"],
    log_ratios: Float[np.ndarray, " draw"] | None,
    r_eff: float = 1.0,
) -> LeaveOneOut:
    """Estimate the predictive density of each row from all others.

    Pareto-smoothed importance sampling; Vehtari, Gelman and Gabry (2017). Draws of an approximate
    posterior are corrected by the ratio of posterior and approximation; Magnusson, Andersen,
    Jonasson and Vehtari (2019). Of many rows a random sample is taken, and the rest follows by
    the difference estimator around ``lppd``; Magnusson, Vehtari, Jonasson and Andersen (2020).

    Args:
        log_likelihood: That of the kept rows, in nats.
        lppd: Log of the mean density of every row.
        kept: Numbers of the kept rows.
        log_ratios: Log of posterior over approximation at each draw; ``None`` for exact draws.
        r_eff: Effective draws over draws.
    """
    n_rows, n_kept = len(lppd), len(kept)
    correction = np.zeros(len(log_likelihood)) if log_ratios is None else log_ratios
    elpd, k = np.empty(n_kept), np.empty(n_kept)
    weights = np.empty(log_likelihood.shape)
    # By how much each draw moves the sum of the estimates: the derivative by its weight (the delta
    # method for a ratio of weighted means).
    moved = np.zeros(len(log_likelihood))
    for at in range(n_kept):
        own = log_likelihood[:, at]
        found = smoothed(correction - own, r_eff)
        with np.errstate(divide="ignore"):
            terms = np.log(found.weights) + own
        top = terms.max()
        elpd[at] = top + np.log(np.exp(terms - top).sum()) if np.isfinite(top) else -np.inf
        k[at], weights[:, at] = found.k, found.weights
        if np.isfinite(top):
            moved += np.exp(terms - elpd[at]) - found.weights
    scale = n_rows / n_kept
    with np.errstate(invalid="ignore"):  # some row has no density: its log is infinite
        gap = lppd[kept] - elpd
        sampling = n_rows * np.sqrt(max(1 - 1 / scale, 0) * gap.var() / n_kept)
        se = np.sqrt(n_rows * elpd.var())
        pointwise = lppd - gap.mean()
        pointwise[kept] = elpd
    return LeaveOneOut(
        elpd=float(lppd.sum() - scale * gap.sum()),
        se=float(se),
        p_loo=float(scale * gap.sum()),
        k=k,
        weights=weights,
        sampling_se=float(sampling),
        draws_se=float(scale * np.sqrt(np.square(moved).sum() / r_eff)),
        kept=kept,
        gap=gap,
        pointwise=pointwise,
    )


def loo_finding(
    loo: LeaveOneOut | None, n_rows: int, why_not: str = "", advice: str = ""
) -> Finding:
    """Return what leave-one-out says.

    Args:
        loo: The estimates, or ``None``.
        n_rows: How many rows there are, also those that a mask leaves out.
        why_not: Why there are none.
        advice: What to do to have them.
    """
    if loo is None:
        return Finding("LOO", "unjudged", f"leave-one-out was not computed: {why_not}", advice)
    error = f" (of sampling rows: {loo.sampling_se:.2g})" if loo.sampling_se else ""
    text = f"elpd_loo is {loo.elpd:,.1f} ± {loo.se:,.1f}{error}, p_loo {loo.p_loo:,.1f}"
    if (n_scored := len(loo.pointwise)) < n_rows:
        text = f"{text}, of {n_scored:,} of {n_rows:,} rows: a mask leaves out the others"
    if not np.isfinite(loo.elpd):
        return Finding("LOO", "red", "some row has no density under any draw", _WRONG)
    if loo.bad_share <= 0.01:
        return Finding("LOO", "green", text)
    text = f"{text}, unreliable for {loo.bad_share:.0%} of the rows (their k-hat is too large)"
    advice = "Look at the rows with the largest k-hat: outliers, or parameters of their own."
    return Finding("LOO", "amber", text, advice)


class Calibration(NamedTuple):
    """Probability integral transforms of the observed output under the predictions.

    Attributes:
        pit: One for each observed entry of the kept rows.
        of_pit: Their distribution beside a uniform one.
        coverage: Share of the entries inside the central intervals of 50% and 90%.
    """

    pit: Float[np.ndarray, " entry"]
    of_pit: Uniformity
    coverage: dict[float, float]


def calibration(
    predicted: Shaped[np.ndarray, "draw kept ..."],
    outputs: Shaped[np.ndarray, "kept ..."],
    observed: Bool[np.ndarray, "kept ..."],
    weights: Float[np.ndarray, "draw kept"] | None,
    sides: Int[np.ndarray, "kept ..."] | None = None,
) -> Calibration | None:
    """Compute where the observed output lies among its predictions; ``None`` without any.

    Dawid (1984); for discrete outputs, which tie, a uniform value between the shares below and up
    to the output; Czado, Gneiting and Held (2009). The output counts as one more draw, so that its
    rank among few draws is uniform too. With the weights of leave-one-out a row's own
    output takes no part in its prediction; Gelfand, Dey and Chang (1992). Of a value that was not
    seen but for a bound, a uniform one of all that lie beyond it, which is its distribution if the
    model holds and censoring says no more; Li, Wu and Feng (2021).

    Args:
        predicted: Predictive draws of the kept rows.
        outputs: Their observed output.
        observed: Which entries were observed.
        weights: Leave-one-out weights; equal by default.
        sides: How outputs are censored, by :func:`~aimz_lab.trust.output_entries.output_entries`;
            not at all by default.
    """
    n_draws, n_kept = predicted.shape[:2]
    weights = np.full((n_draws, n_kept), 1 / n_draws) if weights is None else weights
    drawn = predicted.reshape(n_draws, n_kept, -1)
    outputs, observed = outputs.reshape(n_kept, -1), observed.reshape(n_kept, -1)
    below = np.einsum("sk,ske->ke", weights, drawn < outputs)
    equal = np.einsum("sk,ske->ke", weights, drawn == outputs)
    random = own_rng("predictive checks").uniform(size=below.shape)
    among = (n_draws * (below + random * equal) + random) / (n_draws + 1)
    if sides is not None:
        sides = sides.reshape(n_kept, -1)
        up_to = n_draws * (below + equal)
        beyond = (up_to + random * (n_draws - up_to + 1)) / (n_draws + 1)
        among = np.where(sides == RIGHT, beyond, among)
        among = np.where(sides == LEFT, random * (up_to + 1) / (n_draws + 1), among)
    pit = np.clip(among, 0, 1)[observed]
    if len(pit) < 10:
        return None
    coverage = {prob: float((np.abs(pit - 0.5) <= prob / 2).mean()) for prob in (0.5, 0.9)}
    return Calibration(pit, uniformity(pit, prob=0.99), coverage)


_EXTREME, _VERY_EXTREME = 0.01, 0.001
"""Below these, and above 1 less these, a p-value may be a doubt: of mean and sd, and of others."""

_NOTICED = 0.05
"""Below this, twice the distance of a p-value to 0 or 1 is noticed beside a green light."""

_SMALL = {"mean": "a tenth of the sd of y", "sd": "a tenth"}
"""What a statistic is off by at most while that is no doubt; others by the sd of y."""


def calibration_finding(found: Calibration | None, *, is_censored: bool = False) -> Finding:
    """Judge the calibration by a test and by the size of the departure.

    Args:
        found: The calibration, or ``None``.
        is_censored: Whether some of the output is censored.
    """
    if found is None:
        text = "calibration needs at least ten observed entries of the output"
        return Finding("calibration", "amber", text)
    half, most = found.coverage[0.5], found.coverage[0.9]
    gap, p_value = found.of_pit.largest_gap, found.of_pit.p_value
    text = f"intervals of 50% and 90% hold {half:.0%} and {most:.0%} of the observed output"
    if is_censored:
        text = f"{text}, where a censored value lies beyond its bound as the model says"
    level = "green"
    if p_value < 0.01 and gap > 0.05:
        level = "amber"
    if p_value < 0.001 and (gap > 0.1 or abs(most - 0.9) > 0.07):
        level = "red"
    if level != "green":
        text = f"{text}, and their PIT is not uniform (p = {p_value:.2g}, off by {gap:.2f})"
    return Finding("calibration", level, text, "" if level == "green" else _WRONG)


def p_values(
    statistics: Mapping[str, tuple[Float[np.ndarray, " draw"], float]],
) -> dict[str, tuple[float, float, float]]:
    """Return posterior predictive p-values; Gelman, Meng and Stern (1996).

    Args:
        statistics: Values of each statistic: of the draws, and of the observed output.

    Returns:
        By statistic: ``P(T(y_rep) >= T(y))`` with ties halved, the observed value, and the median
        of the predicted ones.
    """
    found = {}
    for name, (drawn, observed) in statistics.items():
        p = float((drawn > observed).mean() + (drawn == observed).mean() / 2)
        found[name] = (p, observed, float(np.median(drawn)))
    return found


def _two_sided(p: float) -> float:
    return 2 * min(p, 1 - p)


def _p_words(p: float) -> str:
    """Write a p-value so that a low or high one is not rounded to 0 or 1."""
    if not 0.001 <= p <= 0.999:
        return "below 0.001" if p < 0.5 else "above 0.999"
    return f"{p:.2f}" if 0.01 <= p <= 0.99 else f"{p:.3f}"


def _why_no_doubt(found: Mapping[str, tuple[float, float, float]]) -> str:
    """Say why the most extreme of p-values that are no doubt is none; empty of usual ones."""
    name = min(found, key=lambda one: _two_sided(found[one][0]))
    p = found[name][0]
    if _two_sided(p) >= _NOTICED:
        return ""
    least = _EXTREME if name in _SMALL else _VERY_EXTREME
    if least <= p <= 1 - least:
        return (
            f"; of {len(found)} statistics one may be as far out as the {name} by chance: doubt "
            f"begins below {least:g} and above {1 - least:g}"
        )
    return f"; the {name} is off by less than {_SMALL.get(name, 'the sd of y')}, which is little"


def p_value_finding(found: dict[str, tuple[float, float, float]]) -> Finding:
    """Judge posterior predictive p-values by how extreme they are and by what they mean."""
    sd = max(found["sd"][1], found["sd"][2], 1e-300)
    apart = {
        "mean": abs(found["mean"][1] - found["mean"][2]) / sd,
        "sd": abs(np.log(max(found["sd"][1], 1e-300) / max(found["sd"][2], 1e-300))),
    }
    limits = {"mean": (0.1, 0.25), "sd": (np.log(1.1), np.log(1.25))}
    level, worst = "green", ""
    for name, (p, observed, predicted) in found.items():
        side = _two_sided(p)
        if name in limits:
            low, high = limits[name]
            bad = (
                "red"
                if side < 2 * _VERY_EXTREME and apart[name] > high
                else "amber"
                if side < 2 * _EXTREME and apart[name] > low
                else "green"
            )
        else:
            is_far = abs(observed - predicted) > sd
            bad = "amber" if side < 2 * _VERY_EXTREME and is_far else "green"
        if bad == "red" or (bad == "amber" and level == "green"):
            level = bad
            worst = (
                f"the {name} of y is {number_beside(observed, sd, 3)} and that of predictions "
                f"{number_beside(predicted, sd, 3)} (p = {p:.3f})"
            )
    listed = ", ".join(f"{_p_words(p)} of the {name}" for name, (p, _, _) in found.items())
    text = worst or f"predictive p-values are {listed}{_why_no_doubt(found)}"
    return Finding("p-values", level, text, "" if level == "green" else _WRONG)
