"""One random kernel, asked of the package and of NumPyro: what came out.

NumPyro's side is ``Predictive``, ``log_likelihood``, ``do``, ``condition`` and the log density on
all rows at the same draws.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro import handlers
from numpyro.infer import SVI, Predictive, Trace_ELBO, init_to_value, log_likelihood
from numpyro.infer.autoguide import AutoDelta
from numpyro.infer.util import log_density

from aimz_lab import ImpactModel
from aimz_lab.errors import AimzLabError, PerformanceWarning
from tests.property.recipe_kernels import arguments, asked_value, draws, kernel_of, outputs
from tests.property.recipes import Recipe
from tests.runs import STILL

Kind = Literal["right", "computed whole", "refused", "wrong", "crash", "no reference"]
GOOD: tuple[Kind, ...] = ("right", "computed whole", "refused", "no reference")
TOLERANCE = 2e-4
LOSS_TOLERANCE = 2e-5
_SUBSAMPLED_EPOCHS = 1000
PRECISE = 0.02
"""What a draw with a noise of 0.001 may differ from one with other noise."""


class Outcome(NamedTuple):
    """What came out.

    Attributes:
        kind: ``"computed whole"`` is right as well, with a warning; ``"no reference"`` means that
            NumPyro's number is not finite.
        detail: The message of an error, or the numbers that differ.
    """

    kind: Kind
    detail: str = ""


def outcome(recipe: Recipe) -> Outcome:
    """Ask NumPyro and the package, and compare.

    Args:
        recipe: The kernel and the question.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        wanted = reference(recipe)
        if not all(np.isfinite(value).all() for value in wanted.values()):
            return Outcome("no reference", "not finite")
        try:
            got = _ANSWERS[recipe.asked](recipe)
        except AimzLabError as error:
            text = str(error)
            return (
                Outcome("wrong", f"refused: {text}")
                if recipe.must_be_answered
                else Outcome("refused", text)
            )
        except Exception as error:  # noqa: BLE001  any other error is a finding
            return Outcome("crash", f"{type(error).__name__}: {error}"[:400])
    if recipe.must_be_refused:
        return Outcome("wrong", "an answer, although NumPyro's own ignores the value or the index")
    differing = [text for name in wanted if (text := _difference(recipe, name, got, wanted))]
    if differing:
        return Outcome("wrong", "; ".join(differing))
    whole = any(issubclass(w.category, PerformanceWarning) for w in said)
    return Outcome("computed whole" if whole else "right")


def reference(recipe: Recipe) -> dict[str, np.ndarray]:
    """Return NumPyro's own numbers, by name.

    Args:
        recipe: The kernel and the question.
    """
    found = jax.jit(lambda: _REFERENCES[recipe.asked](recipe))()
    return {name: np.asarray(value) for name, value in found.items()}


def _predictive(recipe: Recipe, kernel: Any, held: dict[str, Any]) -> dict[str, Any]:
    drawn = Predictive(kernel, held)(jax.random.key(1), **_arrays(recipe))
    names = ("mean", "y") if recipe.output == "precise_normal" else ("mean",)
    return {name: drawn[name] for name in names}


def _reference_predict(recipe: Recipe) -> dict[str, Any]:
    return _predictive(recipe, kernel_of(recipe, whole=True), draws(recipe))


def _reference_do(recipe: Recipe) -> dict[str, Any]:
    if recipe.site == "middle":
        kernel = kernel_of(recipe, whole=True, middle=asked_value(recipe))
    else:
        kernel = handlers.do(kernel_of(recipe, whole=True), {recipe.site: asked_value(recipe)})
    return _predictive(recipe, kernel, draws(recipe))


def _reference_condition(recipe: Recipe) -> dict[str, Any]:
    value = {recipe.site: asked_value(recipe)}
    held = {name: values for name, values in draws(recipe).items() if name != recipe.site}
    return _predictive(recipe, handlers.condition(kernel_of(recipe, whole=True), value), held)


def _reference_log_likelihood(recipe: Recipe) -> dict[str, Any]:
    kernel = kernel_of(recipe, whole=True)
    found = log_likelihood(kernel, draws(recipe), **_arrays(recipe), y=jnp.asarray(outputs(recipe)))
    return {"y": found["y"]}


