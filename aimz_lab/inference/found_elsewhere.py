"""Names that users look for on a model, and where what they mean is found."""

from __future__ import annotations

from aimz_lab.errors import MissingAttributeError
from aimz_lab.spelling import did_you_mean

_LOSSES = "im.last_run.losses has the loss of each step, and so has im.vi_result.losses"
_STEERED = (
    "a run is steered by its handle, which fit(..., blocking=False) returns, and by "
    "im.last_run.control: {name}() of either"
)
_WAITED = (
    "the handle has it, which fit(..., blocking=False) returns; without that, a fit returns at its "
    "end"
)
_DRAWS = "im.posterior has the draws by site, and im.posterior_tree with their labels"
_PARAMS = "im.vi_result.params has the parameters of the guide"
_INFERENCE = "im.inference is the SVI or MCMC object"
_FITTED = "im.fit(X, y) trains the model"
_EFFECT = "im.estimate_effect contrasts two scenarios"
_SCORES = 'im.log_likelihood(X, y, reduce="loo") and im.diagnose(X, y) score predictions'
_PICTURES = "pictures are functions of aimz_lab.lab, such as lab.plot_posterior(im)"

ELSEWHERE = {
    **dict.fromkeys(("losses", "loss", "elbo", "history"), _LOSSES),
    **dict.fromkeys(("set_learning_rate", "stop", "pause", "resume"), _STEERED),
    **dict.fromkeys(("wait", "result", "done"), _WAITED),
    **dict.fromkeys(("draws", "samples", "posterior_samples", "get_samples"), _DRAWS),
    **dict.fromkeys(("params", "get_params"), _PARAMS),
    **dict.fromkeys(("svi", "mcmc", "guide", "optim"), _INFERENCE),
    **dict.fromkeys(("train", "run"), _FITTED),
    **dict.fromkeys(("effect", "ate", "contrast"), _EFFECT),
    **dict.fromkeys(("loo", "waic", "score"), _SCORES),
    **dict.fromkeys(("plot", "plot_posterior", "plot_trace"), _PICTURES),
    "status": "im.last_run.status says how the last training stands or ended",
    "model": "im.kernel is the NumPyro function",
}
"""What to say of a name, with ``{name}`` for the name itself."""


def no_attribute(owner: type, name: str) -> MissingAttributeError:
    """Return the error of a name that a model does not have; it says where to look.

    Args:
        owner: The class of the model.
        name: The name.

    Example:
        >>> class ImpactModel:
        ...     kernel = None
        >>> print(no_attribute(ImpactModel, "losses"))
        ImpactModel has no 'losses': im.last_run.losses has the loss of each step, and so has
        im.vi_result.losses.
        >>> print(no_attribute(ImpactModel, "kernl"))
        ImpactModel has no 'kernl'. Did you mean 'kernel'?
    """
    if name in ELSEWHERE:
        where = ELSEWHERE[name].format(name=name)
        return MissingAttributeError(f"{owner.__name__} has no {name!r}: {where}.")
    known = [] if name.startswith("_") else [one for one in dir(owner) if not one.startswith("_")]
    return MissingAttributeError(f"{owner.__name__} has no {name!r}.{did_you_mean(name, known)}")
