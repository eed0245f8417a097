"""Check a ``vi_result`` from elsewhere: its fields, its values, and whether it fits the guide."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np
from jaxtyping import PyTree
from numpyro.infer import SVI
from numpyro.infer.svi import SVIState

from aimz_lab.data import as_typed_key
from aimz_lab.errors import ArgumentError, CallError, FitWarning, GuideError
from aimz_lab.tracebacks import warn
from aimz_lab.types import Params

_OTHER_OPTIMIZER = (
    "vi_result.state belongs to another optimizer than the model's, so that training cannot go on "
    "from it. Build the model's SVI object with the same optimizer, or set the result without its "
    "state: SVIRunResult(params, None, losses)."
)


def state_of_result(value: object, svi: SVI) -> SVIState | None:
    """Check a result that the user sets, and return the state to go on from.

    Args:
        value: A result with the fields ``params`` and ``losses``, and ``state`` or none, such as
            NumPyro's ``SVIRunResult``.
        svi: The inference object of the model.

    Returns:
        Its state with a typed key; ``None`` without one.

    Raises:
        CallError: If a field is missing or of another type.
        ArgumentError: If parameters or state are not finite.
        GuideError: If the state belongs to another optimizer or other parameters.

    Warns:
        FitWarning: If a loss is not finite.
    """
    if not (hasattr(value, "params") and hasattr(value, "losses")):
        msg = (
            "vi_result needs the fields params and losses, such as numpyro's SVIRunResult; got "
            f"{type(value).__name__}."
        )
        raise CallError(msg)
    _check_params(value.params)
    losses = _numbers("vi_result.losses", value.losses)
    if losses.ndim != 1:
        msg = f"vi_result.losses must have one loss a step; got the shape {losses.shape}."
        raise CallError(msg)
    state = getattr(value, "state", None)
    if state is not None:
        state = _checked_state(state, value.params, svi)
    if not np.isfinite(losses).all():
        bad = int((~np.isfinite(losses)).sum())
        warn(
            f"{bad:,} of the {losses.size:,} losses in vi_result are NaN or infinite; its "
            "parameters may not be what the training should have found.",
            FitWarning,
        )
    return state


def check_parameters_fit(given: Params, own: Params) -> None:
    """Check that parameters of a ``vi_result`` are those of the guide.

    Args:
        given: Parameters of the result, by name.
        own: Parameters of the guide as it was set up here, by name.

    Raises:
        GuideError: With the differences.
    """
    found = []
    for name in sorted({*given, *own}):
        if name not in given:
            found.append(f"{name!r} is missing")
        elif name not in own:
            found.append(f"{name!r} is unknown to the guide")
        elif (here := _shapes(given[name])) != (needed := _shapes(own[name])):
            found.append(f"{name!r} has the shape {here} instead of {needed}")
    if found:
        more = f"; and {len(found) - 6} more" if len(found) > 6 else ""
        msg = (
            f"vi_result comes from another model or guide: {'; '.join(found[:6])}{more}. Set the "
            "result of an SVI run with the same kernel, guide and data shapes."
        )
        raise GuideError(msg)


def check_parameters_allowed(given: Params, svi: SVI) -> None:
    """Check that parameters of a ``vi_result`` keep the constraints of the guide.

    Args:
        given: Parameters of the result, by name, that fit the guide.
        svi: The inference object; before it is set up, no constraint is known.

    Raises:
        GuideError: If one has values that no training can reach, such as a negative scale.
    """
    if svi.constrain_fn is None:
        return
    (transforms,) = svi.constrain_fn.args
    for name in sorted(given.keys() & transforms.keys()):
        unconstrained = transforms[name].inv(given[name])
        if any(np.isnan(leaf).any() for leaf in jax.tree.leaves(unconstrained)):
            msg = (
                f"vi_result.params[{name!r}] breaks the guide's constraint, "
                "such as a negative scale. Set the parameters as svi.get_params(state) returns "
                "them, not those of the optimizer."
            )
            raise GuideError(msg)


def check_state_fits(given: SVIState, own: SVIState, svi: SVI) -> None:
    """Check that a state is one of the guide and the optimizer of a model.

    Args:
        given: The state of a result.
        own: A state as it was set up here.
        svi: The inference object.

    Raises:
        GuideError: If its parameters, its optimizer or its mutable state are others.
    """
    check_parameters_fit(*(svi.optim.get_params(each.optim_state) for each in (given, own)))
    if not _same_arrays(given.optim_state, own.optim_state):
        raise GuideError(_OTHER_OPTIMIZER)
    if not _same_arrays(given.mutable_state, own.mutable_state):
        msg = (
            "vi_result.state has another mutable state than the kernel and the guide, such as the "
            "statistics of a network; set the result of a run with the same kernel and guide."
        )
        raise GuideError(msg)


def _check_params(params: object) -> None:
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        msg = (
            "vi_result.params must hold arrays by name, as svi.get_params(state) returns them; "
            f"got {type(params).__name__}."
        )
        raise CallError(msg)
    for name, tree in params.items():
        for leaf in jax.tree.leaves(tree):
            array = _numbers(f"vi_result.params[{name!r}]", leaf)
            _check_finite(f"vi_result.params[{name!r}]", array)


def _checked_state(state: object, params: Params, svi: SVI) -> SVIState:
    if not isinstance(state, SVIState):
        msg = (
            "vi_result.state must be an SVIState of NumPyro, as svi.run and train_on_batch return "
            f"it, or None; got {type(state).__name__}."
        )
        raise CallError(msg)
    try:
        own = dict(svi.optim.get_params(state.optim_state))
        missing = sorted(own.keys() - params.keys())
        others = [name for name in own if name in params and _sizes_differ(own, params, name)]
    except Exception as error:
        raise GuideError(_OTHER_OPTIMIZER) from error
    if missing:
        msg = (
            f"vi_result.state has the parameters {', '.join(map(repr, missing))}, which "
            "vi_result.params lacks; take both from one run."
        )
        raise GuideError(msg)
    if others:
        raise GuideError(_OTHER_OPTIMIZER)
    for leaf in jax.tree.leaves((state.optim_state, state.mutable_state)):
        if not jax.dtypes.issubdtype(jax.dtypes.result_type(leaf), jax.dtypes.prng_key):
            _check_finite("vi_result.state", _numbers("vi_result.state", leaf))
    return state._replace(rng_key=as_typed_key(state.rng_key))


def _sizes_differ(own: Params, given: Params, name: str) -> bool:
    """Whether an entry has other numbers of arrays: it is then no parameter, but a state."""
    return len(jax.tree.leaves(own[name])) != len(jax.tree.leaves(given[name]))


def _numbers(what: str, values: object) -> np.ndarray:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        msg = f"{what} must hold numbers: {error}."
        raise CallError(msg) from error
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) and array.size:
        # JAX's own types, such as bfloat16, are numbers too.
        try:
            return array.astype(np.float32)
        except (TypeError, ValueError) as error:
            msg = f"{what} must hold numbers; got values of type {array.dtype}."
            raise CallError(msg) from error
    return array


def _check_finite(what: str, array: np.ndarray) -> None:
    if np.issubdtype(array.dtype, np.inexact) and not np.isfinite(array).all():
        msg = (
            f"{what} has values that are NaN or infinite, and draws and training would go on from "
            "them. Set the result of a run before it diverged."
        )
        raise ArgumentError(msg)


def _same_arrays(one: PyTree, other: PyTree) -> bool:
    same_structure = jax.tree.structure(one) == jax.tree.structure(other)
    return same_structure and _shapes(one) == _shapes(other)


def _shapes(tree: PyTree) -> object:
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(tree)]
    return shapes[0] if len(shapes) == 1 else shapes
