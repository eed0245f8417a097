"""Make this process one of several that train together.

The processes find each other by what has started them:

* On one machine: ``aimz-lab train --processes 4 fit.py``.
* Slurm: ``srun --ntasks=4 --kill-on-bad-exit=1 aimz-lab train fit.py``, within ``sbatch`` or
  ``salloc``; JAX reads ``SLURM_JOB_ID``, ``SLURM_STEP_NODELIST``, ``SLURM_NTASKS``,
  ``SLURM_PROCID`` and ``SLURM_LOCALID``.
* Open MPI, MPICH and Intel MPI: ``mpirun -np 4 aimz-lab train fit.py``. On several machines they
  do not tell where the first process runs (Open MPI up to version 4 does): install ``mpi4py``, or
  pass the address, ``mpirun -x JAX_COORDINATOR_ADDRESS=node1:5000 -np 8 ...``; MPICH and Intel MPI
  write ``-genv JAX_COORDINATOR_ADDRESS node1:5000``. So do it too if a shell script of yours stands
  between MPICH and ``aimz-lab``.
* Kubernetes: an Indexed Job whose pods run ``aimz-lab train fit.py``. Either with ``jax[k8s]``,
  which asks the cluster; or with three environment variables in the manifest:
  ``AIMZ_LAB_COORDINATOR`` (``"name-0.service:5000"``), ``AIMZ_LAB_PROCESSES``, and
  ``AIMZ_LAB_RANK`` from the annotation ``batch.kubernetes.io/job-completion-index``.

Open MPI 5 and MPICH 5 were run on one machine. Slurm, ``mpi4py`` and the variables of Kubernetes
were simulated; ``jax[k8s]`` was not. Processes of one machine take a GPU each, by their number.

A script that is started by ``python`` calls :func:`join` itself, before JAX computes anything.

A process that is killed, hangs or loses its machine is noticed at once by those that add up
gradients with it, and after ten seconds by those that wait for it; ``AIMZ_LAB_HEARTBEAT_S`` is
another number. The others then raise :class:`ClusterError`, and the first one writes the last
checkpoint. If it is the first one that is gone, JAX aborts the others with a message of its own,
"Terminating process because the JAX distributed service detected fatal errors": what the processes
tell each other lies in the first one. Periodic checkpoints stand. (JAX also warns that it is
experimental to outlive others; nothing but the roll call relies on that.)
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import zlib
from collections.abc import Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Any

import jax

from aimz_lab.calls import public
from aimz_lab.errors import ClusterError
from aimz_lab.inference.run.roll_call import AFTER_LOST
from aimz_lab.inference.run.team import Team, has_failed
from aimz_lab.version import __version__

_HEARTBEAT, _HEARTBEAT_S = "AIMZ_LAB_HEARTBEAT_S", 10
"""Environment variable with the seconds after which a silent process is lost, and their default."""

COORDINATOR, SIZE, RANK = "AIMZ_LAB_COORDINATOR", "AIMZ_LAB_PROCESSES", "AIMZ_LAB_RANK"
"""Environment variables that say where the first process is, how many there are, and which."""

_PACKAGES = ("jax", "jaxlib", "numpyro", "numpy", "optax")
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_OMPI = "OMPI_COMM_WORLD_"
_MPI = (
    (f"{_OMPI}RANK", f"{_OMPI}SIZE", f"{_OMPI}LOCAL_RANK", f"{_OMPI}LOCAL_SIZE"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
)
"""Environment variables of Open MPI, and of MPICH and Intel MPI, which have PMI: rank and number of
a process, of all and of those on its machine."""

_HOW = (
    "Start them by aimz-lab train --processes N, by srun or mpirun; or give each its coordinator, "
    "the number of processes and its own rank. Join before JAX computes anything."
)


@public
def join(
    coordinator: str | None = None, *, processes: int | None = None, rank: int | None = None
) -> None:
    """Make this process one of several that train together; call it before JAX is used.

    Without arguments the processes find each other by what has started them: ``aimz-lab train``,
    Slurm, MPI or Kubernetes (see :mod:`aimz_lab.cluster.joining`); a process that has joined
    already stays as it is. A coordinator on this machine's own loopback address listens there
    alone; others listen on all of its addresses.

    Args:
        coordinator: Address of the first process, ``"host:port"``.
        processes: Number of processes.
        rank: Number of this process, from 0.

    Raises:
        ClusterError: If the processes cannot find each other, or have other versions of packages.

    Example:
        >>> join("10.0.0.1:5000", processes=4, rank=0)  # doctest: +SKIP
    """
    if jax.distributed.is_initialized():
        if coordinator is None:
            return
        msg = "This process has joined others already. Join once, at the beginning of a script."
        raise ClusterError(msg)
    if coordinator is None:
        found = _found(os.environ)
    else:
        found = {"coordinator_address": coordinator, "num_processes": processes, "process_id": rank}
    if jax.config.jax_cpu_collectives_implementation is None:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX would keep SIGTERM to itself, and a scheduler could not end the process.
    jax.config.update("jax_enable_preemption_service", False)
    # JAX would abort all processes when one is lost, before the first one could save the run.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(
            **found | _bound(found.get("coordinator_address")),
            heartbeat_timeout_seconds=heartbeat_s(),
        )
    except Exception as error:
        msg = f"The processes of the run could not find each other: {error}. {_HOW}"
        raise ClusterError(msg) from error
    team = joined_team()
    team.call_roll()
    _end_well(team)
    team.check_alike(
        **{f"version of {name}": version(name) for name in _PACKAGES},
        **{"version of aimz_lab": __version__},
    )


def heartbeat_s() -> int:
    """Return the seconds after which a silent process counts as lost, and the others end.

    Raises:
        ClusterError: If the environment variable for it has no whole number from 1 on.
    """
    told = os.environ.get(_HEARTBEAT, str(_HEARTBEAT_S))
    if not told.isdecimal() or int(told) == 0:
        msg = f"{_HEARTBEAT}={told!r} must be a whole number of seconds, at least 1."
        raise ClusterError(msg)
    return int(told)


def joined_team() -> Team:
    """Return the team of the processes that have joined, without starting JAX's devices."""
    from jax._src.distributed import global_state

    if not jax.distributed.is_initialized():
        return Team()
    return Team(global_state.num_processes, global_state.process_id)


