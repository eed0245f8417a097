// Marks on the curve where the learning rate was changed.

import { number } from "./math.js";

const GAP = 8;
const TOP = 7; // of the labels
const LINES = 22; // where the lines begin: none runs through a label

/** The changes on the picture with their places, from left to right. */
const placed = ({ x, box, rateChanges = [] }) =>
  rateChanges.map(([step, rate]) => [Math.round(x.at(step)) + 0.5, rate])
    .filter(([left]) => left >= box.left && left <= box.width - 6);

/** Draw a thin line at each change. */
export function rateMarks(ctx, shown, colors) {
  ctx.strokeStyle = colors.rate;
  ctx.lineWidth = 1;
  ctx.setLineDash([1, 3]);
  for (const [left] of placed(shown)) {
    ctx.beginPath();
    ctx.moveTo(left, LINES);
    ctx.lineTo(left, shown.box.height - 28);
    ctx.stroke();
  }
  ctx.setLineDash([]);
}

/** A ground below a name: a line that shows between the letters reads as one of them. */
export function plate(ctx, left, top, width, colors) {
  ctx.fillStyle = colors.surface;
  ctx.globalAlpha = 0.8;
  ctx.fillRect(left, top, width, 16);
  ctx.globalAlpha = 1;
}

/**
 * Write the new rate above each line where it has room, on a ground of its own; the last one has it.
 *
 * A rate begins at its line, or else ends there, if no other line begins below it.
 */
export function rateLabels(ctx, shown, colors) {
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  let free = shown.box.width - 6; // what is on the left of the labels so far
  const marks = placed(shown).reverse();
  marks.forEach(([left, rate], i) => {
    const text = `rate ${number(rate, 3)}`;
    const { width } = ctx.measureText(text);
    const fits = left + width < free;
    const isAlone = !marks.some(([other]) => other < left && other > left - width - GAP);
    const endsHere = left <= free && left - width >= shown.box.left && isAlone;
    if (!fits && !endsHere && i > 0) return;
    const from = fits ? left : left - width;
    plate(ctx, from - 2, TOP - 2, width + 4, colors);
    ctx.fillStyle = colors.rate;
    ctx.fillText(text, from, TOP);
    free = from - GAP;
  });
}

/** The latest change up to a step, or undefined. */
export const lastChange = ({ rateChanges = [] }, step) => rateChanges.filter(([at]) => at <= step).at(-1);

/** The changes in words, for readers who cannot see them. */
export const rateWords = ({ rateChanges = [] }) =>
  rateChanges.slice(-1).map(([step, rate]) => `learning rate changed to ${number(rate, 3)} after step ${step}`);
