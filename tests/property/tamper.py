"""Change thousands of saved files at random and load them, by hand.

    python -m tests.property.tamper                        # 300 of each kind
    python -m tests.property.tamper --ask checkpoint -n 3000 --seed 7
    python -m tests.property.tamper --seed 7031 -n 1 --ask model    # one again

It counts outcomes, and prints each file that was neither refused in the package's words nor loaded
as what it says. The exit status is 1 if there is one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import jax

from tests.property.tampering import GOOD, SUBJECTS, Subject

CLEAR_EVERY = 300  # compiled programs fill the memory
SHOWN = 10


def tally(subject: Subject, n: int, seed: int, change: str) -> tuple[Counter[str], list[str]]:
    """Count the outcomes of ``n`` changes, and describe those that are not good."""
    counts: Counter[str] = Counter()
    bad = []
    for i in range(seed, seed + n):
        getattr(subject, change)(random.Random(i))
        kind, message = subject.outcome()
        counts[kind] += 1
        if kind not in GOOD:
            bad.append(f"seed {i}, {change}: {kind}: {message[:300]}")
        if i % CLEAR_EVERY == 0:
            jax.clear_caches()
    return counts, bad


def main() -> int:
    """Ask for changes of each kind of file, print the counts, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ask", choices=SUBJECTS, nargs="*", default=list(SUBJECTS))
    parser.add_argument("--change", choices=("tamper", "damage"), nargs="*")
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    status = 0
    for name in asked.ask:
        with tempfile.TemporaryDirectory() as folder:
            subject = SUBJECTS[name](Path(folder) / "files")
            for change in asked.change or ("tamper", "damage"):
                counts, bad = tally(subject, asked.n, asked.seed, change)
                listed = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
                _say(f"{name}, {change}: {asked.n:,} tried: {listed}")
                for line in bad[:SHOWN]:
                    _say(f"  {line}")
                status |= bool(bad)
    return status


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
