"""A fit by SVI: its data, its checks, and its results."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import jax
from numpyro.infer import SVI
from numpyro.infer.svi import SVIRunResult, SVIState

from aimz_lab.data import ArrayLoader
from aimz_lab.errors import FitWarning, GuideError, SiteError
from aimz_lab.inference.feeds.fingerprint import TrainingFingerprint
from aimz_lab.inference.feeds.inputs import all_rows, held_out_rows, needed_output, training_data
from aimz_lab.inference.feeds.kernel_structure import (
    learned_family,
    trace_data,
    with_checked_indices,
)
from aimz_lab.inference.feeds.placement import Placement, resolve_placement
from aimz_lab.inference.feeds.process_stream import team_of_stream, warn_if_alone
from aimz_lab.inference.feeds.schema import InputSchema
from aimz_lab.inference.feeds.training_data import TrainingData, own_copies
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.posterior_sites import check_draws_fit
from aimz_lab.inference.request import FitRequest, FitResult
from aimz_lab.inference.run.constant_loss import constant_loss, loss_of_family
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.family_losses import FAMILIES
from aimz_lab.inference.run.getting_ready import Display
from aimz_lab.inference.run.records import ConstantLoss
from aimz_lab.inference.run.run_words import how_diverged, skipped, skipped_words
from aimz_lab.inference.svi.plan import check_guide
from aimz_lab.inference.svi.rows_check import RowsCheck
from aimz_lab.inference.svi.trainer import Trainer
from aimz_lab.inference.svi.validation import HeldOut, check_held_out
from aimz_lab.kernel.rows.index_checks import IndexCheck
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec
from aimz_lab.preparing import doing
from aimz_lab.tracebacks import warn
from aimz_lab.types import Device, Params, Rows

_FEW = 0.01
"""Share of the steps that may be skipped without a warning."""


class FitData(NamedTuple):
    """Data of a fit.

    Attributes:
        training: The training data.
        held_out: The held-out data, or ``None``.
        spec: The kernel's structure.
        placement: Devices of the batches.
    """

    training: TrainingData
    held_out: HeldOut | None
    spec: KernelSpec
    placement: Placement


def read_fit_data(
    signature: KernelSignature,
    svi: SVI,
    request: FitRequest,
    indices: IndexCheck,
    check: RowsCheck,
) -> FitData:
    """Read and check the data of a fit; a refusal changes nothing.

    Args:
        signature: The kernel.
        svi: The inference object.
        request: The user's call.
        indices: Checks the kernel's indices.
        check: Decides whether rows may be cut into batches.

    Raises:
        ArgumentError: If the posterior draws cannot fit into memory.
        CallError: If arguments are missing, unknown or doubled.
        DataError: If the data does not fit together, or an index is out of range.
        KernelError: If the kernel's structure is not usable, or it computes across rows that are
            cut into batches.
        SiteError: If a site has the rows on two axes.
        GuideError: If the guide cannot be trained on such batches, or has no values for the
            held-out rows.

    Warns:
        FitWarning: If all rows are trained on at once, not in batches of the default size; if this
            process has joined others, and trains without them; if held-out rows are trained on, or
            the kernel computes across them.
    """
    data, device, spec = _training(signature, svi, request, check)
    check_draws_fit(spec, request.num_samples)
    data = with_checked_indices(indices, data)
    if request.in_background:
        data = data.copied()
    held_out = None
    if request.validation is not None:
        doing("reading the held-out data")
        extra = {**data.shared, **data.static}
        rows = held_out_rows(
            signature,
            request.validation,
            extra,
            columns=data.columns,
            allow_nonfinite=request.allow_nonfinite,
        )
        indices.rows(rows, shared=data.shared, static=data.static)
        rows = own_copies(rows) if request.in_background else rows
        held_out = HeldOut(rows, request.validation_every)
        sizes = held_out.block_rows(data), held_out.n_rows
        if request.row_dependence == "auto" and not check.is_proven(spec, data, *sizes):
            held_out = replace(held_out, is_whole=True)
        if request.row_dependence == "auto":
            check.warn_of_statistics(spec, data)
            _warn_of_joined_rows(spec)
        check_held_out(svi, spec, data, held_out)
        _warn_of_trained_rows(rows, data, signature.output, request.earlier)
    placement = resolve_placement(request.device, device)
    if placement.team.is_alone and request.device is None:
        warn_if_alone()
    return FitData(data, held_out, spec, placement)


def _warn_of_joined_rows(spec: KernelSpec) -> None:
    """Tell of a held-out loss that does not use the training outcomes."""
    site = spec.sites.get(spec.output)
    if site is not None and site.joins_rows:
        msg = (
            f"{spec.output!r} is one draw over all rows: the held-out loss is that of the rows in "
            "validation= by themselves, and does not use the outcomes of the training."
        )
        warn(msg, FitWarning)


_MOST_ROWS = 10_000_000
"""Rows up to which the loss of the output's family is computed, in less than a second."""

_ROWS_PER_VALUE = 10
"""Rows for each latent value with which the guide's distance from the prior costs a row little."""


