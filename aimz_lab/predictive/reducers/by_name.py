"""Reducers by their names for ``reduce=``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aimz_lab.data.options import check_mapping
from aimz_lab.errors import ArgumentError
from aimz_lab.predictive.reducers.contract import Reducer
from aimz_lab.predictive.reducers.moments import AverageEffect, Mean, Sd
from aimz_lab.predictive.reducers.scores import Loo, Lppd, Waic
from aimz_lab.types import shown

_BY_NAME = {"mean": Mean, "sd": Sd, "ate": AverageEffect, "lppd": Lppd, "waic": Waic, "loo": Loo}

ReduceSpec = str | Reducer | Sequence[str | Reducer] | Mapping[str, str | Reducer]


_NO_REDUCER = "reduce= names no reducer; leave it out to keep the draws, or use reduce='mean'."


def as_reducers(reduce: ReduceSpec) -> dict[str, Reducer]:
    """Return reducers by name.

    Args:
        reduce: A reducer or the name of one, several of them, or a mapping that names them.

    Raises:
        ArgumentError: If a name is not known or used twice, or something is not a reducer.

    Example:
        >>> from aimz_lab import Quantiles
        >>> list(as_reducers(["mean", Quantiles([0.1, 0.9])]))
        ['mean', 'quantile']
    """
    if isinstance(reduce, Mapping):
        named = check_mapping("reduce", reduce, "reducers by name")
        if not named:
            raise ArgumentError(_NO_REDUCER)
        return {name: _as_reducer(one) for name, one in named.items()}
    several = _listed(reduce)
    if not several:
        raise ArgumentError(_NO_REDUCER)
    reducers = [_as_reducer(one) for one in several]
    names = [one.name for one in reducers]
    if len(set(names)) < len(names):
        msg = f"The reducers are called {names}; pass a mapping to give each a name of its own."
        raise ArgumentError(msg)
    return dict(zip(names, reducers, strict=True))


def _listed(reduce: object) -> list[object]:
    if isinstance(reduce, str | Reducer):
        return [reduce]
    try:
        return list(reduce)
    except TypeError:  # it is refused as a reducer
        return [reduce]


def _as_reducer(one: object) -> Reducer:
    if isinstance(one, str) and one in _BY_NAME:
        return _BY_NAME[one]()
    if isinstance(one, Reducer) and not isinstance(one, type):
        return one
    msg = (
        f"reduce={shown(one)} is not known; use {', '.join(map(repr, _BY_NAME))}, "
        "Quantiles([...]), Hdi(prob), Exceeds(threshold), Mean(over='row', by=labels), or an "
        "object with the members of Reducer."
    )
    raise ArgumentError(msg)
