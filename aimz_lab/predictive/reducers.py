"""Summaries computed while a result streams by, so that its draws are never kept.

A reducer over draws sees all draws of a piece of rows and gives values for each of these rows. A
reducer over rows gives sums for each draw, which add up over the pieces. Both are exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from aimz_lab.errors import ArgumentError, OptionalDependencyError

FEW_GROUPS = 64
"""Up to here sums by group are a matrix product, beyond a scatter."""

_LOO_DRAWS = 25
"""Five draws in the tail, which is a fifth of them; Vehtari, Simpson, Gelman, Yao, Gabry (2024)."""


@runtime_checkable
class Reducer(Protocol):
    """What ``reduce=`` takes; one's own class needs these members.

    Another instance compiles another program, unless it has a hashable attribute ``key`` that is
    equal for reducers that do the same.

    Attributes:
        name: What the result is called: a site ``y`` gives the variable ``y_{name}``.
        over: ``"draw"`` leaves one result a row, ``"row"`` one a draw.
        on_host: Whether :meth:`block` takes NumPy arrays instead of being compiled by JAX.
        coords: Dimensions that the result has in front, with their labels.
        by_row: One value for each row of the input, handed to :meth:`block`; or ``None``.
    """

    name: str
    over: Literal["draw", "row"]
    on_host: bool
    coords: Mapping[str, Any]
    by_row: np.ndarray | None

    def block(self, values: Any, valid: Any, by_row: Any) -> Any:
        """Reduce some rows.

        Args:
            values: Draws, ``(S, R, ...)``.
            valid: Which rows are real, ``(R,)``; the others are copies that fill up the block.
            by_row: The rows' part of ``by_row``, or ``None``.

        Returns:
            Over draws: ``(*coords, R, ...)``. Over rows: sums ``(S, *coords, ...)``.
        """

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Turn what the blocks gave, put together or summed up, into the result.

        Args:
            total: What the blocks gave, put together or summed up.
            n_rows: Rows of the input.

        Returns:
            The result, with the rows where ``over`` leaves them.
        """


class _OverDraws:
    """One result a row."""

    over = "draw"
    on_host = False
    by_row = None

    def __init__(self, name: str, coords: Mapping[str, Any] | None = None) -> None:
        self.name, self.coords = name, dict(coords or {})

    @property
    def key(self) -> Any:
        """Equal for reducers that do the same, so that they share a compilation."""
        labels = tuple((dim, len(values)) for dim, values in self.coords.items())
        return type(self), self.over, labels, getattr(self, "threshold", None)

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """The result is complete as it is."""
        del n_rows
        return total


class Mean(_OverDraws):
    """The mean over draws, or over rows.

    Args:
        over: ``"draw"`` for the mean of each row; ``"row"`` for the mean of each draw.
        by: Over rows: one label for each row; the mean is taken within each label.

    Raises:
        ArgumentError: If labels are given for a mean over draws.

    Example:
        >>> signs = np.sign(X)
        >>> tree = im.predict(X, reduce=Mean(over="row", by=signs), progress=False)
        >>> tree.posterior_predictive.y_mean.dims
        ('chain', 'draw', 'group')
    """

    def __init__(self, over: Literal["draw", "row"] = "draw", by: Any = None) -> None:
        if over not in ("draw", "row"):
            msg = f"over={over!r} is not known; use 'draw' or 'row'."
            raise ArgumentError(msg)
        if by is not None and over == "draw":
            msg = "Mean(by=...) averages the rows of each label; pass over='row' with it."
            raise ArgumentError(msg)
        super().__init__("mean")
        self.over = over
        if by is None:
            return
        labels, codes = np.unique(np.asarray(by), return_inverse=True)
        self.by_row = codes.astype(np.int32)
        self.coords = {"group": labels}

    def block(self, values: jax.Array, valid: jax.Array, by_row: Any) -> jax.Array:
        """Means of the rows, or sums for each draw."""
        if self.over == "draw":
            return values.mean(0)
        if by_row is None:
            return _sum_rows(values, valid)
        return _sum_groups(values, valid, by_row, len(self.coords["group"]))

    def finish(self, total: np.ndarray, n_rows: int) -> np.ndarray:
        """Divide sums by the number of rows."""
        if self.over == "draw":
            return total
        if self.by_row is None:
            return total / n_rows
        counts = np.bincount(self.by_row, minlength=len(self.coords["group"]))
        return total / counts.reshape(1, -1, *[1] * (total.ndim - 2))


