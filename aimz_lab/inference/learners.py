"""Choose the learner of a model from its inference object."""

from __future__ import annotations

from numpyro.infer import MCMC, SVI

from aimz_lab.errors import ArgumentError, InferenceError
from aimz_lab.inference.mcmc.learner import McmcLearner
from aimz_lab.inference.svi.learner import SviLearner
from aimz_lab.kernel.checks.same_kernel import check_same_kernel
from aimz_lab.kernel.signature import KernelSignature


def one_inference(inference: object, svi: object) -> SVI | MCMC:
    """Return the only inference object among two arguments.

    Raises:
        InferenceError: If there are none or two, or it is neither SVI nor MCMC.
        ArgumentError: If the SVI object has static arguments.
    """
    if (inference is None) == (svi is None):
        given = "neither" if inference is None else "both"
        msg = (
            f"ImpactModel takes one inference object, as inference= or svi=; got {given}. For "
            "example svi=SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.01), Trace_ELBO())."
        )
        raise InferenceError(msg)
    chosen = svi if inference is None else inference
    allowed = (SVI, MCMC) if svi is None else (SVI,)
    if not isinstance(chosen, allowed):
        names = " or ".join(f"numpyro.infer.{kind.__name__}" for kind in allowed)
        msg = f"The inference object must be a {names}; got {type(chosen).__name__}."
        raise InferenceError(msg)
    if isinstance(chosen, SVI) and chosen.static_kwargs:
        listed = ", ".join(chosen.static_kwargs)
        msg = f"SVI was given static arguments ({listed}); pass them to fit and predict instead."
        raise ArgumentError(msg)
    return chosen


def make_learner(signature: KernelSignature, inference: SVI | MCMC) -> SviLearner | McmcLearner:
    """Return the learner of a kernel and an inference object.

    Raises:
        InferenceError: If it was made for another kernel.
    """
    if isinstance(inference, SVI):
        of_guide = getattr(inference.guide, "model", None)
        made_for = {"the SVI object": inference.model, "its guide": of_guide}
        check_same_kernel(signature.kernel, made_for)
        return SviLearner(signature, inference)
    of_sampler = getattr(inference.sampler, "model", None)
    check_same_kernel(signature.kernel, {"the sampler": of_sampler})
    return McmcLearner(signature, inference)
