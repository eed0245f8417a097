// Charts as the kernel sends them: unpack their numbers, place them in a box, read values off.
// All are pure functions.

import { enoughTicks, nearest, number, numberBeside, scale, tickLabels } from "../../dashboard/static/math.js";

const ARRAYS = ["x", "y", "low", "high", "edges", "heights", "values"];
const ROOMS = { large: { height: 260, bottom: 40, top: 10 }, small: { height: 150, bottom: 36, top: 8 } };
const RIGHT = 12;
const BETWEEN_NAMES = 8; // pixels

/** Read a buffer of float64, which may begin at any byte of its message. */
export function numbers(view) {
  return new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/** A chart whose layers have arrays of numbers. */
export function readChart(chart) {
  const layers = chart.layers.map((layer) => {
    const read = { ...layer };
    for (const name of ARRAYS) if (read[name]) read[name] = numbers(read[name]);
    return read;
  });
  return { ...chart, layers, cells: layers.find((layer) => layer.kind === "cells") ?? null };
}

/** Height of a chart in pixels. */
export const heightOf = (chart) => ROOMS[chart.size].height;

function namedTicks(names, most) {
  const named = names.map((name, i) => [i, name]).filter(([, name]) => name !== "");
  const every = Math.max(1, Math.ceil(named.length / Math.max(most, 1)));
  const last = named.length - 1; // which may stand for many before it
  return named.filter((_, i) => i === last || (i % every === 0 && last - i >= every));
}

/** Whether the labels of an axis stand apart from each other. */
function areApart(ticks, x, measure) {
  const half = (label) => measure(clip(label)) / 2;
  return ticks.every(([at, label], i) => i === 0 || x.at(at) - x.at(ticks[i - 1][0])
    >= half(ticks[i - 1][1]) + half(label) + BETWEEN_NAMES);
}

/** As many of the names of an axis as stand apart from each other. */
function namesApart(names, x, measure) {
  for (let most = names.length; most > 1; most--) {
    const ticks = namedTicks(names, most);
    if (areApart(ticks, x, measure)) return ticks;
  }
  return namedTicks(names, 1);
}

const numbered = (ticks) => {
  const labels = tickLabels(ticks);
  return ticks.map((tick, i) => [tick, labels[i]]);
};

/** Every so many of the numbers of an axis that they stand apart from each other. */
function numbersApart(ticks, x, measure) {
  for (let every = 1; every < ticks.length; every++) {
    const some = numbered(ticks.filter((_, i) => i % every === 0));
    if (areApart(some, x, measure)) return some;
  }
  return numbered(ticks.slice(0, 1));
}

/**
 * Place a chart in a box.
 * @param chart What `readChart` returned.
 * @param width Width in pixels.
 * @param measure Width of a text in pixels.
 * @param xLimits Ends of the horizontal axis; the chart's own if null.
 * @returns x and y (scales), xTicks and yTicks (pairs of a place and its label), box.
 */
export function place(chart, width, measure, xLimits = null) {
  const { height, bottom, top } = ROOMS[chart.size];
  const ends = chart.cells ? [top, height - bottom] : [height - bottom, top];
  const y = scale(chart.y_scale, chart.y_limits, ends);
  const yNames = chart.cells?.y_names ?? [];
  const whole = (ticks) => (chart.cells ? ticks.filter(Number.isInteger) : ticks);
  const aboveHandles = (tick) => chart.lowest_tick === null || tick >= chart.lowest_tick;
  const yTicks = yNames.length ? namedTicks(yNames, height / 18)
    : numbered(whole(y.ticks(chart.size === "small" ? 3 : 6)).filter(aboveHandles));
  const left = Math.ceil(Math.max(20, ...yTicks.map(([, label]) => measure(label)))) + 14;
  const x = scale(chart.x_scale, xLimits ?? chart.x_limits, [left, width - RIGHT]);
  const names = chart.x_names.length ? chart.x_names : chart.cells?.x_names ?? [];
  const about = Math.max(3, Math.round((width - left) / 90));
  const xTicks = names.length ? namesApart(names, x, measure)
    : numbersApart(whole(enoughTicks(chart.x_scale, ...(xLimits ?? chart.x_limits), about)), x, measure);
  return { chart, x, y, xTicks: xTicks.map(([at, label]) => [at, clip(label)]), yTicks,
    box: { width, height, left, right: width - RIGHT, top, bottom: height - bottom } };
}

const LONGEST_LABEL = 18;

/** A name that is short enough for an axis. */
export const clip = (text) => (text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL - 1)}…` : text);

const between = (low, high) => [low, high].map((end) => numberBeside(end, high - low)).join(" to ");

const READERS = {
  line: (layer, x) => valueAt(layer.x, layer.y, x),
  area: (layer, x) => valueAt(layer.x, layer.y, x),
  band: (layer, x) => {
    const i = nearestOf(layer.x, x);
    return i < 0 ? null : between(layer.low[i], layer.high[i]);
  },
  steps: (layer, x) => {
    const i = layer.edges.findLastIndex((edge) => edge <= x);
    return i < 0 || i >= layer.heights.length ? null : number(layer.heights[i]);
  },
  bars: (layer, x) => {
    const i = Math.round(x);
    if (!(i in layer.values)) return null;
    if (!layer.low) return number(layer.values[i]);
    const [low, high] = [layer.low[i], layer.high[i]];
    return `${numberBeside(layer.values[i], high - low)} (${between(low, high)})`;
  },
};

/** Index of the nearest of values in any order, or -1. */
function nearestOf(values, x) {
  if (values.every((value, i) => i === 0 || values[i - 1] <= value)) return nearest(values, x);
  let best = -1;
  values.forEach((value, i) => {
    if (best < 0 || Math.abs(value - x) < Math.abs(values[best] - x)) best = i;
  });
  return best;
}

function valueAt(xs, ys, x) {
  const i = nearestOf(xs, x);
  return i < 0 ? null : number(ys[i]);
}

/** What the chart has at a place, a line of text for each layer; null away from the axes. */
export function readAt({ chart, x, y, box }, left, top) {
  if (left < box.left || left > box.right) return null;
  const at = x.invert(left);
  if (chart.cells) return cellAt(chart.cells, Math.round(at), Math.round(y.invert(top)));
  const lines = [chart.x_names[Math.round(at)] ?? `${chart.x_label || "x"} ${number(at)}`];
  for (const layer of chart.layers) {
    const value = READERS[layer.kind]?.(layer, at);
    if (value !== null && value !== undefined) lines.push(`${layer.label || chart.y_label || layer.kind} ${value}`);
    if (layer.kind === "points") lines.push(...pointAt(layer, x, y, left, top));
  }
  return lines.length > 1 ? lines : null;
}

function pointAt(layer, x, y, left, top) {
  const reach = 8;
  let best = -1;
  let least = reach;
  layer.x.forEach((value, i) => {
    const away = Math.hypot(x.at(value) - left, y.at(layer.y[i]) - top);
    if (away < least) [best, least] = [i, away];
  });
  return best < 0 ? [] : [`${layer.names[best] ?? (layer.label || "point")}: ${number(layer.x[best])}, ${number(layer.y[best])}`];
}

function cellAt(layer, column, row) {
  const [rows, columns] = layer.shape;
  if (row < 0 || row >= rows || column < 0 || column >= columns) return null;
  const kind = layer.kinds[layer.values[row * columns + column]]?.[0] ?? "empty";
  return [layer.y_names[row] ?? `row ${row}`, layer.x_names[column] ?? `column ${column}`, kind];
}
