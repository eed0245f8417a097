"""Averages of scenarios, with common noise: computed once, and kept while others change."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from aimz_lab.effects.measures import expected_for
from aimz_lab.effects.row_groups import RowGroups, row_groups
from aimz_lab.effects.sweep import averages_over
from aimz_lab.errors import AimzLabWarning, ArgumentError
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.running_fit import draws_of_before, why_not_used
from aimz_lab.lab.explorers.moved_inputs import Given, MovedInput
from aimz_lab.system.lazy_modules import xr
from aimz_lab.tracebacks import warning_once

_MOST_BYTES = 128 << 20

Settings = tuple[Any, ...]
"""A value for each moved input, or what says that it is left as it is."""


class ScenarioAverages:
    """Computes the average of each site under a scenario, for each draw and group of rows.

    What has been computed is kept, up to 128 MiB; it is forgotten when the model is trained anew.

    Args:
        im: The model.
        given: Arguments of ``predict`` by name, as observed.
        inputs: What scenarios set.
        key: The key of all scenarios.
        weights: Weights of rows, as in ``estimate_effect``.
        subset: The rows that count, likewise.
    """

    def __init__(
        self,
        im: Any,
        given: Given,
        inputs: Sequence[MovedInput],
        key: jax.Array,
        weights: Any = None,
        subset: Any = None,
    ) -> None:
        self._im, self._given, self._inputs, self._key = im, given, tuple(inputs), key
        self._weights, self._subset = weights, subset
        self._groups: dict[str, RowGroups] = {}
        self._kept: OrderedDict[tuple, tuple[xr.Dataset, tuple[str, ...]]] = OrderedDict()
        self._together: dict[str, Any] = {}
        self._anew: dict[frozenset[int], frozenset[str]] = {}
        self._posterior: Posterior | None = None
        self.has_followed = False
        """Whether the model has been trained since the first averages, which these follow."""

    def arguments(self, settings: Settings) -> Given:
        """Return the arguments of ``predict`` of a scenario."""
        given = self._given
        for moved, value in zip(self._inputs, settings, strict=True):
            given = moved.arguments(given, value)
        return given

    def begin(self) -> None:
        """Forget what is kept, if the model was trained anew.

        Raises:
            ArgumentError: If it has no draws that may be used, or is trained now.
        """
        self._im._one_change.wait_for_stop("explore_effect")
        run, fitted = self._im.last_run, self._im._trained.fitted
        if run is not None and not run.finished:
            msg = (
                "The model is being trained, and all effects of an explorer are of one posterior. "
                "Wait for the end of the fit by wait() of its handle, or stop() it."
            )
            raise ArgumentError(msg)
        if fitted is None:
            msg = "The model has no posterior yet; an effect needs its draws. Train it first."
            raise ArgumentError(msg)
        if fitted.is_outdated:
            msg = f"An effect needs a posterior of the present state. {draws_of_before(fitted)}"
            raise ArgumentError(msg)
        if fitted.why_not:
            msg = f"An effect needs a posterior, and {why_not_used(fitted.why_not)}"
            raise ArgumentError(msg)
        if fitted.posterior is not self._posterior:
            self._kept.clear()
            self._together.clear()
            self._anew.clear()
            self.has_followed = self._posterior is not None
            self._posterior = fitted.posterior

    @property
    def is_outdated(self) -> bool:
        """Whether the averages are of an earlier posterior, and the model is not being trained."""
        run, trained = self._im.last_run, self._im._trained
        is_other = trained.posterior is not self._posterior or not trained.has_draws
        return is_other and (run is None or run.finished)

    def drawn_anew(self, before: Settings, after: Settings) -> frozenset[str]:
        """Return the latent sites that two scenarios draw anew, as ``held="redraw"`` asks.

        Raises:
            ArgumentError: If they hold an observed site that they change.
            SiteError: If the posterior holds draws of a site that they change.
        """
        both = enumerate(zip(before, after, strict=True))
        moved = frozenset(number for number, (old, new) in both if old != new)
        if moved not in self._anew:  # which ones differ decides what they reach
            calls = [*map(self.arguments, (before, after))]
            requests = self._im._comparable(calls, self._im._moment())
            self._anew[moved] = requests[0].anew
        return self._anew[moved]

    def has(
        self, settings: Settings, by: str, contrast: Any, anew: frozenset[str] = frozenset()
    ) -> bool:
        """Whether a scenario is kept; for the arguments see :meth:`of`."""
        return (settings, by, contrast == "odds_ratio", anew) in self._kept

    def of(
        self,
        settings: Settings,
        by: str,
        groups: Any,
        contrast: Any,
        anew: frozenset[str] = frozenset(),
    ) -> xr.Dataset:
        """Return the averages of a scenario by site, ``chain, draw, *groups, ...``.

        Args:
            settings: The scenario.
            by: Name of the groups, which tells them from others.
            groups: The groups, as ``by`` of ``estimate_effect``.
            contrast: What the averages will be contrasted by.
            anew: Latent sites to draw from the kernel; see :meth:`drawn_anew`.

        Returns:
            The averages, named as the reducer names them.
        """
        key = settings, by, contrast == "odds_ratio", anew
        if key not in self._kept:
            self._kept[key] = self._computed(settings, by, groups, contrast, anew)
            self._keep_within_bounds()
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def _keep_within_bounds(self) -> None:
        """Forget the scenarios that were asked for longest ago, but the last two."""
        size = sum(averages.nbytes for averages, _ in self._kept.values())
        while len(self._kept) > 2 and size > _MOST_BYTES:
            _, (averages, _) = self._kept.popitem(last=False)
            size -= averages.nbytes

    def pair(
        self, before: Settings, after: Settings, by: str, groups: Any, contrast: Any
    ) -> tuple[xr.Dataset, xr.Dataset]:
        """Return the averages of two scenarios with the same noise."""
        rest = by, groups, contrast, self.drawn_anew(before, after)
        both = [self.of(each, *rest) for each in (before, after)]
        if len({each.attrs.get("shard_axis") for each in both}) > 1:
            # Where one keeps its rows together, so does the other: its noise is then the same.
            self._together = {"shard_axis": "draw", "batch_size": None}
            self._kept.clear()
            both = [self.of(each, *rest) for each in (before, after)]
        return both[0], both[1]

    def warnings_of(self, *scenarios: Settings) -> list[str]:
        """Return what was warned of while these scenarios were computed."""
        found = [said for (s, *_), (_, said) in self._kept.items() if s in scenarios]
        return list(dict.fromkeys(text for said in found for text in said))

    def _computed(
        self, settings: Settings, by: str, groups: Any, contrast: Any, anew: frozenset[str]
    ) -> tuple[xr.Dataset, tuple[str, ...]]:
        if by not in self._groups:
            self._groups[by] = row_groups(
                groups, self._weights, self._subset, [self._given], may_drop=drops_rows(self._im)
            )
        given = {**self.arguments(settings), **self._together, "in_sample": True}
        reduce = averages_over(self._groups[by], contrast)
        with _told() as said:
            # As an effect is computed, of what is expected of each row.
            moment = self._im._moment()
            expected = expected_for(contrast)
            (tree,) = self._im._paired(
                self._key, moment, [given], [reduce], expected=expected, anew=anew
            )
        return tree["posterior_predictive"].to_dataset(), tuple(said)


def drops_rows(im: Any) -> bool:
    """Whether a model leaves out the rows of a table with missing values."""
    return im._table is not None and im._table.drops_rows


@contextmanager
def _told() -> Iterator[list[str]]:
    """Gather this package's warnings of the block; others are shown as ever."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught, warning_once():
        warnings.simplefilter("always")
        yield said
    for one in caught:
        if issubclass(one.category, AimzLabWarning):
            said.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def plain_copy(given: Mapping[str, Any]) -> dict[str, Any]:
    """Copy arrays and tables, so that numbers stay those of the data as they were.

    Args:
        given: Arguments by name.
    """
    found = {}
    for name, value in given.items():
        if isinstance(value, np.ndarray) or type(value).__module__.startswith(("pandas", "xarray")):
            value = value.copy()
        elif isinstance(value, list):
            value = list(value)
        found[name] = value
    return found
