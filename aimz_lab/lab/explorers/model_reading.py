"""What an explorer reads of a model: its graph, and draws and parameters of its sites."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import Shaped
from numpyro.infer import MCMC

from aimz_lab.impact_model import ImpactModel
from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.inference.running_fit import draws_of_before, why_not_used
from aimz_lab.lab.explorers.graph_svg import model_layout
from aimz_lab.lab.explorers.guide_parameters import guide_parameters
from aimz_lab.lab.explorers.model_graph import KernelCall, ModelGraph
from aimz_lab.lab.explorers.site_draws import (
    SiteDraws,
    entries_of,
    posterior_draws,
    prior_draws,
)
from aimz_lab.lab.explorers.used_state import UsedState
from aimz_lab.lab.formatting import number

if TYPE_CHECKING:
    import pandas as pd

_MOST_PAIRS, _MOST_VALUES = 400, 8


class ModelReading:
    """What is read of a model, when it is asked for first.

    Args:
        im: The model.
        call: Its kernel and arguments.
        graph: Its graph.
        labels: Labels along the axes of its sites.
        num_samples: Draws from the prior.
        key: Key of these draws.

    Attributes:
        used: The state that is read, which may be one of before.
    """

    def __init__(
        self,
        im: ImpactModel,
        call: KernelCall,
        graph: ModelGraph,
        labels: AxisLabels,
        num_samples: int,
        key: jax.Array,
    ) -> None:
        self.kernel = im.kernel
        self.call, self.graph, self.labels = call, graph, labels
        self.layout = model_layout(graph)
        self.guide = getattr(im.inference, "guide", None)
        own = None if im._table is None else im._table.output_label("model")
        self._labels_of = {} if own is None else {im.param_output: own}
        trained = im._trained
        self.used = UsedState(im, trained)
        fitted, is_usable = trained.fitted, trained.has_draws
        posterior = fitted.posterior if is_usable else None
        self.is_sampled = posterior is not None and isinstance(im.inference, MCMC)
        self.chains = posterior.num_chains if posterior else 0
        self._draws = dict(posterior.draws) if posterior else {}
        self.params = dict(getattr(trained.vi_result, "params", None) or {})
        self._why_none = "The model has no posterior yet."
        if im.last_run is not None and not im.last_run.finished:
            self._why_none = "The model is being trained; open the explorer again after the fit."
        elif fitted is not None and fitted.is_outdated:
            self._why_none = f"Not shown. {draws_of_before(fitted)}"
        elif fitted is not None:
            self._why_none = f"Not shown, as {why_not_used(fitted.why_not)}"
        self._num_samples, self._key = num_samples, key
        self._parameters: dict[str, pd.DataFrame] = {}

    @property
    def posterior_sites(self) -> tuple[str, ...]:
        """Sites of which the posterior has draws."""
        return tuple(name for name in self.graph.sites if name in self._draws)

    @functools.cached_property
    def prior(self) -> SiteDraws:
        """Draws from the prior."""
        return prior_draws(self.call, self.graph, num_samples=self._num_samples, rng_key=self._key)

    @functools.cached_property
    def posterior(self) -> SiteDraws:
        """Draws from the posterior."""
        draws = {name: np.asarray(values) for name, values in self._draws.items()}
        return posterior_draws(
            self.call, self.graph, draws, why_none=self._why_none, rng_key=self._key
        )

    def entries(self, name: str) -> list[str]:
        """Return the names of a site's entries that can be looked at."""
        return entries_of(name, self._shape(name), self.labels)

    def label_of(self, name: str) -> str:
        """Return the name of a site, with the formula that its values are made by if it has one."""
        return self._labels_of.get(name, name)

    def _shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a posterior draw of a site, or else that of the site."""
        if name in self._draws:
            return np.shape(self._draws[name])[1:]
        return self.graph.sites[name].shape

    def prior_of(self, name: str) -> Shaped[np.ndarray, "draw entry"] | None:
        """Return draws from the prior; ``None`` if the posterior is of another number of rows."""
        same = self._shape(name) == self.graph.sites[name].shape
        return self.prior.draws.get(name) if same else None

    def value(self, name: str) -> str:
        """Return the value of a ``param`` site in words."""
        value = self.params.get(name)
        if value is None:
            return "It has no learned value yet."
        if not isinstance(value, np.ndarray | jax.Array):
            return f"Its weights: {sum(np.size(leaf) for leaf in jax.tree.leaves(value)):,} values."
        first = ", ".join(number(float(one)) for one in np.ravel(value)[:_MOST_VALUES])
        return f"Its value: {first}{', ...' if value.size > _MOST_VALUES else ''}."

    @functools.cached_property
    def pairs(self) -> dict[str, tuple[str, int]]:
        """Site and number of each entry with posterior draws, by its name."""
        names = self.posterior_sites
        each = max(_MOST_PAIRS // max(len(names), 1), 1)
        return {
            entry: (name, at)
            for name in names
            for at, entry in enumerate(self.entries(name)[:each])
        }

    def params_of(self, name: str) -> str:
        """Say which values of ``param`` sites the draws of a site are computed with."""
        kinds = {one: self.graph.sites[one].kind for one in self.graph.ancestors(name)}
        names = sorted(one for one, kind in kinds.items() if kind == "param")
        if not names or name not in self.prior.draws:
            return ""
        learned = "learned" if self.call.params.keys() >= {*names} else "initial"
        return f"Computed with the {learned} values of {', '.join(names)}."

    def parameters(self, name: str) -> pd.DataFrame:
        """Return the guide's parameters for a site."""
        if name not in self._parameters:
            found = guide_parameters(self.guide, self.params, name, self.call, self.labels)
            self._parameters[name] = found
        return self._parameters[name]

    def data(self, name: str) -> Shaped[np.ndarray, " value"] | None:
        """Return the observed values of a site, if they are known."""
        argument = self.graph.sites[name].observes
        if not argument or not self.call.has_values:
            return None
        return np.asarray(self.call.rows[argument], np.float64).reshape(-1)
