// The vertical axis of a curve, chosen by its data. lab/pictures/vertical_view.py has the same rule.

import { extent, number, quantile } from "./math.js";

const WHOLE = 4; // times the height of the second half: a curve of that height is shown whole
const CUT = 2; // of a curve that is far higher, so many times that height is shown
const [SHORT, LONG] = [0.01, 0.04]; // of the steps: a start so short is a vertical line, one so long a curve
const FALLS = 5; // a fall to the end is that much higher in the half than in the quarter
const FELL = 3; // the same, once the axis is logarithmic for it
const OTHERS = 3; // previous runs may make the axis this much longer
const ROOM = 0.06;
const LOG_ROOM = 0.04;
const FLAT = 3e-6; // of the size of a value: beyond it, single precision is all that moves
const FEW_STEPS = 8;

const after = ({ steps, values }, step) => values.filter((_, i) => steps[i] > step);

/** Lowest and highest value after a step: all of the smooth lines, but the rarest raw values. */
function span({ steps, low, high, smoothed, mean, validation }, step) {
  const line = after({ steps, values: smoothed ?? mean }, step);
  const held = validation ? after(validation, step) : [];
  const raw = [quantile(after({ steps, values: low }, step), 0.01),
    quantile(after({ steps, values: high }, step), 0.99)];
  const all = extent([line, held, raw]);
  if (all === null) return null;
  const usual = extent([[quantile(after({ steps, values: high }, step), 0.98), all[0]], held]);
  return { low: all[0], high: all[1], usual: usual[1] };
}

function nearby(lines, low, high) {
  const most = OTHERS * (high - low);
  let ends = [low, high];
  for (const line of lines) {
    const found = extent([after(line, line.steps.at(-1) / 2)]);
    const both = found && extent([ends, found]);
    if (both && both[1] - both[0] <= most) ends = both;
  }
  return ends;
}

/**
 * Choose the vertical axis of a curve.
 *
 * A start far above the rest is cut off, and the sooner, the less of the width it takes. Where the
 * curve falls by orders of magnitude to its end, or does not move at the end, the axis is a
 * logarithmic one of the distance to the lowest value.
 * The ends follow the data without a jump, and the kind of axis has two thresholds: the picture does
 * not turn over for a little noise.
 * @param shown steps, mean, low, high, smoothed or null, validation or null, previous, curve.
 * @param options log: the logarithmic axis; whole: the whole range, on a linear one unless `log`;
 *   wasLog: the data chose the logarithmic axis a moment ago.
 * @returns kind "linear" or "log"; low and high, of the distances to `base` if it is "log"; and
 *   `above`, the highest value or distance if it lies above the axis, or null.
 */
export function verticalView(shown, { log, whole, wasLog }) {
  const first = shown.steps[0] ?? 0;
  const last = shown.steps.at(-1) ?? 0;
  const at = (share) => first + share * (last - first);
  const all = span(shown, -Infinity);
  if (all === null) return { kind: "linear", low: 0, high: 1, base: 0, above: null };
  const highest = extent([shown.high, [all.high]])[1];
  if (log) return logView(shown, all, highest, whole);
  const half = span(shown, at(0.5));
  const end = span(shown, at(0.75));
  let top = highest;
  if (!whole && half && end && shown.steps.length >= FEW_STEPS) {
    const [height, full] = [half.usual - all.low, highest - all.low];
    const line = shown.smoothed ?? shown.mean;
    const higher = line.filter((value) => value > all.low + CUT * height).length / line.length;
    const most = CUT + (WHOLE - CUT) * Math.min(Math.max((higher - SHORT) / (LONG - SHORT), 0), 1);
    if (full > most * height) {
      const flat = FLAT * Math.max(Math.abs(all.low), Math.abs(half.usual));
      const falls = wasLog ? FELL : FALLS;
      if (height <= flat || height > falls * (end.usual - all.low)) return logView(shown, all, highest);
      top = all.low + Math.max(2 * most * height - full, CUT * height); // from the whole to a cut without a jump
    }
  }
  const above = top < highest ? highest : null;
  return linearView(nearby(shown.previous ?? [], all.low, top), above);
}

/** A linear axis over these ends. */
export function linearView([low, high], above = null) {
  const room = high > low ? ROOM * (high - low) : Math.abs(low || 1) * 0.1;
  const top = above === null ? high + room : high;
  return { kind: "linear", low: low - room, high: top, base: 0, above: above > top ? above : null };
}

function logView(shown, all, highest, whole = false) {
  const lines = [shown.smoothed ?? shown.mean, shown.validation?.values ?? []];
  const [near, far] = nearby(shown.previous ?? [], all.low, all.high);
  const lowest = Math.min(near, extent([shown.low, ...lines])[0]);
  const base = shown.curve === "loss" || lowest <= 0 ? lowest : 0;
  const high = Math.max(far, extent(lines)[1], whole ? highest : -Infinity) - base;
  const least = Math.max(1e-7 * Math.abs(base), 1e-9 * high); // single precision has no more
  const distances = Array.from(lines[0], (value) => value - base).filter((value) => value > 0);
  const usual = quantile(distances, 0.01);
  let low = Math.max((Number.isFinite(usual) ? usual : high) / 2, least);
  if (!(low > 0 && low < high)) low = high > 0 ? high / 10 : Math.abs(base || 1) / 10;
  const top = Math.max(high, low * 1.5);
  const room = (top / low) ** LOG_ROOM;
  const above = highest - base > top * room ? highest - base : null;
  return { kind: "log", low: low / room, high: top * room, base, above };
}

/** Whether an axis has a place for one of these values. */
export const shows = ({ low, high, base }, values) =>
  values.some((value) => value - base >= low && value - base <= high);

/** What an axis shows. */
export function axisWords(unit, { kind, base, above }) {
  const more = above === null ? "" : `, up to ${number(above)} above the picture`;
  if (kind !== "log") return unit + more;
  return `${unit}, log scale` + (base === 0 ? "" : ` above the lowest, ${number(base)}`) + more;
}
