"""The predictive calls, and what their model keeps from one to the next."""

from __future__ import annotations

import numpy as np
import xarray as xr

from aimz_lab.predictive.arm import Arm
from aimz_lab.predictive.engine import CrossingRowsError, Engine
from aimz_lab.predictive.plan import Plan, Quantity, keep_rows_together, make_plan
from aimz_lab.predictive.programs import Programs
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.sinks import MemorySink
from aimz_lab.predictive.stream import Rows
from aimz_lab.predictive.tree import result_tree


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
        plan, arrays = self._run(request, "values")
        return result_tree(request, plan, arrays)

    def predict_arrays(self, request: Request) -> dict[str, np.ndarray]:
        """Draw from the predictive distribution; return arrays ``(S, ...)`` by site."""
        return self._run(request, "values")[1]

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
        plan, arrays = self._run(request, "log_likelihood")
        return result_tree(request, plan, arrays)

    def _run(self, request: Request, quantity: Quantity) -> tuple[Plan, dict[str, np.ndarray]]:
        rows = Rows(request.rows, request.fields)
        plan = make_plan(request, rows, quantity)
        if plan.axis == "obs":
            try:
                return plan, self._arrays(Arm(request, plan, rows, quantity))
            except CrossingRowsError as crossing:
                plan = keep_rows_together(plan, rows, crossing.args)
        return plan, self._arrays(Arm(request, plan, rows, quantity))

    def _arrays(self, arm: Arm) -> dict[str, np.ndarray]:
        engine = Engine(self._programs, (arm,), lambda one: one)
        sink = MemorySink(arm.request.n_draws, arm.rows.n_rows)
        single = (engine.by_rows if arm.plan.axis == "obs" else engine.by_draws)(sink)
        found = {**single, **sink.arrays()}
        return {
            name: found[name] if axis is None else np.moveaxis(found[name], 1, axis + 1)
            for name, axis in arm.plan.row_axes.items()
        }
