"""Run a script as one of several processes: ``python -m aimz_lab.cluster script.py``."""

from __future__ import annotations

import sys

from aimz_lab.cluster.processes import run_script

if __name__ == "__main__":
    run_script(sys.argv[1], sys.argv[2:])
