"""Make thousands of random calls of the public functions, by hand.

    python -m tests.property.explore_calls 3000 7

It prints each kind of wrong outcome once with its call, and counts by function at the end. The
exit status is 1 if there is a wrong one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict

import hypothesis
import jax

from tests.property.call_verdicts import GOOD, Verdict, judge
from tests.property.call_world import World
from tests.property.public_calls import TARGETS, Call, calls

CLEAR_EVERY = 400  # compiled programs fill the memory


class Tally:
    """Counts outcomes by what was called, and prints each wrong one that is new."""

    def __init__(self) -> None:
        self.by_target: dict[str, Counter[str]] = defaultdict(Counter)
        self.wrong: Counter[str] = Counter()
        self.n_calls = 0

    def take(self, call: Call, found: Verdict, seconds: float) -> None:
        """Count an outcome.

        Args:
            call: The call.
            found: How it came out.
            seconds: What it took.
        """
        self.n_calls += 1
        is_good = found.kind in GOOD
        self.by_target[call.target][found.kind if is_good else "FAILED"] += 1
        if seconds > 8:
            _say(f"slow, {seconds:.0f} s: {call}")
        if is_good:
            return
        place = found.detail.rpartition(" @ ")[2][-60:]
        seen = f"{found.kind} {place}"
        self.wrong[seen] += 1
        if self.wrong[seen] <= 2:
            _say(f"{found.kind}: {found.detail[:300]}\n    {call}")

    def report(self) -> None:
        """Print the counts."""
        total: Counter[str] = Counter()
        for target in sorted(self.by_target):
            counts = self.by_target[target]
            total += counts
            _say(f"{target:<45} {sum(counts.values()):>6}  {_listed(counts)}")
        _say(f"{'all':<45} {self.n_calls:>6}  {_listed(total)}")
        for what, count in self.wrong.most_common():
            _say(f"  {count} x {what}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def explore(count: int, seed: int, only: str = "") -> Tally:
    """Make random calls.

    Args:
        count: How many.
        seed: Of their choice.
        only: Parts of the names of what to call, with commas between.
    """
    tally, made = Tally(), set()
    parts = only.split(",")
    targets = tuple(name for name in TARGETS if any(part in name for part in parts))

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=4 * count,  # it repeats itself
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(calls(targets))
    def make(call: Call) -> None:
        if tally.n_calls == count or call in made:
            return
        made.add(call)
        began = time.monotonic()
        tally.take(call, judge(world, call), time.monotonic() - began)
        if tally.n_calls % CLEAR_EVERY == 0:
            jax.clear_caches()

    with World() as world:
        make()
    return tally


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int, nargs="?", default=300)
    parser.add_argument("seed", type=int, nargs="?", default=0)
    parser.add_argument("only", nargs="?", default="", help="part of the names of what to call")
    options = parser.parse_args()
    tally = explore(options.count, options.seed, options.only)
    tally.report()
    return bool(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
