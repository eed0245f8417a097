// Numbers for the dashboard: buckets, smoothing, scales, ticks, and how values are written.
// All are pure functions. A test runs them in Node next to their Python counterparts.

/** Read a float32 buffer, which may begin at any byte of its message. */
export function unpack(view) {
  if (!view) return new Float32Array(0);
  const start = view.byteOffset;
  return new Float32Array(view.buffer.slice(start, start + view.byteLength));
}

/** Last step of each of `n` buckets of `width` steps, of `total` steps in all. */
export function bucketSteps(n, width, total) {
  return Float64Array.from({ length: n }, (_, i) => Math.min(width * (i + 1), total));
}

// As in inference/run/smoothing.py, which says why.
const LONGEST_WINDOW = 256;
const SHORTEST_WINDOW = 64;

/** Number of steps whose mean is the smoothed value at a step; `epoch` is its steps, or null. */
export function averagedSteps(step, epoch) {
  const window = epoch && epoch <= LONGEST_WINDOW ? Math.ceil(SHORTEST_WINDOW / epoch) * epoch : LONGEST_WINDOW;
  const short = Math.min(Math.floor(step / 8), window);
  const steps = Math.max(Math.floor(step / 50), short, 1);
  return epoch && steps >= epoch ? steps - (steps % epoch) : steps;
}

/** What the smoothed curve is, for a run of `step` steps; `epoch` is its steps, or null. */
export function smoothing(step, epoch) {
  const n = averagedSteps(step, epoch);
  return n > 1 ? `Mean of the last ${count(n)} steps; at earlier steps, of ${count(n)} or fewer`
    : "Mean of the last steps; so far, of a single one";
}

/**
 * Mean of the last steps up to each value, the mean of `width` steps; gaps weigh nothing. Later
 * values do not change it. Of `total` steps in all, the last value may stand for fewer.
 */
export function smooth(values, width, total, epoch) {
  const n = values.length;
  const end = (i) => (i < n - 1 ? width * (i + 1) : total);
  return Float64Array.from({ length: n }, (_, i) => {
    const begin = Math.max(end(i) - averagedSteps(end(i), epoch), 0);
    const first = Math.floor(begin / width);
    let [sum, weight] = [0, 0];
    for (let j = first; j <= i; j++) {
      if (!Number.isFinite(values[j])) continue;
      const steps = end(j) - Math.max(width * j, begin);
      sum += steps * values[j];
      weight += steps;
    }
    return weight > 0 ? sum / weight : NaN;
  });
}

