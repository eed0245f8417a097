"""How the processes of a run find each other, and what they compare first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


def test_other_versions_are_refused_in_all_processes_that_mpi_has_started(tmp_path):
    job = {
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
        "PMIX_NAMESPACE": f"prterun-{os.getpid()}",
    }
    tasks = [job | {"OMPI_COMM_WORLD_RANK": rank} for rank in "01"]
    for printed, code in both(tmp_path / "fit.py", tasks, ("", OTHER_VERSION)):
        assert code == 1, printed
        assert "Process 1 differs from the first one in its version of aimz_lab (0.0.1" in printed
        assert "I am" not in printed
