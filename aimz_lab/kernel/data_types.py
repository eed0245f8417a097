"""Refuse data whose type its distribution cannot take, before NumPyro or JAX fails on it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
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
            "distribution takes whole numbers, 0 for the first category: pass y.astype(int). A "
            f"TableSpec makes them of the levels of a column: {name}='index(column)'."
        )
        raise DataTypeError(msg)


def check_real(name: str, distribution: Distribution, value: Any) -> None:
    """Check that neither a site nor its distribution has complex numbers.

    Args:
        name: Name of the site.
        distribution: Its distribution.
        value: Its value.

    Raises:
        DataTypeError: If so; a density of complex numbers is none.
    """
    arrays = [leaf for leaf in jax.tree.leaves((distribution, value)) if hasattr(leaf, "dtype")]
    found = [leaf.dtype for leaf in arrays if jnp.issubdtype(leaf.dtype, jnp.complexfloating)]
    if found:
        msg = (
            f"The site {name!r} has complex numbers ({found[0]}), and a density takes real ones. "
            "Pass the real and the imaginary part as two columns, np.stack([z.real, z.imag], -1), "
            "or take jnp.abs or jnp.angle of them in the kernel."
        )
        raise DataTypeError(msg)