def _found(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what JAX cannot find out by itself.

    Raises:
        ClusterError: If MPI does not say where the first process runs.
    """
    if COORDINATOR in environment:
        return {
            "coordinator_address": environment[COORDINATOR],
            "num_processes": int(environment[SIZE]),
            "process_id": int(environment[RANK]),
            # Within a job of Slurm, all of these would take the GPU of the job's first task.
            "cluster_detection_method": "deactivate",
        }
    if "OMPI_MCA_orte_hnp_uri" in environment or "SLURM_STEP_NODELIST" in environment:
        return {}
    for names in _MPI:
        if names[0] in environment and names[1] in environment:
            return _found_by_mpi(environment, *names)
    return {}


def _found_by_mpi(
    environment: Mapping[str, str], rank: str, size: str, local_rank: str, here: str
) -> dict[str, Any]:
    """Return the processes of an MPI launcher that JAX does not know, or only with mpi4py."""
    found = {
        "num_processes": int(environment[size]),
        "process_id": int(environment[rank]),
        "cluster_detection_method": "deactivate",
    }
    if local_rank in environment:  # a GPU each, as JAX has it
        found["local_device_ids"] = int(environment[local_rank])
    if "JAX_COORDINATOR_ADDRESS" in environment:
        return found
    if environment.get(here) == environment[size]:  # all on this machine
        job = environment.get("PMIX_NAMESPACE", str(os.getppid()))
        port = 61440 + zlib.crc32(job.encode()) % 4096
        return found | {"coordinator_address": f"127.0.0.1:{port}"}
    if importlib.util.find_spec("mpi4py") is not None:
        return {"cluster_detection_method": "mpi4py"}
    msg = (
        "MPI does not say where the first process of the run is. Install mpi4py, or pass its "
        "address: mpirun -x JAX_COORDINATOR_ADDRESS=host:port ..."
    )
    raise ClusterError(msg)


def _bound(coordinator: str | None) -> dict[str, str]:
    """Let a coordinator on a loopback address listen there alone."""
    host = (coordinator or "").rpartition(":")[0]
    return {"coordinator_bind_address": coordinator} if host in _LOOPBACK else {}


def _end_well(team: Team) -> None:
    """Tell the others of an error that ends this process; else wait for them at the end."""
    before, status = sys.excepthook, [0]

    def told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        status[0] = 1
        team.tell_failure(error)
        before(kind, error, trace)

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        team.leave()
        if has_failed():
            os._exit(status[0])
        if team.lost:
            sys.stderr.write(f"{team.sentence_of_lost()}\n")
            sys.stderr.flush()
            os._exit(AFTER_LOST)

    sys.excepthook = told
    atexit.register(leave)
