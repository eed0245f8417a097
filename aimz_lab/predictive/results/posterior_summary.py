"""A table of posterior draws that prints a few digits of each number."""

from __future__ import annotations

import pandas as pd

from aimz_lab.progress import number


class PosteriorSummary(pd.DataFrame):
    """A data frame that prints four digits of its numbers, and has all of them.

    What is computed from it, and its parts, are plain data frames.
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        with pd.option_context("display.float_format", number):
            return super().__repr__()

    def _repr_html_(self) -> str | None:
        with pd.option_context("display.float_format", number):
            return super()._repr_html_()
