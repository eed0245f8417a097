"""Rows on the devices that the model names: chains run where their rows are.

Of rows that are spread over several, XLA computes density and gradient on each device and adds them
up; all chains then run on all of them.
"""

from __future__ import annotations

import jax
from jax.sharding import NamedSharding
from numpyro.infer import MCMC

from aimz_lab.data import canonical
from aimz_lab.data.process_rows import spans_processes
from aimz_lab.errors import ArgumentError, DataError
from aimz_lab.inference.feeds.placement import default_device, resolve_placement
from aimz_lab.types import Device, Rows


def spread_rows(mcmc: MCMC, device: Device | None, rows: Rows) -> dict[str, jax.Array]:
    """Put the rows on the devices of a sharding.

    Args:
        mcmc: The sampler.
        device: The model's device or sharding.
        rows: The kernel's per-row arrays.

    Returns:
        The arrays, each device with its rows; empty if chains are to run where JAX runs them by
        itself: on its default device, or on a device each.

    Raises:
        DataError: If the rows do not divide among the devices.
        ArgumentError: If each chain runs on a device of its own, or devices are on other processes.
    """
    if device is None:
        return {}
    placement, arrays = resolve_placement(device), _canonical(rows)
    if not isinstance(device, NamedSharding) or device.num_devices == 1:
        by_itself = placement.devices == (default_device() or jax.local_devices()[0],)
        apart = mcmc.num_chains > 1 and mcmc.chain_method == "parallel"
        return {} if by_itself or apart else placement.put_rows(arrays)
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
    n_rows, multiple = len(next(iter(rows.values()))), placement.row_multiple
    if n_rows % multiple:
        msg = (
            f"{n_rows:,} rows do not divide among {multiple} devices, and chains know no padding. "
            f"Leave out {n_rows % multiple} rows, or spread them over a number of devices that "
            "divides them."
        )
        raise DataError(msg)
    return placement.put_rows(arrays)


def _canonical(rows: Rows) -> Rows:
    return {name: canonical(array, name) for name, array in rows.items()}
