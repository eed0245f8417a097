"""The NumPyro kernel of a recipe, with its arguments, outputs and posterior draws."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro import handlers

from tests.property.operations import LEVELS, OPERATIONS, Known
from tests.property.recipes import N_DRAWS, Recipe, levels_of


def arguments(recipe: Recipe) -> dict[str, np.ndarray]:
    """Return the kernel's arguments: ``X``, ``g``, and those that only some kernels take.

    Args:
        recipe: The kernel.
    """
    rng = np.random.default_rng(recipe.seed + 50)
    found = {
        "X": rng.normal(size=(recipe.n, 2)).astype(np.float32),
        "g": levels_of(recipe),
    }
    if "table" in recipe.names:
        size = recipe.size or recipe.n
        found["u"] = rng.normal(size=size).astype(np.float32)
        found["i"] = rng.integers(size, size=recipe.n).astype(np.int32)
    return found


def outputs(recipe: Recipe) -> np.ndarray:
    """Return values of the output, ``(n,)`` or ``(n, 2)``.

    Args:
        recipe: The kernel.
    """
    rng = np.random.default_rng(recipe.seed + 100)
    shape = (recipe.n, 2) if recipe.output.startswith("two") else (recipe.n,)
    if recipe.output in ("poisson", "negative_binomial"):
        return rng.poisson(2.0, size=shape).astype(np.int32)
    if recipe.output == "bernoulli":
        return rng.integers(2, size=shape).astype(np.int32)
    if recipe.output == "gamma":
        return rng.gamma(2.0, size=shape).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32)


def draws(recipe: Recipe) -> dict[str, np.ndarray]:
    """Return posterior draws of all latent sites but the treatment, draws leading.

    Args:
        recipe: The kernel.
    """
    rng = np.random.default_rng(recipe.seed + 200)
    found = {
        "slope": rng.normal(size=N_DRAWS),
        "a": rng.normal(size=(N_DRAWS, LEVELS)),
        "w": rng.normal(size=(N_DRAWS, 2)),
    }
    if recipe.latents == "hierarchical":
        found["level_mean"] = rng.normal(size=N_DRAWS)
        found["level_sd"] = rng.gamma(5.0, 0.2, size=N_DRAWS)
    if recipe.latents == "local":
        found["local"] = rng.normal(size=(N_DRAWS, recipe.n))
    return {name: values.astype(np.float32) for name, values in found.items()}


def asked_value(recipe: Recipe) -> np.ndarray:
    """Return the value of the intervention or condition, ``()`` or ``(n,)``.

    Args:
        recipe: The kernel.
    """
    if recipe.site in ("treatment", "middle"):
        rng = np.random.default_rng(recipe.seed + 300)
        by_row = rng.normal(size=recipe.n).astype(np.float32)
        return by_row if recipe.by_row or recipe.site == "middle" else by_row[0]
    return np.float32(1.7)


def _latents(recipe: Recipe) -> tuple[Any, Any, Any]:
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    if recipe.latents == "hierarchical":
        mean = numpyro.sample("level_mean", dist.Normal(0.0, 1.0))
        sd = numpyro.sample("level_sd", dist.LogNormal(0.0, 1.0))
        with numpyro.plate("level", LEVELS):
            a = numpyro.sample("a", dist.Normal(mean, sd))
    else:
        a = numpyro.sample("a", dist.Normal(0.0, 1.0).expand([LEVELS]).to_event(1))
    return slope, a, numpyro.sample("w", dist.Normal(0.0, 1.0).expand([2]).to_event(1))


def _distribution(recipe: Recipe, slope: Any, values: Any) -> dist.Distribution:
    rate = jnp.exp(jnp.clip(values, -3.0, 2.0))
    two = jnp.stack([values, 2 * values], axis=-1)
    return {
        "normal": lambda: dist.Normal(values, 1.0),
        "precise_normal": lambda: dist.Normal(values, 1e-3),
        "student_t": lambda: dist.StudentT(4.0, values, 1.0),
        "poisson": lambda: dist.Poisson(rate),
        "bernoulli": lambda: dist.Bernoulli(logits=values),
        "gamma": lambda: dist.Gamma(2.0, rate),
        "negative_binomial": lambda: dist.NegativeBinomial2(rate, 3.0),
        "two_outputs": lambda: dist.Normal(two, 1.0),
        "two_by_event": lambda: dist.Normal(two, 1.0).to_event(1),
        "rows_by_event": lambda: dist.Normal(values, 1.0).to_event(1),
        "without_rows": lambda: dist.Normal(slope, 1.0),
    }[recipe.output]()


def _plates(recipe: Recipe, n: int, n_total: int, *, whole: bool) -> Any:
    """Enter the rows' plate: a context that gives the plate's indices, or ``None``."""
    dim = -2 if recipe.output == "two_outputs" else -1
    if recipe.plate == "none" or recipe.output == "rows_by_event":
        return nullcontext()
    if recipe.plate == "rows":
        return numpyro.plate("rows", n, dim=dim)
    if recipe.plate in ("fixed", "fixed_index"):
        return numpyro.plate("rows", n_total, subsample_size=n, dim=dim)
    size = n if whole else max(1, n // 2)  # the user's own subsample
    return numpyro.plate("rows", n, subsample_size=size, dim=dim)


def _weights(recipe: Recipe, X: Any, n: int, n_total: int) -> Any:
    by_row = jnp.exp(0.3 * X[:, 1]), X[:, 1] > -0.5
    if recipe.output == "two_outputs":
        by_row = by_row[0][:, None], by_row[1][:, None]
    if recipe.output == "rows_by_event" and recipe.weight in ("by_row", "mask"):
        return nullcontext()
    return {
        "by_row": lambda: handlers.scale(scale=by_row[0]),
        "mask": lambda: handlers.mask(mask=by_row[1]),
        "twice": lambda: handlers.scale(scale=2.0),
        "half": lambda: handlers.scale(scale=0.5),
        "n_over_b": lambda: handlers.scale(scale=n_total / n),
    }.get(recipe.weight, nullcontext)()


def _factors(recipe: Recipe, slope: Any, values: Any, g: Any, y: Any, *, in_plate: bool) -> None:
    if in_plate:
        if recipe.weight == "factor_by_row" and recipe.output == "two_outputs":
            numpyro.factor("extra", (-0.1 * values**2)[:, None])
        elif recipe.weight == "factor_by_row":
            numpyro.factor("extra", -0.1 * values**2)
    elif recipe.weight == "factor_of_latents":
        numpyro.factor("extra", -0.5 * slope**2)
    elif recipe.weight == "factor_of_sum":
        numpyro.factor("extra", -0.1 * (values**2).sum())
    elif recipe.weight == "factor_of_mean":
        numpyro.factor("extra", -((values.mean() - 1.0) ** 2))
    elif recipe.weight == "factor_of_groups":
        sums = jax.ops.segment_sum(values, g, num_segments=LEVELS)
        numpyro.factor("extra", -0.1 * sums**2)
    elif recipe.weight == "observed_mean" and y is not None:
        numpyro.sample("y_mean", dist.Normal(values.mean(), 1.0), obs=y.mean())


def _values_of_rows(recipe: Recipe, slope: Any, known: Known) -> Any:
    values = slope * known.X[:, 0]
    for name, number in recipe.operations:
        values = OPERATIONS[name](values, known, number)
    return values


def _one_site_a_row(recipe: Recipe, name: str, n: int) -> Any:
    """A latent by row, in the rows' plate if there is one."""
    if recipe.output == "two_outputs" and recipe.plate != "none":
        return numpyro.sample(name, dist.Normal(jnp.zeros((n, 1)), 1.0))[:, 0]
    return numpyro.sample(name, dist.Normal(jnp.zeros(n), 1.0))


