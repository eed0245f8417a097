"""The predictive calls, and what their model keeps from one to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from aimz_lab.predictive.arm import Arm
from aimz_lab.predictive.engine import CrossingRowsError, Engine, Sink
from aimz_lab.predictive.plan import Quantity, keep_rows_together, make_plan
from aimz_lab.predictive.programs import Programs
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.sinks import MemorySink, StoreSink
from aimz_lab.predictive.store import StoreWriter, read_store
from aimz_lab.predictive.stream import Rows
from aimz_lab.predictive.tree import make_labels, result_groups


class Predictor:
    """Runs predictive calls and keeps what it compiled; one lives as long as its model.

    It holds no results. A copy or a pickle of it starts empty.
    """

    def __init__(self) -> None:
        self._programs = Programs()

    def __reduce__(self) -> tuple[type[Predictor], tuple[()]]:
        return Predictor, ()

    def predict(self, request: Request) -> xr.DataTree:
        """Draw from the predictive distribution.

        Args:
            request: The call.

        Returns:
            A tree with the group that the request names, and the posterior if there is one.

        Raises:
            SiteError: If a site that is named does not exist or does not fit.
            DataTypeError: If the rows come from a source and depend on one another.

        Warns:
            PerformanceWarning: If rows depend on one another, so that they stay together.
        """
        return self._tree(request, "values")

    def predict_arrays(self, request: Request) -> dict[str, np.ndarray]:
        """Draw from the predictive distribution; return arrays ``(S, ...)`` by site."""
        return self._computed(request, "values", self._arrays)[1]

    def log_likelihood(self, request: Request) -> xr.DataTree:
        """Compute the log-likelihood of the output for each draw and row.

        Args:
            request: The call, with the observed output among its rows.

        Returns:
            A tree with the group ``log_likelihood``, and the posterior if there is one.

        Raises:
            SiteError: If the output is not observed, or a site does not fit.
            DataError: If the output's shape is not the site's.
        """
        return self._tree(request, "log_likelihood")

    def _tree(self, request: Request, quantity: Quantity) -> xr.DataTree:
        if request.store == "persistent":
            return self._computed(request, quantity, self._stored)
        arm, arrays = self._computed(request, quantity, self._arrays)
        return xr.DataTree.from_dict(result_groups(arm, make_labels(arm), arrays))

    def _computed(self, request: Request, quantity: Quantity, compute: Callable) -> Any:
        """Plan the call and compute it; once more with the rows together if they prove to cross."""
        rows = Rows(request.rows, request.fields)
        plan = make_plan(request, rows, quantity)
        if plan.axis == "obs":
            try:
                return compute(Arm(request, plan, rows, quantity))
            except CrossingRowsError as crossing:
                plan = keep_rows_together(plan, rows, crossing.args)
        return compute(Arm(request, plan, rows, quantity))

    def _run(self, arm: Arm, sink: Sink) -> dict[str, np.ndarray]:
        engine = Engine(self._programs, (arm,), lambda one: one)
        return engine.by_rows(sink) if arm.plan.axis == "obs" else engine.by_draws(sink)

    def _arrays(self, arm: Arm) -> tuple[Arm, dict[str, np.ndarray]]:
        sink = MemorySink(arm.request.n_draws, arm.rows.n_rows)
        found = {**self._run(arm, sink), **sink.arrays()}
        return arm, {
            name: found[name] if axis is None else np.moveaxis(found[name], 1, axis + 1)
            for name, axis in arm.plan.row_axes.items()
        }

    def _stored(self, arm: Arm) -> xr.DataTree:
        request, labels = arm.request, make_labels(arm)
        writer = StoreWriter(request.output_dir, request.group)
        sink = StoreSink(writer, arm, labels)
        try:
            single = self._run(arm, sink)
            sink.close()
            for group, dataset in result_groups(arm, labels, single).items():
                writer.write_dataset(group, dataset)
            writer.publish({})
        except BaseException:
            sink.abandon()
            writer.discard()
            raise
        return read_store(writer.path, writer.owner)
