"""A scenario of a call: its request, its plan, and its arrays as program arguments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping

import jax
import numpy as np
from jax.typing import ArrayLike

from aimz_lab.inference.posterior_sites import as_values_of
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.predictive.blocks import Piece, Rows, fold, split_by_rows
from aimz_lab.predictive.plan import Plan
from aimz_lab.predictive.programs.forward import Blocks, Shared, Simulator, collect_values
from aimz_lab.predictive.programs.log_likelihood import collect_log_likelihood
from aimz_lab.predictive.request import Quantity, Request


class Scenario:
    """One scenario: a call, or one side of an effect.

    Args:
        request: The call.
        plan: Its plan.
        rows: Its rows.
        quantity: Values of sites, or their log likelihood.

    Attributes:
        request: The call.
        plan: Its plan.
        rows: Its rows.
        quantity: Values of sites, or their log likelihood.
        shared: Values shared by all rows and draws.
    """

    def __init__(self, request: Request, plan: Plan, rows: Rows, quantity: Quantity) -> None:
        self.request, self.plan, self.rows, self.quantity = request, plan, rows, quantity
        given = (_typed(values, plan.spec) for values in (request.intervention, request.condition))
        (self._row_do, do), (self._row_condition, condition) = (
            split_by_rows(values, plan.row_wise) for values in given
        )
        self.shared = Shared(dict(request.shared), dict(request.params), do, condition)
        self._latents = {
            name: as_values_of(plan.spec.sites[name], request.draws[name]) for name in plan.latents
        }

    @property
    def key(self) -> Hashable:
        """Identifies the kernel's programs, together with the shapes of their arguments."""
        return (
            self.plan.kernel,
            self.request.static_key,
            self.quantity,
            self.request.output_scale,
            self.plan.expected,
            tuple(self.plan.row_axes.items()),
            tuple(self.plan.row_wise.items()),
            self.plan.summed_out,
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of the result per row, over all draws."""
        spec = self.plan.spec
        n_rows = self.rows.n_rows or spec.n_rows
        size = sum(
            spec.sites[name].dtype.itemsize * int(np.prod(spec.shape_at(name, n_rows)))
            for name in self.plan.row_sites
        )
        return max(self.request.n_draws * size // n_rows, 1)

    @property
    def draw_values(self) -> int:
        """Number of values in one posterior draw."""
        return sum(int(np.prod(values.shape[1:])) for values in self._latents.values())

    def simulator(
        self, wanted: Mapping[str, int | None], quantity: Quantity | None = None
    ) -> Simulator:
        """The kernel, collecting the wanted sites, each with its axis of rows."""
        by_hand = {**self.request.condition, **self.request.intervention}
        sites = {name: self.plan.spec.sites[name] for name in by_hand}
        return Simulator(
            kernel=self.request.kernel,
            static=self.request.static,
            shapes={
                name: tuple(
                    None if axis in site.row_axes else size for axis, size in enumerate(site.shape)
                )
                for name, site in sites.items()
            },
            dtypes={name: site.dtype for name, site in sites.items()},
            collect=self._collector(wanted, quantity or self.quantity),
            output=self.request.output,
            replaced=self.plan.replaced,
        )

    def _collector(self, wanted: Mapping[str, int | None], quantity: Quantity) -> Callable:
        if quantity == "values":
            return collect_values(wanted, self._scales, self.plan.expected)
        return collect_log_likelihood(wanted, self.plan.summed_out)

    @property
    def _scales(self) -> dict[str, Callable]:
        scale = self.request.output_scale
        return {} if scale is None else {self.request.output: scale}

    def sites(self, fixed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fixed sites of each draw, ``(S, ...)``: of the posterior, and ``fixed``."""
        return {**self._latents, **fixed}

    def blank_globals(self) -> dict[str, np.ndarray]:
        """Zeros in the shape of the sites without rows that are drawn."""
        sites = (self.plan.spec.sites[name] for name in self.plan.globals_drawn)
        return {
            site.name: np.broadcast_to(
                np.zeros((), site.dtype), (self.request.n_draws, *site.shape)
            )
            for site in sites
        }

    @property
    def aligned(self) -> dict[tuple[str, str], np.ndarray]:
        """Set values that have one entry per row, rows first, by role and site."""
        found = {("do", name): value for name, value in self._row_do.items()}
        return found | {("condition", name): value for name, value in self._row_condition.items()}

    def pieces(self, size: int) -> Iterator[Piece]:
        """Yield the rows, ``size`` at a time, with set values that have one entry per row."""
        return self.rows.pieces(size, self.aligned)

    def blocks(self, piece: Piece, n_blocks: int) -> Blocks:
        """Fold the rows of a call into blocks."""
        folded = {name: fold(array, n_blocks) for name, array in piece.aligned.items()}
        return Blocks(
            rows={name: fold(array, n_blocks) for name, array in piece.rows.items()},
            intervention={name: folded["do", name] for name in self._row_do},
            condition={name: folded["condition", name] for name in self._row_condition},
        )

    @property
    def all_rows(self) -> Blocks:
        """Arrays with all rows leading; of a source, with some."""
        return Blocks(self.rows.template, self._row_do, self._row_condition)

    def abstract(self, n_rows: int) -> tuple[Blocks, Shared, dict[str, jax.ShapeDtypeStruct]]:
        """Shapes and types of rows, of shared values, and of one draw of all latent sites.

        A site that is intervened on has a value of its own, beside the set one.
        """
        by_hand = {*self.request.condition, *self.plan.replaced}

        def with_rows(arrays: Mapping[str, ArrayLike]) -> dict[str, jax.ShapeDtypeStruct]:
            return {
                name: _abstract(array, (n_rows, *np.shape(array)[1:]))
                for name, array in arrays.items()
            }

        rows = Blocks(*map(with_rows, (self.rows.template, self._row_do, self._row_condition)))
        spec = self.plan.spec
        drawn = {
            name: jax.ShapeDtypeStruct(spec.shape_at(name, n_rows), spec.sites[name].dtype)
            for name in spec.of_kind("latent")
            if name not in by_hand
        }
        return rows, jax.tree.map(_abstract, self.shared), drawn

    def block(self, indices: np.ndarray | slice) -> Blocks:
        """Some of the first rows as a single block."""
        return Blocks(
            rows={name: array[indices] for name, array in self.rows.template.items()},
            intervention={name: array[indices] for name, array in self._row_do.items()},
            condition={name: array[indices] for name, array in self._row_condition.items()},
        )


def _typed(values: Mapping[str, ArrayLike], spec: KernelSpec) -> dict[str, np.ndarray]:
    """Give set values the types of their sites: 3, 3.0 and an array of either are one program."""
    typed = {}
    for name, value in values.items():
        array, kind = np.asarray(value), spec.sites[name].dtype
        same = np.issubdtype(kind, np.floating) or (array.dtype.kind in "iu" and kind.kind in "iu")
        cast = array.astype(kind) if same else array
        # A whole number that the type of its site does not hold keeps its own.
        typed[name] = array if kind.kind in "iu" and (cast != array).any() else cast
    return typed


def _abstract(array: ArrayLike, shape: tuple[int, ...] | None = None) -> jax.ShapeDtypeStruct:
    kind = jax.typeof(array)
    return jax.ShapeDtypeStruct(
        kind.shape if shape is None else shape, kind.dtype, weak_type=kind.weak_type
    )
