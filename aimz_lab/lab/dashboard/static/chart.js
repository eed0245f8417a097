// The curve of a run: place its lines in a box (pure functions), and paint them on a canvas.

import {
  bucketSteps,
  count,
  extent,
  nearest,
  number,
  quantile,
  scale,
  smooth,
  thin,
  tickLabels,
  unpack,
} from "./math.js";
import { lastChange, plate, rateLabels, rateMarks, rateWords } from "./marks.js";
import { axisWords, linearView, verticalView } from "./view.js";

const MOST_PREVIOUS = 4;
const FEW_POINTS = 60;
const FEW_DOTS = 12; // of a small picture
const RARE = 1; // times the height of the usual energies: so far the axis goes for rare ones
const ABOVE = 0.05; // of the height, between the highest draw and the end of the axis

const OF_CHAINS = { diverging: "divergences", n_steps: "leapfrog steps" }; // as formatting.py has them

/** What a curve is called; the statistics of chains have names of their own. */
export const curveWords = (name, isChains) => (isChains && OF_CHAINS[name]) || name.replaceAll("_", " ");

/** Read one trace of a frame: buckets as arrays over the last step of each. */
export function readTrace(trace) {
  const whole = trace.first !== undefined && trace.width > 1; // a first step beside the buckets
  const values = unpack(trace.mean);
  const ends = bucketSteps(values.length, trace.width, trace.steps);
  const mean = whole ? Float64Array.of(Math.fround(trace.first), ...values) : values;
  return {
    width: trace.width,
    total: trace.steps,
    steps: whole ? [1, ...ends] : ends,
    mean,
    low: trace.low ? unpack(trace.low) : mean,
    high: trace.high ? unpack(trace.high) : mean,
  };
}

const divided = (values, by) => (by === 1 ? values : Float64Array.from(values, (v) => v / by));

/**
 * Choose the curves to show, in data space.
 * @param loss The loss frame: traces, validation, n_obs.
 * @param previousRuns Curves of previous runs of the kernel: label, n_obs, trace.
 * @param options curve: "loss" or another trace's name; smooth and perRow: booleans.
 */
export function series(loss, previousRuns, { curve, smooth: smoothed, perRow }) {
  const source = loss?.traces?.[curve];
  if (!source) return null;
  if (loss.chains) return chainSeries(loss, curve, smoothed);
  const isLoss = curve === "loss";
  const isPerRow = isLoss && perRow && loss.n_obs > 0;
  const by = isPerRow ? loss.n_obs : 1;
  const trace = readTrace(source);
  const mean = divided(trace.mean, by);
  const found = {
    curve,
    steps: trace.steps,
    total: trace.total,
    mean,
    low: divided(trace.low, by),
    high: divided(trace.high, by),
    bucket: source.low ? trace.width : 1,
    smoothed: smoothed && curve !== "learning_rate" ? smooth(mean, trace.width, trace.total, loss.averaged_epoch) : null,
    validation: isLoss ? validationOf(loss, isPerRow) : null,
    previous: isLoss ? previousRuns.slice(-MOST_PREVIOUS).map((run) => previousOf(run, isPerRow)) : [],
    unit: isLoss ? (isPerRow ? "loss per row (nats)" : "loss (nats)") : curveWords(curve, false),
  };
  const hasBest = isLoss && loss.best_step;
  const scale = isPerRow ? 1 : loss.n_obs || 1;
  found.best = hasBest ? { name: bestName(loss, perRow), step: loss.best_step, value: loss.best * scale } : null;
  found.rateChanges = loss.rate_changes ?? [];
  return found;
}

