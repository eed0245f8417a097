"""Over how many axes the values of a distribution are one draw."""

from __future__ import annotations

from numpyro.distributions import (
    Delta,
    Distribution,
    ExpandedDistribution,
    ImproperUniform,
    Independent,
    MaskedDistribution,
    TransformedDistribution,
)

_WRAPPERS = (ExpandedDistribution, Independent, MaskedDistribution)


def joint_ndim(fn: Distribution) -> int:
    """Return the number of trailing axes over which values may depend on one another.

    An event of independent entries, as ``.to_event`` makes it, has none.

    Args:
        fn: The distribution.

    Example:
        >>> import numpyro.distributions as dist
        >>> joint_ndim(dist.Normal(0.0, 1.0).expand([5]).to_event(1))
        0
        >>> joint_ndim(dist.GaussianRandomWalk(num_steps=5))
        1
    """
    while True:
        if isinstance(fn, _WRAPPERS) or (
            isinstance(fn, TransformedDistribution) and _is_elementwise(fn)
        ):
            fn = fn.base_dist
        else:
            return 0 if isinstance(fn, (Delta, ImproperUniform)) else fn.event_dim


def _is_elementwise(fn: TransformedDistribution) -> bool:
    return all(not each.domain.event_dim and not each.codomain.event_dim for each in fn.transforms)
