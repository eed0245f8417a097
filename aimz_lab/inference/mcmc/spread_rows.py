"""Rows that are spread over devices, while all chains run on all of them.

XLA then computes density and gradient on the rows of each device and adds them up.
"""

from __future__ import annotations

import jax
from jax.sharding import NamedSharding
from numpyro.infer import MCMC

from aimz_lab.data import canonical
from aimz_lab.data.process_rows import spans_processes
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.inference.feeds.placement import resolve_placement
from aimz_lab.types import Device, Rows


def spread_rows(mcmc: MCMC, device: Device | None, rows: Rows) -> dict[str, jax.Array]:
    """Put the rows on the devices of a sharding.

    Args:
        mcmc: The sampler.
        device: The model's device or sharding.
        rows: The kernel's per-row arrays.

    Returns:
        The arrays, each device with its rows; empty if they are not to be spread.

    Raises:
        DataError: If the rows do not divide among the devices.
        ArgumentError: If each chain runs on a device of its own, or devices are on other processes.
    """
    if not isinstance(device, NamedSharding) or device.num_devices == 1:
        return {}
    if spans_processes(device):
        msg = (
            "Chains run in one process; pass a sharding of jax.local_devices(). Several processes "
            "can each run chains of their own."
        )
        raise ArgumentError(msg)
    if mcmc.num_chains > 1 and mcmc.chain_method != "vectorized":
        msg = (
            f"chain_method={mcmc.chain_method!r} runs the chains one by one or on a device each, "
            'and device= spreads the rows over devices; use chain_method="vectorized", or leave '
            "device= out."
        )
        raise ArgumentError(msg)
    placement = resolve_placement(device)
    n_rows, multiple = len(next(iter(rows.values()))), placement.row_multiple
    if n_rows % multiple:
        msg = (
            f"{n_rows:,} rows do not divide among {multiple} devices, and chains know no padding. "
            f"Leave out {n_rows % multiple} rows, or spread them over a number of devices that "
            "divides them."
        )
        raise DataError(msg)
    return placement.put_rows({name: canonical(array, name) for name, array in rows.items()})