// A value that chains report: of each chain where there are such traces, else their mean.
function chainSeries(loss, curve, smoothed) {
  const trace = readTrace(loss.traces[curve]);
  const chains = (loss.chains[curve] ?? []).map(readTrace).map(({ steps, mean, low, high, width, total }, i) => {
    // A bucket that has just begun has the mean of few iterations, which would look like a spike.
    const whole = (values) => values.slice(0, Math.max(Math.floor(total / width), 1));
    return { label: `chain ${i + 1}`, steps: whole(steps), width, values: whole(mean), low: whole(low), high: whole(high) };
  });
  const isSmooth = smoothed && chains.length === 0;
  return {
    curve,
    steps: trace.steps,
    total: trace.total,
    mean: trace.mean,
    low: trace.low,
    high: trace.high,
    bucket: loss.traces[curve].low ? trace.width : 1,
    smoothed: isSmooth ? smooth(trace.mean, trace.width, trace.total, loss.averaged_epoch) : null,
    validation: null,
    previous: [],
    chains,
    warmup: loss.warmup,
    best: null,
    unit: curveWords(curve, true) + (curve === "potential_energy" ? " (nats)" : ""),
  };
}

/** What the best loss is, in a sentence, and in few words below it where it lies above the loss now. */
export function bestWords(loss) {
  if (loss.not_kept) {
    const about = `${loss.not_kept[0].toUpperCase()}${loss.not_kept.slice(1)}.`;
    return { about, below: loss.best_step ? "the loss was lower before" : "later steps confirm none" };
  }
  if (loss.best_held_out) return { about: "The lowest held-out loss so far.", below: "" };
  if (!loss.best_step || loss.best_name !== "best") return { about: null, below: "" };
  return {
    about: "The lowest mean loss so far that later steps confirm. It comes some steps late, so it lies above a loss that still falls.",
    below: loss.best > loss.now ? "later steps confirm it" : "",
  };
}

/** What the best loss is called; a held-out one that is not per row is scaled to the training rows. */
export function bestName(loss, perRow) {
  const isScaled = loss.best_held_out && loss.n_obs > 0 && !perRow;
  return `${loss.best_name ?? "best"}${isScaled ? ", scaled" : ""}`;
}

function validationOf(loss, isPerRow) {
  if (!loss.validation || (!isPerRow && !loss.n_obs)) return null;
  return {
    // Beside the loss of all training rows stands the held-out loss of as many.
    name: isPerRow ? "held-out loss" : "held-out loss, scaled",
    legend: isPerRow ? "held-out loss" : `held-out loss, scaled to ${count(loss.n_obs)} training rows`,
    steps: unpack(loss.validation.steps),
    values: divided(unpack(loss.validation.loss), isPerRow ? 1 : 1 / loss.n_obs),
  };
}

function previousOf(run, isPerRow) {
  const trace = readTrace(run.trace);
  const values = smooth(trace.mean, trace.width, trace.total, run.averaged_epoch);
  return {
    label: run.label,
    steps: trace.steps,
    values: divided(values, isPerRow ? run.n_obs || 1 : 1),
  };
}

// The axis of energies is without the fall from where the chains began, which would squeeze the rest.
// It has the single energies, not their means alone: those vary the less, the more share a bucket.
function chainView({ chains, warmup, total }) {
  const first = total > warmup ? warmup : total / 2;
  const counted = (name) => chains.map((chain) => chain[name].filter((_, i) => chain.steps[i] - chain.width >= first));
  const highs = counted("high");
  const usual = extent([counted("low").map((low) => quantile(low, 0.02)), highs.map((high) => quantile(high, 0.98))]);
  if (usual === null) return linearView([0, 1]);
  const [lowest, most] = extent(chains.flatMap((chain) => [chain.low, chain.high]));
  const room = RARE * (usual[1] - usual[0]);
  const low = Math.max(lowest, usual[0] - room);
  const high = Math.min(extent(highs)[1], usual[1] + room);
  return most > high ? linearView([low, high + ABOVE * (high - low)], most) : linearView([low, high]);
}

