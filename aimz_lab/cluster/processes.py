"""Join the processes of a training run, and start them on this machine."""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import jax

from aimz_lab.calls import public
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, ClusterError

HEARTBEAT_S = 10
"""Seconds after which a silent process counts as dead, and the others end."""

_GRACE_S = 2.0 * HEARTBEAT_S
"""How long the others have to end by themselves after one has died."""

_COORDINATOR, _SIZE, _RANK = "AIMZ_LAB_COORDINATOR", "AIMZ_LAB_PROCESSES", "AIMZ_LAB_RANK"


@public
def join(
    coordinator: str | None = None, *, processes: int | None = None, rank: int | None = None
) -> None:
    """Make this process one of several that train together; call it before JAX is used.

    Without arguments the processes find each other by what started them: ``aimz-lab train``, Slurm,
    MPI or Kubernetes, as ``jax.distributed.initialize`` does.

    Args:
        coordinator: Address of the first process, ``"host:port"``.
        processes: Number of processes.
        rank: Number of this process, from 0.

    Raises:
        ClusterError: If the processes cannot find each other.

    Example:
        >>> join("10.0.0.1:5000", processes=4, rank=0)  # doctest: +SKIP
    """
    if coordinator is None and _COORDINATOR in os.environ:
        coordinator = os.environ[_COORDINATOR]
        processes, rank = int(os.environ[_SIZE]), int(os.environ[_RANK])
    if jax.config.jax_cpu_collectives_implementation is None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            rank,
            heartbeat_timeout_seconds=HEARTBEAT_S,
            shutdown_timeout_seconds=HEARTBEAT_S,
        )
    except Exception as error:
        msg = (
            f"The processes of the run could not find each other: {error}. Start them by aimz-lab "
            "train --processes N, by srun or mpirun; or give each its coordinator, the number of "
            "processes and its own rank. Join before JAX computes anything."
        )
        raise ClusterError(msg) from error


@public
def run_script(script: str | Path, arguments: Sequence[str] = ()) -> None:
    """Join the other processes, and run a script as one of them.

    Args:
        script: Path of a Python script.
        arguments: Its arguments.

    Raises:
        ClusterError: If the processes cannot find each other. An error of the script ends the
            process with status 1.
    """
    if _COORDINATOR in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    join()
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Exception:  # noqa: BLE001  it is printed
        # At a regular end JAX would wait for the others, and hide which process failed.
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


@public
def train(script: str | Path, arguments: Sequence[str] = (), *, processes: int) -> None:
    """Run a training script in several processes of this machine.

    Each line that they print comes with the number of its process. If one dies, the others end.

    Args:
        script: Path of a Python script that fits with ``ArrayLoader(..., process_shard=True)``.
        arguments: Its arguments.
        processes: Number of processes.

    Raises:
        ArgumentError: If there is no such script, or ``processes`` is not a positive int.
        ClusterError: If a process fails or dies; it says which one, and how.
    """
    processes = check_positive_int("processes", processes)
    if not Path(script).is_file():
        msg = f"There is no script {str(script)!r}."
        raise ArgumentError(msg)
    address = f"127.0.0.1:{_free_port()}"
    command = [sys.executable, "-u", "-m", "aimz_lab.cluster", str(script), *arguments]
    members: list[subprocess.Popen] = []
    printers: list[threading.Thread] = []
    with _ends_at_sigterm():
        try:
            for rank in range(processes):
                settings = {_COORDINATOR: address, _SIZE: str(processes), _RANK: str(rank)}
                members.append(_started(command, settings))
                printed = rank, members[rank].stdout
                printers.append(threading.Thread(target=_print_lines, args=printed, daemon=True))
                printers[rank].start()
            failed = _wait(members)
        except KeyboardInterrupt:
            # The terminal has interrupted the processes too; they keep what they have.
            failed = _wait(members)
        finally:
            for member in members:
                member.kill()
                member.wait()
            for printer in printers:
                printer.join(1.0)
    if failed is not None:
        rank, how = failed
        msg = (
            f"Process {rank} of {processes} {how}; the others were ended. A run that wrote "
            "checkpoints goes on with resume=, on any number of processes."
        )
        raise ClusterError(msg)


def _started(command: Sequence[str], settings: Mapping[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _end_with(parent: int) -> None:
    """End this process once the one that started it is gone: nobody could stop it any more."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


@contextlib.contextmanager
def _ends_at_sigterm() -> Iterator[None]:
    """Let SIGTERM, as from a scheduler, unwind this process rather than cut it off."""

    def end(number: int, frame: object) -> None:
        del frame
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _wait(members: Sequence[subprocess.Popen]) -> tuple[int, str] | None:
    """Wait for all; after a failure give the others a while. Return who failed first, and how."""
    failed, deadline = None, float("inf")
    while any(member.poll() is None for member in members) and time.monotonic() < deadline:
        if failed is None:
            failed = _first_failure(members)
            deadline = deadline if failed is None else time.monotonic() + _GRACE_S
        time.sleep(0.05)
    failed = failed or _first_failure(members)
    if failed is None:
        return None
    rank, code = failed
    silent = [rank for rank, member in enumerate(members) if member.poll() is None]
    if silent and code == -signal.SIGABRT:
        return silent[0], "did not answer any more, and was ended by SIGKILL"
    return rank, f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with {code}"


def _first_failure(members: Sequence[subprocess.Popen]) -> tuple[int, int] | None:
    codes = [(rank, member.poll()) for rank, member in enumerate(members)]
    bad = [(rank, code) for rank, code in codes if code]
    return min(bad, key=lambda one: _is_consequence(one[1])) if bad else None


def _is_consequence(code: int) -> int:
    """Order exit codes: JAX aborts processes that lost another one, which otherwise raise."""
    return 2 if code == -signal.SIGABRT else int(code > 0)


def _print_lines(rank: int, lines: IO[str]) -> None:
    for line in lines:
        sys.stdout.write(f"[{rank}] {line}")
        sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
