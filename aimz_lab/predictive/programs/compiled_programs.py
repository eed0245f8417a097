"""Compiled programs: each built once for a kind of call, several at a time, for all devices."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from aimz_lab.inference.compiling import QUICK, compiler_options
from aimz_lab.kernel.cache_keys import shapes_of

T = TypeVar("T")

DEVICE_AXIS = "device"


class Program(NamedTuple):
    """A program that may have been compiled before.

    Attributes:
        key: What tells it from others, beside the shapes of its arguments.
        build: Returns its function, which is then traced; not called for a program that is there.
        arguments: Arguments of the shapes and types to come.
        devices: Where it runs.
        split: For each argument, whether its leading axis is divided among the devices.
        effort: What the compiler spends on the CPU.
    """

    key: Any
    build: Callable[[], Callable]
    arguments: tuple[Any, ...]
    devices: tuple[jax.Device, ...]
    split: tuple[bool, ...]
    effort: int = QUICK


class Programs:
    """Compiled programs by kind and shapes. A copy or a pickle starts empty."""

    def __init__(self) -> None:
        self._compiled: dict[Any, Callable] = {}
        self._crossing: dict[Any, tuple[str, ...]] = {}
        self._remembered: dict[Any, Any] = {}

    def __reduce__(self) -> tuple[type[Programs], tuple[()]]:
        return Programs, ()

    def compiled(self, *programs: Program) -> list[Callable]:
        """Return the programs ready to run; those that are missing compile at the same time."""
        keys = [_key_of(program) for program in programs]
        missing = [index for index, key in enumerate(keys) if key not in self._compiled]
        compilers = [_lowered(programs[index]) for index in missing]
        with ThreadPoolExecutor(max(len(missing), 1)) as pool:
            compiling = [pool.submit(compiler) for compiler in compilers]
            # xarray imports dask with the first array that it is given; here that costs no time.
            importlib.import_module("dask.array")
            done = [one.result() for one in compiling]
        self._compiled.update((keys[index], one) for index, one in zip(missing, done, strict=True))
        return [self._compiled[key] for key in keys]

    def remembered(self, key: Any, find: Callable[[], T]) -> T:
        """What was found out by tracing a kernel, once for each key."""
        if key not in self._remembered:
            self._remembered[key] = find()
        return self._remembered[key]

    def crossing(self, test: Program) -> tuple[str, ...]:
        """What a test found before, on whatever data; to find nothing tells nothing of others."""
        return self._crossing.get(_key_of(test), ())

    def set_crossing(self, test: Program, found: tuple[str, ...]) -> None:
        """Keep what a test found."""
        if found:
            self._crossing[_key_of(test)] = found


def _key_of(program: Program) -> Any:
    return program.key, program.devices, program.effort, shapes_of(program.arguments)


def _lowered(program: Program) -> Callable[[], Callable]:
    """Trace a program, which is not safe in several threads; return what compiles it, which is."""
    mesh = device_mesh(program.devices)
    shardings = tuple(NamedSharding(mesh, spec_of(split)) for split in program.split)
    # Blocks have a fixed shape, so that noise need not be the same for a part of one: without that
    # property, which is JAX's default, the bits cost half as much.
    with jax.threefry_partitionable(False):
        lowered = jax.jit(program.build(), in_shardings=shardings).lower(*program.arguments)
    options = compiler_options(program.effort, program.devices[0].platform)
    return lambda: lowered.compile(compiler_options=options)


def device_mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    """The devices in a row."""
    return Mesh(np.array(devices), (DEVICE_AXIS,))


def placed(arrays: Any, devices: tuple[jax.Device, ...]) -> Any:
    """Copy arrays to each of the devices, once for all calls."""
    return jax.device_put(arrays, NamedSharding(device_mesh(devices), spec_of(False)))


def spec_of(split: bool, axis: int = 0) -> PartitionSpec:
    """Whether an array is divided along ``axis`` or lies whole on each device."""
    return PartitionSpec(*[None] * axis, DEVICE_AXIS) if split else PartitionSpec()


def shared_out(
    function: Callable, devices: tuple[jax.Device, ...], split: tuple[bool, ...], out_axis: int
) -> Callable:
    """Let each device run ``function`` on its part of the arguments.

    Args:
        function: What each device runs.
        devices: The devices; one alone runs it as it is.
        split: For each argument, whether its leading axis is divided.
        out_axis: Axis of the results along which the parts are put together.
    """
    if len(devices) == 1:
        return function
    return jax.shard_map(
        function,
        mesh=device_mesh(devices),
        in_specs=tuple(spec_of(part) for part in split),
        out_specs=spec_of(True, out_axis),
        check_vma=False,
    )
