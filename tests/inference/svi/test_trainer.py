"""The training loop alone, with an engine that computes nothing and a clock that it winds."""

from __future__ import annotations

import types

import numpy as np
import pytest
from numpyro.infer.svi import SVIState

from aimz_lab.inference.feeds.feed import Chunk, Position
from aimz_lab.inference.run import loop
from aimz_lab.inference.run.events import Callbacks, Run, RunInfo
from aimz_lab.inference.run.loop import CHUNK_S
from aimz_lab.inference.svi import trainer
from aimz_lab.inference.svi.compiled_steps import ChunkResult
from aimz_lab.inference.svi.step import TrainState
from aimz_lab.inference.svi.trainer import Trainer, TrainOptions
from aimz_lab.kernel.scaling import DataSize

STEP_S = 2.0**-10


class Device:
    """Runs chunks one after the other, as a device does, on a clock of its own.

    Args:
        step_s: Seconds of a step, from the number of the chunk.
    """

    def __init__(self, step_s=lambda _: STEP_S):
        self.now = self.free = 0.0
        self.sizes, self.in_flight, self.most = [], 0, 0
        self._step_s = step_s

    def compile(self, *arguments, **options):
        pass

    def run(self, state, feed, valid, steps, whole, **options):
        self.free = max(self.free, self.now) + steps * self._step_s(len(self.sizes))
        self.sizes.append(steps)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        losses = Awaited(self, np.ones(steps), self.free)
        return ChunkResult(state, losses, {}, np.int32(steps), np.bool_(True))


class Awaited:
    """Values that are there at a certain time; who asks for them waits until then."""

    def __init__(self, device, values, ready):
        self._device, self._values, self._ready = device, values, ready

    def __array__(self, dtype=None, copy=None):
        self._device.now = max(self._device.now, self._ready)
        self._device.in_flight -= 1
        return self._values


class Feed:
    """Chunks of batches of one row."""

    kind, max_steps = "stacked", 4096

    def __init__(self, total):
        self._at, self._total = 0, total

    def next(self, steps, align):
        begin, self._at = self._at, min(self._at + steps, self._total)
        k = self._at - begin
        if not k:
            return None
        one = np.ones(k, np.int32)
        at = Position(0, begin), Position(0, self._at)
        return Chunk({}, one, one, 0 * one, *at, epoch_begins=(), epoch_ends=(), nbytes=0)


def chunks(device, total, monkeypatch, **options):
    """Train ``total`` steps and return the sizes of the chunks."""
    clock = types.SimpleNamespace(monotonic=lambda: device.now)
    for module in (trainer, loop):
        monkeypatch.setattr(module, "time", clock)
    run = Run(RunInfo("kernel", "SVI"))
    state = TrainState(SVIState((), None, None))
    trained = Trainer(
        device,
        Feed(total),
        state,
        run,
        Callbacks([], run),
        shared={},
        size=DataSize(total),
        options=TrainOptions(**options),
    )
    trained.run_to_end()
    assert run.status == "completed"
    *sizes, few = device.sizes  # the last ones are not taken: they judge the last state
    assert run.step == sum(sizes) == total
    assert len(run.losses_after) == few <= min(16, sizes[-1])
    assert device.in_flight == 0
    return sizes


@pytest.mark.parametrize("steps_per_call", ["auto", 1, 7])
def test_two_chunks_are_in_flight_and_never_more(steps_per_call, monkeypatch):
    device = Device()
    chunks(device, 500, monkeypatch, steps_per_call=steps_per_call)
    assert device.most == 2


def test_a_chunk_comes_to_take_what_it_should(monkeypatch):
    sizes = chunks(Device(), 1_000, monkeypatch)
    assert sizes[:2] == [16, 16]  # the second is under way before the first was timed
    assert set(sizes[2:-1]) == {int(CHUNK_S / STEP_S)}


def test_it_follows_a_device_that_becomes_slower_and_faster(monkeypatch):
    device = Device(lambda chunk: STEP_S * (8 if 10 <= chunk < 20 else 1))
    sizes = chunks(device, 2_000, monkeypatch)
    fast, slow = int(CHUNK_S / STEP_S), int(CHUNK_S / STEP_S / 8)
    # A chunk is as long as the one two before it says: the one between is under way already.
    assert sizes[2:12] == [fast] * 10
    assert sizes[12:22] == [slow] * 10
    assert set(sizes[22:-1]) == {fast}


def test_one_slow_beginning_is_made_up_for_step_by_step(monkeypatch):
    sizes = chunks(Device(lambda chunk: STEP_S * (64 if chunk == 0 else 1)), 1_000, monkeypatch)
    # 16 steps a second at first; no rate is believed that is more than 16 times the last.
    assert sizes[:5] == [16, 16, 1, int(16 * 16 * CHUNK_S), int(CHUNK_S / STEP_S)]


def test_a_size_that_was_asked_for_is_kept(monkeypatch):
    assert chunks(Device(), 50, monkeypatch, steps_per_call=20) == [20, 20, 10]
