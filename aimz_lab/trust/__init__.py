"""Can a model be trusted: before a fit, after it, and under its own prior.

In: a model and its rows. Out: a report with a verdict, its reasons, and what to do next.
"""

from __future__ import annotations

from aimz_lab.trust.diagnosis import TrustReport
from aimz_lab.trust.report import Finding, Report

__all__ = ["Finding", "Report", "TrustReport"]
