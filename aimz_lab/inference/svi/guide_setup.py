"""Initialise guide and optimizer, with training data or with arrays of ones in its shapes."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide
from numpyro.infer.svi import SVIState

from aimz_lab.errors import CallError, GuideError
from aimz_lab.inference.autoguides import autoguides_in, follows_density, takes_curvature
from aimz_lab.inference.feeds.ranges import Ranges, joined_ranges
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.numpyro_patches import initial_state
from aimz_lab.inference.svi.plan import setup_arguments
from aimz_lab.types import Arguments, callable_name


class GuideSetup:
    """Sets up guide and optimizer, and remembers the data it used.

    Args:
        svi: The inference object.

    Attributes:
        schema: Shapes and types of the last data; ``None`` before there was any.
        by_stand_ins: Whether the set-up used stand-ins; the next training then repeats it.
        is_outdated: Whether the kernel read other values then; the next training repeats it.
    """

    def __init__(self, svi: SVI) -> None:
        self.schema: InputSchema | None = None
        self.by_stand_ins = self.is_outdated = False
        self._svi = svi
        self._example: dict[str, Any] = {}
        self._kept: int | None = None  # checksum of the data that the guide's draws depend on

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the data."""
        return {**self.__dict__, "_example": {}}

    def __deepcopy__(self, memo: dict[int, Any]) -> GuideSetup:
        """Copy all but the data, which is shared."""
        made = GuideSetup.__new__(GuideSetup)
        memo[id(self)] = made
        vars(made).update(copy.deepcopy(self.__getstate__(), memo), _example=self._example)
        return made

    def see(self, data: TrainingData) -> None:
        """Remember a batch of data, for guides that need their arguments again."""
        batch = data.first_batch
        self._example = {**batch.rows, **batch.shared, **batch.static}
        self.schema = InputSchema.of(data)

    def widen(self, ranges: Ranges) -> None:
        """Let the schema's ranges cover these as well."""
        joined = joined_ranges(self.schema.ranges, ranges)
        self.schema = replace(self.schema, ranges=joined)

    def with_data(self, key: jax.Array, data: TrainingData) -> SVIState:
        """Set up with training data; see :func:`initial_state`."""
        self._forget_set_up()
        arguments = setup_arguments(self._svi, data)
        self._keep(arguments, data.static)
        return initial_state(self._svi, key, arguments, data.static)

    def keeps_other(self, data: TrainingData) -> bool:
        """Whether the guide's draws depend on the data of its set-up, and this is another."""
        if not self._keeps_data or self._kept is None:
            return False
        return self._kept != _checksum({**setup_arguments(self._svi, data), **data.static})

    def with_stand_ins(self, schema: InputSchema) -> SVIState:
        """Set up without data; the next training repeats it with its data.

        Args:
            schema: Shapes and types of the data.

        Returns:
            A state with the right structure, shapes and types.
        """
        self.schema, self._example, self.by_stand_ins = schema, {}, True
        return initial_state(self._svi, jax.random.key(0), schema.stand_ins(), schema.static)

    def ready_to_draw(
        self, key: jax.Array, arrays: Mapping[str, Any], static: Mapping[str, Any]
    ) -> None:
        """Replace stand-ins by the arguments of a draw, if the draw depends on them."""
        if self.by_stand_ins and self._keeps_data:
            self._forget_set_up()
            self._keep(arrays, static)
            initial_state(self._svi, key, arrays, static)

    def arguments(self) -> dict[str, Any]:
        """Return arguments for the guide: the last batch, or stand-ins if their shapes suffice.

        Raises:
            CallError: If the guide may read data, and a loaded model has seen none yet.
        """
        return self._example or self._stand_ins()

    @property
    def _keeps_data(self) -> bool:
        """Whether draws depend on the data of the set-up."""
        return takes_curvature(self._svi.guide) or follows_density(self._svi.guide)

    def _keep(self, arrays: Mapping[str, Any], static: Mapping[str, Any]) -> None:
        if self._keeps_data:
            self._kept = _checksum({**arrays, **static})

    def _stand_ins(self) -> dict[str, Any]:
        """Arguments for a guide that reads only their shapes."""
        guide = self._svi.guide
        if not isinstance(guide, AutoGuide) or self._keeps_data:
            msg = (
                f"The guide {callable_name(guide)} may read the data, which is not stored with a "
                "model; pass it: sample(X=..., y=..., ...)."
            )
            raise CallError(msg)
        return {**self.schema.stand_ins(), **self.schema.static} if self.schema else {}

    def _forget_set_up(self) -> None:
        """Let autoguides with an outdated set-up, or one with stand-ins, set up again."""
        if self.by_stand_ins or self.is_outdated:
            for guide in autoguides_in(self._svi.guide):
                guide.prototype_trace = None
        self.by_stand_ins = self.is_outdated = False


def _checksum(arguments: Arguments) -> int:
    """Return a checksum of arrays and other values, with their names, shapes and types."""
    found = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(sorted(arguments.items()))):
        is_key = jax.dtypes.issubdtype(getattr(leaf, "dtype", object), jax.dtypes.prng_key)
        array = np.asarray(jax.device_get(jax.random.key_data(leaf) if is_key else leaf))
        found = zlib.crc32(f"{path} {array.dtype} {array.shape}".encode(), found)
        is_plain = array.dtype.kind != "O"
        found = zlib.crc32(array.tobytes() if is_plain else repr(leaf).encode(), found)
    return found


def check_same_parameters(state: SVIState, fresh: SVIState) -> None:
    """Check that training can go on from a state after the kernel read other values.

    Args:
        state: The state to go on from.
        fresh: A state that was set up with these values.

    Raises:
        GuideError: If the parameters have other shapes now.
    """

    def shapes(of: SVIState) -> PyTree[tuple[int, ...]]:
        leaves, structure = jax.tree.flatten(of.optim_state)
        return structure, [np.shape(leaf) for leaf in leaves]

    if shapes(state) != shapes(fresh):
        msg = (
            "Something that the kernel or the guide reads (a global name, a closure, an attribute) "
            "is another one than in the training before, and the parameters now have other "
            "shapes, so that training cannot go on. Build a new ImpactModel to start afresh."
        )
        raise GuideError(msg)