def losses_to_compare(
    signature: KernelSignature,
    spec: KernelSpec,
    data: TrainingData,
    params: Callable[[], Params],
) -> tuple[ConstantLoss, ...]:
    """Return losses of one distribution for all rows, if a fit's loss is comparable with them.

    It is if the loss is that of the output, row by row, as it is passed and with weight 1, and of
    little else.

    Args:
        signature: The kernel.
        spec: Its structure.
        data: The training data.
        params: Returns the parameters before the training.

    Returns:
        That of the output's own family, if all its parameters are learned, and that of the
        broadest distribution; those that there are.
    """
    site = spec.sites.get(spec.output)
    if not data.in_memory or data.n_obs != data.n_rows or site is None:
        return ()
    is_alone = spec.of_kind("observed", "factor") == (spec.output,)
    is_plain = site.argument is not None and site.density_kind in ("density", "mass")
    is_weighed = site.scale not in (None, 1) and site.scale_course != "inverse"
    if not (is_alone and is_plain and site.row_axes and len(site.shape) == 1) or is_weighed:
        return ()
    values = sum(math.prod(spec.shape_at(name, data.n_rows)) for name in spec.latent_sites)
    if values * _ROWS_PER_VALUE > data.n_rows:
        return ()
    outputs = data.rows[site.argument]
    found = constant_loss(outputs, values, is_discrete=site.density_kind == "mass")
    own = None
    needed = {name: family.parameters for name, family in FAMILIES.items()}
    if data.n_rows <= _MOST_ROWS and (
        family := learned_family(signature, spec, data, params, needed)
    ):
        own = loss_of_family(family, outputs, values)
    return tuple(one for one in (own, found) if one is not None)


_EQUAL_BY_CHANCE = 0.01
"""Share of other rows that may be equal to trained ones, to the digits that are compared."""


def _warn_of_trained_rows(
    held_out: Rows, data: TrainingData, output: str, earlier: TrainingFingerprint | None
) -> None:
    """Tell of held-out rows that are trained on, now or before, as far as that is known.

    Warns:
        FitWarning: If there are some, and more than chance makes equal to 4 digits.
    """
    trained = TrainingFingerprint.of(data.rows, output) if data.in_memory else None
    trained = trained.after(earlier) if trained else earlier
    if trained is None or held_out.keys() != data.rows.keys():
        return
    n_rows = len(held_out[output])
    count = trained.count_of(held_out)
    if count > _EQUAL_BY_CHANCE * n_rows:
        msg = (
            f"{count:,} of the {n_rows:,} rows in validation= look like rows that the model is "
            "trained on, so that the held-out loss looks better than it is, and falls where the "
            "model overfits. Pass rows that are in no training."
        )
        warn(msg, FitWarning)


def _with_rows_of_plate(data: TrainingData, spec: KernelSpec) -> TrainingData:
    """Take the size of the rows' plate as the number of rows, where nobody else says it."""
    plates = [site.rows_plate for site in spec.sites.values() if site.rows_plate is not None]
    sizes = {plate.size for plate in plates if plate.size > plate.subsample_size}
    return replace(data, n_obs=sizes.pop()) if data.n_obs is None and len(sizes) == 1 else data


def prepare(signature: KernelSignature, svi: SVI, data: TrainingData) -> KernelSpec:
    """Check kernel, data and guide against each other; return the kernel's structure."""
    doing("tracing the model")
    spec = trace_data(signature, data)
    check_guide(svi, spec, data)
    return spec


def _training(
    signature: KernelSignature, svi: SVI, request: FitRequest, check: RowsCheck
) -> tuple[TrainingData, Device | None, KernelSpec]:
    """Read the training data, with its loader's device, and the kernel's structure."""
    if request.num_steps is not None:
        data = all_rows(
            signature,
            request.inputs,
            needed_output(request.outputs, signature.output),
            request.arguments,
            allow_nonfinite=request.allow_nonfinite,
            roles=request.roles,
        )
        return data, None, prepare(signature, svi, data)
    data, device = _batches(signature, request, request.batch_size)
    # All rows at once is as good a default where the user chose no size and batches will not do.
    chosen = request.batch_size is not None or isinstance(request.inputs, ArrayLoader)
    has_default = data.in_memory and data.n_obs == data.n_rows and not chosen
    try:
        spec = prepare(signature, svi, data)
        data = _with_rows_of_plate(data, spec)
        doing("checking that its rows may be cut into batches")
        crossing = check.crossing(spec, data) if request.row_dependence == "auto" else None
        if crossing is None:
            return data, device, spec
        if not has_default:
            raise crossing.error()
        warn(crossing.warning(), FitWarning)
    except GuideError:
        if not has_default:
            raise
    data, device = _batches(signature, request, data.n_obs)
    return data, device, prepare(signature, svi, data)


def _batches(
    signature: KernelSignature, request: FitRequest, batch_size: int | None
) -> tuple[TrainingData, Device | None]:
    return training_data(
        signature,
        request.inputs,
        request.outputs,
        request.arguments,
        key=request.origin.keys[1],
        batch_size=batch_size,
        shuffle=request.shuffle,
        n_obs=request.n_obs,
        allow_nonfinite=request.allow_nonfinite,
        first_epoch=request.origin.first_epoch,
        roles=request.roles,
        team=team_of_stream(request.inputs, request.device),
    )


