"""Say of an answer that the chains behind it disagree."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from aimz_lab.errors import OutputWarning
from aimz_lab.tracebacks import warn


def warn_of_unmixed(r_hats: Mapping[str, float], read: Collection[str]) -> None:
    """Warn of chains that disagree about sites that an answer is computed from.

    Args:
        r_hats: R-hat of the sites about which they do.
        read: The sites that the answer is computed from.

    Warns:
        OutputWarning: If there is one among these.
    """
    sites = [name for name in r_hats if name in read]
    if not sites:
        return
    worst = max(r_hats[name] for name in sites)
    names = ", ".join(map(repr, sites[:4])) + ", ..." * (len(sites) > 4)
    msg = (
        f"The chains, or their halves, disagree about {names} (R-hat up to {worst:.2f}): this "
        "answer may be far off, unless each chain gives it alike, as where components only swap "
        "labels. im.diagnose(X, y) judges the chains and says what to do."
    )
    warn(msg, OutputWarning)
