"""Refuse data whose type its distribution cannot look up, before NumPyro fails on it."""

from __future__ import annotations

from typing import Any

import jax
from numpyro.distributions import CategoricalLogits, CategoricalProbs, Distribution

from aimz_lab.errors import DataTypeError


def check_data_type(name: str, distribution: Distribution, value: Any) -> None:
    """Check that the data of a categorical site has a type of whole numbers.

    Args:
        name: Name of the site.
        distribution: Its distribution.
        value: What it observes.

    Raises:
        DataTypeError: If it is a float or a flag; NumPyro looks categories up by their number.
    """
    while isinstance(getattr(distribution, "base_dist", None), Distribution):
        distribution = distribution.base_dist
    if not isinstance(distribution, (CategoricalProbs, CategoricalLogits)):
        return
    dtype = jax.dtypes.result_type(value)
    if dtype.kind not in "iu":
        msg = (
            f"The data of site {name!r} is {dtype}, and its {type(distribution).__name__} "
            "distribution takes whole numbers, 0 for the first category: pass y.astype(int)."
        )
        raise DataTypeError(msg)
