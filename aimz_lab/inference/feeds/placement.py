"""On which devices the rows of a batch lie, and how they are cut among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from aimz_lab.data.padding import row_multiple
from aimz_lab.errors import DataTypeError
from aimz_lab.types import Device


@dataclass(frozen=True)
class Placement:
    """Where batches go.

    Attributes:
        sharding: Of an array whose leading axis is the rows; ``None`` leaves it to JAX.
        row_multiple: What a batch is padded to a multiple of.
    """

    sharding: NamedSharding | SingleDeviceSharding | None = None
    row_multiple: int = 1

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices that compute, by id."""
        if self.sharding is None:
            return (jax.local_devices()[0],)
        return tuple(sorted(self.sharding.device_set, key=lambda device: device.id))

    def put_rows(self, arrays: Mapping[str, Any], *, leading: int = 0) -> dict[str, jax.Array]:
        """Move arrays to the devices, cut along the rows.

        Args:
            arrays: NumPy or JAX arrays.
            leading: Axes in front of the rows: 1 for a stack of batches.
        """
        sharding = self.sharding
        if isinstance(sharding, NamedSharding):
            spec = PartitionSpec(*(None,) * leading, *sharding.spec[:1])
            sharding = NamedSharding(sharding.mesh, spec)
        return jax.device_put(dict(arrays), sharding)

    def put_everywhere(self, tree: Any) -> Any:
        """Move arrays to the devices, a whole copy to each."""
        sharding = self.sharding
        if isinstance(sharding, NamedSharding):
            sharding = NamedSharding(sharding.mesh, PartitionSpec())
        return jax.device_put(tree, sharding)

    def uncut(self) -> Placement:
        """The same devices with a whole copy of each batch, which then needs no padding."""
        if isinstance(self.sharding, NamedSharding):
            return Placement(NamedSharding(self.sharding.mesh, PartitionSpec()))
        return self


def resolve_placement(model: Device | None, loader: Device | None = None) -> Placement:
    """Choose the placement: the model's, else the loader's, else all local devices.

    Args:
        model: The model's device or sharding.
        loader: The loader's.

    Raises:
        DataTypeError: If it is a sharding of another kind than ``NamedSharding``.
    """
    device = model if model is not None else loader
    if device is None:
        local = jax.local_devices()
        if len(local) == 1:
            return Placement()
        device = NamedSharding(Mesh(np.array(local), ("rows",)), PartitionSpec("rows"))
    if isinstance(device, jax.Device):
        return Placement(SingleDeviceSharding(device))
    if isinstance(device, (NamedSharding, SingleDeviceSharding)):
        return Placement(device, row_multiple(device))
    msg = (
        f"device={device!r} is not supported; use a jax.Device, or a NamedSharding of jax.sharding "
        "whose spec names the mesh axis of the rows."
    )
    raise DataTypeError(msg)
