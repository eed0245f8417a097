"""Kernels for the tutorials: forked from a process that has imported what all of them import.

A kernel that imports by itself does so for some four seconds, a third of what most tutorials take.
JAX looks for its devices after the fork, and no name of these imports reaches a tutorial.

``python preloaded_kernel.py SOCKET`` makes kernels until its input ends. With a connection file as
second argument it asks for one and ends with it: that is the process that Jupyter starts and kills.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

NAME = "preloaded"


def start(folder: Path) -> subprocess.Popen:
    """Start the process that makes kernels, and name it where Jupyter looks for kernels."""
    address = folder / "socket"
    spec = folder / "kernels" / NAME
    spec.mkdir(parents=True)
    command = [sys.executable, "-S", __file__, str(address), "{connection_file}"]
    named = {"argv": command, "display_name": NAME, "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(named), encoding="utf-8")
    places = [str(folder), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(places)
    maker = [sys.executable, "-P", __file__, address]
    return subprocess.Popen(maker, stdin=subprocess.PIPE)


def ask_for_kernel(address: str, connection_file: str) -> None:
    """Have a kernel made, and wait for its end."""
    with socket.socket(socket.AF_UNIX) as line:
        _connect(line, address)
        wanted = {"file": connection_file, "folder": str(Path.cwd()), "env": dict(os.environ)}
        line.sendall(json.dumps(wanted).encode() + b"\n")
        line.recv(1)


def _connect(line: socket.socket, address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            line.connect(address)
        except OSError:  # it still imports
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def make_kernels(address: str) -> None:
    """Import, then fork a kernel for each that asks."""
    import arviz_stats  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import optax  # noqa: F401
    from ipykernel.kernelapp import IPKernelApp

    import aimz_lab.lab  # noqa: F401

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    gc.freeze()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        while sys.stdin not in select.select([door, sys.stdin], [], [])[0]:
            line, _ = door.accept()
            if os.fork() == 0:
                break
            line.close()
        else:
            return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    wanted = json.loads(line.makefile().readline())
    os.environ.clear()
    os.environ.update(wanted["env"])
    os.chdir(wanted["folder"])
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    IPKernelApp.launch_instance(argv=["-f", wanted["file"]])


def _end_with(line: socket.socket) -> None:
    line.recv(1)
    os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        ask_for_kernel(*sys.argv[1:])
    else:
        make_kernels(sys.argv[1])
