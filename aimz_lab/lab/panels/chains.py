"""Panels of Markov chains: traces, progress of each chain, convergence."""

from __future__ import annotations

import math
from dataclasses import fields
from itertools import islice
from weakref import WeakKeyDictionary

from aimz_lab.inference.run.chain_record import ChainRecord, Convergence
from aimz_lab.inference.run.chain_words import divergence_advice
from aimz_lab.inference.run.events import Run
from aimz_lab.inference.run.run import AxisLabels
from aimz_lab.lab.panels.base import Frame, Panel
from aimz_lab.lab.panels.convergence import Judged, judge, left_out, thinning
from aimz_lab.lab.panels.site_labels import labels_of
from aimz_lab.lab.traces import Trace

MOST_CHAINS = 8
MOST_ROWS = 6
ENERGY = "potential_energy"
_CAPACITY = 256
_LIVE, _AT_THE_END = 40_000, 1_000_000
_LIVE_DRAWS = 1_000
_NAMED = 3
_MEANS = ("acceptance_rate", "n_steps")

_final: WeakKeyDictionary[ChainRecord, Frame] = WeakKeyDictionary()
_labels: WeakKeyDictionary[ChainRecord, AxisLabels] = WeakKeyDictionary()


class TracePanel(Panel):
    """Traces of the values that chains report: means over the chains, and each chain's energy.

    It replaces the panel of the loss.
    """

    name = "loss"

    def __init__(self) -> None:
        self._traces: dict[str, Trace] = {}
        self._by_chain: list[Trace] = []

    def begin(self, run: Run) -> None:
        """Begin empty traces."""
        self._traces = {}
        count = min(run.chains.plan.chains, MOST_CHAINS) if run.chains else 0
        self._by_chain = [Trace(_CAPACITY) for _ in range(count)]

    def frame(self, run: Run) -> Frame:
        """Describe every trace."""
        names = run.chains.names if run.chains else (ENERGY, *run.metrics)
        for name in names:
            trace = self._traces.setdefault(name, Trace())
            if name == ENERGY:
                trace.add(run.losses[trace.n_steps :])
            else:
                trace.follow(run.buckets(name))
        if run.chains and ENERGY in run.chains.names:
            for chain, trace in enumerate(self._by_chain):
                trace.follow(run.chains.buckets(ENERGY), chain)
        return {
            "n_obs": None,
            "averaged_epoch": run.info.averaged_epoch,
            "traces": {name: self._traces[name].frame() for name in names},
            "chains": {ENERGY: [trace.frame() for trace in self._by_chain]},
            "warmup": run.chains.plan.warmup if run.chains else 0,
            "validation": None,
            "now": None,
            "best": None,
            "best_step": None,
            "best_name": None,
            "best_held_out": False,
            "not_kept": "",
        }


class SamplingPanel(Panel):
    """Draws so far, and divergences, step size and acceptance of each chain."""

    name = "sampling"
    interval_s = 0.1

    def frame(self, run: Run) -> Frame:
        """Describe draws, divergences, steps and acceptance; empty without a record of chains."""
        chains = run.chains
        if chains is None:
            return {}
        divergences = chains.divergences
        return {
            "chains": chains.plan.chains,
            "draws": chains.draws,
            "of": chains.plan.draws,
            "iterations": chains.iterations,
            "warmup": chains.plan.warmup,
            "warming_up": chains.warming_up,
            "divergences": None if divergences is None else int(divergences.sum()),
            "by_chain": self._by_chain(chains),
            "advice": divergence_advice(run),
        }

    def _by_chain(self, chains: ChainRecord) -> list[Frame]:
        """Describe each chain: divergences, step size, and means of acceptance and steps."""
        of_each = {name: chains.mean(name) for name in _MEANS if name in chains.names}
        if "step_size" in chains.names:
            of_each["step_size"] = chains.last("step_size")
        if (divergences := chains.divergences) is not None:
            of_each["divergences"] = divergences
        shown = min(chains.plan.chains, MOST_CHAINS)
        return [
            {name: _finite(float(values[chain])) for name, values in of_each.items()}
            for chain in range(shown)
        ]


class ConvergencePanel(Panel):
    """R-hat and effective sample sizes of the worst values."""

    name = "convergence"
    interval_s = 0.5

    def __init__(self) -> None:
        self._frame: Frame = {}
        self._judged_at = -1

    def begin(self, run: Run) -> None:  # noqa: ARG002
        """Forget the previous run."""
        self._frame, self._judged_at = {}, -1

    def frame(self, run: Run) -> Frame:
        """Judge the draws so far, and more values at the end; empty before there are some."""
        chains = run.chains
        if chains is None:
            return {}
        if run.finished:
            return judged_at_the_end(run)
        if chains.draws != self._judged_at:
            self._judged_at = chains.draws
            self._frame = _described(run, _LIVE, _LIVE_DRAWS) or self._frame
        return self._frame


def judged_at_the_end(run: Run) -> Frame:
    """Judge the draws of a finished run of chains, once and with more values than before."""
    if run.chains not in _final:
        found = _described(run, _AT_THE_END)
        if found and found["judged"] < found["total"]:
            found["left_out"] = _why_left_out(run.chains, found["total"] - found["judged"])
        _final[run.chains] = found
        if found:
            names = [field.name for field in fields(Convergence) if field.name in found]
            run.chains.convergence = Convergence(**{name: found[name] for name in names})
    return _final[run.chains]


def _why_left_out(chains: ChainRecord, count: int) -> str:
    """Say which values are left out at the end, and why; empty if they are no numbers."""
    names = list(islice(left_out(chains, _AT_THE_END, _labels.get(chains)), _NAMED))
    if not names:
        return ""
    more = [f"{count - len(names):,} more"] if count > len(names) else []
    *first, last = [*names, *more]
    named = f"{', '.join(first)} and {last}" if first else last
    return (
        f"{named} left out, as up to {_AT_THE_END:,} draws are read to save time; im.summary() "
        "has all values"
    )


def _described(run: Run, most: int, most_draws: int | None = None) -> Frame:
    chains = run.chains
    if chains not in _labels and chains.draws:
        _labels[chains] = labels_of(run)
    judged, total = judge(chains, most, most_draws, _labels.get(chains))
    if not judged:
        return {}
    least = min(judged, key=lambda row: math.inf if math.isnan(row.ess) else row.ess)
    every = thinning(total * chains.plan.chains, chains.draws, most, most_draws)
    shown = judged[:MOST_ROWS]
    if least not in shown:
        shown[-1] = least
    return {
        "draws": chains.draws,
        # Their number bounds the effective sample size, which then does not grow with the run.
        "read": chains.plan.chains * -(-chains.draws // every) if every > 1 else None,
        "judged": len(judged),
        "total": total,
        "r_hat": _finite(judged[0].r_hat),
        "r_hat_of": judged[0].name,
        "ess": _finite(least.ess),
        "ess_of": least.name,
        "rows": [_row(row) for row in shown],
    }


def _row(judged: Judged) -> Frame:
    numbers = ("mean", "sd", "r_hat", "ess_bulk", "ess_tail")
    return {
        "name": judged.name,
        **{name: _finite(getattr(judged, name)) for name in numbers},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