class GuideLearner(Protocol):
    """The part of a learner that a fit uses after its run."""

    output: str

    def params(self, state: SVIState | None) -> dict[str, jax.Array]:
        """Return the constrained parameters of a state."""

    def draw_for(
        self, request: FitRequest, data: TrainingData, params: Params, spec: KernelSpec
    ) -> Posterior:
        """Draw from the guide."""


@dataclass(frozen=True)
class SviFit:
    """A fit by SVI whose checks have passed; see :class:`~aimz_lab.inference.request.StartedFit`.

    Attributes:
        learner: Returns parameters, and draws from the guide.
        request: The user's call.
        data: The training data.
        spec: The kernel's structure.
        run: The record of the run.
        loop: The trainer.
        undo: Leaves learner and guide as before the start; for a refused run.
    """

    learner: GuideLearner
    request: FitRequest
    data: TrainingData
    spec: KernelSpec
    run: Run
    loop: Trainer
    undo: Callable[[], None]

    @functools.cached_property
    def schema(self) -> InputSchema:
        """Shapes and types of the data."""
        return InputSchema.of(self.data, with_sums=True)

    def results(self) -> Iterator[FitResult]:
        """Yield the trained state, then the draws too: interrupting these loses no training.

        There is none if other processes were lost: their part of a step may never come.
        """
        run = self.run
        state = run.final_state.svi
        if run.was_refused or self.loop.lost_others:
            return
        if run.left_model:
            if self.request.checkpoint is None:
                yield FitResult(self.spec, self.schema, ending=run.ending)
            return
        if run.step == run.skipped:  # nothing was learned
            yield FitResult(
                self.spec,
                self.schema,
                state,
                fingerprint=self._fingerprint,
                ending=run.ending,
                row_labels=self.data.row_labels,
            )
            return
        trained = self._parameters(state)
        yield trained
        try:
            drawn = self._with_draws(trained)
        except SiteError as error:
            if run.status != "diverged":
                raise
            what, _, _ = str(error).partition(". ")  # its advice is for a guide that has learned
            msg = f"{self._diverged} {what}."
            raise SiteError(msg) from None
        yield drawn

    @property
    def has_reported(self) -> bool:
        """Whether there is a result of a state before the end."""
        return self.loop.reported is not None

    def now(self) -> tuple[FitResult, int] | None:
        """Return the result as of the last report with its step, while the run goes on."""
        reported = self.loop.reported
        if reported is None:
            return None
        state, step = reported
        result = self._with_draws(self._parameters(state.svi))
        if self.loop.is_spoiled:
            ending = f"skipped {skipped(self.run)}, as their loss or parameters were not finite"
            result = replace(result, ending=ending, is_wrecked=True)
        return result, step

    def _parameters(self, state: SVIState) -> FitResult:
        run = self.run
        return FitResult(
            self.spec,
            self.schema,
            state,
            vi_result=SVIRunResult(self.learner.params(state), state, run.losses),
            fingerprint=self._fingerprint,
            epochs_done=self.request.origin.first_epoch
            + (0 if self.request.num_steps else run.epoch),
            ending=run.ending,
            is_wrecked=run.is_wrecked,
            training=self.request.repeated(run, self.data),
            row_labels=self.data.row_labels,
        )

    def _with_draws(self, trained: FitResult) -> FitResult:
        """Add draws, always with the same key: equal parameters have equal draws."""
        params = trained.vi_result.params
        posterior = self.learner.draw_for(self.request, self.data, params, self.spec)
        posterior = replace(posterior, row_labels=self.data.row_labels)
        return replace(trained, posterior=posterior)

    @functools.cached_property
    def _fingerprint(self) -> TrainingFingerprint | None:
        data = self.data
        rows = data.rows if data.in_memory else {}
        return TrainingFingerprint.of(
            rows,
            self.learner.output,
            data.row_labels,
            by_column=bool(self.spec.learned_by_row),
        )

    def warning(self) -> str | None:
        """Return what to warn of at the end; short if a display says why.

        That is an interrupt, a divergence, or more skipped steps than a few.
        """
        if self.run.status == "interrupted" and self.run.ending == self.run.reason:
            kept = "after it, and a posterior from that" if self.run.step else "before"
            return f"The fit ended early: {self.run.reason}; the model has the state {kept}."
        if not self.run.ending:
            return self._skipped
        if any(isinstance(each, Display) for each in self.request.callbacks):
            return (
                f"The fit {how_diverged(self.run)} it {self.run.ending}; last_run.reason says why, "
                "and what to do."
            )
        return self._diverged

    @property
    def _skipped(self) -> str | None:
        run = self.run
        if run.skipped <= _FEW * run.step:
            return None
        return (
            f"The fit left steps out: {skipped_words(run)}. The model has learned nothing from "
            "their rows. Look for extreme or missing values in these, or lower the learning rate."
        )

    @property
    def _diverged(self) -> str:
        return f"The fit {how_diverged(self.run)} {self.run.reason}"
