"""Place the rows of a batch on devices."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import PyTree

from aimz_lab.data.padding import row_multiple
from aimz_lab.errors import DataTypeError
from aimz_lab.types import Array, Arrays, Device, shown


@dataclass(frozen=True)
class Placement:
    """The devices of a batch, and how its rows are split among them.

    Attributes:
        sharding: Sharding of an array of shape ``(row, ...)``; ``None`` leaves it to JAX.
        row_multiple: Batches are padded to a multiple of this.
    """

    sharding: NamedSharding | SingleDeviceSharding | None = None
    row_multiple: int = 1

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices, sorted by id."""
        if self.sharding is None:
            return (jax.local_devices()[0],)
        return tuple(sorted(self.sharding.device_set, key=lambda device: device.id))

    def put_rows(self, arrays: Arrays, *, leading: int = 0) -> dict[str, jax.Array]:
        """Move arrays to the devices, split along the rows.

        Args:
            arrays: Arrays by name.
            leading: Number of axes before the rows: 1 for a stack of batches.
        """
        sharding = self.sharding
        if isinstance(sharding, NamedSharding):
            spec = PartitionSpec(*(None,) * leading, *sharding.spec[:1])
            sharding = NamedSharding(sharding.mesh, spec)
        return jax.device_put(dict(arrays), sharding)

    def put_everywhere(self, tree: PyTree[Array]) -> PyTree[jax.Array]:
        """Copy whole arrays to each device."""
        sharding = self.sharding
        if isinstance(sharding, NamedSharding):
            sharding = NamedSharding(sharding.mesh, PartitionSpec())
        return jax.device_put(tree, sharding)

    def uncut(self) -> Placement:
        """Return a placement that copies whole batches to the same devices, without padding."""
        if isinstance(self.sharding, NamedSharding):
            return Placement(NamedSharding(self.sharding.mesh, PartitionSpec()))
        return self


def resolve_placement(model: Device | None, loader: Device | None = None) -> Placement:
    """Choose the model's placement, else the loader's, else all local devices.

    Args:
        model: Device or sharding of the model.
        loader: Device or sharding of the loader.

    Raises:
        DataTypeError: If it is not a device, a ``NamedSharding`` or a ``SingleDeviceSharding``.
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
        f"device={shown(device)} is not supported; use a jax.Device, or a NamedSharding of "
        "jax.sharding whose spec names the mesh axis of the rows."
    )
    raise DataTypeError(msg)
