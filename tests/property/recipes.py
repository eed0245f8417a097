"""Random kernels from short descriptions: which operations, latents, plates, weights and outputs.

A :class:`Recipe` is a plain record that prints as it is written, so that a kernel that fails can be
copied from the report. :func:`recipes` is the Hypothesis strategy of them; it prefers simple ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.property.operations import ACROSS, BY_ROW, LEVELS, WRONG_INDEX

ROWS = (3, 2, 1, 255, 256, 257, 300, 700)
BATCHES = (2, 1, 7, 50, 128, 255, 256)
NUMBERS = (1, 3, 130, 280, 699)
N_DRAWS = 3
ASKED = ("predict", "log_likelihood", "fit", "do", "condition")
OUTPUTS = (
    "normal",
    "precise_normal",
    "student_t",
    "poisson",
    "bernoulli",
    "gamma",
    "negative_binomial",
    "two_outputs",
    "two_by_event",
    "rows_by_event",
    "without_rows",
)
LATENTS = ("global", "hierarchical", "local")
PLATES = ("rows", "none", "fixed", "fixed_index", "own_subsample", "subsample_primitive")
WEIGHTS = (
    "none",
    "by_row",
    "mask",
    "factor_by_row",
    "twice",
    "half",
    "factor_of_latents",
    "factor_of_sum",
    "factor_of_mean",
    "factor_of_groups",
    "observed_mean",
    "half_of_latents",
    "n_over_b",
)
SITES = ("slope", "middle", "treatment", "level_mean")


@dataclass(frozen=True)
class Recipe:
    """A kernel, its rows, and what is asked of it.

    Args:
        asked: What is compared with NumPyro.
        n: Number of rows.
        operations: Names of operations with a number for each, applied one after the other.
        output: Distribution of the output.
        latents: Whether levels are a priori independent, hierarchical, or there is a latent by row.
        plate: How the rows' plate is written.
        weight: What a row weighs.
        site: What is intervened on or conditioned on: a latent, a computed value, a latent by row,
            or the parent of latents.
        by_row: Whether the value of the intervention or condition is an array by row.
        size: Entries of the shared table; 0 means as many as there are rows.
        batch: Rows of a batch in training.
        shuffle: Whether training shuffles.
        seed: Of the data and draws.
    """

    asked: str = "predict"
    n: int = 3
    operations: tuple[tuple[str, int], ...] = ()
    output: str = "normal"
    latents: str = "global"
    plate: str = "rows"
    weight: str = "none"
    site: str = "slope"
    by_row: bool = False
    size: int = 5
    batch: int = 2
    shuffle: bool = False
    seed: int = 0

    @property
    def names(self) -> set[str]:
        """Names of the operations."""
        return {name for name, _ in self.operations}

    @property
    def is_by_row(self) -> bool:
        """Whether nothing that the kernel computes looks at other rows."""
        return not self.names & (ACROSS.keys() | WRONG_INDEX.keys())

    @property
    def subsamples(self) -> bool:
        """Whether the kernel itself takes some of the rows at random."""
        return self.plate in ("own_subsample", "subsample_primitive") and self.n > 1

    @property
    def must_be_answered(self) -> bool:
        """Whether a refusal would be wrong: rows are plainly independent, and weights plain."""
        plain_weights = ("none", "by_row", "mask", "factor_by_row", "twice", "half_of_latents")
        return (
            self.is_by_row
            and self.output not in ("rows_by_event", "without_rows")
            and self.latents == "global"
            and self.plate in ("rows", "none")
            and self.weight in plain_weights
            and not ("table" in self.names and self.size == 0)
            and self.asked in ("predict", "log_likelihood", "fit")
        )

    @property
    def must_be_refused(self) -> bool:
        """Whether NumPyro's own number is the one that a user must not get without a word."""
        if self.names & WRONG_INDEX.keys() and self.asked != "fit":
            levels = levels_of(self)
            below = "previous_level" in self.names and levels.min() == 0
            return bool(below or ("next_level" in self.names and levels.max() == LEVELS - 1))
        return self.asked in ("do", "condition") and self.site == "level_mean"


