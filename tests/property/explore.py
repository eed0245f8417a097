"""Compare thousands of random kernels with NumPyro, by hand.

    python -m tests.property.explore                       # 300 of each question
    python -m tests.property.explore --ask fit -n 3000 --seed 7
    python -m tests.property.explore --recipe "Recipe(asked='fit', n=300, batch=50)"

It counts what came out and prints, for each kernel that came out wrong, the simplest one like it.
``--recipe`` asks a single one, as it was printed. The exit status is 1 if there is a wrong number.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from collections import Counter

import hypothesis
import jax

from aimz_lab.kernel.rows.row_test import RowTest
from tests.property.comparison import GOOD, Outcome, outcome
from tests.property.recipes import ASKED, Recipe, recipes, simpler

CLEAR_EVERY = 200  # compiled programs fill the memory
SIMPLIFIED = 3  # wrong kernels of a question that are made simpler; the others are many alike


class Tally:
    """Counts outcomes, and how it was decided whether rows may be cut.

    Args:
        asked: The question.
    """

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.counts: Counter[str] = Counter()
        self.wrong: dict[str, tuple[Recipe, Outcome]] = {}
        self._simplified = 0
        self._proofs: list[bool] = []

    def take(self, recipe: Recipe) -> None:
        """Ask one recipe; of a wrong one, look for the simplest like it.

        Args:
            recipe: The recipe.
        """
        self._proofs.clear()
        found = outcome(recipe)
        self.counts[self._named(found)] += 1
        if found.kind not in GOOD:
            self._simplified += 1
            if self._simplified <= SIMPLIFIED:
                recipe, found = simplest(recipe, found)
            if repr(recipe) not in self.wrong:
                self.wrong[repr(recipe)] = recipe, found
                _say(f"  {found.kind}: {found.detail[:200]}\n    {shown(recipe)}")
        if sum(self.counts.values()) % CLEAR_EVERY == 0:
            jax.clear_caches()

    def _named(self, found: Outcome) -> str:
        if found.kind != "right" or not self._proofs:
            return found.kind
        return "right, proven" if all(self._proofs) else "right, tested"

    def watch_proofs(self) -> None:
        """Note the result of each proof from now on."""
        original = RowTest.is_proven

        def noted(test, *arguments, **options):
            proven = original(test, *arguments, **options)
            self._proofs.append(bool(proven))
            return proven

        RowTest.is_proven = noted


def simplest(recipe: Recipe, found: Outcome) -> tuple[Recipe, Outcome]:
    """Return a simplest recipe with an outcome of the same kind, and that outcome.

    Args:
        recipe: A recipe.
        found: Its outcome.
    """
    for other in simpler(recipe):
        again = outcome(other)
        if again.kind == found.kind:
            return simplest(other, again)
    return recipe, found


def shown(recipe: Recipe) -> str:
    """Write a recipe without what it has by default.

    Args:
        recipe: The recipe.
    """
    plain = Recipe()
    changed = {k: v for k, v in vars(recipe).items() if v != getattr(plain, k)}
    return f"Recipe({', '.join(f'{k}={v!r}' for k, v in changed.items())})"


def explore(asked: str, n: int, seed: int, limit_s: float) -> Tally:
    """Ask one question of random kernels.

    Args:
        asked: The question.
        n: Number of kernels.
        seed: Of their choice.
        limit_s: Seconds after which no further kernel is asked.
    """
    end = time.monotonic() + limit_s
    tally = Tally(asked)
    original = RowTest.is_proven
    tally.watch_proofs()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=n,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(recipes(asked))
    def ask(recipe):
        if time.monotonic() < end:
            tally.take(recipe)

    try:
        ask()
    finally:
        RowTest.is_proven = original
    return tally


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ask", choices=ASKED, action="append")
    parser.add_argument("-n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="of each question")
    parser.add_argument("--recipe")
    options = parser.parse_args()
    jax.config.update("jax_numpy_rank_promotion", "raise")
    warnings.simplefilter("ignore")
    if options.recipe:
        found = outcome(eval(options.recipe, {"Recipe": Recipe}))
        _say(": ".join(found))
        return found.kind not in GOOD
    tallies = [
        explore(asked, options.n, options.seed, options.seconds) for asked in options.ask or ASKED
    ]
    for tally in tallies:
        counts = ", ".join(f"{name} {count}" for name, count in tally.counts.most_common())
        _say(f"{tally.asked}: {counts}")
    return any(tally.wrong for tally in tallies)


if __name__ == "__main__":
    sys.exit(main())
