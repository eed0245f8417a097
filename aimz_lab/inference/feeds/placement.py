"""Place the rows of a batch on devices."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import PyTree

from aimz_lab.data.padding import row_multiple
from aimz_lab.data.process_rows import joined_rows, own_rows, spans_processes
from aimz_lab.errors import DataTypeError
from aimz_lab.inference.run.team import ALONE, Team
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
    def team(self) -> Team:
        """The processes whose devices these are."""
        return Team.of_all() if self._spans_processes else ALONE

    @property
    def _spans_processes(self) -> bool:
        return spans_processes(self.sharding)

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """The devices, sorted by id."""
        if self.sharding is None:
            return (jax.local_devices()[0],)
        return tuple(sorted(self.sharding.device_set, key=lambda device: device.id))

    @property
    def local_devices(self) -> tuple[jax.Device, ...]:
        """The devices of this process among them, sorted by id."""
        here = jax.process_index()
        return tuple(device for device in self.devices if device.process_index == here)

    def put_rows(self, arrays: Arrays, *, leading: int = 0) -> dict[str, jax.Array]:
        """Move arrays to the devices, split along the rows.

        Args:
            arrays: Arrays by name, with all rows.
            leading: Number of axes before the rows: 1 for a stack of batches.
        """
        if not self._spans_processes:
            return jax.device_put(dict(arrays), self._of_rows(leading))
        n_rows = next(iter(arrays.values())).shape[leading]
        part = (slice(None),) * leading + (self.own_rows(n_rows),)
        own = {name: array[part] for name, array in arrays.items()}
        return self.put_own_rows(own, n_rows, leading=leading)

    def own_rows(self, n_rows: int) -> slice:
        """Return the rows of a batch that this process brings: all, if there is no other."""
        return own_rows(self.sharding, n_rows) if self._spans_processes else slice(0, n_rows)

    def put_own_rows(
        self, arrays: Arrays, n_rows: int, *, leading: int = 0
    ) -> dict[str, jax.Array]:
        """Move this process's rows to its devices; see :meth:`put_rows`.

        Args:
            arrays: Arrays by name, with the rows of :meth:`own_rows`.
            n_rows: Number of rows of all processes.
            leading: Number of axes before the rows.
        """
        sharding = self._of_rows(leading)
        if not self._spans_processes:
            return jax.device_put(dict(arrays), sharding)
        return joined_rows(arrays, sharding, n_rows, leading=leading)

    def _of_rows(self, leading: int) -> NamedSharding | SingleDeviceSharding | None:
        if not isinstance(self.sharding, NamedSharding):
            return self.sharding
        spec = PartitionSpec(*(None,) * leading, *self.sharding.spec[:1])
        return NamedSharding(self.sharding.mesh, spec)

    def put_everywhere(self, tree: PyTree[Array]) -> PyTree[jax.Array]:
        """Copy whole arrays to each device."""
        sharding = self.sharding
        if isinstance(sharding, NamedSharding):
            sharding = NamedSharding(sharding.mesh, PartitionSpec())
        if not self._spans_processes:
            return jax.device_put(tree, sharding)

        def everywhere(array: Array) -> jax.Array:
            if isinstance(array, jax.Array) and not array.is_fully_addressable:
                return array
            if jax.dtypes.issubdtype(jax.typeof(array).dtype, jax.dtypes.prng_key):
                data = everywhere(jax.random.key_data(array))
                return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
            host = np.asarray(array)
            return jax.make_array_from_callback(host.shape, sharding, lambda part: host[part])

        return jax.tree.map(everywhere, tree)

    def uncut(self) -> Placement:
        """Return a placement that copies whole batches to the same devices, without padding."""
        if isinstance(self.sharding, NamedSharding):
            return Placement(NamedSharding(self.sharding.mesh, PartitionSpec()))
        return self


def resolve_placement(model: Device | None, loader: Device | None = None) -> Placement:
    """Choose the model's placement, else the loader's, else JAX's default, else all local devices.

    JAX's default is what ``jax.default_device`` sets; nobody does on most machines.

    Args:
        model: Device or sharding of the model.
        loader: Device or sharding of the loader.

    Raises:
        DataTypeError: If it is not a device, a ``NamedSharding`` or a ``SingleDeviceSharding``.
    """
    device = next((one for one in (model, loader, default_device()) if one is not None), None)
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


def default_device() -> jax.Device | None:
    """Return the device that ``jax.default_device`` names; ``None`` if it names none."""
    named = jax.config.jax_default_device
    return jax.local_devices(backend=named)[0] if isinstance(named, str) else named
