"""The model and its structure under the import path of aimz; nothing but re-exports."""

from __future__ import annotations

from aimz_lab.impact_model import ImpactModel
from aimz_lab.kernel.spec import KernelSpec

__all__ = ["ImpactModel", "KernelSpec"]