// Distances below the lower end of a logarithmic axis lie on its edge.
function verticalScale(view, range) {
  const inner = scale(view.kind, [view.low, view.high], range);
  const at = view.kind === "linear" ? inner.at : (value) => inner.at(Math.max(value - view.base, view.low));
  return { ...inner, at };
}

function from(shown, first) {
  const cut = (steps, ...columns) => {
    const start = Math.max(steps.findIndex((step) => step >= first), 0);
    return [steps.slice(start), ...columns.map((column) => column && column.slice(start))];
  };
  const [steps, mean, low, high, smoothed] = cut(
    shown.steps, shown.mean, shown.low, shown.high, shown.smoothed,
  );
  const points = shown.validation;
  const [at, values] = points ? cut(points.steps, points.values) : [];
  return {
    ...shown,
    steps, mean, low, high, smoothed,
    validation: points ? { ...points, steps: at, values } : null,
    previous: shown.previous.map((run) => cutLine(run, first)),
    chains: shown.chains?.map((chain) => cutLine(chain, first)),
  };
}

function cutLine(line, first) {
  const start = Math.max(line.steps.findIndex((step) => step >= first), 0);
  return {
    ...line,
    steps: line.steps.slice(start),
    values: line.values.slice(start),
    low: line.low?.slice(start),
    high: line.high?.slice(start),
  };
}

// The line up to a step, with the point behind it, to which it runs out of the picture.
function cutAfter(line, last) {
  const end = line.steps.findIndex((step) => step >= last) + 1 || line.steps.length;
  return { ...line, steps: line.steps.slice(0, end), values: line.values.slice(0, end) };
}

/**
 * Place the curves in a box of pixels.
 * @param all What `series` returned.
 * @param options log, whole (the whole range), half (only the second half of the steps) and wasLog (the
 *   data chose the logarithmic axis before): booleans.
 * @param box width, height and left (the room for the labels) in pixels.
 */
export function scene(all, { log, whole, half, wasLog }, box) {
  const first = half ? all.total / 2 : 0;
  const last = Math.max(all.total, 2); // a long run before must not squeeze the new curve
  const seen = { ...all, previous: all.previous.map((run) => cutAfter(run, last)) };
  const shown = half ? from(seen, first) : seen;
  const view = shown.chains?.length ? chainView(shown) : verticalView(shown, { log, whole, wasLog });
  const x = scale("linear", [Math.max(first, 1), last], [box.left, box.width - 14]);
  const y = verticalScale(view, [box.height - 28, 12]);
  return {
    ...shown,
    x,
    y,
    xTicks: x.ticks(Math.max(3, Math.round(box.width / 130))).filter((tick) => tick >= 1 && Number.isInteger(tick)),
    yTicks: y.ticks(6),
    view,
    box,
  };
}

/** The values at the step nearest to `step`, for the readout. */
export function readout(shown, step) {
  const at = nearest(shown.steps, step);
  if (at < 0) return null;
  const last = shown.steps[at];
  const found = { step: last, first: last, raw: shown.mean[at], smoothed: shown.smoothed?.[at] };
  if (shown.bucket > 1) { // the value is the mean of several steps
    found.first = last - ((last - 1) % shown.bucket);
    [found.low, found.high] = [shown.low[at], shown.high[at]];
  }
  found.rateChange = lastChange(shown, found.step);
  if (shown.validation) {
    const v = nearest(shown.validation.steps, step);
    if (v >= 0) [found.validationStep, found.validation] = [shown.validation.steps[v], shown.validation.values[v]];
    found.validationName = shown.validation.name;
  }
  return found;
}

