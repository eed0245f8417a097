"""Refuse minibatches of a kernel or a guide that computes across rows.

A batch stands for all rows only if each row's part of the ELBO is the same in a batch as among all
rows. The traced program proves that of most kernels, at the sizes of the batches and at the number
of all rows. Others are tested on the training data: all rows at once against the batches of an
epoch, at values of parameters and latent sites that differ. What a test cannot show is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Int
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoGuide

from aimz_lab.data import canonical
from aimz_lab.errors import AimzLabError, FitWarning, GuideError, KernelError
from aimz_lab.inference.compiling import QUICKEST, compiler_options, named
from aimz_lab.inference.feeds.training_data import TrainingData
from aimz_lab.inference.rollback import rollback_always
from aimz_lab.inference.svi.plan import may_pad, written_guide_spec
from aimz_lab.inference.svi.rows_trace import RowsTrace
from aimz_lab.kernel.arguments import KernelArguments
from aimz_lab.kernel.cache_keys import CodeKey, shapes_of
from aimz_lab.kernel.rows.kernel_statistics import (
    COMPUTE_BEFORE,
    across_rows,
    statistics_in_sites,
)
from aimz_lab.kernel.rows.row_test import RowTest
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.tracebacks import warn

_UNKNOWN_LENGTH = 2**16
"""Rows that a stream of unknown length is taken to have, for the proof."""

_TESTED_AT_ONCE = 4096
"""With more rows than this, two batches are tested before all rows: a kernel that computes across
rows may take long on all of them."""

_PIECES = 1024
"""Most batches of a test; they are spread over an epoch."""

_DRAWS = (False, True, False)
"""For each draw of a test, whether its values are spread wide or drawn from the prior."""

Role = Literal["kernel", "guide"]
Answer = TypeVar("Answer")


class Crossing(NamedTuple):
    """Why rows may not be cut into batches.

    Attributes:
        role: What computes across rows.
        sites: The sites where it does, or may.
        is_tested: Whether a test on all rows has shown it; if not, it could not be ruled out.
        in_memory: Whether all rows are at hand to be tested.
        batch_size: Rows of a batch.
        n_rows: Rows of the whole data, or ``None`` if unknown.
    """

    role: Role
    sites: tuple[str, ...]
    is_tested: bool
    in_memory: bool
    batch_size: int
    n_rows: int | None

    @property
    def finding(self) -> str:
        """What was found, as a sentence."""
        sites = ", ".join(map(repr, self.sites))
        where = f" at the site{'s' if len(self.sites) > 1 else ''} {sites}" if sites else ""
        if self.is_tested:
            return (
                f"The {self.role} computes across rows{where}: what a row contributes depends on "
                "the rows beside it, on its place among them, or on their number."
            )
        why_untested = (
            "it does not run on all rows at once, which would test it"
            if self.in_memory
            else "a test needs all rows in memory"
        )
        return (
            f"Nothing proves that the {self.role} treats each row by itself{where}, and "
            f"{why_untested}."
        )

    def error(self) -> AimzLabError:
        """Return the refusal."""
        of_all = "" if self.n_rows is None else f" of the {self.n_rows:,} rows"
        effect = "would" if self.is_tested else "may"
        arrays = "" if self.in_memory else "Pass arrays, so that all rows can be tested. "
        msg = (
            f"{self.finding} Batches of {self.batch_size:,}{of_all} {effect} train another model. "
            f"{arrays}Train on all rows at once, with fit_on_batch(X, y) or "
            "fit(X, y, batch_size=len(X)). "
            'If you know that rows are independent, say so: rows="independent".'
        )
        return GuideError(msg) if self.role == "guide" else KernelError(msg)

    def warning(self) -> str:
        """Return the warning where all rows are trained on at once instead."""
        return (
            f"{self.finding} So all {self.n_rows:,} rows are trained on at once, not in batches of "
            f"{self.batch_size:,}. To choose this, pass batch_size=len(X); if you know that rows "
            'are independent, pass rows="independent".'
        )


@dataclass(frozen=True, eq=False)
class _Subject:
    """A kernel or a guide, and its structure."""

    role: Role
    function: Callable
    spec: KernelSpec


class RowsCheck:
    """Decides whether the rows of training data may be cut; it remembers what it has proved.

    Args:
        signature: The kernel.
        svi: The inference object.
    """

    def __init__(self, signature: KernelSignature, svi: SVI) -> None:
        self._kernel, self._svi = signature.kernel, svi
        self._proofs: dict[Hashable, bool] = {}
        self._tests: dict[Hashable, Callable] = {}

    def crossing(self, spec: KernelSpec, data: TrainingData) -> Crossing | None:
        """Return why the rows may not be cut into batches, or ``None`` if they may.

        Args:
            spec: The kernel's structure.
            data: The training data.
        """
        n_rows = _all_rows(data)
        key = self._key("fit", data.first_batch), data.batch_size, n_rows
        if not data.is_minibatch or self._proofs.get(key):
            return None
        subjects = self._subjects(spec, data)
        sizes = {data.batch_size}
        if n_rows % data.batch_size and not may_pad(self._svi, *(one.spec for one in subjects)):
            sizes.add(n_rows % data.batch_size)
        unproven = {
            subject: [n for n in sizes if not self._is_proven(subject, data, n, n_rows)]
            for subject in subjects
        }
        self._proofs[key] = not any(unproven.values())
        tests = (self._test(*each, data) for each in unproven.items() if each[1])
        return next((found for found in tests if found is not None), None)

    def warn_of_statistics(self, spec: KernelSpec, data: TrainingData) -> None:
        """Warn of statistics of rows in a kernel whose batches are not tested.

        Args:
            spec: The kernel's structure.
            data: The training data; only shapes and types of its arguments matter.

        Warns:
            FitWarning: If each batch has statistics of its own.
        """
        batch = data.first_batch
        found = statistics_in_sites(
            self._kernel,
            spec,
            [name for name in spec.sample_sites if not spec.sites[name].joins_rows],
            rows=batch.rows,
            shared=batch.shared,
            static=batch.static,
            params={},
            fixed=spec.latent_sites,
        )
        for site, names in found.items():
            text = across_rows(site, names)
            warn(f"{text[0].upper()}{text[1:]}. {COMPUTE_BEFORE}", FitWarning)
            return

    def is_proven(self, spec: KernelSpec, data: TrainingData, few: int, many: int) -> bool:
        """Whether ``many`` rows may provably be cut into pieces of ``few``.

        Args:
            spec: The kernel's structure.
            data: The training data; only shapes and types of its arguments matter.
            few: Rows of a piece.
            many: All rows.
        """
        if few == many:
            return True
        subjects = self._subjects(spec, data)
        return all(self._is_proven(subject, data, few, many) for subject in subjects)

    def _key(self, asked: Role | Literal["fit"], batch: KernelArguments) -> Hashable:
        """Recognise a question by the code, and by the shapes of a row and of shared arguments."""
        guide = self._svi.guide
        code = CodeKey(self._kernel), None if isinstance(guide, AutoGuide) else CodeKey(guide)
        row = {name: array[:0] for name, array in batch.rows.items()}
        return asked, code, batch.static_key, shapes_of((row, dict(batch.shared)))

    def _subjects(self, spec: KernelSpec, data: TrainingData) -> list[_Subject]:
        subjects = [_Subject("kernel", self._kernel, spec)]
        guide_spec = written_guide_spec(self._svi, spec, data)
        if guide_spec is not None:
            subjects.append(_Subject("guide", self._svi.guide, guide_spec))
        return subjects

    def _is_proven(self, subject: _Subject, data: TrainingData, few: int, many: int) -> bool:
        key = self._key(subject.role, data.first_batch), few, many
        if key not in self._proofs:
            self._proofs[key] = self._prove(subject, data, few, many, RowTest.is_proven) is True
        return self._proofs[key]

    def _unproven_sites(
        self, subject: _Subject, data: TrainingData, few: int, many: int
    ) -> tuple[str, ...]:
        """Names of the sites without a proof; none if the kernel does not run at a size."""
        return self._prove(subject, data, few, many, RowTest.unproven_sites) or ()

    def _prove(
        self,
        subject: _Subject,
        data: TrainingData,
        few: int,
        many: int,
        ask: Callable[[RowTest, tuple, tuple], Answer],
    ) -> Answer | None:
        """Answer a question about the traced program; ``None`` if it does not run at a size."""
        batch = data.first_batch
        trace = RowsTrace(subject.function, batch.static, subject.spec)
        with rollback_always(self._svi.guide):
            try:
                sizes = trace.abstract(batch, few), trace.abstract(batch, many)
                return ask(_row_test(trace, subject.spec), *sizes)
            except Exception:  # noqa: BLE001  an error of the kernel itself shows elsewhere
                return None

    def _test(self, subject: _Subject, sizes: list[int], data: TrainingData) -> Crossing | None:
        """Test on all rows, if they are in memory, in the batches of the first epoch."""
        n_rows = _all_rows(data)
        at_hand = data.in_memory and data.n_rows == n_rows
        found = Crossing(subject.role, (), True, at_hand, data.batch_size, data.n_obs)
        if not at_hand:
            sites = self._unproven_sites(subject, data, sizes[0], n_rows)
            return found._replace(sites=sites, is_tested=False)
        order = np.arange(n_rows) if data.order is None else np.asarray(data.order(0))
        two = np.sort(order[: 2 * data.batch_size])
        try:
            sites = ()
            if len(two) < n_rows > _TESTED_AT_ONCE:
                sites = self._crossing_sites(subject, data, two, np.arange(len(two)), sizes)
            if not sites:
                sites = self._crossing_sites(subject, data, slice(None), order, sizes)
        except Exception:  # noqa: BLE001  it cannot run on all rows at once, which proves nothing
            sites = self._unproven_sites(subject, data, sizes[0], n_rows)
            return found._replace(sites=sites, is_tested=False)
        return found._replace(sites=sites) if sites else None

    def _crossing_sites(
        self,
        subject: _Subject,
        data: TrainingData,
        chosen: Int[np.ndarray, " row"] | slice,
        order: Int[np.ndarray, " row"],
        sizes: list[int],
    ) -> tuple[str, ...]:
        """Compare chosen rows with their batches of each size, at several values."""
        rows = {name: canonical(array[chosen], name) for name, array in data.rows.items()}
        rows = jax.device_put(rows)
        cuts = [_pieces(order, size) for size in sizes]
        batch, found = data.first_batch, set[str]()
        key = self._key(subject.role, batch)
        trace = RowsTrace(subject.function, batch.static, subject.spec)
        test = _row_test(trace, subject.spec)
        if key not in self._tests:
            program = named("test of the rows", test.crossing)
            self._tests[key] = jax.jit(program, compiler_options=compiler_options(QUICKEST))
        with rollback_always(self._svi.guide):
            for number, is_wide in enumerate(_DRAWS):
                key_data = np.array([number, is_wide], np.uint32)
                shared = trace.shared(batch, number, is_wide=is_wide)
                for pieces in cuts:
                    flags = jax.device_get(self._tests[key](rows, shared, {}, key_data, pieces))
                    found |= set(test.crossing_sites(flags))
        in_order = [name for name in subject.spec.sites if name in found]
        return (*in_order, *sorted(found.difference(in_order)))


def _all_rows(data: TrainingData) -> int:
    """The number of all rows; of a stream of unknown length, one that is larger than a batch."""
    return data.n_obs or max(_UNKNOWN_LENGTH, 2 * data.batch_size)


def _row_test(trace: RowsTrace, spec: KernelSpec) -> RowTest:
    names = spec.of_kind("latent", "observed", "factor")
    return RowTest(trace, spec, names, in_training=True)


def _pieces(order: Int[np.ndarray, " row"], size: int) -> Int[np.ndarray, "piece position"]:
    """Cut an epoch into batches; the last one is filled from the beginning.

    If there are very many batches, some from all over the epoch are taken.
    """
    count = -(-len(order) // size)
    pieces = np.resize(order, (count, size)).astype(np.int32)
    return pieces[np.unique(np.linspace(0, count - 1, min(count, _PIECES)).astype(np.int64))]
