"""What the checks of a trust report found so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from aimz_lab.inference.posterior import Posterior
from aimz_lab.system.lazy_modules import pd
from aimz_lab.trust.chain_checks import WorstMixed
from aimz_lab.trust.guide_checks import GuideExamination
from aimz_lab.trust.loss_checks import LossTrend
from aimz_lab.trust.predictive_checks import Calibration, LeaveOneOut
from aimz_lab.trust.report import Finding
from aimz_lab.trust.smoothing import Smoothed


@dataclass
class Evidence:
    """What the checks of a trust report found so far.

    Attributes:
        table: Mean and sd of the draws of each entry of each site, and what is beside them.
        findings: The findings.
        guide: Draws from the guide, of a model that has one.
        weights: Their importance weights, where the densities are known.
        mixed: The entry of chains that has mixed worst.
        trend: The losses, judged.
        loo: Leave-one-out estimates.
        calibration: How predictions are calibrated.
        refined: Better draws, if they were asked for.
    """

    table: pd.DataFrame
    findings: list[Finding] = field(default_factory=list)
    guide: GuideExamination | None = None
    weights: Smoothed | None = None
    mixed: WorstMixed | None = None
    trend: LossTrend | None = None
    loo: LeaveOneOut | None = None
    calibration: Calibration | None = None
    refined: Posterior | None = None