/** The readout in words, a line each. */
export function readoutLines(shown, found) {
  const { step, first, raw, low, high, smoothed, validation, validationName, validationStep, rateChange } = found;
  const unit = shown.chains ? "iteration" : "step";
  const several = step > first;
  const lines = [several ? `${unit}s ${count(first)} to ${count(step)}` : `${unit} ${count(step)}`];
  const name = shown.chains?.length > 1 ? "mean of the chains"
    : several ? `mean of ${count(step - first + 1)} ${unit}s`
      : shown.curve === "loss" ? `this ${unit}` : curveWords(shown.curve, Boolean(shown.chains));
  lines.push(`${name} ${number(raw)}`);
  // Extremes of a mean of chains would pass for those of a chain.
  if (several && !(shown.chains?.length > 1)) lines.push(`from ${number(low)} to ${number(high)}`);
  if (smoothed !== undefined) lines.push(`smoothed ${number(smoothed)}`);
  if (validation !== undefined) lines.push(`${validationName} ${number(validation)} at step ${count(validationStep)}`);
  if (rateChange) lines.push(`rate ${number(rateChange[1], 3)} after step ${count(rateChange[0])}`);
  return lines;
}

/** Describe the curve in words, for readers who cannot see it. */
export function describe(shown, words) {
  const line = shown.smoothed ?? shown.mean;
  const steps = shown.chains ? "iterations" : "steps";
  const parts = [`${shown.unit} over ${shown.total} ${steps}, ${words}`];
  const finite = Array.from(line).filter(Number.isFinite);
  if (finite.length) parts.push(`from ${number(finite[0])} to ${number(finite.at(-1))}`);
  if (shown.best) parts.push(`${shown.best.name} ${number(shown.best.value)} at step ${shown.best.step}`);
  const axis = shown.view ? axisWords(shown.unit, shown.view) : shown.unit;
  if (axis !== shown.unit) parts.push(`on an axis of ${axis}`);
  parts.push(...rateWords(shown));
  return parts.join(", ");
}

// Patterns distinguish the lines without colours.
export const DASHES = {
  validation: [7, 4],
  previous: [[2, 3], [6, 3, 1, 3], [10, 4], [1, 4]],
  chains: [[], [], [], [], [6, 3], [6, 3], [6, 3], [6, 3]],
};

// Names of the colours of the chains.
export const CHAIN_COLORS = ["loss", "validation", "best", "rate"];
export const chainColor = (i) => CHAIN_COLORS[i % CHAIN_COLORS.length];

/** Entries of the legend for chains: name, kind of line, dashes. Of several iterations, a line has the mean. */
export const chainItems = (chains) => [
  ...chains.map(({ label }, i) => [label, chainColor(i), DASHES.chains[i]]),
  ...(chains[0].width > 1 ? [[`mean and range of each ${count(chains[0].width)} iterations`, "range", []]] : []),
];

/** Width of the labels of the vertical axis, in pixels. */
export function labelRoom(ctx, ticks) {
  return Math.ceil(Math.max(...tickLabels(ticks).map((label) => ctx.measureText(label).width), 20)) + 16;
}

/** Draw a scene; `colors` are those of the theme. */
export function paint(ctx, shown, colors, hover) {
  const { box } = shown;
  ctx.clearRect(0, 0, box.width, box.height);
  if (shown.warmup) warmup(ctx, shown, colors);
  axes(ctx, shown, colors);
  rateMarks(ctx, shown, colors);
  ctx.save();
  ctx.beginPath();
  ctx.rect(box.left, 4, box.width - box.left - 6, box.height - 32);
  ctx.clip();
  (shown.chains ?? []).forEach((chain, i) => {
    if (chain.width > 1) range(ctx, { ...chain, x: shown.x, y: shown.y }, colors[chainColor(i)]);
  });
  (shown.chains ?? []).forEach((chain, i) => {
    stroke(ctx, shown, chain.steps, chain.values, colors[chainColor(i)], 1.1, DASHES.chains[i]);
  });
  shown.previous.forEach((run, i) => {
    stroke(ctx, shown, run.steps, run.values, colors.previous, 1.25, DASHES.previous[i]);
  });
  if (!shown.chains?.length) raw(ctx, shown, colors);
  if (shown.smoothed) stroke(ctx, shown, shown.steps, shown.smoothed, lineColor(shown, colors), 2.25);
  if (shown.validation) validation(ctx, shown, colors);
  ctx.restore();
  rateLabels(ctx, shown, colors);
  if (shown.warmup) warmupName(ctx, shown, colors);
  if (shown.best) best(ctx, shown, colors);
  if (hover) crosshair(ctx, shown, colors, hover);
}