class AverageEffect(Mean):
    """The mean over rows of each draw: of a contrast, the average treatment effect."""

    def __init__(self) -> None:
        super().__init__(over="row")
        self.name = "ate"


class Sd(_OverDraws):
    """The standard deviation over draws, with ``S - 1`` in the denominator."""

    def __init__(self) -> None:
        super().__init__("sd")

    def block(self, values: jax.Array, valid: jax.Array, by_row: Any) -> jax.Array:
        """Standard deviations, around the mean."""
        del valid, by_row
        return values.std(0, ddof=1)


class Exceeds(_OverDraws):
    """The share of the draws above a threshold.

    Args:
        threshold: In the units of the site.

    Example:
        >>> tree = im.predict(X, reduce=Exceeds(0.0), progress=False)
        >>> bool(tree.posterior_predictive.y_exceeds[-1] > 0.9)
        True
    """

    def __init__(self, threshold: float) -> None:
        super().__init__("exceeds")
        self.threshold = threshold

    def block(self, values: jax.Array, valid: jax.Array, by_row: Any) -> jax.Array:
        """Shares."""
        del valid, by_row
        unknown = (values != values).any(0)  # NaN; a comparison would count it as below
        return jnp.where(unknown, jnp.nan, (values > self.threshold).mean(0))


class Quantiles(_OverDraws):
    """Quantiles over draws, with linear interpolation.

    Args:
        probs: Probabilities in [0, 1].

    Raises:
        ArgumentError: If one is not.

    Example:
        >>> tree = im.predict(X, reduce=Quantiles([0.05, 0.5, 0.95]), progress=False)
        >>> tree.posterior_predictive.y_quantile.shape
        (3, 40)
    """

    on_host = True  # NumPy sorts twenty times as fast as XLA does on a CPU

    def __init__(self, probs: Sequence[float]) -> None:
        self.probs = np.atleast_1d(np.asarray(probs, dtype=np.float64))
        if not len(self.probs) or ((self.probs < 0) | (self.probs > 1)).any():
            msg = f"Quantiles need probabilities in [0, 1], got {list(self.probs)}."
            raise ArgumentError(msg)
        super().__init__("quantile", {"quantile": self.probs})

    def block(self, values: np.ndarray, valid: np.ndarray, by_row: Any) -> np.ndarray:
        """Quantiles of each row; Hyndman and Fan (1996), type 7."""
        del valid, by_row
        ordered = _sorted(values)
        at = self.probs * (len(values) - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, len(values) - 1)
        ordered = ordered.astype(np.result_type(ordered.dtype, np.float32), copy=False)
        share = (at - low).astype(ordered.dtype)
        parts = [
            ordered[..., a] + weight * _width(ordered[..., a], ordered[..., b])
            for a, b, weight in zip(low, high, share, strict=True)
        ]
        return np.where(np.isnan(ordered[..., -1]), np.nan, np.stack(parts)).astype(ordered.dtype)


class Hdi(_OverDraws):
    """The highest-density interval over draws: the narrowest with a share ``prob`` of them.

    Args:
        prob: Share of the draws, in (0, 1).

    Raises:
        ArgumentError: If it is not.

    Example:
        >>> tree = im.predict(X, reduce=Hdi(0.9), progress=False)
        >>> tree.posterior_predictive.y_hdi.dims
        ('bound', 'obs')
    """

    on_host = True

    def __init__(self, prob: float = 0.94) -> None:
        if not 0 < prob < 1:
            msg = f"Hdi needs a probability in (0, 1), got {prob}."
            raise ArgumentError(msg)
        super().__init__("hdi", {"bound": np.array(["lower", "upper"])})
        self.prob = prob

    def block(self, values: np.ndarray, valid: np.ndarray, by_row: Any) -> np.ndarray:
        """Lower and upper end of each row."""
        del valid, by_row
        ordered = _sorted(values)
        found = narrowest_interval(ordered, self.prob)
        unknown = ordered[..., -1] != ordered[..., -1]
        return np.where(unknown, np.nan, found).astype(found.dtype) if unknown.any() else found


