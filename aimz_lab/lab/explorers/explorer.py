"""An explorer: controls, and the answer that follows them."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aimz_lab.calls import public
from aimz_lab.errors import ArgumentError
from aimz_lab.lab import environment
from aimz_lab.lab.explorers.charts import View
from aimz_lab.lab.explorers.controls import move, named
from aimz_lab.lab.explorers.drawing import draw_view
from aimz_lab.lab.explorers.worker import Worker

if TYPE_CHECKING:
    import pandas as pd
    from ipywidgets import Widget
    from matplotlib.figure import Figure

    from aimz_lab.lab.explorers.page import Page

Values = dict[str, Any]
"""Value of each control by its name."""

_KEPT_TIMES = 500
_BUSY_S = 0.4  # of an answer, after which the page says that it is computed

_on_pages: weakref.WeakSet[Explorer] = weakref.WeakSet()
"""Explorers with a panel on a page."""


@public
class Explorer:
    """A panel with controls to move by hand; its charts, table and sentences follow.

    In a notebook it shows itself at the end of a cell, and elsewhere by ``display(explorer)``; a
    saved notebook keeps its picture. Without a page, :meth:`set` moves the controls and the numbers
    are the same.

    Made by functions such as :func:`~aimz_lab.lab.explore_prior`.

    Args:
        controls: Control of each name, an ipywidgets widget with a description.
        answer: Takes the values of the controls and returns what is shown. With ``pins`` the values
            have one more, ``"pinned"``: the values that were pinned, or ``None``.
        code: Takes the values and returns the lines of Python that give the same numbers.
        title: What the panel is about.
        groups: Names of controls by the heading above them; those that are in none come first.
        pins: Whether the reader can keep an answer to compare others with.

    Attributes:
        controls: The controls by name.
        title: What the panel is about.
        times: Milliseconds from a change to its answer, of the last 500 answers.
        drawn: Milliseconds from a change to its picture on the page, of the last 500 pictures.

    Raises:
        ArgumentError: If ``answer`` refuses the first values.

    Example:
        >>> import ipywidgets
        >>> from aimz_lab.lab.explorers.charts import View
        >>> controls = {"n": ipywidgets.IntSlider(2, 0, 10, description="n")}
        >>> squares = Explorer(
        ...     controls,
        ...     lambda values: View(sentences=[f"Its square is {values['n'] ** 2}."]),
        ...     lambda values: f"{values['n']} ** 2",
        ... )
        >>> squares.set(n=3).sentences, squares.code()
        (['Its square is 9.'], '3 ** 2')
    """

    def __init__(
        self,
        controls: Mapping[str, Widget],
        answer: Callable[[Values], View],
        code: Callable[[Values], str],
        *,
        title: str = "",
        groups: Mapping[str, Sequence[str]] | None = None,
        pins: bool = False,
    ) -> None:
        self.controls = dict(controls)
        self.title = title
        self.groups = dict(groups or {})
        self.pins = pins
        self.times: deque[float] = deque(maxlen=_KEPT_TIMES)
        self.drawn: deque[float] = deque(maxlen=_KEPT_TIMES)
        self._answer_of, self._code_of = answer, code
        self._is_moving = False
        self._worker = Worker(self._answer, self._rest)
        self._problem: Exception | None = None
        self._pinned: Values | None = None
        self._page: Page | None = None
        self._values = self._now()
        self._view, self._lines = answer(self._values), code(self._values)
        for control in self.controls.values():
            control.observe(self._changed, "value")

    # What is shown, for those who read it without a page.

    @property
    def view(self) -> View:
        """The latest answer."""
        self._refresh()
        return self._view

    @property
    def values(self) -> Values:
        """Values of the controls of the latest answer."""
        return dict(self._values)

    @property
    def problem(self) -> Exception | None:
        """The error of the values that the controls have, or ``None``."""
        return self._problem

    def table(self) -> pd.DataFrame:
        """Return the numbers of the latest answer.

        Raises:
            ArgumentError: If it has no table.
        """
        self._refresh(raises=True)
        if self._view.table is None:
            raise ArgumentError("This explorer has no table: see its sentences, explorer.view.")
        return self._view.table.copy()

    def figure(self) -> Figure:
        """Draw the latest answer with matplotlib.

        Raises:
            OptionalDependencyError: If matplotlib is missing.
        """
        self._refresh(raises=True)
        return draw_view(self._view)

    def code(self) -> str:
        """Return the lines of Python that give the numbers of the latest answer."""
        self._refresh(raises=True)
        return self._lines

    # Questions.

    def set(self, **values: Any) -> View:
        """Move controls, and wait for the answer.

        Args:
            **values: New value of each control that is moved.

        Returns:
            The answer. At the end of a cell it prints its sentences and its numbers; the explorer
            itself shows the panel.

        Raises:
            ArgumentError: If there is no such control, or it does not take the value. The controls
                then stay as they were; so they do after any error of the answer.
        """
        self._check_open()
        for name in values:
            named(self.controls, name)
        before = {name: one.value for name, one in self.controls.items()}  # one may move others
        with self._one_question():
            try:
                # In the controls' order: what one takes may depend on those before it.
                for name in [one for one in self.controls if one in values]:
                    move(self.controls[name], name, values[name])
            except ArgumentError:
                self._restore(before)
                raise
        try:
            return self.wait()
        except Exception:
            with self._one_question():
                self._restore(before)
            self.wait()
            raise

    def wait(self) -> View:
        """Wait until the controls, as they are, are answered.

        Returns:
            The answer. What it raised, if it refused the values, is raised here.
        """
        self._worker.wait()
        if self._problem is not None:
            raise self._problem
        return self._view

    def pin(self) -> None:
        """Keep the latest answer, to compare others with.

        Raises:
            ArgumentError: If this explorer keeps none, or is closed.
        """
        self._check_pins()
        self._set_pinned(self._without_pin())
        self.wait()

    def unpin(self) -> None:
        """Drop the answer that was kept.

        Raises:
            ArgumentError: If this explorer keeps none, or is closed.
        """
        self._check_pins()
        self._set_pinned(None)
        self.wait()

    def close(self) -> None:
        """Close the panel: its controls leave the page, and it computes nothing more."""
        self._worker.close()
        _on_pages.discard(self)
        for control in self.controls.values():
            control.unobserve(self._changed, "value")
            control.close()
        if self._page is not None:
            self._page.close()

    def __repr__(self) -> str:
        self._refresh()
        return "\n".join(filter(None, [self.title, self._view.text()]))

    def _ipython_display_(self) -> None:
        from aimz_lab.lab.explorers.page import show

        self._refresh()
        if self._page is None:
            self._page = show(self)
            if environment.place() == "page":
                _on_pages.add(self)
                environment.kernel().shell.events.register("post_run_cell", _answer_stale_ones)
        else:
            self._page.display()

    # Answers.

    def _is_stale(self) -> bool:
        """Whether the latest answer is of a state that is no longer so, and is given anew."""
        return False

    def _refresh(self, *, raises: bool = False) -> None:
        """Answer anew, if the latest answer is stale; the thread that answers reads what it has."""
        if not self._worker.is_here and self._is_stale():
            self._worker.ask()
            self._worker.wait()
            if raises and self._problem is not None:
                raise self._problem

    def _now(self) -> Values:
        values = {name: control.value for name, control in self.controls.items()}
        return values | ({"pinned": self._pinned} if self.pins else {})

    def _changed(self, _: object = None) -> None:
        if not self._is_moving:
            self._worker.ask()

    def _answer(self, number: int, asked_at: float) -> None:
        """Answer the values that the controls have now; on the worker's thread."""
        values, problem = self._now(), None
        waiting = threading.Timer(_BUSY_S, lambda: self._page and self._page.tell_busy())
        waiting.daemon = True
        waiting.start()
        try:
            view, lines = self._answer_of(values), self._code_of(values)
        except Exception as error:  # noqa: BLE001 - it is shown, and raised by wait()
            problem = error
        finally:
            waiting.cancel()
        if problem is None:
            self._view, self._values, self._lines = view, values, lines
        self._problem = problem
        self._with_page(lambda page: page.tell(number, asked_at))
        self.times.append(1000 * (time.monotonic() - asked_at))

    def _rest(self) -> None:
        self._with_page(lambda page: page.redraw_still())

    def _with_page(self, show: Callable[[Page], None]) -> None:
        """Show something on the page, or why that fails: a view may hold what cannot be drawn."""
        if self._page is None or self._worker.is_closed:
            return
        try:
            show(self._page)
        except Exception as error:  # noqa: BLE001 - it is shown, and raised by wait()
            self._problem = error
            self._page.tell_problem()

    @contextmanager
    def _one_question(self) -> Iterator[None]:
        """Make one question of the changes in the block."""
        self._is_moving = True
        try:
            yield
        finally:
            self._is_moving = False
            self._worker.ask()

    def _restore(self, values: Values) -> None:
        for name, value in values.items():
            self.controls[name].value = value

    def _check_open(self) -> None:
        if self._worker.is_closed:
            raise ArgumentError("This explorer was closed; make a new one.")

    def _check_pins(self) -> None:
        self._check_open()
        if not self.pins:
            raise ArgumentError("This explorer keeps no answer to compare others with.")

    def _set_pinned(self, values: Values | None) -> None:
        with self._one_question():
            self._pinned = values

    # What the page does.

    def take(self, message: Mapping[str, Any]) -> None:
        """Handle a message from the page: a drag, a pick, or a pin.

        Args:
            message: Its kind, with a name and a value where the kind has them.
        """
        kind, name, value = (message.get(key) for key in ("kind", "name", "value"))
        if kind == "drag" and isinstance(value, int | float) and math.isfinite(value):
            for handle in self._view.handles():
                if handle.name == name:
                    self._follow(name, handle.value_at(float(value)))
        elif kind == "pick" and "site" in self.controls:
            self._follow("site", value)
        elif kind in ("pin", "unpin") and self.pins:
            self._set_pinned(self._without_pin() if kind == "pin" else None)

    def _follow(self, name: str, value: Any) -> None:
        """Move a control as far as it goes: a drag may leave its range."""
        try:
            named(self.controls, name).value = value
        except Exception as error:  # noqa: BLE001 - it is shown
            self._problem = error
            if self._page is not None:
                self._page.tell_problem()

    def _without_pin(self) -> Values:
        return {name: value for name, value in self._values.items() if name != "pinned"}


def _answer_stale_ones(_: object) -> None:
    """Answer anew what pages show of a model that the cell has trained."""
    for explorer in [*_on_pages]:
        if explorer._is_stale():
            explorer._worker.ask()