const lineColor = (shown, colors) =>
  shown.curve === "loss" ? colors.loss : shown.curve === "learning_rate" ? colors.rate : colors.metric;

function axes(ctx, shown, colors) {
  const { box, x, y, view } = shown;
  ctx.lineWidth = 1;
  ctx.strokeStyle = colors.grid;
  ctx.fillStyle = colors.muted;
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  const labels = tickLabels(shown.yTicks);
  shown.yTicks.forEach((tick, i) => {
    const at = Math.round(y.at(tick + view.base)) + 0.5; // a tick of a log axis is a distance
    ctx.beginPath();
    ctx.moveTo(box.left, at);
    ctx.lineTo(box.width - 6, at);
    ctx.stroke();
    ctx.fillText(labels[i], box.left - 8, at);
  });
  ctx.textBaseline = "top";
  ctx.fillText(shown.chains ? "iter." : "step", box.left - 8, box.height - 20);
  ctx.textAlign = "center";
  let end = box.left - 8; // of the text before
  for (const tick of shown.xTicks) {
    const text = count(tick), half = ctx.measureText(text).width / 2;
    const at = Math.min(Math.max(x.at(tick), box.left + half), box.width - half);
    if (at - half < end + 8) continue;
    ctx.fillText(text, at, box.height - 20);
    end = at + half;
  }
}

// The shade of the warm-up, whose iterations are no draws.
function warmup(ctx, { box, x, warmup: last, total }, colors) {
  const right = Math.min(x.at(Math.min(last, total)), box.width - 6);
  if (right <= box.left) return;
  ctx.fillStyle = colors.grid;
  ctx.fillRect(box.left, 8, right - box.left, box.height - 36);
}

// Its name, above grid and curves.
function warmupName(ctx, { box, x, warmup: last, total }, colors) {
  const { width } = ctx.measureText("warm-up");
  if (Math.min(x.at(Math.min(last, total)), box.width - 6) - box.left < width + 16) return;
  plate(ctx, box.left + 5, 11, width + 8, colors);
  ctx.fillStyle = colors.muted;
  ctx.textAlign = "left";
  ctx.textBaseline = "middle";
  ctx.fillText("warm-up", box.left + 9, 19);
}

function raw(ctx, shown, colors) {
  const color = lineColor(shown, colors);
  if (shown.low !== shown.mean && shown.low.length > 1) range(ctx, shown, color);
  ctx.globalAlpha = shown.smoothed ? 0.36 : 1;
  stroke(ctx, shown, shown.steps, shown.mean, color, shown.smoothed ? 1 : 1.75);
  ctx.globalAlpha = 1;
}

// The shade from the lowest to the highest value of each bucket.
function range(ctx, { x, y, steps, low, high }, color) {
  ctx.globalAlpha = 0.16;
  ctx.fillStyle = color;
  ctx.beginPath();
  for (let i = 0; i < steps.length; i++) ctx.lineTo(x.at(steps[i]), y.at(high[i]));
  for (let i = steps.length - 1; i >= 0; i--) ctx.lineTo(x.at(steps[i]), y.at(low[i]));
  ctx.fill();
  ctx.globalAlpha = 1;
}