class Lppd(_OverDraws):
    """Of a log-likelihood: the log of its mean density over draws, row by row.

    Summed over rows it is the log pointwise predictive density; Gelman, Hwang and Vehtari (2014).
    """

    def __init__(self) -> None:
        super().__init__("lppd")

    def block(self, values: jax.Array, valid: jax.Array, by_row: Any) -> jax.Array:
        """Logs of mean densities."""
        del valid, by_row
        return jax.nn.logsumexp(values, axis=0) - jnp.log(float(values.shape[0]))


class Waic(_OverDraws):
    """Of a log-likelihood: its row's ``lppd``, effective parameters ``p_waic``, and ``elpd_waic``.

    Watanabe (2010), with the variance over draws as the penalty. ``elpd_waic = lppd - p_waic``.
    """

    def __init__(self) -> None:
        super().__init__("waic", {"waic": np.array(["lppd", "p_waic", "elpd_waic"])})

    def block(self, values: jax.Array, valid: jax.Array, by_row: Any) -> jax.Array:
        """The three, row by row."""
        lppd = Lppd().block(values, valid, by_row)
        penalty = values.var(0, ddof=1)
        return jnp.stack([lppd, penalty, lppd - penalty])


class Loo(_OverDraws):
    """Of a log-likelihood: its row's ``elpd_loo``, ``p_loo`` and ``pareto_k``, each row left out.

    Pareto-smoothed importance sampling by arviz-stats; Vehtari, Gelman and Gabry (2017). Where
    ``pareto_k`` is above about 0.7, a row's value is not to be trusted. It takes 25 draws at least.

    Args:
        r_eff: Effective draws over draws; 1 for independent draws, less for a Markov chain.

    Raises:
        ArgumentError: If it is not positive.
        OptionalDependencyError: If arviz-stats is missing.

    Example:
        >>> tree = im.log_likelihood(X, y, reduce=Loo(), progress=False)
        >>> tree.log_likelihood.y_loo.sel(loo="elpd_loo").dims
        ('obs',)
    """

    on_host = True

    def __init__(self, r_eff: float = 1.0) -> None:
        if not r_eff > 0:
            msg = f"Loo needs r_eff > 0, got {r_eff}."
            raise ArgumentError(msg)
        super().__init__("loo", {"loo": np.array(["elpd_loo", "p_loo", "pareto_k"])})
        self.r_eff = r_eff
        self._loo = _arviz_loo()

    def block(self, values: np.ndarray, valid: np.ndarray, by_row: Any) -> np.ndarray:
        """The three, row by row.

        Raises:
            ArgumentError: If the draws are too few, or too much alike, to have a tail.
        """
        del valid, by_row
        if len(values) < _LOO_DRAWS:
            msg = (
                f"Loo smooths the tail of a row's weights, which takes {_LOO_DRAWS} draws at "
                f"least; these are {len(values)}. Make more of them, or use reduce='waic'."
            )
            raise ArgumentError(msg)
        draws_last = np.moveaxis(values, 0, -1).astype(np.float64)
        try:
            with np.errstate(divide="ignore", invalid="ignore"):  # pareto_k tells of such tails
                elpd, k, p = self._loo(draws_last, chain_axis=None, r_eff=self.r_eff)
        except ValueError as error:
            msg = (
                f"Loo cannot smooth the tail of a row's weights: {error}. Draws that repeat each "
                "other, or a row whose likelihood no draw changes, do this; reduce='waic' takes "
                "them."
            )
            raise ArgumentError(msg) from error
        return np.stack([elpd, p, k])


def _arviz_loo() -> Any:
    try:
        from arviz_stats.base import array_stats
    except ImportError as error:
        msg = "The reducer 'loo' needs arviz-stats: pip install 'aimz_lab[lab]'"
        raise OptionalDependencyError(msg) from error
    return array_stats.loo


