"""Say what to do where NumPyro cannot set up inference for the latent sites of a kernel."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from aimz_lab.errors import GuideError, KernelError

_ENDLESS = re.compile(r"site (.+) does not have enumerate support")
_NO_START = "Cannot find valid initial parameters"
_NOTHING = re.compile(r"(\w+) found no latent variables")


@contextlib.contextmanager
def untrainable_sites() -> Iterator[None]:
    """Explain what NumPyro refuses while it sets up a guide or a sampler.

    Raises:
        GuideError: If the guide needs latent sites, and the kernel has none.
        KernelError: If a discrete latent site has no finite set of values, or no starting point has
            a finite density and gradient.
    """
    try:
        yield
    except RuntimeError as error:
        if (found := _ENDLESS.search(str(error))) is not None:
            msg = (
                f"The latent site {found[1]!r} takes whole numbers without a largest one. They "
                "have no gradients and cannot all be tried, so neither autoguides nor MCMC can "
                "infer them. Write the sum over its values into the distribution of the output: "
                "a Poisson rate with a Gamma prior is dist.GammaPoisson, counts that a Binomial "
                "thins are a Poisson of the product. Or pass the counts as data (obs=)."
            )
            raise KernelError(msg) from error
        if (found := _NOTHING.search(str(error))) is not None:
            msg = (
                f"The kernel has no latent site, and {found[1]} needs one. Use a guide that draws "
                "nothing, SVI(kernel, lambda *args, **kwargs: None, ...); parameters "
                "(numpyro.param) are then fitted by maximum likelihood."
            )
            raise GuideError(msg) from error
        if _NO_START in str(error):
            msg = (
                "No starting point was found: at every one that was tried, the density of the "
                "model or its gradient was infinite or NaN. Look for log, sqrt, exp or a division "
                "that leaves its range, and for priors that allow impossible values; or say where "
                "to start: init_strategy=init_to_value(values={...}) of the sampler."
            )
            raise KernelError(msg) from error
        raise