function stroke(ctx, { x, y, box }, steps, values, color, width, dash = []) {
  const [xs, ys] = thin(steps, values, 2 * Math.ceil(box.width));
  ctx.strokeStyle = color;
  ctx.lineWidth = width;
  ctx.lineJoin = "round";
  ctx.setLineDash(dash);
  ctx.beginPath();
  const isSeen = (i) => Number.isFinite(y.at(ys[i]));
  let drawing = false;
  for (let i = 0; i < xs.length; i++) {
    const top = y.at(ys[i]);
    if (!isSeen(i)) {
      drawing = false;
      continue;
    }
    if (drawing) ctx.lineTo(x.at(xs[i]), top);
    else ctx.moveTo(x.at(xs[i]), top);
    drawing = true;
  }
  ctx.stroke();
  ctx.setLineDash([]);
  // A line needs two neighbours; a value between others that are not finite is a dot.
  for (let i = 0; i < xs.length; i++) {
    if (isSeen(i) && !isSeen(i - 1) && !isSeen(i + 1)) dot(ctx, x.at(xs[i]), y.at(ys[i]), 3, color);
  }
}

function dot(ctx, x, y, radius, color) {
  ctx.fillStyle = color;
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

function validation(ctx, shown, colors) {
  const { steps, values } = shown.validation;
  stroke(ctx, shown, steps, values, colors.validation, 2, DASHES.validation);
  if (steps.length > FEW_POINTS) return;
  steps.forEach((step, i) => dot(ctx, shown.x.at(step), shown.y.at(values[i]), 3, colors.validation));
}

function best(ctx, { best: { name, step, value }, x, y, box }, colors) {
  const [left, top] = [x.at(step), y.at(value)];
  if (left < box.left || !Number.isFinite(top)) return;
  ctx.beginPath();
  for (const [dx, dy] of [[0, -6], [6, 0], [0, 6], [-6, 0]]) ctx.lineTo(left + dx, top + dy);
  ctx.closePath();
  ctx.fillStyle = colors.best;
  ctx.strokeStyle = colors.surface;
  ctx.lineWidth = 2;
  ctx.stroke();
  ctx.fill();
  const text = `${name} ${number(value)}`;
  const toTheLeft = left + ctx.measureText(text).width + 14 > box.width - 8;
  ctx.textAlign = toTheLeft ? "right" : "left";
  ctx.textBaseline = "middle";
  const below = top + 12 < box.height - 40;
  const place = [left + (toTheLeft ? -10 : 10), below ? top + 14 : top - 14];
  const { width } = ctx.measureText(text);
  plate(ctx, place[0] - (toTheLeft ? width + 3 : 3), place[1] - 8, width + 6, colors);
  ctx.fillStyle = colors.best;
  ctx.fillText(text, ...place);
}

function crosshair(ctx, { x, y, box }, colors, { step, raw: value, smoothed }) {
  const left = Math.round(x.at(step)) + 0.5;
  ctx.strokeStyle = colors.muted;
  ctx.lineWidth = 1;
  ctx.setLineDash([3, 3]);
  ctx.beginPath();
  ctx.moveTo(left, 8);
  ctx.lineTo(left, box.height - 28);
  ctx.stroke();
  ctx.setLineDash([]);
  const top = y.at(smoothed ?? value);
  if (!Number.isFinite(top)) return;
  dot(ctx, left, top, 5, colors.surface);
  dot(ctx, left, top, 3.5, colors.text);
}

/** Paths for a small picture of `values` in a box, as an SVG's `d`: the line, and its points if these are few. */
export function sparkline(values, width, height, places = Array.from(values, (_, i) => i)) {
  const [low, high] = extent([values]) ?? [0, 0];
  const span = high - low || 1;
  const first = places[0] ?? 0;
  const length = places[places.length - 1] - first || 1;
  const points = Array.from(values, (value, i) => {
    const y = high === low ? height / 2 : height - 2 - ((value - low) / span) * (height - 4);
    return `${(2 + ((places[i] - first) / length) * (width - 4)).toFixed(1)} ${y.toFixed(1)}`;
  });
  const dots = points.length <= FEW_DOTS ? points.map((point) => `M${point}h0`).join("") : "";
  return { line: points.map((point, i) => `${i ? "L" : "M"}${point}`).join(""), dots };
}
