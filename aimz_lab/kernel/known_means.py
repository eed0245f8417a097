"""Whether NumPyro knows the mean of what a site draws."""

from __future__ import annotations

import numpy as np
from numpyro.distributions import (
    CategoricalLogits,
    CategoricalProbs,
    Cauchy,
    Distribution,
    HalfCauchy,
    InverseWishartCholesky,
    Levy,
    OrderedLogistic,
    constraints,
)
from numpyro.distributions.truncated import TwoSidedTruncatedDistribution

from aimz_lab.kernel.spec import MeanKind

_WITHOUT = (
    CategoricalLogits,
    CategoricalProbs,
    Cauchy,
    HalfCauchy,
    Levy,
    # Far from the centre, single precision loses the mean between two limits (NumPyro 0.22).
    TwoSidedTruncatedDistribution,
    # NumPyro 0.22 gives the root of a mean, which is not the mean of roots.
    InverseWishartCholesky,
)

_CATEGORICAL = (CategoricalLogits, CategoricalProbs)

_SURFACES = (constraints.circular, constraints.sphere)
"""The mean of angles, or of directions, is not that of their numbers."""


def mean_kind(fn: Distribution) -> MeanKind | None:
    """Return what the mean of a distribution is: of shares, or of other numbers.

    Args:
        fn: The distribution.

    Returns:
        ``"share"`` if all values are 0, 1 or between, else ``"mean"``; ``None`` if there is no
        mean, or NumPyro does not know it.
    """
    if not _is_known(fn):
        return None
    try:
        shape = fn.mean.shape
    except Exception:  # noqa: BLE001  a mean that cannot be computed must not stop the trace
        return None
    if shape != fn.shape():
        return None
    shares = constraints.boolean, constraints.unit_interval
    return "share" if _base(fn.support) in shares else "mean"


def n_categories(fn: Distribution) -> int | None:
    """Return how many categories a distribution draws from; ``None`` for any other.

    Args:
        fn: The distribution.

    Example:
        >>> import numpyro.distributions as dist
        >>> n_categories(dist.Categorical(logits=np.zeros((5, 3)))), n_categories(dist.Poisson(1.0))
        (3, None)
    """
    fn = _categorical(fn)
    if fn is None:
        return None
    weights = fn.probs if isinstance(fn, CategoricalProbs) else fn.logits
    return np.shape(weights)[-1]


def is_ordinal(fn: Distribution) -> bool:
    """Whether a distribution draws from categories in an order.

    Args:
        fn: The distribution.

    Example:
        >>> import numpyro.distributions as dist
        >>> cut_points = np.array([-1.0, 1.0])
        >>> is_ordinal(dist.OrderedLogistic(0.5, cut_points)), is_ordinal(dist.Poisson(1.0))
        (True, False)
    """
    return isinstance(_categorical(fn), OrderedLogistic)


def _categorical(fn: Distribution | None) -> CategoricalProbs | CategoricalLogits | None:
    """Return the distribution of categories that a distribution is made of; ``None`` if of none."""
    while isinstance(fn, Distribution) and not isinstance(fn, _CATEGORICAL):
        fn = getattr(fn, "base_dist", None)
    return fn if isinstance(fn, _CATEGORICAL) else None


def _is_known(fn: Distribution) -> bool:
    """Whether it, and all that it is made of, are NumPyro's own and have a mean."""
    if isinstance(fn, _WITHOUT) or not type(fn).__module__.startswith("numpyro.distributions."):
        return False
    if _base(fn.support) in _SURFACES:
        return False
    parts = [getattr(fn, name, None) for name in ("base_dist", "component_distribution")]
    parts += getattr(fn, "component_distributions", [])
    return all(_is_known(one) for one in parts if one is not None)


def _base(support: constraints.Constraint) -> constraints.Constraint:
    return getattr(support, "base_constraint", support)