_BY_NAME = {"mean": Mean, "sd": Sd, "ate": AverageEffect, "lppd": Lppd, "waic": Waic, "loo": Loo}

ReduceSpec = str | Reducer | Sequence[str | Reducer] | Mapping[str, str | Reducer]


def as_reducers(reduce: ReduceSpec) -> dict[str, Reducer]:
    """Return reducers by name.

    Args:
        reduce: A reducer or the name of one, several of them, or a mapping that names them.

    Raises:
        ArgumentError: If a name is not known or used twice, or something is not a reducer.

    Example:
        >>> list(as_reducers(["mean", Quantiles([0.1, 0.9])]))
        ['mean', 'quantile']
    """
    if isinstance(reduce, Mapping):
        return {str(name): _as_reducer(one) for name, one in reduce.items()}
    several = [reduce] if isinstance(reduce, str | Reducer) else list(reduce)
    reducers = [_as_reducer(one) for one in several]
    names = [one.name for one in reducers]
    if len(set(names)) < len(names) or not names:
        msg = f"The reducers are called {names}; pass a mapping to give each a name of its own."
        raise ArgumentError(msg)
    return dict(zip(names, reducers, strict=True))


def _as_reducer(one: Any) -> Reducer:
    if isinstance(one, str) and one in _BY_NAME:
        return _BY_NAME[one]()
    if isinstance(one, Reducer) and not isinstance(one, type):
        return one
    msg = (
        f"reduce={one!r} is not known; use {', '.join(map(repr, _BY_NAME))}, Quantiles([...]), "
        "Hdi(prob), Exceeds(threshold), Mean(over='row', by=labels), or an object with the "
        "members of Reducer."
    )
    raise ArgumentError(msg)


def narrowest_interval(ordered: np.ndarray, prob: float) -> np.ndarray:
    """Ends of the narrowest interval with a share ``prob`` of the draws.

    Args:
        ordered: Sorted draws, on the last axis.
        prob: Share of the draws, in (0, 1).

    Returns:
        Lower and upper end, on a new first axis.
    """
    n_draws = ordered.shape[-1]
    inside = min(max(int(np.ceil(prob * n_draws)), 1), n_draws)
    low, high = ordered[..., : n_draws - inside + 1], ordered[..., inside - 1 :]
    best = np.argmin(_width(low, high), axis=-1)[..., None]
    return np.stack([np.take_along_axis(end, best, axis=-1)[..., 0] for end in (low, high)])


def _width(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """``high - low``, and 0 between infinite values that are equal."""
    with np.errstate(invalid="ignore"):
        return np.where(high == low, np.zeros((), low.dtype), high - low)


def _sorted(values: np.ndarray) -> np.ndarray:
    """Draws in order, on the last axis, where they lie side by side in memory."""
    return np.sort(np.ascontiguousarray(np.moveaxis(values, 0, -1)), axis=-1)


def _sum_rows(values: jax.Array, valid: jax.Array) -> jax.Array:
    weights = valid.reshape(1, -1, *[1] * (values.ndim - 2))
    return jnp.where(weights, values, 0).sum(1, dtype=jnp.result_type(float))


def _sum_groups(values: jax.Array, valid: jax.Array, codes: jax.Array, n_groups: int) -> jax.Array:
    # A copy that fills up a block belongs to no group; it may not be finite.
    real = valid.reshape(-1, *[1] * (values.ndim - 1))
    rows_first = jnp.where(real, jnp.moveaxis(values, 1, 0).astype(jnp.result_type(float)), 0)

    def product(rows_first: jax.Array) -> jax.Array:
        member = jax.nn.one_hot(codes, n_groups, dtype=rows_first.dtype)
        return jnp.tensordot(member, rows_first, axes=(0, 0), precision="highest")

    def scatter(rows_first: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(rows_first, codes, num_segments=n_groups)

    if n_groups > FEW_GROUPS:
        return jnp.moveaxis(scatter(rows_first), 0, 1)
    # In a product, what is not finite in one group would be NaN in all.
    finite = jnp.isfinite(rows_first).all()
    return jnp.moveaxis(jax.lax.cond(finite, product, scatter, rows_first), 0, 1)
