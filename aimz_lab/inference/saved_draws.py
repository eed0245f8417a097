"""Posterior draws, parameters and losses of a saved model, as plain values and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import PyTree
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.errors import ArtifactError
from aimz_lab.files import Malformed, Value
from aimz_lab.inference.checkpoint.trees import array_of, check_array
from aimz_lab.inference.posterior import Posterior, Transitions
from aimz_lab.inference.request import ViResult
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.types import SAMPLE_DIMS, Array, JsonObject, Params, shown


def plain_posterior(posterior: Posterior, spec: KernelSpec | None) -> JsonObject:
    """Return all of a posterior but its arrays as JSON values."""
    return {
        "sites": list(posterior.draws),
        "stats": list(posterior.stats),
        "num_chains": posterior.num_chains,
        "count": posterior.count,
        "transitions": None if posterior.transitions is None else asdict(posterior.transitions),
        "of_training": not _not_of_training(posterior.draws, spec),
    }


def posterior_arrays(posterior: Posterior) -> dict[str, np.ndarray]:
    """Return the arrays of a posterior by their names in a file."""
    draws, stats = posterior.draws.values(), posterior.stats.values()
    return _numbered("posterior", draws) | _numbered("stats", stats)


def posterior_of(
    plain: Value, *, arrays: Mapping[str, np.ndarray], spec: KernelSpec | None
) -> Posterior:
    """Return a saved posterior.

    Args:
        plain: From :func:`plain_posterior`.
        arrays: The arrays of the file.
        spec: The kernel's structure, or ``None`` if it was never trained.

    Raises:
        Malformed: If values and arrays do not agree, or draws have other shapes than their sites.
    """
    fields = plain.fields("sites", "stats", "num_chains", "count", "transitions", "of_training")
    draws = _loaded(fields["sites"], "posterior", arrays)
    stats = _loaded(fields["stats"], "stats", arrays)
    sizes = {np.shape(array)[:1] for array in (*draws.values(), *stats.values())}
    count = fields["count"].whole(0 if draws else 1, 2**31 - 1)
    if len(sizes) > 1 or () in sizes or (sizes and count not in (0, *sizes.copy().pop())):
        found = ", ".join(f"{name} {list(np.shape(array))}" for name, array in draws.items())
        msg = f"posterior has draws of the shapes {found[:200]}, and count={count}; they differ"
        raise Malformed(msg)
    posterior = Posterior(
        draws,
        fields["num_chains"].whole(1),
        stats,
        count,
        transitions=fields["transitions"].optional(_transitions),
    )
    if posterior.num_draws == 0 or posterior.num_draws % posterior.num_chains:
        raise fields["num_chains"].refuse(f"chains of equal length of {posterior.num_draws} draws")
    if set(draws) & set(SAMPLE_DIMS):
        raise fields["sites"].refuse(f"other names than {', '.join(SAMPLE_DIMS)}")
    if fields["of_training"].flag() and (other := _not_of_training(draws, spec)):
        raise Malformed(other)
    return posterior


def plain_result(result: ViResult, of_state: Params | None) -> JsonObject:
    """Return all of parameters and losses but their arrays as JSON values.

    Args:
        result: The parameters and losses.
        of_state: The parameters of the model's state, or their shapes; ``None`` without one.

    Raises:
        ArtifactError: If parameters are no tree of dicts, or losses no numbers by step.
    """
    paths, leaves = _flat(result.params)
    if np.ndim(result.losses) != 1:
        msg = f"vi_result.losses has the shape {np.shape(result.losses)}; expected a number a step."
        raise ArtifactError(msg)
    known = _shapes(*_flat(of_state)) if of_state else None
    return {"paths": paths, "of_state": known == _shapes(paths, leaves)}


def result_arrays(result: ViResult) -> dict[str, np.ndarray]:
    """Return the arrays of parameters and losses by their names in a file."""
    return _numbered("params", _flat(result.params)[1]) | {"losses": np.asarray(result.losses)}


def result_of(
    plain: Value,
    *,
    arrays: Mapping[str, np.ndarray],
    state: SVIState | None,
    like: Params,
) -> SVIRunResult:
    """Return saved parameters and losses.

    Args:
        plain: From :func:`plain_result`.
        arrays: The arrays of the file.
        state: The saved state, or ``None``.
        like: The parameters of this state, for their structure and shapes; empty without one.

    Raises:
        Malformed: If paths and arrays do not agree, or are others than those of ``like``.
    """
    fields = plain.fields("paths", "of_state")
    paths = [[_step(step) for step in path.listed()] for path in fields["paths"].listed()]
    leaves = [_on_device(array_of(arrays, f"params/{i}")) for i in range(len(paths))]
    losses = array_of(arrays, "losses")
    if losses.ndim != 1 or losses.dtype.kind not in "fiu":
        msg = f"the array 'losses' is {losses.dtype}{list(losses.shape)}; expected a number a step"
        raise Malformed(msg)
    if not fields["of_state"].flag():
        return SVIRunResult(_nested(fields["paths"], paths, leaves), state, losses)
    expected, known = _flat(like)
    if expected != paths:
        raise fields["paths"].refuse(f"those of the state, {expected}")
    for i, (leaf, one) in enumerate(zip(leaves, known, strict=True)):
        check_array(f"params/{i}", np.asarray(leaf), one.dtype, one.shape)
    return SVIRunResult(jax.tree.unflatten(jax.tree.structure(like), leaves), state, losses)


def _numbered(prefix: str, leaves: Iterable[ArrayLike]) -> dict[str, np.ndarray]:
    return {f"{prefix}/{i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}


def _loaded(names: Value, prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Array]:
    return {
        name: _on_device(array_of(arrays, f"{prefix}/{i}")) for i, name in enumerate(names.names())
    }


def _transitions(plain: Value) -> Transitions:
    fields = plain.fields("count", "diverged", "thinning")
    count = fields["count"].whole(1)
    diverged = fields["diverged"].optional(lambda value: value.whole(0, count))
    return Transitions(count, diverged, fields["thinning"].whole(1))


def _on_device(array: np.ndarray) -> Array:
    """Return JAX's array of the same values; of types that JAX would narrow, NumPy's."""
    same = jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
    return jnp.asarray(array) if same else array


def _not_of_training(draws: Mapping[str, Array], spec: KernelSpec | None) -> str:
    """Return what is wrong with draws of other sites or shapes than in the training."""
    for name, array in draws.items() if spec else ():
        site = spec.sites.get(name)
        shape = np.shape(array)[1:]
        if site is None or site.kind != "latent":
            return f"posterior has draws of {shown(name)}, which the kernel does not have"
        if shape != site.shape or array.dtype != site.dtype:
            got, expected = f"{array.dtype}{list(shape)}", f"{site.dtype}{list(site.shape)}"
            return f"posterior has draws of {name!r} of {got}; expected {expected}"
    return ""


def _shapes(paths: list[list[str | int]], leaves: list[ArrayLike]) -> list[tuple]:
    return [
        (path, np.shape(leaf), np.dtype(leaf.dtype) if hasattr(leaf, "dtype") else None)
        for path, leaf in zip(paths, leaves, strict=True)
    ]


def _step(plain: Value) -> str | int:
    return plain.whole() if isinstance(plain.value, int) else plain.text()


def _flat(params: Params) -> tuple[list[list[str | int]], list[ArrayLike]]:
    """Return the leaves of nested mappings, with the path of names to each."""
    paths, leaves = [], []
    for path, leaf in jax.tree_util.tree_leaves_with_path(dict(params)):
        if not all(hasattr(step, "key") for step in path):
            where = jax.tree_util.keystr(path)
            msg = f"The parameter at {where} is not in a tree of dicts, which is what can be saved."
            raise ArtifactError(msg)
        paths.append([step.key for step in path])
        leaves.append(leaf)
    return paths, leaves


def _nested(plain: Value, paths: list[list[str | int]], leaves: list[Array]) -> Params:
    """Return parameters as nested dicts."""
    params: dict[str, PyTree] = {}
    for path, leaf in zip(paths, leaves, strict=True):
        inner = params
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise plain.refuse("paths of which none leads on from another")
        if not path or path[-1] in inner:
            raise plain.refuse("paths of names, each once")
        inner[path[-1]] = leaf
    return params
