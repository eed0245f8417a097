"""Run under a number of simulated devices; prints what the loader gave as JSON."""

from __future__ import annotations

import json
import sys
from itertools import product

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from aimz_lab.data import ArrayDataset, ArrayLoader, epoch_order, row_multiple


def devices() -> dict:
    """Name what batches can be sent to: one device, and shardings of one and of two axes."""
    count = jax.device_count()
    line = jax.make_mesh((count,), ("rows",))
    grid = jax.make_mesh((count, 1) if count % 2 else (count // 2, 2), ("rows", "columns"))
    return {
        "device": jax.devices()[0],
        "last device": jax.devices()[-1],
        "rows": NamedSharding(line, PartitionSpec("rows")),
        "replicated": NamedSharding(line, PartitionSpec()),
        "some axes": NamedSharding(grid, PartitionSpec("rows")),
        "all axes": NamedSharding(grid, PartitionSpec(("rows", "columns"))),
    }


def check_spread_data() -> None:
    """Read a dataset whose rows are spread over all devices."""
    rows = np.arange(6.0 * jax.device_count())
    spread = jax.device_put(rows, devices()["rows"])
    dataset = ArrayDataset(y=spread)
    assert dataset.arrays["y"] is spread
    np.testing.assert_array_equal(dataset[4]["y"], 4.0)
    loader = ArrayLoader(dataset, jax.random.key(0), batch_size=4, device=devices()["rows"])
    kept = [np.asarray(batch["y"])[: len(batch["y"]) - n_pad] for batch, n_pad in loader]
    np.testing.assert_array_equal(np.concatenate(kept), rows)
    np.testing.assert_array_equal(dataset.take([3, -1])["y"], rows[[3, -1]])


def sent() -> list[dict]:
    """Send batches everywhere and note the padding, and whether it repeats the last row."""
    results = []
    for (name, device), n, size in product(devices().items(), (1, 7, 20), (1, 3, 10)):
        arrays = {"X": np.arange(2.0 * n).reshape(n, 2), "y": np.arange(n)}
        dataset = ArrayDataset(**arrays)
        loader = ArrayLoader(dataset, jax.random.key(0), batch_size=size, device=device)
        batches = list(loader)
        kept = [np.asarray(batch["X"])[: len(batch["X"]) - n_pad] for batch, n_pad in batches]
        results.append(
            {
                "to": name,
                "n": n,
                "batch_size": size,
                "multiple": row_multiple(device),
                "rows": [len(batch["y"]) for batch, _ in batches],
                "n_pad": [n_pad for _, n_pad in batches],
                "data": np.array_equal(np.concatenate(kept), np.float32(arrays["X"])),
                "edge": all(
                    len(set(np.asarray(batch["y"])[-n_pad - 1 :].tolist())) == 1
                    for batch, n_pad in batches
                ),
                "placed": all(
                    array.sharding == device or array.devices() == {device}
                    for batch, _ in batches
                    for array in batch.values()
                ),
            }
        )
    return results


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    check_spread_data()
    order = epoch_order(8, jax.random.key(0), 1).tolist()
    json.dump({"devices": jax.device_count(), "order": order, "sent": sent()}, sys.stdout)
