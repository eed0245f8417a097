"""An explorer of what was read of a model once, which says if the model has changed since."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from aimz_lab.errors import OutputWarning
from aimz_lab.lab.explorers.charts import View
from aimz_lab.lab.explorers.explorer import Explorer, Values
from aimz_lab.tracebacks import warn

if TYPE_CHECKING:
    import pandas as pd
    from ipywidgets import Widget
    from matplotlib.figure import Figure


class DatedExplorer(Explorer):
    """An explorer of a state of a model; it says if this is no longer the present one.

    Args:
        controls: The controls by name.
        answer: Takes the values of the controls and returns what is shown.
        code: Takes the values and returns the lines of Python that read the model anew.
        is_outdated: Returns whether the model has changed since it was read.
        outdated: The sentence that says so, and what to do.
        title: What the panel is about.
    """

    def __init__(
        self,
        controls: Mapping[str, Widget],
        answer: Callable[[Values], View],
        code: Callable[[Values], str],
        *,
        is_outdated: Callable[[], bool],
        outdated: str,
        title: str,
    ) -> None:
        self._is_outdated, self._outdated = is_outdated, outdated

        def dated_answer(values: Values) -> View:
            view = answer(values)
            if not is_outdated():
                return view
            alt = f"{outdated} {view.alt}" if view.alt else ""
            return replace(view, sentences=[outdated, *view.sentences], alt=alt)

        def dated_code(values: Values) -> str:
            other = "# The model has changed since: these lines give other numbers now.\n"
            return (other if is_outdated() else "") + code(values)

        super().__init__(controls, dated_answer, dated_code, title=title)

    def _is_stale(self) -> bool:
        return self._is_outdated() and self._outdated not in self._view.sentences

    def table(self) -> pd.DataFrame:
        """Return the numbers of the latest answer.

        Raises:
            ArgumentError: If it has no table.

        Warns:
            OutputWarning: If the model has been trained since, or its draws were set.
        """
        self._warn_if_outdated()
        return super().table()

    def figure(self) -> Figure:
        """Draw the latest answer with matplotlib.

        Raises:
            OptionalDependencyError: If matplotlib is missing.

        Warns:
            OutputWarning: If the model has been trained since, or its draws were set.
        """
        self._warn_if_outdated()
        return super().figure()

    def _warn_if_outdated(self) -> None:
        if self._is_outdated():
            warn(self._outdated, OutputWarning)
