"""The Markov chains of a run in words: their draws, and whether they have mixed."""

from __future__ import annotations

from aimz_lab.inference.run.chain_record import ChainRecord
from aimz_lab.inference.run.read_run import ReadRun
from aimz_lab.number_text import WELL_MIXED, count, ratio, spread


def draws(run: ReadRun) -> str:
    """Write the number of draws of the chains, or of their iterations in the warm-up.

    Args:
        run: A run of chains.
    """
    chains, plan = run.chains, run.chains.plan
    if chains.warming_up:
        done = f"warm-up {count(chains.iterations)} of {count(plan.warmup)}"
    else:
        done = f"draw {count(chains.draws)} of {count(plan.draws)}"
    return done + (f" in {plan.chains} chains" if plan.chains > 1 else "")


def chain_facts(run: ReadRun) -> dict[str, str]:
    """Return what is known of the chains of a run, by name.

    Args:
        run: A run of chains; R-hat and ESS are known once its draws were judged.
    """
    chains = run.chains
    if chains is None:  # read from a file
        return {"iterations": f"{count(run.step)} of each chain, warm-up included"}
    plan = chains.plan
    several = f"in each of {plan.chains} chains" if plan.chains > 1 else "in 1 chain"
    if chains.warming_up:
        done = f"{count(chains.iterations)} of {count(plan.warmup)} iterations of warm-up"
        found = {"draws": f"none {several}, after {done}"}
    else:
        of = "" if run.finished else f" of {count(plan.draws)}"
        after = f"after {count(plan.warmup)} of warm-up"
        found = {"draws": f"{count(chains.draws)}{of} {several}, {after}"}
    if chains.divergences is not None and chains.draws:
        n = int(chains.divergences.sum())
        found["divergences"] = count(n) if n else "none"
        if advice := divergence_advice(run):
            found["advice"] = advice
    if "step_size" in chains.names and chains.iterations:
        found["step size"] = spread(chains.last("step_size"))
    return found | _convergence_facts(chains)


def _convergence_facts(chains: ChainRecord) -> dict[str, str]:
    known = chains.convergence
    if known is None:
        return {}
    found = {}
    if known.r_hat is not None:
        found["R-hat"] = _r_hat_fact(known.r_hat, known.r_hat_of, chains.plan.chains)
    found["ESS"] = f"at least {count(known.ess)} ({known.ess_of})"
    if known.judged < known.total:
        why = known.left_out and f": {known.left_out}"
        found["judged"] = f"{count(known.judged)} of {count(known.total)} values{why}"
    return found


def _r_hat_fact(value: float, entry: str, chains: int) -> str:
    words = _r_hat_of(value, entry)
    if value <= WELL_MIXED:
        return words
    of_chains = ": the chains have not mixed; run longer ones"
    of_halves = ", of the halves of one chain; run four chains, and longer ones"
    return f"{words}{of_chains if chains > 1 else of_halves}"


def _r_hat_of(value: float, entry: str) -> str:
    """Write the largest R-hat beside its limit."""
    if value <= WELL_MIXED:
        return f"at most {ratio(value)} ({entry}), within the limit of {WELL_MIXED}"
    return f"up to {ratio(value)} ({entry}), above {WELL_MIXED}"


def divergence_advice(run: ReadRun) -> str:
    """Explain divergences and advise; empty if there are none.

    Args:
        run: A run of chains.
    """
    divergences = run.chains.divergences
    if divergences is None or not divergences.any():
        return ""
    return (
        "Where chains diverge, they miss a part of the posterior: raise target_accept_prob, or "
        "write the model so that its scales vary less (non-centred)."
    )


def r_hat_words(run: ReadRun) -> str:
    """Write the largest R-hat of chains, where it is known to be above 1.01; else nothing."""
    known = run.chains and run.chains.convergence
    if known is None or known.r_hat is None or known.r_hat <= WELL_MIXED:
        return ""
    return f"R-hat {_r_hat_of(known.r_hat, known.r_hat_of)}"


def chain_parts(run: ReadRun) -> list[str]:
    """Return what a line says of chains beside their draws."""
    chains, facts, parts = run.chains, chain_facts(run), []
    if chains.divergences is not None and not chains.warming_up:
        n = int(chains.divergences.sum())
        parts.append(f"{count(n) if n else 'no'} {'divergence' if n == 1 else 'divergences'}")
    if "step size" in facts:
        parts.append(f"step size {facts['step size']}")
    if (known := chains.convergence) is not None and known.r_hat is not None:
        parts.append(f"R-hat {_r_hat_of(known.r_hat, known.r_hat_of)}")
    return [*parts, f"ESS {facts['ESS']}"] if "ESS" in facts else parts
