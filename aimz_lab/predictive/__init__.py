"""Predictive draws and log-likelihoods, the same for every batch size and number of devices.

Entry points:

- :class:`Request`: one call, as plain values.
- :class:`Predictor`: runs calls and keeps the compiled programs: ``predict(request)`` (a tree),
  ``predict_arrays(request)`` (arrays ``(S, ...)`` by site) and ``log_likelihood(request)``. Make
  one per model.
  ``effect(baseline, intervention)`` computes both scenarios in one pass and keeps the contrast.
- ``Request.reduce``: ``"mean"``, ``"sd"``, ``"ate"``, ``"lppd"``, ``"waic"``, ``"loo"``,
  :class:`Mean`, :class:`Quantiles`, :class:`Hdi`, :class:`Exceeds`, :class:`Loo`, or an object of
  one's own (:class:`Reducer`), or several of these.
- :func:`bytes_in_flight`: the bound on a call's memory.
- :func:`open_results`: a persistent result, read again.
- :func:`posterior_dataset`, :func:`posterior_tree`: posterior draws, labelled.

The noise of a row depends on the key, the draw, the row's block, its position in the block, and the
site's name, and on nothing else.
"""

from __future__ import annotations

from aimz_lab.predictive.pipeline import bytes_in_flight
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.reducers import Exceeds, Hdi, Loo, Mean, Quantiles, Reducer
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.results.datasets import posterior_dataset, posterior_tree
from aimz_lab.predictive.results.store import open_results

__all__ = [
    "Exceeds",
    "Hdi",
    "Loo",
    "Mean",
    "Predictor",
    "Quantiles",
    "Reducer",
    "Request",
    "bytes_in_flight",
    "open_results",
    "posterior_dataset",
    "posterior_tree",
]
