"""A fitted model as reports read it, and the log-likelihood of its rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from aimz_lab.errors import AimzLabError, OutputWarning
from aimz_lab.inference.posterior import Posterior
from aimz_lab.inference.request import Learner
from aimz_lab.inference.run.run import Run
from aimz_lab.inference.trained import Fitted, Trained
from aimz_lab.kernel.signature import KernelSignature
from aimz_lab.kernel.spec import KernelSpec, variable_name
from aimz_lab.predictive.predictor import Predictor
from aimz_lab.predictive.request import Group, Request
from aimz_lab.predictive.scored_density import ScoredDensity
from aimz_lab.system.lazy_modules import xr
from aimz_lab.trust.guide_checks import GuideExamination, examine_guide
from aimz_lab.trust.row_scores import LikelihoodOfRows
from aimz_lab.trust.rows_to_examine import ExaminedRows
from aimz_lab.types import RowDependence

if TYPE_CHECKING:
    from aimz_lab.tables.model_table import ModelTable


_NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Examined:
    """A fitted model, with the parts of it that a report reads.

    Attributes:
        signature: The kernel.
        learner: Its learner.
        inference: Its inference object.
        trained: What it has learned.
        fitted: Its posterior.
        run: Its last run, or ``None``.
        predictor: Computes predictions.
        request: Makes a call's request, for a posterior, a group and reducers.
        labelled: Returns draws as a labelled tree.
        table: How it reads tables, or ``None``.
        left_out: Which rows of a table were left out, as a phrase; empty for none.
    """

    signature: KernelSignature
    learner: Learner
    inference: object
    trained: Trained
    fitted: Fitted
    run: Run | None
    predictor: Predictor
    request: Callable[[Posterior, Group, Mapping[str, object] | None], Request]
    labelled: Callable[[Posterior], xr.DataTree]
    table: ModelTable | None = None
    left_out: str = ""

    @property
    def spec(self) -> KernelSpec:
        """The kernel's structure with its data, once it was trained or scored."""
        return self.trained.spec or self.predictor.spec

    def guide(
        self, rows: ExaminedRows, *, key: jax.Array, num_draws: int, row_dependence: RowDependence
    ) -> GuideExamination | None:
        """Draw from the guide, and compare its densities; see :func:`examine_guide`."""
        return examine_guide(
            self.signature,
            self.inference,
            self.learner,
            self.trained,
            rows,
            self.labelled,
            key=key,
            num_draws=num_draws,
            row_dependence=row_dependence,
        )


class Likelihood(NamedTuple):
    """The log-likelihood of rows.

    Attributes:
        total: That of all rows for each draw, in nats.
        of_rows: That of each row; ``None`` of an output that is one event over all rows.
    """

    total: Float[np.ndarray, " draw"]
    of_rows: LikelihoodOfRows | None


def likelihood_of(
    model: Examined, drawn: Posterior, n_rows: int, kept: Int[np.ndarray, " kept"] = _NO_ROWS
) -> Likelihood:
    """Return the log-likelihood of the rows of a model.

    Args:
        model: The model.
        drawn: Draws of its latent sites.
        n_rows: How many rows there are.
        kept: Numbers of the rows to keep all draws of.
    """
    reader = LikelihoodOfRows(n_rows, kept)
    request = model.request(drawn, "log_likelihood", {"of_row": reader})
    with warnings.catch_warnings():
        # The report has words of its own on factors.
        warnings.filterwarnings("ignore", message="The factor", category=OutputWarning)
        tree = model.predictor.log_likelihood(request)
    if reader.has_rows:
        return Likelihood(reader.total, reader)
    of_all = tree["log_likelihood"][variable_name(model.signature.output)].values
    return Likelihood(of_all.reshape(drawn.num_draws, -1).sum(1, dtype=np.float64), None)


def likelihood_or_why_not(
    model: Examined, drawn: Posterior, n_rows: int, kept: Int[np.ndarray, " kept"] = _NO_ROWS
) -> tuple[Likelihood | None, str]:
    """Return the log-likelihood as :func:`likelihood_of`, or why there is none."""
    try:
        return likelihood_of(model, drawn, n_rows, kept), ""
    except AimzLabError as error:
        return None, str(error)


def learned_by_row(model: Examined, drawn: Posterior) -> list[str]:
    """Return the names of latent sites and parameters of which each row has a value.

    Args:
        model: The model.
        drawn: Draws of its latent sites.
    """
    spec = model.trained.spec
    if spec is None:
        return []
    known = {*drawn.draws, *spec.of_kind("param")}
    return [name for name in spec.learned_by_row if name in known]


def scored_density_of(model: Examined) -> ScoredDensity:
    """Return what a model adds to its log density beside that of its output.

    Args:
        model: The model, with a request for the rows.
    """
    request = model.request(model.fitted.posterior, "log_likelihood", None)
    try:
        return model.predictor.scored_density(request)
    except AimzLabError:  # there is no log-likelihood, and who asks for one is told why
        return ScoredDensity(model.signature.output)
