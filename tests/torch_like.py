"""What a training loop uses of PyTorch's data utilities, for machines without PyTorch."""

from __future__ import annotations

import numpy as np


class Tensor:
    """An array that only speaks the interfaces that a CPU tensor speaks."""

    def __init__(self, values):
        self._values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self._values.astype(dtype) if dtype else self._values

    def __len__(self):
        return len(self._values)

    @property
    def shape(self):
        return self._values.shape


class TensorDataset:
    """Tensors whose rows belong together."""

    def __init__(self, *tensors):
        self.tensors = tuple(map(np.asarray, tensors))

    def __len__(self):
        return len(self.tensors[0])


class DataLoader:
    """Batches as lists of tensors, in an order that changes from epoch to epoch."""

    def __init__(self, dataset, batch_size=1, shuffle=False):
        self.dataset = dataset
        self.sampler = range(len(dataset))
        self._batch_size = batch_size
        self._rng = np.random.default_rng(0) if shuffle else None

    def __iter__(self):
        order = np.arange(len(self.dataset))
        if self._rng is not None:
            self._rng.shuffle(order)
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            yield [Tensor(tensor[rows]) for tensor in self.dataset.tensors]
