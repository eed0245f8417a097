"""Did Markov chains converge? R-hat, effective draws, divergences and E-BFMI."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aimz_lab.inference.posterior import Posterior
from aimz_lab.number_text import WELL_MIXED, beside_limit
from aimz_lab.predictive.results.summary_table import r_hat
from aimz_lab.system.lazy_modules import pd, xr
from aimz_lab.trust.chain_advice import ChainAdvice
from aimz_lab.trust.posterior_checks import entries
from aimz_lab.trust.report import Finding
from aimz_lab.trust.smoothing import array_stats

_REPARAMETRISE = (
    "Raise target_accept_prob (0.95 to 0.99), or write hierarchies non-centred "
    "(numpyro.infer.reparam.LocScaleReparam)."
)


@dataclass(frozen=True)
class WorstMixed:
    """The draws of the entry whose chains agree least, and the energies.

    Attributes:
        name: The entry.
        draws: Its draws.
        energy: Energy of each transition; ``None`` if the sampler did not keep that of each.
    """

    name: str
    draws: Float[np.ndarray, "chain draw"]
    energy: Float[np.ndarray, "chain draw"] | None


def worst_mixed(table: pd.DataFrame, tree: xr.DataTree, posterior: Posterior) -> WorstMixed | None:
    """Return what shows best how chains mixed; ``None`` if there are no entries.

    Args:
        table: From :func:`chain_table`.
        tree: The draws, with the group ``posterior``.
        posterior: The draws, with the statistics of their sampler.
    """
    names, draws = entries(tree)
    if not names:
        return None
    worst = int(np.argmax(table["r_hat"].fillna(np.inf)))
    return WorstMixed(names[worst], draws[..., worst], _energies(posterior))


def chain_table(table: pd.DataFrame, tree: xr.DataTree) -> pd.DataFrame:
    """Add R-hat and effective draws of each entry, by arviz-stats.

    Rank-normalised, folded and split; Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021).

    Args:
        table: A row for each entry.
        tree: The draws, with the group ``posterior``.
    """
    _, draws = entries(tree)
    stats = array_stats()
    with np.errstate(all="ignore"):
        return table.assign(
            r_hat=r_hat(draws),
            ess_bulk=stats.ess(draws, chain_axis=0, draw_axis=1),
            ess_tail=stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95)),
        )


def chain_findings(table: pd.DataFrame, posterior: Posterior, advice: ChainAdvice) -> list[Finding]:
    """Judge chains; Vehtari et al. (2021), and Betancourt (2016) for E-BFMI.

    Args:
        table: From :func:`chain_table`.
        posterior: The draws, with the statistics of their sampler.
        advice: What to do if they are too few.
    """
    more = advice.more(posterior, table[["ess_bulk", "ess_tail"]].min(axis=None))
    return [
        _r_hat(table, posterior.num_chains, more),
        _ess(table, posterior.num_chains, more),
        *_divergences(posterior),
        *_energy(posterior),
    ]


def _r_hat(table: pd.DataFrame, num_chains: int, more: str) -> Finding:
    stuck = table.index[table["sd"] <= 0]
    if len(stuck):
        return Finding("R-hat", "red", f"the draws of {stuck[0]!r} never move", _REPARAMETRISE)
    worst = table["r_hat"].idxmax() if table["r_hat"].notna().any() else None
    if worst is None or table["r_hat"].isna().any():
        return Finding("R-hat", "red", "R-hat is not a number: the chains are too short", more)
    value = table.loc[worst, "r_hat"]
    level = "green" if value <= WELL_MIXED else "amber" if value <= 1.05 else "red"
    reach = "at most" if level == "green" else f"above {WELL_MIXED}: up to"
    text = f"R-hat is {reach} {beside_limit(value, WELL_MIXED, 3)[0]} ({worst})"
    if num_chains == 1:
        text += ", of the halves of one chain, which cannot show that chains agree"
        level = "amber" if level == "green" else level
    return Finding("R-hat", level, text, "" if level == "green" else more)


def _ess(table: pd.DataFrame, num_chains: int, more: str) -> Finding:
    least = table[["ess_bulk", "ess_tail"]].min(axis=1)
    if least.isna().any():
        return Finding("ESS", "red", "effective draws are not a number", more)
    value = least.min()
    level = "green" if value >= 100 * num_chains else "amber" if value >= 100 else "red"
    text = f"there are at least {value:,.0f} effective draws ({least.idxmin()})"
    return Finding("ESS", level, text, "" if level == "green" else more)


def _divergences(posterior: Posterior) -> list[Finding]:
    run = posterior.transitions
    if run is not None and run.diverged is not None:
        count, total = run.diverged, run.count
    elif "diverging" in posterior.stats:
        count, total = int(np.asarray(posterior.stats["diverging"]).sum()), posterior.num_draws
    else:
        return []
    level = "green" if not count else "amber" if count <= 0.01 * total else "red"
    text = f"{count:,} of {total:,} transitions diverged" if count else "none diverged"
    return [Finding("divergences", level, text, "" if not count else _REPARAMETRISE)]


def _energy(posterior: Posterior) -> list[Finding]:
    if "energy" not in posterior.stats:
        return []
    energy = _energies(posterior)
    if energy is None:
        thinning = posterior.transitions.thinning
        return [
            Finding(
                "E-BFMI",
                "unjudged",
                "E-BFMI is not judged: it compares the energies of successive transitions, and "
                f"thinning={thinning} kept one of {thinning}",
                "Judge it on a run without thinning.",
            )
        ]
    if energy.shape[1] < 3:
        return []
    with np.errstate(all="ignore"):
        value = float(np.min(array_stats().bfmi(energy)))
    level = "green" if value >= 0.3 else "amber"
    held = "at least" if level == "green" else "below"
    text = f"E-BFMI is {beside_limit(value, 0.3)[0]}, {held} 0.3"
    return [Finding("E-BFMI", level, text, "" if level == "green" else _REPARAMETRISE)]


def _energies(posterior: Posterior) -> Float[np.ndarray, "chain draw"] | None:
    """Return the energies of successive transitions; ``None`` if they were not kept."""
    is_thinned = posterior.transitions is not None and posterior.transitions.thinning > 1
    if is_thinned or "energy" not in posterior.stats:
        return None
    return np.asarray(posterior.stats["energy"], np.float64).reshape(posterior.num_chains, -1)
