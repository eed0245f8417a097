// The position of a run: steps or draws done, time left, and the same some seconds later.

import { count, duration, noTraining } from "./math.js";

const OVER = ["completed", "stopped", "early_stopped", "interrupted", "diverged", "failed", "snapshot"];

/** Whether the run has ended. */
export const isOver = (progress) => OVER.includes(progress?.status);

/** Iterations of the warm-up, or draws, that are done. */
function drawn(sampling) {
  const [done, all] = sampling.warming_up
    ? [sampling.iterations, sampling.warmup] : [sampling.draws, sampling.of];
  return `${sampling.warming_up ? "warm-up" : "draw"} ${count(done)} of ${count(all)}`;
}

/**
 * Epoch or draws with the time left, or the time that a finished run took. Before the first step,
 * and while steps compile for a new learning rate, what is done, as the kernel told last.
 */
export function position(meta, progress, sampling, preparing) {
  if (progress.words === "preparing") {
    return preparing ?? `compiling the first step · ${duration(progress.trained_s)}`;
  }
  if (preparing && progress.status === "running") return preparing;
  const parts = [sampling?.of ? drawn(sampling)
    : `epoch ${count(progress.epoch)}${meta.epochs ? ` of ${count(meta.epochs)}` : ""}`];
  const { trained_s: trained, prepared_s: prepared, paused_s: paused } = progress;
  if (isOver(progress)) parts.push(...[`in ${duration(trained)}`, noTraining(prepared, paused)].filter(Boolean));
  else if (["paused", "lost"].includes(progress.status)) parts.push(`after ${duration(trained)}`);
  else if (progress.eta_s !== null) parts.push(`${duration(progress.eta_s)} left`);
  return parts.join(" · ");
}

/** The share of the planned steps that are done, or null without a plan. */
export const done = (progress) =>
  progress.total_steps ? Math.min(progress.step / progress.total_steps, 1) : null;

/** The same progress `seconds` later, for the time between two updates. */
export function later(progress, seconds) {
  if (progress.status === "paused") return { ...progress, paused_s: progress.paused_s + seconds };
  if (progress.status !== "running") return progress;
  const eta = progress.eta_s === null ? null : Math.max(progress.eta_s - seconds, 0);
  return { ...progress, trained_s: progress.trained_s + seconds, eta_s: eta };
}
