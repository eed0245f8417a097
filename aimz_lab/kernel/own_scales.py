"""Whether a kernel scales its rows itself, to all of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Shaped
from numpyro import handlers

from aimz_lab.errors import FitWarning, KernelError
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.prior_draws import seeded
from aimz_lab.kernel.spec import KernelSpec, ScaleCourse, Site
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.tracebacks import warn
from aimz_lab.types import Rows

Weight = Literal["ours", "of_call"]
"""Who multiplies a row site by the minibatch factor.

``ours``: this package. ``of_call``: the kernel, by a factor that follows the rows of the call.
"""


def own_scales(
    kernel: Callable,
    spec: KernelSpec,
    batch: KernelArguments,
    axes: Mapping[str, int | None],
    n_obs: int | None,
    *,
    as_written: bool = False,
) -> dict[str, Weight]:
    """Find out which sites the kernel scales itself, by a plate or by ``handlers.scale``.

    A scale is the minibatch factor, N over the rows of the call, only if it follows the rows of the
    call. One that is the same for any number of rows is a weight of the user's.

    Args:
        kernel: The kernel or guide that ``spec`` describes.
        spec: Its structure at the batch size.
        batch: Arguments of one batch, to run the kernel if a scale is only known then.
        axes: For each row site, its axis of rows in the log density, counted from the right.
        n_obs: Rows of the data set, or ``None`` if unknown.
        as_written: Whether the kernel is to be trained as it is written; then nothing is refused.

    Returns:
        For each row site, who scales it.

    Raises:
        KernelError: If a scale depends on which rows are in the batch; or if it depends on their
            number, but is no minibatch factor.

    Warns:
        FitWarning: If a constant scale is N over the batch size, so that it may be meant as the
            factor.
    """
    sites = {name: spec.sites[name] for name in spec.of_kind("latent", "observed", "factor")}
    unknown = {name: axes.get(name) for name, site in sites.items() if site.scale == "array"}
    arrays = _array_scales(kernel, batch, unknown) if unknown else {}
    is_minibatch = n_obs != spec.n_rows and not as_written
    scaled_by: dict[str, Weight] = {}
    for name, site in sites.items():
        scale = arrays.get(name, _Scale(site.scale_course, site.scale))
        course = scale.course
        follows_rows = course == "other" or (course == "inverse" and name not in axes)
        if follows_rows and is_minibatch:
            _refuse(name)
        if name not in axes:
            continue
        if _is_by_fixed_plate(site, spec) or course == "inverse":
            scaled_by[name] = "of_call"
            continue
        scaled_by[name] = "ours"
        if n_obs is not None and is_minibatch:
            _warn_if_factor(name, scale.value, n_obs / spec.n_rows)
    return scaled_by


def _is_by_fixed_plate(site: Site, spec: KernelSpec) -> bool:
    """Whether the plate of the rows exceeds the batch, and fits batches of this size alone."""
    plate = site.rows_plate
    if plate is None or plate.size == plate.subsample_size:
        return False
    return plate.subsample_size == spec.n_rows and site.scale_course in (None, "constant")


def _refuse(name: str) -> None:
    msg = (
        f"The scale of the site {name!r} depends on the rows of the batch, and is no minibatch "
        "factor, N over their number; so it would be another one on all rows. Pass weights as an "
        "array by row, computed from all rows beforehand; or train on all rows at once: "
        "fit_on_batch(X, y), or batch_size=len(X)."
    )
    raise KernelError(msg)


def _warn_if_factor(name: str, value: float | Literal["array"] | None, factor: float) -> None:
    if isinstance(value, (int, float)) and np.isclose(value, factor, rtol=0.01):
        msg = (
            f"The scale of the site {name!r} is the constant {value:g}, and N / B is "
            f"{factor:g}. It counts as a weight of the rows, and batches are scaled by N / B "
            "besides. If it is meant as the minibatch factor, leave it out, or write it with the "
            "rows of the call: handlers.scale(scale=N / X.shape[0])."
        )
        warn(msg, FitWarning)


class _Scale(NamedTuple):
    """How a site's scale changes with the rows of the call, and its value if it is one number."""

    course: ScaleCourse | None
    value: float | Literal["array"] | None


def _array_scales(
    kernel: Callable, batch: KernelArguments, axes: Mapping[str, int | None]
) -> dict[str, _Scale]:
    """Run the kernel on a batch and on its halves, for the scales that are not known before."""

    def run(rows: Rows) -> dict[str, jax.Array]:
        drawn = seeded(kernel, jax.random.key(0))
        sites = handlers.trace(drawn).get_trace(**rows, **batch.shared, **batch.static)
        return {name: jnp.asarray(sites[name]["scale"]) for name in axes}

    whole = dict(batch.rows)
    if batch.n_rows == 1:
        whole = {name: np.repeat(np.asarray(value), 2, axis=0) for name, value in whole.items()}
    half = max(batch.n_rows, 2) // 2
    first = {name: value[:half] for name, value in whole.items()}
    second = {name: value[half : 2 * half] for name, value in whole.items()}
    compiled = jax.jit(run)
    try:
        with tracing_lock:
            of_all, *of_halves = jax.device_get(
                [compiled(whole), compiled(first), compiled(second)]
            )
    except Exception:  # noqa: BLE001  a kernel for this number of rows only: its scale is constant
        return {}
    ratio = half / max(batch.n_rows, 2)
    return {
        name: _Scale(
            _course(of_all[name], [each[name] for each in of_halves], axes[name], half, ratio),
            float(of_all[name]) if of_all[name].ndim == 0 else None,
        )
        for name in axes
    }


def _course(
    whole: Shaped[np.ndarray, ...],
    halves: list[Shaped[np.ndarray, ...]],
    axis: int | None,
    half: int,
    ratio: float,
) -> ScaleCourse:
    """Compare a scale for all rows with those for the halves, row by row if it has rows."""
    by_row = axis is not None and whole.ndim >= -axis and whole.shape[axis] >= 2 * half
    parts = [whole, whole]
    if by_row:
        parts = [whole.take(range(at, at + half), axis) for at in (0, half)]
    if any(part.shape != of_half.shape for part, of_half in zip(parts, halves, strict=True)):
        return "other"

    def agree(factor: float) -> bool:
        pairs = zip(parts, halves, strict=True)
        return all(np.allclose(part, of_half * factor, rtol=1e-4) for part, of_half in pairs)

    return "constant" if agree(1.0) else "inverse" if agree(ratio) else "other"