def kernel_of(recipe: Recipe, *, whole: bool = False, middle: Any = None) -> Callable:
    """Return the kernel of a recipe.

    Args:
        recipe: The kernel.
        whole: Whether the user's own subsample is all rows: the right answer, if there is one.
        middle: Value in place of the one computed for the site ``middle``, ``(n,)``; NumPyro's
            ``do`` leaves computed values alone.
    """
    n_total = recipe.n

    def body(X, g, u, i, y):
        n = X.shape[0]
        with handlers.scale(scale=0.5 if recipe.weight == "half_of_latents" else 1.0):
            slope, a, w = _latents(recipe)
        with _plates(recipe, n, n_total, whole=whole) as rows:
            if recipe.plate == "own_subsample" and rows is not None:
                X, g, y = X[rows], g[rows], None if y is None else y[rows]
                i = None if i is None else i[rows]
            if recipe.plate == "subsample_primitive" and rows is not None:
                X, g = numpyro.subsample(X, event_dim=1), numpyro.subsample(g, event_dim=0)
                i = None if i is None else numpyro.subsample(i, event_dim=0)
                y = None if y is None else numpyro.subsample(y, event_dim=y.ndim - 1)
            values = _values_of_rows(recipe, slope, Known(X, g, a, w, u, i))
            if recipe.latents == "local":
                values = values + _one_site_a_row(recipe, "local", n)
            if recipe.asked in ("do", "condition") and recipe.site == "treatment":
                values = values + 2 * _one_site_a_row(recipe, "treatment", n)
            if recipe.plate == "fixed_index" and rows is not None:
                values = values + 0.01 * rows
            if recipe.asked == "do" and recipe.site == "middle":
                values = values if middle is None else middle
                values = 1 + 2 * numpyro.deterministic("middle", values)
            numpyro.deterministic("mean", values)
            with ExitStack() as stack:
                if recipe.output == "two_outputs":
                    stack.enter_context(numpyro.plate("output", 2, dim=-1))
                with _weights(recipe, X, n, n_total):
                    numpyro.sample("y", _distribution(recipe, slope, values), obs=y)
            _factors(recipe, slope, values, g, y, in_plate=True)
        _factors(recipe, slope, values, g, y, in_plate=False)

    if "table" not in recipe.names:
        return lambda X, g, y=None: body(X, g, None, None, y)
    return lambda X, g, u, i, y=None: body(X, g, u, i, y)
