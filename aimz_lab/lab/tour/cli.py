"""The command line: ``aimz-lab tour`` and ``aimz-lab train``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import aimz_lab
from aimz_lab.errors import AimzLabError, ArgumentError, ClusterError

_OUT = Path("first_model.html")
_USAGE_ERROR, _FAILED, _INTERRUPTED = 2, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after ``aimz-lab``; those of the process by default.

    Returns:
        Exit status: 0, 1 for a failure, 2 for wrong usage, 130 after Ctrl-C.
    """
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if chosen.run is None:
        parser.print_help(sys.stderr)
        return _USAGE_ERROR
    try:
        chosen.run(chosen)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return _INTERRUPTED
    except AimzLabError as error:
        print(f"aimz-lab: {error}", file=sys.stderr)
        return _USAGE_ERROR if isinstance(error, ArgumentError) else _FAILED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aimz-lab", description="Interactive Bayesian modelling with NumPyro and JupyterLab."
    )
    parser.add_argument("--version", action="version", version=f"aimz_lab {aimz_lab.__version__}")
    parser.set_defaults(run=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    what = "fit a first model on real data and ask it a what-if question; about a minute"
    tour = commands.add_parser(
        "tour",
        help=what,
        description=(
            "Loads a job-training experiment with 445 people, fits a Bayesian model of what they "
            "earned, prints the effect of the programme with its interval, and writes the first "
            "tutorial, executed, as an HTML page. Needs no browser and no network."
        ),
    )
    tour.add_argument(
        "--out",
        type=Path,
        default=_OUT,
        metavar="FILE",
        help="where to write the tutorial; replaced if it exists (default: %(default)s)",
    )
    tour.set_defaults(run=_tour)
    what = "run a training script in several processes"
    train = commands.add_parser(
        "train",
        help=what,
        description=(
            "Runs a script that fits with ArrayLoader(..., process_shard=True), or with a stream "
            "of each process's share, in several processes of this machine; each line of output "
            "comes with the number of its process. Without --processes it runs one of those that "
            "srun or mpirun have started. Ctrl-C stops the fit in all of them."
        ),
    )
    train.add_argument("script", type=Path, help="a Python script")
    train.add_argument("arguments", nargs=argparse.REMAINDER, help="arguments of the script")
    train.add_argument("--processes", type=int, metavar="N", help="number of processes")
    train.set_defaults(run=_train)
    return parser


def _train(chosen: argparse.Namespace) -> None:
    from aimz_lab import cluster

    if chosen.processes is not None:
        cluster.train(chosen.script, chosen.arguments, processes=chosen.processes)
        return
    try:
        cluster.run_script(chosen.script, chosen.arguments)
    except ClusterError as error:
        if not any(one.startswith("--processes") for one in chosen.arguments):
            raise
        msg = (
            "What follows the script are arguments of the script. Write aimz-lab train "
            f"--processes N {chosen.script}"
        )
        raise ArgumentError(msg) from error


def _tour(chosen: argparse.Namespace) -> None:
    from aimz_lab.lab.tour.tour import tour

    tour(chosen.out)
