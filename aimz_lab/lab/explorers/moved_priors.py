"""A kernel with other numbers in the priors of some of its sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpyro.primitives import Messenger

from aimz_lab.lab.explorers.remade import Path, remade
from aimz_lab.number_text import number

Numbers = Mapping[str, Mapping[Path, Any]]
"""New numbers by site and by the arguments of its distribution that lead to them."""


class MovedPriors(Messenger):
    """A kernel whose named sites have other numbers in their distributions.

    The kernel's own code is not changed. Family, plates, ``expand``, ``to_event`` and ``mask`` of a
    site stay; sites that are not named stay as they are written.

    Args:
        fn: The kernel.
        numbers: The new numbers.

    Attributes:
        numbers: The new numbers.
    """

    def __init__(self, fn: Callable, numbers: Numbers) -> None:
        super().__init__(fn)
        self.numbers = {name: dict(its) for name, its in numbers.items()}
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)

    def __repr__(self) -> str:
        moved = [
            f"{site}.{path[-1]} = {number(float(value))}"
            for site, its in self.numbers.items()
            for path, value in its.items()
        ]
        return f"<{self.__name__} with {', '.join(moved) or 'its own priors'}>"

    def process_message(self, msg: dict[str, Any]) -> None:
        """Replace the distribution of a named site."""
        its = self.numbers.get(msg.get("name"))
        if its and msg["type"] == "sample":
            msg["fn"] = remade(msg["fn"], its)
