"""Start the processes of a training run on this machine, and run a script in each of them."""

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
from typing import IO, Any, NoReturn, TextIO

from aimz_lab.calls import public
from aimz_lab.cluster.joining import COORDINATOR, RANK, SIZE, heartbeat_s, join, joined_team
from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import ArgumentError, ClusterError
from aimz_lab.inference.run.roll_call import AFTER_LOST
from aimz_lab.inference.run.team import Team

_GRACE, _ABORTED_S = 3, 3.0
"""How many times between heartbeats the others have to end by themselves after one has died; and
how many seconds after JAX, which has waited for a heartbeat, has aborted the first."""

_LAUNCHER = "AIMZ_LAB_LAUNCHER"
"""Environment variable with the process that has started this one, and ends it."""

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
"""Environment variable with the least level of what XLA logs: 1 are warnings, 2 errors."""

_DEVICES = "JAX_LOCAL_DEVICE_IDS"
"""Environment variable with the GPUs of a process: one, as JAX gives to tasks of Slurm and MPI."""

_FAILED, _AFTER_OTHERS, _INTERRUPTED = 1, 3, 130
"""Exit codes: of an error, of one that came from another process, and after Ctrl-C."""


@public
def run_script(script: str | Path, arguments: Sequence[str] = ()) -> None:
    """Join the other processes, and run a script as one of them.

    An error of the script ends the process with status 1, and the others with the reason; Ctrl-C
    outside of a fit ends it with 130. Each line that it prints comes with its number.

    Args:
        script: Path of a Python script.
        arguments: Its arguments.

    Raises:
        ClusterError: If the processes cannot find each other, or have other versions of packages.
    """
    if _LAUNCHER in os.environ:  # which also numbers the lines
        threading.Thread(target=_end_with, args=(int(os.environ[_LAUNCHER]),), daemon=True).start()
    join()
    team = joined_team()
    if _LAUNCHER not in os.environ and not team.is_alone:
        sys.stdout = RankedLines(sys.stdout, team.rank)
        sys.stderr = RankedLines(sys.stderr, team.rank)
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        if error.code is None or error.code == 0:
            raise
        _end(team, error, error.code if isinstance(error.code, int) else _FAILED)
    except KeyboardInterrupt as error:
        _end(team, error, _INTERRUPTED)
    except ClusterError as error:
        after_others = AFTER_LOST if team.lost else _AFTER_OTHERS
        _end(team, error, after_others if error.is_consequence else _FAILED)
    except Exception as error:  # noqa: BLE001  it is printed
        _end(team, error, _FAILED)


def _end(team: Team, error: BaseException, code: int) -> NoReturn:
    """Tell the others why, and end; at a regular end JAX would wait for them."""
    team.tell_failure(error)
    traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    team.leave()
    os._exit(code)


@public
def train(script: str | Path, arguments: Sequence[str] = (), *, processes: int) -> None:
    """Run a training script in several processes of this machine.

    Each line that they print comes with the number of its process. If one dies, the others end.
    Each takes one GPU of the machine, if it has any; ``JAX_LOCAL_DEVICE_IDS`` says otherwise.
    Ctrl-C stops the fit of all of them, which keep what they have; a second one ends them.

    Args:
        script: Path of a Python script that fits with ``ArrayLoader(..., process_shard=True)``.
        arguments: Its arguments.
        processes: Number of processes.

    Raises:
        ArgumentError: If there is no such script, or ``processes`` is not a positive int.
        ClusterError: If a process fails or dies; it says which one, and how.
        KeyboardInterrupt: After Ctrl-C, unless all processes then come to their end.
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
                settings = {COORDINATOR: address, SIZE: str(processes), RANK: str(rank)}
                settings |= {_LAUNCHER: str(os.getpid())} | _without_jax_warning()
                if processes > 1:
                    settings[_DEVICES] = os.environ.get(_DEVICES, str(rank))
                members.append(_started(command, settings))
                printed = rank, members[rank].stdout
                printers.append(threading.Thread(target=_print_lines, args=printed, daemon=True))
                printers[rank].start()
            failed = _wait(members)
        except KeyboardInterrupt:
            failed = _interrupted(members)
        finally:
            for member in members:
                member.kill()
                member.wait()
            for member, printer in zip(members, printers, strict=False):
                printer.join(1.0)
                if not printer.is_alive():
                    member.stdout.close()
    if failed is not None:
        rank, how = failed
        msg = (
            f"Process {rank} of {processes} {how}; the others were ended. A run that wrote "
            "checkpoints goes on with resume=, on any number of processes."
        )
        raise ClusterError(msg)


def _without_jax_warning() -> dict[str, str]:
    """Hide JAX's warning that it is experimental to outlive others; errors of XLA still show."""
    is_default = os.environ.get(_LOG_LEVEL, "1") == "1"  # which JAX sets itself
    return {_LOG_LEVEL: "2"} if is_default else {}


def _started(command: Sequence[str], settings: Mapping[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # a terminal's Ctrl-C reaches them from here, once
    )


def _interrupted(members: Sequence[subprocess.Popen]) -> tuple[int, str] | None:
    """Interrupt all processes, and wait for them as usual.

    Raises:
        KeyboardInterrupt: If one was outside of a fit, which alone ends in good order.
    """
    for member in members:
        if member.poll() is None:
            member.send_signal(signal.SIGINT)
    failed = _wait(members)
    if any(member.poll() in (_INTERRUPTED, -signal.SIGINT) for member in members):
        raise KeyboardInterrupt
    return failed


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
            if failed is not None:
                aborted = failed[1] == -signal.SIGABRT
                grace = _ABORTED_S if aborted else _GRACE * heartbeat_s()
                deadline = time.monotonic() + grace
        time.sleep(0.05)
    last = _first_failure(members)
    if last is None:
        return None
    # The first process that failed; but it may have waited for those that ended with it.
    failed = last if failed is None else min(failed, last, key=lambda one: _is_consequence(one[1]))
    rank, code = failed
    silent = [rank for rank, member in enumerate(members) if member.poll() is None]
    if silent and code in (-signal.SIGABRT, AFTER_LOST):
        return silent[0], "did not answer any more, and was ended by SIGKILL"
    return rank, f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed with {code}"


def _first_failure(members: Sequence[subprocess.Popen]) -> tuple[int, int] | None:
    codes = [(rank, member.poll()) for rank, member in enumerate(members)]
    bad = [(rank, code) for rank, code in codes if code]
    return min(bad, key=lambda one: _is_consequence(one[1])) if bad else None


def _is_consequence(code: int) -> int:
    """Order exit codes: JAX aborts processes that lost another one, which otherwise raise."""
    return 2 if code in (-signal.SIGABRT, AFTER_LOST, _AFTER_OTHERS) else int(code > 0)


class RankedLines:
    """A text stream whose lines begin with the number of this process.

    Args:
        stream: Where they are written, line by line.
        rank: The number.
    """

    def __init__(self, stream: TextIO, rank: int) -> None:
        self._stream, self._begin, self._at_begin = stream, f"[{rank}] ", True

    def write(self, text: str) -> int:
        """Write text, with the number at the beginning of each line."""
        lines = text.splitlines(keepends=True)
        marked = [self._begin + line for line in lines]
        if lines and not self._at_begin:
            marked[0] = lines[0]
        self._at_begin = text.endswith("\n") if text else self._at_begin
        self._stream.write("".join(marked))
        if "\n" in text:
            self._stream.flush()
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _print_lines(rank: int, lines: IO[str]) -> None:
    for line in lines:
        sys.stdout.write(f"[{rank}] {line}")
        sys.stdout.flush()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
