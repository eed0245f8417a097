"""Refuse draws by row that the kernel mixes across rows by an argument that is another one here.

A Gaussian process with standardised values, ``f = cholesky(K(X)) @ z``, has draws of ``z`` that
belong to the ``X`` of the training: with another one they are those of another function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from numpyro import handlers

from aimz_lab.errors import SiteError
from aimz_lab.kernel.argument_leaves import named_leaves, with_leaves
from aimz_lab.kernel.cache_keys import CodeKey
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.predictive.site_links import Compared
from aimz_lab.predictive.structure import structure_key

_ROUNDING = 1e-4
"""Less from 1, the cosine of two gradients may be rounding."""


def check_mixed(
    call: Compared, wanted: Collection[str], latents: Sequence[str], remembered: Callable
) -> None:
    """Check that no draws by row are mixed across rows by an argument unlike that of the training.

    Args:
        call: The call.
        wanted: The sites that it returns.
        latents: The latent sites whose draws it uses.
        remembered: As in :func:`aimz_lab.predictive.plan.make_plan`.

    Raises:
        SiteError: Under ``held="refuse"``, if there are such draws.
    """
    request, rows, spec = call
    arrays = {**rows.template, **named_leaves(request.shared)}
    changed = sorted(
        name
        for name in request.changed.intersection(arrays) - {request.output}
        if np.shape(arrays[name])[:1] == (rows.n_rows,)
    )
    by_row = [
        name
        for name in latents
        if spec.sites[name].row_axes
        and np.issubdtype(spec.sites[name].dtype, np.floating)
        and np.shape(request.draws[name])[1:] == spec.shape_at(name, rows.n_rows)
    ]
    if request.held != "refuse" or rows.streams or not (changed and by_row) or rows.n_rows < 3:
        return
    kind = structure_key(CodeKey(request.kernel), request, rows)
    for name in by_row:
        key = "mixed", kind, name, tuple(changed), tuple(sorted(wanted)), tuple(latents)
        if remembered(key, lambda name=name: _is_mixed(call, name, changed, wanted, latents)):
            _refuse(name, changed)


def _is_mixed(
    call: Compared,
    site: str,
    changed: Sequence[str],
    wanted: Collection[str],
    latents: Sequence[str],
) -> bool:
    """Whether a third row weighs the values of rows otherwise when one row's arguments change.

    The weights of a row are the gradient of what it is made of, up to a factor: a link, or a
    coefficient of the row itself, scales all of them alike.
    """
    request, rows, _ = call
    n_rows = rows.n_rows
    draw = {name: np.asarray(request.draws[name][0]) for name in latents}

    arrays = {**rows.template, **named_leaves(request.shared)}

    @jax.jit
    def weights(given: Mapping[str, Any]) -> list[jax.Array]:
        by_row = {name: given.get(name, array) for name, array in rows.template.items()}
        shared = with_leaves(
            request.shared, {n: array for n, array in given.items() if n not in by_row}
        )

        def made(values: jax.Array) -> list[jax.Array]:
            leaves = _made(call, wanted, {**draw, site: values}, {**by_row, **shared})
            return [leaf[row].sum() for leaf in leaves for row in probes]

        return jax.jacrev(made)(draw[site])

    probes = sorted({0, n_rows // 3, 2 * n_rows // 3, n_rows - 1})
    try:
        with tracing_lock:
            here = weights({name: arrays[name] for name in changed})
        for row in {1, n_rows // 2, n_rows - 2}:
            for source in {(row + 1) % n_rows, n_rows - 1 - row} - {row}:
                moved = {name: _with_row(np.asarray(arrays[name]), row, source) for name in changed}
                pairs = zip(here, weights(moved), strict=True)
                others = [probe != row for probe in probes] * (len(here) // len(probes))
                if any(
                    _have_other_shares(one, two)
                    for (one, two), is_other in zip(pairs, others, strict=True)
                    if is_other
                ):
                    return True
    except Exception:  # noqa: BLE001  the kernel does not run with these values, so none is told
        return False
    return False


def _made(
    call: Compared, wanted: Collection[str], values: Mapping[str, Any], arrays: Mapping[str, Any]
) -> list[jax.Array]:
    """Return what the wanted sites are made of, rows first."""
    request, n_rows = call.request, call.rows.n_rows
    kernel = handlers.substitute(request.kernel, data={**request.params, **values})
    trace = handlers.trace(seeded(kernel, jax.random.key(0))).get_trace(**arrays, **request.static)
    found = []
    for name in wanted:
        site = trace[name]
        origin = site["value"] if site["type"] == "deterministic" else site["fn"]
        for leaf in jax.tree.leaves(origin):
            if n_rows in np.shape(leaf) and np.issubdtype(leaf.dtype, np.floating):
                found.append(jax.numpy.moveaxis(leaf, np.shape(leaf).index(n_rows), 0))
    return found


def _with_row(values: np.ndarray, row: int, source: int) -> np.ndarray:
    """Return an array with the values of one row in place of those of another."""
    moved = values.copy()
    moved[row] = moved[source]
    return moved


def _have_other_shares(one: jax.Array, two: jax.Array) -> bool:
    """Whether two gradients point in other directions."""
    one, two = (np.asarray(each, np.float64).ravel() for each in (one, two))
    lengths = np.linalg.norm(one), np.linalg.norm(two)
    if not all(length > 0 and np.isfinite(length) for length in lengths):
        return False
    cosine = one @ two / (lengths[0] * lengths[1])
    return bool(1 - abs(cosine) > _ROUNDING)


def _refuse(site: str, arguments: Sequence[str]) -> None:
    names = ", ".join(map(repr, arguments))
    verb = "is" if len(arguments) == 1 else "are"
    msg = (
        f"{names} {verb} not as in training, and the kernel mixes the values of {site!r} across "
        f"rows by {names}, as a Gaussian process does: the draws belong to the rows of the "
        "training, and would stand for another function here. For a process at new inputs, let "
        "the kernel take the trained rows as further arguments, None in training, and compute the "
        "new values given those (its conditional). held='redraw' draws anew, without what was "
        f"learned; held='keep' keeps the draws, where they are noise that {names} cannot change."
    )
    raise SiteError(msg)
