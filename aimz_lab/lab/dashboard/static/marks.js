// Marks on the curve where the learning rate was changed.

import { number } from "./math.js";

const GAP = 4;

/** Draw a thin line at each change, with the new rate where it has room; the last one has its rate. */
export function rateMarks(ctx, { x, box, rateChanges = [] }, colors) {
  ctx.strokeStyle = ctx.fillStyle = colors.rate;
  ctx.lineWidth = 1;
  ctx.textBaseline = "top";
  let free = box.width - 6; // what is on the left of the labels so far
  let isLast = true;
  for (const [step, rate] of [...rateChanges].reverse()) {
    const left = Math.round(x.at(step)) + 0.5;
    if (left < box.left || left > box.width - 6) continue;
    ctx.setLineDash([1, 3]);
    ctx.beginPath();
    ctx.moveTo(left, 8);
    ctx.lineTo(left, box.height - 28);
    ctx.stroke();
    const text = `rate ${number(rate, 3)}`;
    const { width } = ctx.measureText(text);
    const fits = left + GAP + width < free;
    if (fits || isLast) {
      ctx.textAlign = fits ? "left" : "right";
      ctx.fillText(text, left + (fits ? GAP : -GAP), 10);
      free = fits ? left : left - 2 * GAP - width;
    }
    isLast = false;
  }
  ctx.setLineDash([]);
}

/** The latest change up to a step, or undefined. */
export const lastChange = ({ rateChanges = [] }, step) => rateChanges.filter(([at]) => at <= step).at(-1);

/** The changes in words, for readers who cannot see them. */
export const rateWords = ({ rateChanges = [] }) =>
  rateChanges.slice(-1).map(([step, rate]) => `learning rate changed to ${number(rate, 3)} after step ${step}`);
