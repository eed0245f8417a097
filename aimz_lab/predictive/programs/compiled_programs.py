"""A cache of compiled programs, and how their arguments are divided among devices."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from aimz_lab.inference.compiling import QUICK, compiler_options
from aimz_lab.inference.shared_programs import compiled_once, shared_key
from aimz_lab.kernel.cache_keys import shapes_of
from aimz_lab.predictive.programs.own_keys import has_own_keys
from aimz_lab.preparing import doing
from aimz_lab.system.lazy_modules import import_for_results

T = TypeVar("T")

DEVICE_AXIS = "device"


class Program(NamedTuple):
    """A program, compiled or not.

    Attributes:
        key: Identifies it, together with the shapes of its arguments.
        build: Returns its function; called only if it is not compiled yet.
        arguments: Arguments of the right shapes and types.
        devices: The devices it runs on.
        split: For each argument, whether its leading axis is divided among the devices.
        effort: Optimization effort of the compiler on a CPU.
    """

    key: Hashable
    build: Callable[[], Callable]
    arguments: tuple[PyTree, ...]
    devices: tuple[jax.Device, ...]
    split: tuple[bool, ...]
    effort: int = QUICK


class Programs:
    """Compiled programs by kind and shapes. A copy or a pickle starts empty."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, Callable] = {}
        self._crossing: dict[Hashable, tuple[str, ...]] = {}
        self._remembered: dict[Hashable, object] = {}

    def __reduce__(self) -> tuple[type[Programs], tuple[()]]:
        return Programs, ()

    def compiled(self, *programs: Program) -> list[Callable]:
        """Return the programs ready to run; missing ones compile at the same time."""
        keys = [_key_of(program) for program in programs]
        missing = [index for index, key in enumerate(keys) if key not in self._compiled]
        doing("compiling the predictions")
        compilers = [_lowered(programs[index]) for index in missing]
        with ThreadPoolExecutor(max(len(missing), 1)) as pool:
            compiling = [pool.submit(compiler) for compiler in compilers]
            import_for_results()  # while programs compile, that costs no time
            done = [one.result() for one in compiling]
        self._compiled.update((keys[index], one) for index, one in zip(missing, done, strict=True))
        return [self._compiled[key] for key in keys]

    def remembered(self, key: Hashable, find: Callable[[], T]) -> T:
        """Return the value kept under a key; ``find`` computes it once, by tracing a kernel."""
        if key not in self._remembered:
            self._remembered[key] = find()
        return self._remembered[key]

    def crossing(self, test: Program) -> tuple[str, ...]:
        """The sites that a test found before; without any, other data may still reveal some."""
        return self._crossing.get(_key_of(test), ())

    def set_crossing(self, test: Program, found: tuple[str, ...]) -> None:
        """Keep the sites that a test found."""
        if found:
            self._crossing[_key_of(test)] = found


def _key_of(program: Program) -> Hashable:
    return program.key, program.devices, program.effort, shapes_of(program.arguments)


def _lowered(program: Program) -> Callable[[], Callable]:
    """Trace a program on this thread; return a function that compiles it on any thread."""
    mesh = device_mesh(program.devices)
    shardings = tuple(NamedSharding(mesh, spec_of(split)) for split in program.split)

    def traced() -> jax.stages.Traced:
        return jax.jit(program.build(), in_shardings=shardings).trace(*program.arguments)

    # JAX's default makes random bits independent of the sharding of an array. A block is never cut
    # and needs no such bits; without them noise costs half. But what a kernel draws with a key of
    # its own must be what it drew in training. The trace chooses the bits, not the lowering.
    with jax.threefry_partitionable(False):
        trace = traced()
        own_keys = has_own_keys(trace.jaxpr, program.arguments)
        lowered = None if own_keys else trace.lower()
    if lowered is None:
        trace = traced()
        lowered = trace.lower()
    options = compiler_options(program.effort, program.devices[0].platform)
    key = shared_key(trace, lowered, program.devices, tuple(sorted(options.items())))
    return lambda: compiled_once(key, lambda: lowered.compile(compiler_options=options))


def device_mesh(devices: tuple[jax.Device, ...]) -> Mesh:
    """The devices in a row."""
    return Mesh(np.array(devices), (DEVICE_AXIS,))


def placed(arrays: T, devices: tuple[jax.Device, ...]) -> T:
    """Copy arrays to each of the devices, once for all calls."""
    return jax.device_put(arrays, NamedSharding(device_mesh(devices), spec_of(False)))


def spec_of(split: bool, axis: int = 0) -> PartitionSpec:
    """The sharding of an array that is divided along ``axis``, or copied to each device."""
    return PartitionSpec(*[None] * axis, DEVICE_AXIS) if split else PartitionSpec()


def shared_out(
    function: Callable, devices: tuple[jax.Device, ...], split: tuple[bool, ...], out_axis: int
) -> Callable:
    """Let each device run ``function`` on its part of the arguments.

    Args:
        function: The function that each device runs.
        devices: The devices; a single one runs it directly.
        split: For each argument, whether its leading axis is divided.
        out_axis: Axis of the results along which the parts are joined.
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
