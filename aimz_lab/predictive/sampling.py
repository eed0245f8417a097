"""The method of a model that draws from its posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import xarray as xr

from aimz_lab.data.checks import check_positive_int
from aimz_lab.errors import CallError, NotFittedError, SiteError
from aimz_lab.inference.base import Sites, site_names
from aimz_lab.inference.checkpoint.saved_model import StorableModel
from aimz_lab.inference.feeds.inputs import all_rows
from aimz_lab.inference.mcmc.learner import continue_mcmc
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.svi.plan import trace_data
from aimz_lab.predictive.results.datasets import posterior_tree


class SamplingModel(StorableModel):
    """A model whose posterior can be drawn from; see :class:`aimz_lab.ImpactModel`."""

    def sample(
        self,
        *,
        num_samples: int = 1000,
        rng_key: jax.Array | None = None,
        return_sites: Sites = None,
        return_datatree: bool = True,
        **kwargs: Any,
    ) -> xr.DataTree | dict[str, jax.Array]:
        """Draw from the guide with the parameters of :attr:`vi_result`, or let MCMC go on.

        Under MCMC, the kernel's arguments let the chains go on from where they are, and without
        any the draws of the run come back. The model's own posterior stays as it is.

        Args:
            num_samples: Number of draws; of each chain, and before thinning, where MCMC goes on.
            rng_key: Key of this call; split from the model's by default. Chains have their own.
            return_sites: Sites to return; by default the kernel's latent sites.
            return_datatree: Return a labelled tree, or a dict of arrays ``(num_samples, ...)``.
            **kwargs: Arguments of the guide, where it takes the kernel's; all those of the kernel,
                where MCMC is to go on.

        Returns:
            A tree with the group ``posterior``, or the draws by site.

        Raises:
            NotFittedError: If nothing was trained.
            SiteError: If a site that is named is not among the draws.

        Example:
            >>> im.sample(num_samples=500, return_datatree=False)["slope"].shape
            (500,)
        """
        if self._session is None:
            posterior = self._chains(num_samples, kwargs)
        else:
            posterior = Posterior(self._draw(num_samples, self._split(rng_key, 1)[0], kwargs))
            self._advance(rng_key)
        draws = _choose(posterior.draws, return_sites)
        if not return_datatree:
            return draws
        return posterior_tree(draws, posterior.num_chains, stats=posterior.stats, spec=self._spec)

    def _chains(self, num_samples: int, kwargs: Mapping[str, Any]) -> Posterior:
        if not kwargs:
            return self._fitted("sample")
        extra = dict(kwargs)
        missing = [name for name in (self.param_input, self.param_output) if name not in extra]
        if missing:
            msg = f"The chains need the kernel's data to go on; pass {missing[0]}=... too."
            raise CallError(msg)
        data = all_rows(
            self._kernel,
            extra.pop(self.param_input),
            extra.pop(self.param_output),
            extra,
            allow_nonfinite=True,
        )
        check_positive_int("num_samples", num_samples)
        spec = self._spec or trace_data(self.kernel, data, self.param_output)
        return continue_mcmc(self.inference, data, num_samples, spec)

    def _draw(self, num_samples: int, key: jax.Array, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        check_positive_int("num_samples", num_samples)
        session = self._svi_session("sample")
        params = getattr(self._vi_result, "params", None) or session.params
        if not params and session.state is None:
            msg = "Nothing was trained yet; call fit, fit_on_batch or train_on_batch first."
            raise NotFittedError(msg)
        return session.draws.draw(key, params, num_samples, kwargs, self._spec)


def _choose(draws: Mapping[str, jax.Array], sites: Sites) -> dict[str, jax.Array]:
    names = site_names(sites)
    unknown = [name for name in names or () if name not in draws]
    if unknown:
        msg = f"The draws have no site {unknown[0]!r}; they have {', '.join(draws)}."
        raise SiteError(msg)
    return {name: draws[name] for name in (names or draws)}
