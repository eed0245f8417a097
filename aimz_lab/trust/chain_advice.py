"""What to do where chains are too few or too short, as calls that can be typed as they stand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpyro.infer import MCMC

from aimz_lab.inference.posterior import Posterior
from aimz_lab.kernel.signature import KernelSignature

_CHAINS = 'num_warmup=1000, num_samples=1000, num_chains=4, chain_method="vectorized"'

_ENOUGH = 200
"""Effective draws of each chain to aim at: twice as many as count as enough."""

_LEAST, _MOST = 4, 50
"""Times as many draws as there are to take next."""


@dataclass(frozen=True)
class ChainAdvice:
    """Writes the calls that make more draws of a model by chains.

    Attributes:
        signature: The kernel.
        inference: The inference object of the model.
        arguments: Names of the arguments that the kernel was called with.
        has_table: Whether a table alone is the data.
    """

    signature: KernelSignature
    inference: object
    arguments: Iterable[str]
    has_table: bool

    def more(self, posterior: Posterior, ess: float) -> str:
        """Return what to do where chains are too short.

        Args:
            posterior: Their draws.
            ess: The effective draws of the entry that has least; NaN if they are not known.
        """
        if posterior.num_chains == 1:
            return self.several
        chains = self.inference
        if not isinstance(chains, MCMC) or chains.last_state is None:
            return f"Run longer chains: {self._anew}."
        needed = _ENOUGH * chains.num_chains / max(ess, 1.0) if np.isfinite(ess) else _MOST
        times = math.ceil(min(max(needed, _LEAST), _MOST))
        # Of each chain and before thinning, as sample takes them.
        count = times * max(posterior.num_draws // posterior.num_chains, 1) * chains.thinning
        return (
            "Run longer chains, or take the next draws of these: im.set_posterior_sample(im.sample("
            f"num_samples={count}, {self._data}, return_datatree=False), "
            f"num_chains={chains.num_chains})."
        )

    @property
    def several(self) -> str:
        """What to do where one chain alone says little."""
        return f"Run four chains: {self._anew}."

    @property
    def _anew(self) -> str:
        """A model of the same kernel with four chains, and their run."""
        is_mcmc = isinstance(self.inference, MCMC)
        sampler = "im.inference.sampler" if is_mcmc else "NUTS(im.kernel)"
        named = "" if self.signature.input == "X" else f", param_input={self.signature.input!r}"
        named += "" if self.signature.output == "y" else f", param_output={self.signature.output!r}"
        table = ", table=spec" if self.has_table else ""
        mcmc = f"MCMC({sampler}, {_CHAINS})"
        model = f"ImpactModel(im.kernel, jax.random.key(1), {mcmc}{named}{table})"
        first = ("table",) if self.has_table else (self.signature.input, self.signature.output)
        data = ", ".join((*first, *(f"{name}={name}" for name in self._others)))
        return f"{model}.fit_on_batch({data})"

    @property
    def _data(self) -> str:
        """The data of a call, by name."""
        if self.has_table:
            return f"{self.signature.input}=table"
        names = (self.signature.input, self.signature.output, *self._others)
        return ", ".join(f"{name}={name}" for name in names)

    @property
    def _others(self) -> list[str]:
        """Names of further arguments; a table has them."""
        own = {self.signature.input, self.signature.output}
        return [] if self.has_table else sorted(set(self.arguments) - own)
