"""The façade: one object that fits a kernel, draws from it, and answers what-if questions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import xarray as xr

from aimz_lab.data import as_typed_key
from aimz_lab.effects import estimate_effect, scenarios
from aimz_lab.errors import ArgumentError
from aimz_lab.inference.describe import describe, describe_html, in_a_line
from aimz_lab.predictive.model import PredictiveModel

_CALL_OPTIONS = {
    "batch_size",
    "coords",
    "dims",
    "output_dir",
    "progress",
    "reduce",
    "return_sites",
    "shard_axis",
    "store",
}
"""Options of a call as a whole, where two scenarios share one."""


class ImpactModel(PredictiveModel):
    """A NumPyro model that can be fitted, watched, and asked what-if questions.

    Args:
        kernel: A function with NumPyro primitives, ``kernel(X, ..., y=None)``.
        rng_key: Where all randomness comes from: ``jax.random.key(0)``.
        inference: A ``numpyro.infer.SVI`` or ``numpyro.infer.MCMC``; or use ``svi``.
        svi: A ``numpyro.infer.SVI``; the same as ``inference``.
        param_input: Name of the kernel's parameter for the input.
        param_output: Name of the kernel's parameter, and of its site, for the output.
        device: A ``jax.Device``, or a ``NamedSharding`` of the rows. It goes before a loader's own.
            ``None`` spreads the rows over all local devices.

    Raises:
        TypeError: If there is no inference object, or more than one, or of another kind.
        KernelError: If the kernel does not take the input and ``output=None`` by keyword.

    Example:
        The examples of the methods go on from here.

        >>> import jax, numpy as np, numpyro, numpyro.distributions as dist
        >>> from numpyro.infer import SVI, Trace_ELBO
        >>> from numpyro.infer.autoguide import AutoNormal
        >>> def kernel(X, y=None):
        ...     slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
        ...     with numpyro.plate("obs", X.shape[0]):
        ...         numpyro.sample("y", dist.Normal(X * slope, 1.0), obs=y)
        >>> svi = SVI(kernel, AutoNormal(kernel), numpyro.optim.Adam(0.1), Trace_ELBO())
        >>> im = ImpactModel(kernel, jax.random.key(0), svi=svi)
        >>> X = np.linspace(-1, 1, 40)
        >>> y = 2 * X
        >>> _ = im.fit(X, y, epochs=300, progress=False)
        >>> im.predict(X, store="memory", progress=False).posterior_predictive.y.shape
        (1, 1000, 40)
    """

    def estimate_effect(
        self,
        output_baseline: xr.DataTree | None = None,
        output_intervention: xr.DataTree | None = None,
        args_baseline: Mapping[str, Any] | None = None,
        args_intervention: Mapping[str, Any] | None = None,
        *,
        on_batch: bool = False,
        reduce: Any = None,
    ) -> xr.DataTree:
        """Effect of an intervention: its draws minus those of the baseline, with the same noise.

        Two scenarios that are given by their arguments are computed side by side in one pass, which
        keeps the difference alone.

        Args:
            output_baseline: Predictions of the baseline.
            output_intervention: Predictions under the intervention.
            args_baseline: Arguments of :meth:`predict` for the baseline, instead of its output.
            args_intervention: Arguments of :meth:`predict` for the intervention.
            on_batch: Use :meth:`predict_on_batch`.
            reduce: Reducers of the effect, as in :meth:`predict`; for scenarios by arguments.

        Returns:
            The effect by site in the predictive group, and the posterior.

        Raises:
            ArgumentError: If a scenario has neither output nor arguments, or the arguments differ
                in what one pass shares: ``reduce``, ``store``, ``shard_axis`` and the like.
            DataError: If the scenarios differ in shape.

        Warns:
            OutputWarning: If the scenarios are not paired.

        Example:
            >>> effect = im.estimate_effect(args_baseline={"X": X}, args_intervention={"X": X + 1})
            >>> effect.posterior_predictive.y.shape
            (1, 1000, 40)
        """
        if args_baseline is not None and args_intervention is not None and not on_batch:
            computed = output_baseline is not None or output_intervention is not None
            if not computed and _can_share_a_pass(args_baseline, args_intervention):
                return self._effect(args_baseline, args_intervention, reduce)
        if reduce is not None:
            msg = (
                "reduce= works on two scenarios given by their arguments, with one rng_key and one "
                "in_sample; of outputs at hand, reduce the effect yourself."
            )
            raise ArgumentError(msg)
        predict = self.predict_on_batch if on_batch else partial(self.predict, progress=False)
        baseline, intervention = scenarios(
            predict,
            (output_baseline, output_intervention),
            (args_baseline, args_intervention),
            self._take_key,
        )
        return estimate_effect(baseline, intervention)

    def _effect(
        self, baseline: Mapping[str, Any], intervention: Mapping[str, Any], reduce: Any
    ) -> xr.DataTree:
        """Compute both scenarios in one pass, with the key that either names, or a new one."""
        named = baseline.get("rng_key"), intervention.get("rng_key")
        given = next((key for key in named if key is not None), None)
        key = self._split(None, 1)[0] if given is None else given
        shared = _of_the_call(baseline, intervention, reduce) | {"rng_key": key}
        requests = [self._scenario({**args, **shared}) for args in (baseline, intervention)]
        effect = self._predictor.effect(*requests)
        self._advance(given)
        return effect

    def describe(self) -> dict[str, Any]:
        """Describe the model in plain values: its kernel and sites, its training, its draws.

        Example:
            >>> im.describe()["inference"]
            'SVI'
        """
        return describe(
            self._kernel, self._inference, self._spec, self._posterior, self.input_schema
        )

    def __repr__(self) -> str:
        return in_a_line(self.describe())

    def _repr_html_(self) -> str:
        return describe_html(self.describe())


def _can_share_a_pass(baseline: Mapping[str, Any], intervention: Mapping[str, Any]) -> bool:
    """Whether two scenarios are one group, and not drawn with a key each."""
    if baseline.get("in_sample", True) != intervention.get("in_sample", True):
        return False
    keys = [args.get("rng_key") for args in (baseline, intervention)]
    given = [as_typed_key(key) for key in keys if key is not None]
    return len(given) < 2 or bool(given[0] == given[1])


def _of_the_call(
    baseline: Mapping[str, Any], intervention: Mapping[str, Any], reduce: Any
) -> dict[str, Any]:
    """Options of the one pass, which either scenario may name, or both alike.

    Raises:
        ArgumentError: If they name different ones.
    """
    found = {} if reduce is None else {"reduce": reduce}
    for args in (baseline, intervention):
        for name in _CALL_OPTIONS & args.keys():
            if name in found and not _same(found[name], args[name]):
                msg = (
                    f"Both scenarios are computed in one pass, so that {name}= must be the same; "
                    f"got {found[name]!r} and {args[name]!r}."
                )
                raise ArgumentError(msg)
            found[name] = args[name]
    return found


def _same(one: Any, other: Any) -> bool:
    try:
        return one is other or bool(one == other)
    except ValueError:  # arrays
        return False
