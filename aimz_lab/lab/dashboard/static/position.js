// The position of a run: steps or draws done, its time and what it went to, and the same some
// seconds later.

import { count, duration, noTraining, timeLeft } from "./math.js";

const OVER = ["completed", "stopped", "early_stopped", "interrupted", "diverged", "failed", "snapshot"];

const SILENT_S = 2; // from then on a report is late, and the page says of when its numbers are

const ACTIVITIES = [
  "preparing", "data", "steps", "validation", "callbacks", "display", "compiling", "tracing", "waiting", "paused",
];

/** Whether the run has ended. */
export const isOver = (progress) => OVER.includes(progress?.status);

/** Iterations of the warm-up, or draws, that are done. */
function drawn(sampling) {
  const [done, all] = sampling.warming_up
    ? [sampling.iterations, sampling.warmup] : [sampling.draws, sampling.of];
  return `${sampling.warming_up ? "warm-up" : "draw"} ${count(done)} of ${count(all)}`;
}

const reached = (what, at, of) => `${what} ${count(at)}${of ? ` of ${count(of)}` : ""}`;

/**
 * Epoch, step or draws with the time left, or the time that a finished run took. Before the first step,
 * and while steps compile for a new learning rate, what is done, as the kernel told last.
 */
export function position(meta, progress, sampling, preparing) {
  if (progress.words === "preparing") {
    return preparing ?? `compiling the first step · ${duration(progress.prepared_s)}`;
  }
  if (preparing && progress.status === "running") return preparing;
  const parts = sampling?.of ? [drawn(sampling)] : meta.is_sampling ? []
    : meta.has_all_rows_each_step ? [reached("step", progress.step, progress.total_steps)]
      : [reached("epoch", progress.epoch, meta.epochs)];
  const { trained_s: trained } = progress;
  if (isOver(progress)) parts.push(...[`in ${duration(trained)}`, noTraining(progress)].filter(Boolean));
  else if (["paused", "lost"].includes(progress.status)) parts.push(`after ${duration(trained)}`);
  else parts.push(...timeLeft(progress.eta_s));
  if (progress.silent_s > SILENT_S) parts.push(`last report ${ago(progress.silent_s)}`);
  return parts.join(" · ");
}

/** Whole seconds since a moment, in words. */
const ago = (seconds) => `${seconds < 60 ? `${Math.floor(seconds)} s` : duration(seconds)} ago`;

/** The share of the planned steps that are done, or null without a plan. */
export const done = (progress) =>
  progress.total_steps ? Math.min(progress.step / progress.total_steps, 1) : null;

/**
 * The same progress `seconds` later, for the time between two updates. The numbers of a run that trains
 * are of one moment, that of the report: only a pause and the time to prepare go on here.
 */
export function later(progress, seconds) {
  const elapsed = progress.elapsed_s + seconds;
  if (progress.status === "paused") {
    const paused = progress.paused_s + seconds;
    const spent = { ...progress.seconds_in, paused };
    return { ...progress, elapsed_s: elapsed, paused_s: paused, seconds_in: spent };
  }
  if (progress.status !== "running") return progress;
  if (progress.words === "preparing") {
    return { ...progress, elapsed_s: elapsed, prepared_s: progress.prepared_s + seconds };
  }
  return { ...progress, silent_s: seconds };
}

/** The share of each activity in the time since the call, to a tenth of a percent. */
export function shares({ seconds_in: spent, elapsed_s: elapsed }) {
  const of = (seconds) => Number(Math.min(seconds / Math.max(elapsed, 1e-9), 1).toFixed(3));
  const known = ACTIVITIES.map((name) => [name, of(spent[name] ?? 0)]).filter(([, part]) => part > 0);
  const rest = 1 - known.reduce((sum, [, part]) => sum + part, 0);
  return rest > 0.005 ? [...known, ["other", Number(rest.toFixed(3))]] : known;
}
