"""The loss of one distribution for all rows, of the family that a kernel gives to its output.

A kernel whose parameters are learned can do as well, but for the guide's distance from the prior.
Where the best distribution has no closed form, the loss is that of a good one of the family: any
will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num
from scipy.special import gammaln

Outputs = Float[np.ndarray, " row"]


_LARGE_SHAPE = 1e6


class Family(NamedTuple):
    """A family of distributions.

    Attributes:
        word: Its name in a sentence.
        parameters: Its parameters in NumPyro that have to be learned.
        loss: Returns the loss of one of its distributions for all rows, in nats per row; NaN or
            infinite where it has none.
    """

    word: str
    parameters: tuple[str, ...]
    loss: Callable[[Outputs], float]


def family_loss(family: str, outputs: Num[np.ndarray, " row"]) -> float | None:
    """Return the loss of one distribution of a family for all rows.

    Args:
        family: Name of the distribution in NumPyro, one of :data:`FAMILIES`.
        outputs: The observed output.

    Returns:
        The loss in nats per row; ``None`` for values that the family does not have, that are not
        finite, or all the same.

    Example:
        >>> family_loss("BernoulliLogits", np.array([0, 1, 1, 1]))
        0.562...
    """
    values = np.asarray(outputs, np.float64)
    if not np.isfinite(values).all() or values.min() == values.max():
        return None
    with np.errstate(all="ignore"):
        loss = float(FAMILIES[family].loss(values))
    return loss if math.isfinite(loss) else None


def _normal(y: Outputs) -> float:
    return 0.5 * np.log(2 * math.pi * math.e * y.var())


def _log_normal(y: Outputs) -> float:
    logs = np.log(y)
    return logs.mean() + _normal(logs)


def _laplace(y: Outputs) -> float:
    return 1 + np.log(2 * np.abs(y - np.median(y)).mean())


def _logistic(y: Outputs) -> float:
    scale = math.sqrt(3) * y.std() / math.pi
    half = np.abs(y - y.mean()) / scale
    return np.log(scale) + (half + 2 * np.log1p(np.exp(-half))).mean()


def _exponential(y: Outputs) -> float:
    return math.nan if y.min() < 0 else 1 + np.log(y.mean())


def _gamma(y: Outputs) -> float:
    mean = y.mean()
    off = (y - mean) / mean
    spread = (off - np.log1p(off)).mean()  # log(mean) - mean(log), without its rounding
    # Minka (2002), "Estimating a Gamma distribution": the start of its iteration, 1.5 % off.
    shape = (3 - spread + np.sqrt((spread - 3) ** 2 + 24 * spread)) / (12 * spread)
    if shape > _LARGE_SHAPE:  # by Stirling, as the terms are far larger than their sum
        known = 0.5 * np.log(2 * math.pi / shape)
    else:
        known = gammaln(shape) - shape * np.log(shape) + shape
    return known + shape * spread + np.log(y).mean()


def _shares(y: Outputs) -> float:
    shares = np.unique(y, return_counts=True)[1] / len(y)
    return -(shares * np.log(shares)).sum()


def _bernoulli(y: Outputs) -> float:
    share = y.mean()
    return -share * np.log(share) - (1 - share) * np.log1p(-share)


def _poisson(y: Outputs) -> float:
    return math.nan if y.min() < 0 else y.mean() * (1 - np.log(y.mean())) + gammaln(y + 1).mean()


def _geometric(y: Outputs) -> float:
    mean = y.mean()
    return (1 + mean) * np.log1p(mean) - mean * np.log(mean)


def _gamma_poisson(y: Outputs) -> float:
    """Return the lower loss of those by the mean and variance, geometric, and nearly Poisson."""
    mean, over = y.mean(), y.var() - y.mean()

    def loss(shape: float) -> float:
        known = gammaln(y + shape).mean() - gammaln(shape) - gammaln(y + 1).mean()
        return (
            -known - shape * np.log(shape / (shape + mean)) - mean * np.log(mean / (shape + mean))
        )

    shape = mean**2 / over if over > 0 else math.inf
    return min(loss(1.0), loss(min(shape, 100 * mean)))


FAMILIES = {
    "BernoulliLogits": Family("Bernoulli", ("logits",), _bernoulli),
    "BernoulliProbs": Family("Bernoulli", ("probs",), _bernoulli),
    "CategoricalLogits": Family("categorical", ("logits",), _shares),
    "CategoricalProbs": Family("categorical", ("probs",), _shares),
    "Exponential": Family("exponential", ("rate",), _exponential),
    "Gamma": Family("gamma", ("concentration", "rate"), _gamma),
    "GammaPoisson": Family("gamma-Poisson", ("concentration", "rate"), _gamma_poisson),
    "GeometricLogits": Family("geometric", ("logits",), _geometric),
    "GeometricProbs": Family("geometric", ("probs",), _geometric),
    "Laplace": Family("Laplace", ("loc", "scale"), _laplace),
    "LogNormal": Family("log-normal", ("loc", "scale"), _log_normal),
    "Logistic": Family("logistic", ("loc", "scale"), _logistic),
    "NegativeBinomial2": Family("negative binomial", ("concentration", "mean"), _gamma_poisson),
    "NegativeBinomialLogits": Family(
        "negative binomial", ("total_count", "logits"), _gamma_poisson
    ),
    "NegativeBinomialProbs": Family("negative binomial", ("total_count", "probs"), _gamma_poisson),
    "Normal": Family("normal", ("loc", "scale"), _normal),
    "OrderedLogistic": Family("categorical", ("cutpoints",), _shares),
    "Poisson": Family("Poisson", ("rate",), _poisson),
}
"""The families whose loss is known, by their names in NumPyro."""