/** Index of the value of an ascending array that is nearest to `x`, or -1. */
export function nearest(ascending, x) {
  if (ascending.length === 0) return -1;
  let low = 0;
  let high = ascending.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ascending[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - ascending[low - 1] <= ascending[low] - x ? low - 1 : low;
}

/** Keep at most `most` points: the lowest and the highest of each stretch, in order. */
export function thin(xs, ys, most) {
  if (xs.length <= most) return [xs, ys];
  const keep = [];
  const stretches = most >> 1;
  for (let s = 0; s < stretches; s++) {
    const from = Math.floor((s * xs.length) / stretches);
    const to = Math.floor(((s + 1) * xs.length) / stretches);
    let low = from;
    let high = from;
    for (let i = from; i < to; i++) {
      if (ys[i] < ys[low] || Number.isNaN(ys[low])) low = i;
      if (ys[i] > ys[high] || Number.isNaN(ys[high])) high = i;
    }
    keep.push(Math.min(low, high));
    if (low !== high) keep.push(Math.max(low, high));
  }
  return [Float64Array.from(keep, (i) => xs[i]), Float64Array.from(keep, (i) => ys[i])];
}

/** Lowest and highest finite value of several arrays, or null where there is none. */
export function extent(arrays) {
  let low = Infinity;
  let high = -Infinity;
  for (const values of arrays) {
    for (const value of values) {
      if (!Number.isFinite(value)) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return low <= high ? [low, high] : null;
}

/** The value below which a share `q` of the finite values lies, or NaN. */
export function quantile(values, q) {
  const sorted = Float64Array.from(values).filter(Number.isFinite).sort();
  if (sorted.length === 0) return NaN;
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

const FORWARD = {
  linear: (value) => value,
  log: (value) => Math.log10(value),
  log1p: Math.log1p,
};
const BACKWARD = {
  linear: (value) => value,
  log: (value) => 10 ** value,
  log1p: Math.expm1,
};

/**
 * Map a domain to a range of pixels.
 * @param kind "linear", or "log" (a positive domain).
 * @returns kind, at(value), invert(pixel), ticks(about how many).
 */
export function scale(kind, [low, high], [from, to]) {
  const forward = FORWARD[kind];
  const begin = forward(low);
  const span = forward(high) - begin || 1;
  return {
    kind,
    at: (value) => from + ((forward(value) - begin) / span) * (to - from),
    invert: (pixel) => BACKWARD[kind](begin + ((pixel - from) / (to - from)) * span),
    ticks: (about) => TICKS[kind](low, high, about),
  };
}

/** Round positions from `low` to `high`: multiples of 1, 2 or 5 times a power of ten. */
export function linearTicks(low, high, about) {
  if (!(high > low)) return [low];
  const raw = (high - low) / Math.max(about, 2.5); // with fewer, a step could be longer than the axis
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((m) => m * power >= raw * 0.999) ?? 10);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    ticks.push(i === 0 ? 0 : Number((i * step).toPrecision(12)));
  }
  return ticks;
}

/** Positions of an axis of a kind, three at least where they can be had: one alone shows no scale. */
export function enoughTicks(kind, low, high, about) {
  let ticks = TICKS[kind](low, high, about);
  for (let more = about + 1; ticks.length < 3 && more <= 3 * about; more++) ticks = TICKS[kind](low, high, more);
  return ticks;
}

/** Positions from `low` to `high` (both positive): powers of ten, finer where there are few. */
export function logTicks(low, high, about) {
  const from = Math.floor(Math.log10(low));
  const to = Math.ceil(Math.log10(high));
  if (Math.log10(high / low) < 0.7) return linearTicks(low, high, about);
  const every = Math.max(1, Math.ceil((to - from) / Math.max(about, 1)));
  const within = to - from <= 1 ? [1, 2, 3, 5] : to - from <= 3 ? [1, 2, 5] : [1];
  const ticks = [];
  for (let exponent = from; exponent <= to; exponent += every) {
    for (const m of within) ticks.push(Number((m * 10 ** exponent).toPrecision(6)));
  }
  return ticks.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001);
}

/** Positions of counts: zero, then as on a logarithmic axis. */
const log1pTicks = (low, high, about) => [0, ...logTicks(1, high, about)].filter((tick) => tick >= low);

const TICKS = {
  linear: linearTicks,
  log: logTicks,
  log1p: log1pTicks,
};

/** Write with so many decimals, an exact half away from zero, without a minus before zero. */
const fixed = (value, digits = 0) => value.toFixed(digits).replace(/^-(?=[0.]*$)/, "");

/** The same with thousands in groups. */
function grouped(value, digits = 0) {
  const [whole, ...decimals] = fixed(value, digits).split(".");
  return [whole.replace(/\B(?=(\d{3})+$)/g, ","), ...decimals].join(".");
}

/** Write a value with `digits` significant digits, thousands in groups. */
export function number(value, digits = 4) {
  if (value === null || value === undefined) return "-";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (size >= 10 ** (digits - 1) && size < 1e9) return grouped(value);
  const rounded = Math.abs(Number(value.toPrecision(digits)));
  if (rounded !== 0 && (rounded < 1e-4 || rounded >= 10 ** digits)) {
    const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
    const padded = exponent.slice(1).padStart(2, "0");
    return `${Number(mantissa)}e${exponent[0]}${padded}`;
  }
  return String(Number(value.toPrecision(digits)));
}

/**
 * Write a value that stands beside its spread, which gets two digits: as `number` does, or with more
 * decimals. A spread within the rounding of single precision asks for none.
 */
export function numberBeside(value, spread, digits = 4) {
  const size = Math.abs(value);
  if (!size || !Number.isFinite(value) || !(spread > 1e-7 * size && spread < Infinity)) return number(value, digits);
  const exponent = Math.floor(Math.log10(size));
  const decimals = 1 - Math.floor(Math.log10(spread / 0.995));
  if (decimals <= Math.max(0, digits - 1 - exponent)) return number(value, digits);
  return size >= 1e-3 && size < 1e9 ? grouped(value, decimals) : number(value, decimals + 1 + exponent);
}

const MOST_DIGITS = 12;

/**
 * Write the values along an axis: as numbers, or with decimals where these would be off, or where
 * only some of them have a power of ten.
 *
 * Labels are off by less than a hundredth of a step. A value alone has no step; its label is exact
 * to nine digits.
 */
export function tickLabels(values) {
  const steps = values.slice(1).map((value, i) => Math.abs(value - values[i])).filter((step) => step > 0);
  const step = steps.length ? Math.min(...steps) : Math.max(0, ...values.map(Math.abs));
  const near = (steps.length ? 0.01 : 1e-9) * step;
  const labels = values.map((value) => number(value));
  const written = labels.map((label) => Number(label.replaceAll(",", "")));
  const powers = new Set(labels.filter((_, i) => values[i] !== 0).map((label) => label.includes("e")));
  const isMixed = powers.size > 1 && Math.max(...steps) < 2 * step; // not along a logarithmic axis
  if (!isMixed && values.every((value, i) => Math.abs(written[i] - value) <= near)) return labels;
  for (let decimals = 0; decimals < MOST_DIGITS; decimals++) {
    if (Math.abs(Number(step.toFixed(decimals)) - step) < near) {
      return values.map((value) => grouped(value, decimals));
    }
  }
  return values.map((value) => number(value, MOST_DIGITS));
}

export const WELL_MIXED = 1.01; // R-hat up to which chains agree

const MOST_DECIMALS = 14; // then double precision ends

/** Write an R-hat, so that it is seen to differ from its limit. */
export function ratio(value) {
  if (value === null || value === undefined) return "-";
  let decimals = 2;
  const alike = () => value !== WELL_MIXED && fixed(value, decimals) === fixed(WELL_MIXED, decimals);
  while (decimals < MOST_DECIMALS && alike()) decimals++;
  return grouped(value, decimals);
}

/** The limit of an R-hat, as it stands beside one. */
export const limitOf = (value) => (value === null || value === undefined ? "" : `${value <= WELL_MIXED ? "≤" : ">"} ${WELL_MIXED}`);

/** Write a whole number, thousands in groups. */
export const count = (value) => (value === null || value === undefined ? "-" : grouped(value));

/** Write a rate per second: whole from 10 on, one decimal below. */
export const rate = (value) => grouped(value, value >= 10 ? 0 : 1);

/** Write a span of time: in seconds below a minute, else as a clock does. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "-";
  if (seconds < 9.95) return `${fixed(seconds, 1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export const SEEN_S = 0.05; // what is shorter would be written as 0.0 s

/** Write the time of a run's progress that was no training. */
export const noTraining = (progress) =>
  [["prepared_s", "to prepare"], ["compiling_s", "tracing and compiling"], ["waited_s", "waiting for other runs"], ["paused_s", "paused"]]
    .map(([name, what]) => [progress[name], what]).filter(([seconds]) => seconds >= SEEN_S)
    .map(([seconds, what]) => `${duration(seconds)} ${what}`).join(", ");

/** Write the time that is left; nothing where it is unknown, or used up while the run goes on. */
export const timeLeft = (seconds) =>
  seconds === null || seconds < SEEN_S ? [] : [`${duration(seconds)} left`];

/** Write a number of bytes. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "-";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(bytes) < 1023.5) { // what would be written as 1024 has the next unit
      return `${fixed(bytes, bytes >= 10 || unit === "B" ? 0 : 1)} ${unit}`;
    }
    bytes /= 1024;
  }
  return `${fixed(bytes, 1)} TiB`;
}

/** Write a fraction as a percentage. */
export const share = (fraction) => 0 < fraction && fraction < 0.001 ? "under 0.1%"
  : 0.999 < fraction && fraction < 1 ? "over 99.9%"
  : `${number(100 * fraction, 100 * fraction < 10 ? 2 : 3)}%`;

const DRAWING_SHARE = 0.01; // of the time: the page may run on the cores that train
const LONGEST_REST_MS = 1500; // so that a busy machine's curve still moves

/** The cost of a drawing in milliseconds, averaged over the last few. */
export const usual = (before, cost) => (before === null ? cost : 0.7 * before + 0.3 * cost);

/** How long to rest after drawings of that cost, in milliseconds. */
export const restAfter = (cost) => Math.min(cost / DRAWING_SHARE, LONGEST_REST_MS);
