"""How the processes of a run find each other, and what they compare first."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import jax
import pytest

from aimz_lab.cluster import join
from aimz_lab.errors import ClusterError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCRIPT = "import jax; print('I am', jax.process_index(), 'of', jax.process_count())"
OTHER_VERSION = "import aimz_lab.version as v; v.__version__ = '0.0.1'; "
RUN = "import sys; from aimz_lab.lab.tour.cli import main; sys.exit(main(['train', sys.argv[1]]))"


def both(path, environments, before=("", "")):
    """What two processes have printed, and their exit codes; as a launcher starts them."""
    path.write_text(SCRIPT)
    members = [
        subprocess.Popen(
            [sys.executable, "-c", code + RUN, str(path)],
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment, code in zip(environments, before, strict=True)
    ]
    return [(member.communicate(timeout=100)[0], member.returncode) for member in members]


def test_slurm_is_found_and_lines_come_with_the_rank(tmp_path):
    job = {
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
    }
    tasks = [job | dict.fromkeys(("SLURM_PROCID", "SLURM_LOCALID"), rank) for rank in "01"]
    for rank, (printed, code) in enumerate(both(tmp_path / "fit.py", tasks)):
        assert code == 0, printed
        assert f"[{rank}] I am {rank} of 2\n" in printed


def test_other_versions_are_refused_in_all_processes_that_mpich_has_started(tmp_path):
    job = {"PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}
    tasks = [
        job | {"PMI_RANK": rank, "MPI_LOCALRANKID": rank, "PMI_FD": fd}
        for rank, fd in zip("01", ("9", "11"), strict=True)
    ]
    for printed, code in both(tmp_path / "fit.py", tasks, ("", OTHER_VERSION)):
        assert code == 1, printed
        assert "Process 1 differs from the first one in its version of aimz_lab (0.0.1" in printed
        assert "I am" not in printed


OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_VERSION": "5.0.11",
    "PMIX_NAMESPACE": "prterun-node1-8834@1",
}
SEVERAL = {"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "node1:5000"}
OURS = {"cluster_detection_method": "deactivate", "num_processes": 4, "process_id": 1}
KUBERNETES = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "AIMZ_LAB_COORDINATOR": "fit-0.fit:5000",
    "AIMZ_LAB_PROCESSES": "4",
    "AIMZ_LAB_RANK": "1",
}


class Initialized(RuntimeError):
    """Instead of a wait for processes that nobody has started."""


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (
            OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "4"},
            OURS | {"local_device_ids": 1, "coordinator_address": "127.0.0.1:63948"},
        ),
        (OPEN_MPI | SEVERAL | ADDRESS, OURS | {"local_device_ids": 1}),
        (OPEN_MPI | SEVERAL, {"cluster_detection_method": "mpi4py"}),
        (KUBERNETES, OURS | {"coordinator_address": "fit-0.fit:5000"}),
    ],
    ids=["open mpi", "open mpi, address", "mpi4py", "kubernetes"],
)
def test_what_launchers_say_is_passed_to_jax(environment, expected, monkeypatch):
    passed = {}

    def initialize(**options):
        passed.update(options)
        raise Initialized

    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ClusterError, match="could not find each other"):
        join()
    assert passed.items() >= expected.items()


def test_mpi_on_several_machines_needs_an_address(monkeypatch):
    for name, value in (OPEN_MPI | SEVERAL).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match="Install mpi4py, or pass its address"):
        join()