def levels_of(recipe: Recipe) -> np.ndarray:
    """Return a level for each row, ``(n,)``.

    Args:
        recipe: The kernel.
    """
    rng = np.random.default_rng(recipe.seed)
    return rng.integers(LEVELS, size=recipe.n).astype(np.int32)


def recipes(asked: str) -> st.SearchStrategy[Recipe]:
    """Return the strategy of recipes for one question.

    Args:
        asked: One of ``ASKED``.
    """

    @st.composite
    def strategy(draw):
        def one(values):
            return draw(st.sampled_from(values))

        kinds = one((BY_ROW, BY_ROW | ACROSS, BY_ROW | ACROSS, BY_ROW | WRONG_INDEX))
        operation = st.tuples(st.sampled_from(tuple(kinds)), st.sampled_from(NUMBERS))
        operations = draw(st.lists(operation, max_size=3))
        recipe = Recipe(
            asked=asked,
            n=one(ROWS),
            operations=tuple(operations),
            output=one(OUTPUTS),
            latents=one((*LATENTS[:1] * 3, *LATENTS)),
            plate=one((*PLATES[:1] * 5, *PLATES)),
            seed=one(range(5)),
        )
        if asked in ("log_likelihood", "fit"):
            recipe = replace(recipe, weight=one((*WEIGHTS[:1] * 5, *WEIGHTS)))
        if asked == "fit":
            recipe = replace(recipe, batch=one(BATCHES), shuffle=one((False, True)))
        if asked in ("do", "condition"):
            recipe = replace(recipe, site=one(SITES), by_row=one((False, True)))
        if "table" in recipe.names:
            recipe = replace(recipe, size=one((5, 0)))
        return settled(recipe)

    return strategy()


def settled(recipe: Recipe) -> Recipe:
    """Return a recipe whose parts fit together: the nearest one to what was drawn.

    Args:
        recipe: Any recipe.
    """
    changes: dict[str, Any] = {}
    if recipe.site == "level_mean" and recipe.asked in ("do", "condition"):
        changes["latents"] = "hierarchical"
        changes["operations"] = (("level", 1), *recipe.operations)
    if recipe.site != "treatment" and recipe.site != "middle":
        changes["by_row"] = False
    if recipe.site == "middle" and recipe.asked == "condition":
        changes["site"] = "slope"  # NumPyro conditions sample sites alone
        changes["by_row"] = False
    if recipe.output == "without_rows" and recipe.asked != "log_likelihood":
        changes["operations"] = ()
    if recipe.output == "without_rows" and recipe.asked not in ("log_likelihood", "fit"):
        changes["output"] = "normal"
    if recipe.weight == "observed_mean" and recipe.output.startswith("two"):
        changes["weight"] = "none"
    if recipe.weight == "factor_by_row" and recipe.output == "rows_by_event":
        changes["weight"] = "none"
    if recipe.plate in ("own_subsample", "subsample_primitive", "fixed_index") and (
        recipe.latents == "local" or recipe.site in ("treatment", "middle")
    ):
        changes["plate"] = "rows"
    if recipe.site == "treatment" and recipe.output == "two_outputs":
        changes["output"] = "two_by_event"
    changes["batch"] = min(recipe.batch, recipe.n)
    return replace(recipe, **changes)


def simpler(recipe: Recipe) -> Iterator[Recipe]:
    """Yield recipes that differ from this one in one part, which is a simpler one.

    Args:
        recipe: The recipe to make simpler.
    """
    for k in range(len(recipe.operations)):
        rest = recipe.operations[:k] + recipe.operations[k + 1 :]
        yield settled(replace(recipe, operations=rest))
    plain = Recipe()
    for field in fields(Recipe):
        if field.name not in ("asked", "operations", "n"):
            other = replace(recipe, **{field.name: getattr(plain, field.name)})
            if settled(other) != recipe:
                yield settled(other)
    for n in ROWS[: ROWS.index(recipe.n)]:
        yield settled(replace(recipe, n=n))
