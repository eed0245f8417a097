// Marks on the curve where the learning rate was changed.

import { number } from "./math.js";

const MOST_LABELS = 6;

/** Draw a thin line at each change, with the new rate where there are few. */
export function rateMarks(ctx, { x, box, rateChanges = [] }, colors) {
  ctx.strokeStyle = ctx.fillStyle = colors.rate;
  ctx.lineWidth = 1;
  ctx.textAlign = "left";
  ctx.textBaseline = "top";
  for (const [step, rate] of rateChanges) {
    const left = Math.round(x.at(step)) + 0.5;
    if (left < box.left || left > box.width - 6) continue;
    ctx.setLineDash([1, 3]);
    ctx.beginPath();
    ctx.moveTo(left, 8);
    ctx.lineTo(left, box.height - 28);
    ctx.stroke();
    const text = `rate ${number(rate, 3)}`;
    const room = left + 4 + ctx.measureText(text).width < box.width - 6;
    if (rateChanges.length <= MOST_LABELS && room) ctx.fillText(text, left + 4, 10);
  }
  ctx.setLineDash([]);
}

/** The changes in words, for readers who cannot see them. */
export const rateWords = ({ rateChanges = [] }) =>
  rateChanges.slice(-1).map(([step, rate]) => `learning rate changed to ${number(rate, 3)} after step ${step}`);
