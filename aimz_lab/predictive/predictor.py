"""Predictive calls: planned, compiled once for each kind of call, and streamed through devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import xarray as xr

from aimz_lab.predictive.forward import (
    GLOBAL_BLOCK,
    Blocks,
    DrawInputs,
    Shared,
    Simulator,
    as_threefry,
    collect_values,
    over_blocks,
    over_draws,
)
from aimz_lab.predictive.log_likelihood import collect_log_likelihood
from aimz_lab.predictive.plan import Plan, Quantity, make_plan
from aimz_lab.predictive.request import Request
from aimz_lab.predictive.stream import (
    BLOCK_ROWS,
    Piece,
    Rows,
    blocks_per_call,
    fold,
    split_by_rows,
)
from aimz_lab.predictive.tree import result_tree

_COLLECTORS: dict[Quantity, Callable] = {
    "values": collect_values,
    "log_likelihood": collect_log_likelihood,
}


class Predictor:
    """Runs predictive calls and keeps what it compiled; one lives as long as its model.

    It holds no results. A copy or a pickle of it starts empty.
    """

    def __init__(self) -> None:
        self._programs: dict[Any, Callable] = {}

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
        call = _Call(self._programs, request, plan, quantity)
        arrays = call.by_rows(rows) if plan.axis == "obs" else call.by_draws(rows)
        return plan, arrays


class _Call:
    """One request on its way: its arrays, where they are needed, and its programs."""

    def __init__(
        self, programs: dict[Any, Callable], request: Request, plan: Plan, quantity: Quantity
    ) -> None:
        self._programs, self.request, self.plan, self.quantity = programs, request, plan, quantity
        self.key = as_threefry(request.key)
        self.row_do, do = split_by_rows(request.intervention, plan.row_wise)
        self.row_condition, condition = split_by_rows(request.condition, plan.row_wise)
        self.shared = Shared(dict(request.whole), dict(request.params), do, condition)
        latents = {name: request.draws[name] for name in plan.latents}
        self.draws = DrawInputs(np.arange(request.n_draws, dtype=np.uint32), latents)

    def by_rows(self, rows: Rows) -> dict[str, np.ndarray]:
        """Compute blocks of rows, all draws at a time."""
        plan, request = self.plan, self.request
        n_blocks = blocks_per_call(rows.n_rows, self._row_bytes(), request.batch_size, 1)
        out: dict[str, Any] = {}
        pieces: dict[str, list[np.ndarray]] = {name: [] for name in plan.row_sites}
        aligned = {
            **{f"do {name}": value for name, value in self.row_do.items()},
            **{f"condition {name}": value for name, value in self.row_condition.items()},
        }
        for piece in rows.pieces(n_blocks * BLOCK_ROWS, aligned):
            if piece.first == 0 and (plan.globals_drawn or plan.global_sites):
                out.update(self._draw_globals(piece))
            if not plan.row_sites:
                continue
            blocks = self._as_blocks(piece, n_blocks)
            program = self._program("rows", plan.row_sites, over_blocks)
            values = jax.device_get(program(self.key, self.draws, blocks, self.shared))
            for name, value in values.items():
                flat = value.reshape(value.shape[0], -1, *value.shape[3:])
                pieces[name].append(flat[:, : piece.n_rows])
        for name, parts in pieces.items():
            joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
            out[name] = np.moveaxis(joined, 1, plan.row_sites[name] + 1)
        return {name: out[name] for name in plan.row_axes}

    def by_draws(self, rows: Rows) -> dict[str, np.ndarray]:
        """Compute all rows together."""
        [piece] = rows.pieces(rows.n_rows, {})
        block = Blocks(np.uint32(0), piece.rows, self.row_do, self.row_condition)
        program = self._program("draws", self.plan.row_axes, over_draws)
        values = jax.device_get(program(self.key, self.draws, block, self.shared))
        return {
            name: value if axis is None else np.moveaxis(value, 1, axis + 1)
            for (name, axis), value in zip(
                self.plan.row_axes.items(), (values[n] for n in self.plan.row_axes), strict=True
            )
        }

    def _draw_globals(self, piece: Piece) -> dict[str, np.ndarray]:
        """Draw what has no rows, once for all blocks, and fix it for them."""
        blocks = self._as_blocks(piece, -(-piece.n_rows // BLOCK_ROWS))
        block = jax.tree.map(lambda array: array[0], blocks._replace(ids=np.zeros(1, np.uint32)))
        names = dict.fromkeys((*self.plan.globals_drawn, *self.plan.global_sites))
        program = self._program("globals", names, over_draws)
        block = block._replace(ids=np.uint32(GLOBAL_BLOCK))
        values = jax.device_get(program(self.key, self.draws, block, self.shared))
        fixed = {name: values[name] for name in self.plan.globals_drawn}
        self.draws = self.draws._replace(sites={**self.draws.sites, **fixed})
        return {name: values[name] for name in self.plan.global_sites}

    def _as_blocks(self, piece: Piece, n_blocks: int) -> Blocks:
        first = piece.first // BLOCK_ROWS
        folded = {name: fold(array, n_blocks) for name, array in piece.aligned.items()}
        return Blocks(
            ids=np.arange(first, first + n_blocks, dtype=np.uint32),
            rows={name: fold(array, n_blocks) for name, array in piece.rows.items()},
            intervention={name: folded[f"do {name}"] for name in self.row_do},
            condition={name: folded[f"condition {name}"] for name in self.row_condition},
        )

    def _row_bytes(self) -> int:
        sites = (self.plan.spec.sites[name] for name in self.plan.row_sites)
        each = sum(
            site.dtype.itemsize * int(np.prod(site.shape, dtype=np.int64)) // self.plan.spec.n_rows
            for site in sites
        )
        return each * self.request.n_draws

    def _program(self, kind: str, row_axes: Mapping[str, int | None], over: Callable) -> Callable:
        """The compiled program of a kind of call, built once."""
        request = self.request
        set_by_hand = tuple(
            tuple(sorted(values))
            for values in (request.intervention, request.condition, self.plan.row_wise)
        )
        cache_key = (
            kind,
            self.quantity if kind != "globals" else "values",
            id(request.kernel),
            request.static_key,
            tuple(row_axes.items()),
            set_by_hand,
        )
        if cache_key not in self._programs:
            collector = _COLLECTORS[cache_key[1]]
            sites = self.plan.spec.sites
            by_hand = {**request.condition, **request.intervention}
            simulate = Simulator(
                kernel=request.kernel,
                static=request.static,
                shapes={
                    name: tuple(
                        None if axis in sites[name].row_axes else size
                        for axis, size in enumerate(sites[name].shape)
                    )
                    for name in by_hand
                },
                dtypes={name: sites[name].dtype for name in by_hand},
                collect=collector(dict(row_axes)),
            )
            self._programs[cache_key] = jax.jit(over(simulate, draw_chunk=16))
        return self._programs[cache_key]