def _reference_fit(recipe: Recipe) -> dict[str, Any]:
    kernel, known = (
        kernel_of(recipe, whole=True),
        _arrays(recipe) | {"y": jnp.asarray(outputs(recipe))},
    )
    at_point = jax.tree.map(jnp.asarray, _point(recipe))
    return {"loss": -log_density(kernel, (), known, at_point)[0]}


def _arrays(recipe: Recipe) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.asarray, arguments(recipe))


def _point(recipe: Recipe) -> dict[str, np.ndarray]:
    return {name: values[0] for name, values in draws(recipe).items()}


def _model(recipe: Recipe, *, held: bool = True) -> ImpactModel:
    kernel = kernel_of(recipe)
    guide = AutoDelta(kernel, init_loc_fn=init_to_value(values=_point(recipe)))
    svi = SVI(kernel, guide, STILL, Trace_ELBO())
    im = ImpactModel(kernel, jax.random.key(0), svi=svi)
    return im.set_posterior_sample(draws(recipe)) if held else im


def _predicted(recipe: Recipe, **options: Any) -> dict[str, np.ndarray]:
    tree = _model(recipe).predict(**arguments(recipe), store="memory", progress=False, **options)
    group = tree["posterior_predictive"]
    return {str(name): np.asarray(values)[0] for name, values in group.data_vars.items()}


def _answer_predict(recipe: Recipe) -> dict[str, np.ndarray]:
    return _predicted(recipe)


def _answer_do(recipe: Recipe) -> dict[str, np.ndarray]:
    return _predicted(recipe, intervention={recipe.site: asked_value(recipe)})


def _answer_condition(recipe: Recipe) -> dict[str, np.ndarray]:
    return _predicted(recipe, condition={recipe.site: asked_value(recipe)})


def _answer_log_likelihood(recipe: Recipe) -> dict[str, np.ndarray]:
    tree = _model(recipe).log_likelihood(
        **arguments(recipe), y=outputs(recipe), store="memory", progress=False
    )
    return {"y": np.asarray(tree["log_likelihood"]["y"])[0]}


def _answer_fit(recipe: Recipe) -> dict[str, np.ndarray]:
    """The mean loss of an epoch; each batch counts by its rows where the order is random."""
    im = _model(recipe, held=False).fit(
        **arguments(recipe),
        y=outputs(recipe),
        batch_size=recipe.batch,
        shuffle=recipe.shuffle,
        epochs=_SUBSAMPLED_EPOCHS if recipe.subsamples else 1,
        num_samples=1,
        progress=False,
    )
    losses = np.asarray(im.last_run.losses, np.float64)
    if recipe.subsamples:  # each step has rows of its own choice
        return {"loss": losses.mean(), "se": losses.std() / len(losses) ** 0.5}
    rows = np.minimum(recipe.batch, recipe.n - recipe.batch * np.arange(len(losses)))
    return {"loss": np.average(losses, weights=rows if recipe.shuffle else None)}


def _difference(
    recipe: Recipe, name: str, got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]
) -> str:
    if name not in got:
        return f"no {name}"
    a, b = got[name].astype(np.float64), wanted[name].astype(np.float64)
    if a.shape != b.shape:
        return f"{name}: shape {a.shape} instead of {b.shape}"
    drawn = recipe.asked in ("predict", "do", "condition") and name == "y"
    # What is small beside other rows may be the difference of two large values.
    scale = max(1.0, float(np.abs(b).max()))
    tolerance = PRECISE if drawn else TOLERANCE * (np.abs(b) + scale)
    if recipe.asked == "fit":
        tolerance = LOSS_TOLERANCE * scale + 5 * got.get("se", 0.0)
    apart = np.abs(a - b) - tolerance
    worst = np.unravel_index(np.argmax(np.where(np.isnan(apart), np.inf, apart)), a.shape)
    if apart[worst] <= 0:
        return ""
    return f"{name}{list(map(int, worst))}: {a[worst]:.6g} instead of {b[worst]:.6g}"


_REFERENCES = {
    "predict": _reference_predict,
    "log_likelihood": _reference_log_likelihood,
    "fit": _reference_fit,
    "do": _reference_do,
    "condition": _reference_condition,
}
_ANSWERS = {
    "predict": _answer_predict,
    "log_likelihood": _answer_log_likelihood,
    "fit": _answer_fit,
    "do": _answer_do,
    "condition": _answer_condition,
}
