"""Posterior draws of a model, and a compiled sampler of guides."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpyro import handlers
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide

from aimz_lab.data import AxisLabels, axis_labels, to_host
from aimz_lab.data.checks import check_positive_int
from aimz_lab.data.memory import check_memory
from aimz_lab.data.options import check_names
from aimz_lab.data.tables import is_a
from aimz_lab.errors import DataTypeError, SiteError
from aimz_lab.inference.compiling import QUICK, QUICKEST, compiler_options
from aimz_lab.inference.finite_draws import OF_A_GUIDE, refuse_bad_draws
from aimz_lab.inference.mixing import unmixed_sites
from aimz_lab.inference.shared_programs import SharedJit
from aimz_lab.kernel.checks.names import check_name
from aimz_lab.kernel.tracing import tracing_lock
from aimz_lab.types import Params, Shared, Static

Sites = str | Iterable[str] | None
"""Names of sites: one, several, or a default choice."""

DRAWS_OF_GUIDE = "im.set_posterior_sample(im.sample(return_datatree=False))"
"""Gives a model that was trained by a hand-written loop its draws."""

DRAW_BYTES = 64 << 20
"""Bytes of the draws that are made together; this bounds the memory of intermediate values."""

FEW_BYTES = 1 << 20
"""Bytes of draws below which an optimised program would not pay for its compilation."""


@dataclass(frozen=True)
class Transitions:
    """The transitions of chains after their warm-up, also those whose draws were not kept.

    Attributes:
        count: How many there are, in all chains together.
        diverged: How many of them diverged; ``None`` if the sampler does not report it.
        thinning: One of this many was kept.
    """

    count: int
    diverged: int | None
    thinning: int


@dataclass(frozen=True)
class Posterior:
    """Draws of a posterior.

    Attributes:
        draws: Arrays by site, shape ``(num_chains * draws of a chain, ...)``, chain by chain.
        num_chains: Number of stacked chains.
        stats: Statistics of the sampler by draw, such as ``diverging``, in the same order.
        count: Number of draws of a kernel that has no latent site to draw.
        labels: Labels along each axis of draws that came as tables or xarray objects.
        row_labels: Labels of the rows that it was trained on, if they have some.
        transitions: Of the draws of a run of chains, its transitions; else ``None``.
    """

    draws: Mapping[str, jax.Array]
    num_chains: int = 1
    stats: Mapping[str, jax.Array] = field(default_factory=dict)
    count: int = 0
    labels: Mapping[str, tuple[AxisLabels | None, ...]] = field(default_factory=dict)
    row_labels: AxisLabels | None = None
    transitions: Transitions | None = None

    @property
    def num_draws(self) -> int:
        """Draws in all chains together."""
        return next(iter(self.draws.values())).shape[0] if self.draws else self.count

    @property
    def are_chains(self) -> bool:
        """Whether these are draws of chains, also of one whose sampler reports no statistics."""
        return self.num_chains > 1 or bool(self.stats) or self.transitions is not None

    @cached_property
    def unmixed(self) -> dict[str, float]:
        """R-hat of the sites whose chains disagree; none of draws that are not of chains."""
        return unmixed_sites(self.draws, self.num_chains) if self.are_chains else {}

    @property
    def num_divergent(self) -> int:
        """Draws at the end of a divergent transition; 0 if the sampler does not report them."""
        diverging = self.stats.get("diverging")
        return 0 if diverging is None else int(np.count_nonzero(diverging))

    def choose(self, sites: Sites) -> dict[str, jax.Array]:
        """Return the draws of some sites, or of all.

        Raises:
            SiteError: If there are no draws of a site.
        """
        names = site_names(sites)
        unknown = [name for name in names or () if name not in self.draws]
        if unknown:
            msg = (
                f"The draws have no site {unknown[0]!r}; they have {', '.join(self.draws)}. "
                "Sites that the kernel computes, and its outputs, come from "
                "predict(X, return_sites=...)."
            )
            raise SiteError(msg)
        return {name: self.draws[name] for name in (self.draws if names is None else names)}


def site_names(sites: Sites) -> tuple[str, ...] | None:
    """Return the names of ``return_sites=`` as a tuple, each once; ``None`` stays ``None``.

    Raises:
        ArgumentError: If this is neither a name, nor several.
    """
    return None if sites is None else tuple(dict.fromkeys(check_names("return_sites", sites)))


def as_posterior(draws: Mapping[str, ArrayLike], num_chains: int = 1) -> Posterior:
    """Check draws from elsewhere.

    Args:
        draws: Arrays by site with the draws on the leading axis.
        num_chains: Number of chains, stacked one after the other.

    Raises:
        SiteError: If there are none, one has no axis of draws or two, their numbers differ or are
            no multiple of ``num_chains``, or a site's name cannot stand in results.
        DataTypeError: If values are not numeric.

    Example:
        >>> as_posterior({"b": np.zeros((8, 3))}, num_chains=2).num_draws
        8
    """
    if not draws:
        msg = "The posterior sample is empty; pass arrays by site, draws on their leading axis."
        raise SiteError(msg)
    for name, values in draws.items():
        check_name("a site", name, SiteError)
        _check_dims(name, values)
    arrays = {
        name: values if isinstance(values, jax.Array) else to_host(name, values)
        for name, values in draws.items()
    }
    for name, array in arrays.items():
        if array.ndim == 0:
            msg = f"The site {name!r} is a single number; its leading axis must be the draws."
            raise SiteError(msg)
    sizes = {name: array.shape[0] for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name!r} has {size:,}" for name, size in sizes.items())
        msg = f"All sites need the same number of draws, but {listed}."
        raise SiteError(msg)
    size = next(iter(sizes.values()))
    check_positive_int("num_chains", num_chains)
    if size == 0 or size % num_chains:
        msg = f"{size:,} draws cannot be cut into num_chains={num_chains!r} chains of equal length."
        raise SiteError(msg)
    labels = {name: axes for name, values in draws.items() if (axes := axis_labels(values))}
    return Posterior(arrays, num_chains, labels=labels)


def check_no_tree(draws: object) -> None:
    """Refuse draws as an xarray tree, such as ``sample`` returns, with the way to pass them.

    Raises:
        DataTypeError: If they are one.
    """
    if is_a(draws, "xarray", "DataTree"):
        msg = (
            f"The draws came as an xarray {type(draws).__name__}; pass a dict of arrays by site, "
            "draws on the leading axis, chain by chain. Of sample that is "
            "im.sample(return_datatree=False); of a tree with chains {name: "
            "a.values.reshape(-1, *a.shape[2:]) for name, a in tree.posterior.data_vars.items()}, "
            "with num_chains=tree.posterior.sizes['chain']."
        )
        raise DataTypeError(msg)


def _check_dims(name: str, values: ArrayLike) -> None:
    """Refuse an xarray object with an axis of chains, or with the draws on a later axis."""
    dims = getattr(values, "dims", ())
    if not isinstance(dims, tuple):  # of a dataset, which is refused as no array
        return
    late = [dim for dim in dims[1:] if dim in ("chain", "draw", "sample")]
    if late:
        chains = f", num_chains={values.sizes['chain']}" if "chain" in dims else ""
        msg = (
            f"The draws of {name!r} have the dimensions {', '.join(map(str, dims))}; they must "
            "lie on the leading axis alone, chain by chain. Of a tree, that is "
            "set_posterior_sample({name: a.values.reshape(-1, *a.shape[2:]) for name, a in "
            f"tree.posterior.data_vars.items()}}{chains}); of other orders, transpose first."
        )
        raise SiteError(msg)


class GuideSampler:
    """Compiled draws from the guide of an SVI object.

    Args:
        svi: Its guide has been set up by ``svi.init``.
        latents: Sites to return; ``None`` for all sites of the guide.
        static: Values of static arguments.
    """

    def __init__(self, svi: SVI, latents: tuple[str, ...] | None, static: Static) -> None:
        self._guide = svi.guide
        self._latents = latents
        self._static = dict(static)
        self._draw = {effort: self._compiled(effort) for effort in (QUICK, QUICKEST)}
        self._compiling: list[Future] = []
        self._is_known = False

    def _compiled(self, effort: int) -> SharedJit:
        return SharedJit(
            self._posterior_draws, static=["groups", "size"], options=compiler_options(effort)
        )

    def compile_ahead(
        self,
        like: jax.Array,
        key: jax.Array,
        params: Params,
        num_samples: int,
        arguments: Shared,
    ) -> None:
        """Compile the first :meth:`draw` on a thread.

        What fails here fails in :meth:`draw`, which says why.

        Args:
            like: An array that lies where the parameters will lie.
            key: A typed random key.
            params: Shapes and types of the constrained parameters.
            num_samples: Number of draws.
            arguments: Array arguments of the guide.
        """
        if self._is_known:
            return
        self._is_known = True
        with contextlib.suppress(Exception), tracing_lock:
            draw, groups = self._planned(key, params, num_samples, arguments)
            ahead = draw.compile_ahead(like, key, dict(params), dict(arguments), **groups)
            self._compiling = [ahead]

    def draw(
        self,
        key: jax.Array,
        params: Params,
        num_samples: int,
        arguments: Shared,
    ) -> dict[str, jax.Array]:
        """Draw from the guide.

        Args:
            key: A typed random key.
            params: Constrained parameters.
            num_samples: Number of draws.
            arguments: Array arguments of the guide.

        Returns:
            Arrays by site, shape ``(num_samples, ...)``.

        Raises:
            SiteError: If draws are NaN or infinite.
        """
        self._is_known = True
        wait(self._compiling)
        with tracing_lock:
            draw, groups = self._planned(key, params, num_samples, arguments)
        draws, bad = draw(key, dict(params), dict(arguments), **groups)
        bad = jax.device_get(bad)
        refuse_bad_draws({name: bad[name][:num_samples] for name in bad}, OF_A_GUIDE)
        if groups["groups"] * groups["size"] != num_samples:
            draws = {name: array[:num_samples] for name, array in draws.items()}
        return draws

    def _planned(
        self,
        key: jax.Array,
        params: Params,
        num_samples: int,
        arguments: Shared,
    ) -> tuple[SharedJit, dict[str, int]]:
        """Return the compiled function, and the number and size of its groups of draws."""
        of_one = partial(self._some, size=1)
        one = jax.eval_shape(of_one, key, dict(params), dict(arguments))
        row_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
        # They exist twice: group by group, and together.
        check_memory(num_samples, 2 * row_bytes, "the guide", "Ask for fewer: num_samples=.")
        size = int(np.clip(DRAW_BYTES // max(row_bytes, 1), 1, num_samples))
        effort = QUICKEST if row_bytes * num_samples <= FEW_BYTES else QUICK
        return self._draw[effort], {"groups": -(-num_samples // size), "size": size}

    def _posterior_draws(
        self,
        key: jax.Array,
        params: Params,
        arguments: Shared,
        *,
        groups: int,
        size: int,
    ) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
        """Return draws, and which of them are not finite."""
        if groups == 1:
            draws = self._some(key, params, arguments, size=size)
        else:
            keys = jax.random.split(key, groups)
            stacked = jax.lax.map(lambda k: self._some(k, params, arguments, size=size), keys)
            draws = {name: a.reshape(groups * size, *a.shape[2:]) for name, a in stacked.items()}
        bad = {
            name: ~jnp.isfinite(a).all(axis=tuple(range(1, a.ndim)))
            for name, a in draws.items()
            if jnp.issubdtype(a.dtype, jnp.inexact)
        }
        return draws, bad

    def _some(
        self, key: jax.Array, params: Params, arguments: Shared, *, size: int
    ) -> dict[str, jax.Array]:
        if self._latents == ():  # NumPyro's autoguides fail where there is nothing to draw
            return {}
        arguments = {**arguments, **self._static}
        if isinstance(self._guide, AutoGuide):
            draws = self._guide.sample_posterior(key, params, sample_shape=(size,), **arguments)
        else:
            draws = jax.vmap(lambda k: self._trace(k, params, arguments))(
                jax.random.split(key, size)
            )
        if self._latents is None:
            return draws
        return {name: draws[name] for name in self._latents if name in draws}

    def _trace(self, key: jax.Array, params: Params, arguments: Shared) -> dict[str, jax.Array]:
        guide = handlers.substitute(handlers.seed(self._guide, key), data=params)
        return {
            name: site["value"]
            for name, site in handlers.trace(guide).get_trace(**arguments).items()
            if site["type"] == "sample" and not site["is_observed"]
        }
