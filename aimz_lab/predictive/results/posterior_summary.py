"""A table of posterior draws that prints a few digits of each number."""

from __future__ import annotations

import numpy as np
import pandas as pd

from aimz_lab.number_text import numbers_of_row


class PosteriorSummary(pd.DataFrame):
    """A data frame that prints its numbers as far as their spread shows, and has all digits.

    What is computed from it, and its parts, are plain data frames.
    """

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def __repr__(self) -> str:
        return repr(self._printed())

    def _repr_html_(self) -> str | None:
        return self._printed()._repr_html_()

    def _printed(self) -> pd.DataFrame:
        """Return the table as text; of a long one, the rows that pandas prints."""
        most = pd.get_option("display.max_rows")
        cells = np.full(self.shape, "", object)
        rows = range(len(self))
        if most and len(self) > most:
            rows = [*rows[:most], *rows[-most:]]
        for row in rows:
            cells[row] = numbers_of_row(dict(self.iloc[row]))
        return pd.DataFrame(cells, self.index, self.columns)
