// The figure of the curve: its canvas, its legend, and the readout of its values.

import { chainItems, curveWords, DASHES, describe, labelRoom, paint, readout, readoutLines, scene } from "./chart.js";
import { h, setAttribute, setFlag, setText, svg } from "./elements.js";
import { axisWords, shows } from "./view.js";

const CANVAS_HEIGHT = 280;
const TIP_WIDTH = 210;
const STRIDES = { ArrowLeft: -1, ArrowRight: 1, PageDown: -20, PageUp: 20, Home: -Infinity, End: Infinity };

/** A canvas with a curve; `redraw` is called when the reader points at another step. */
export class Curve {
  constructor(redraw) {
    this.redraw = redraw;
    this.hover = null;
    this.shown = null;
    this.canvas = h("canvas", { tabindex: 0, role: "img", class: "aimz-canvas",
      onpointermove: (event) => this.point(event.offsetX),
      onpointerleave: () => this.point(null),
      onblur: () => this.point(null),
      onkeydown: (event) => this.walk(event) });
    this.tip = h("div", { class: "aimz-tip", hidden: true, role: "status" });
    this.unit = h("span", { class: "aimz-unit" });
    this.legend = h("ul", { class: "aimz-legend" });
    this.element = h("figure", { class: "aimz-chart" },
      h("div", { class: "aimz-chart-head" }, this.unit, this.legend),
      h("div", { class: "aimz-canvas-box" }, this.canvas, this.tip));
  }

  /** Say that the curve is switched off. */
  fail(why) {
    setText(this.unit, `The curve failed and was switched off: ${why}`);
    this.canvas.hidden = true;
  }

  /**
   * Draw.
   * @param curves What `series` returned, or null.
   * @param options log, whole and half, as `scene` takes them.
   * @param theme colors by name, and font.
   * @param words Status of the run, for the description.
   */
  draw(curves, options, theme, words) {
    const width = this.canvas.parentElement.clientWidth;
    if (width === 0) return; // not on the page yet
    const ctx = this.prepare(width, theme.font);
    if (!curves?.mean.some(Number.isFinite)) {
      const words = curves?.steps.length ? "There is no finite value yet." : "The curve begins with the first steps.";
      this.wait(ctx, width, theme.colors.muted, words);
      return;
    }
    const box = { width, height: CANVAS_HEIGHT, left: 0 };
    box.left = labelRoom(ctx, scene(curves, options, box).yTicks);
    this.shown = scene(curves, options, box);
    const hover = this.hover === null ? null : readout(this.shown, this.hover);
    paint(ctx, this.shown, theme.colors, hover);
    this.drawTip(hover);
    this.drawLegend();
    setAttribute(this.canvas, "aria-label",
      `${describe(this.shown, words)}. Arrow keys read the values.`);
  }

  prepare(width, font) {
    const ratio = window.devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.ratio !== ratio) {
      this.ratio = ratio;
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(CANVAS_HEIGHT * ratio);
      this.canvas.style.height = `${CANVAS_HEIGHT}px`;
    }
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.font = font;
    return ctx;
  }

  wait(ctx, width, color, words) {
    ctx.clearRect(0, 0, width, CANVAS_HEIGHT);
    ctx.fillStyle = color;
    ctx.textAlign = "center";
    ctx.fillText(words, width / 2, CANVAS_HEIGHT / 2);
  }

  drawLegend() {
    const { shown } = this;
    setText(this.unit, axisWords(shown.unit, shown.view));
    const chains = shown.chains ?? [];
    const items = chains.length ? chainItems(chains) : [
      shown.smoothed ? ["smoothed", "line", []] : null,
      shown.smoothed ? ["each step", "raw", []] : [curveWords(shown.curve, Boolean(shown.chains)), "line", []],
      shown.validation ? [shown.validation.legend, "validation", DASHES.validation] : null,
      ...shown.previous.map((run, i) => [
        shows(shown.view, run.values) ? run.label : `${run.label}, outside of this picture`, "previous", DASHES.previous[i]]),
    ].filter(Boolean);
    const key = JSON.stringify([items, shown.curve]);
    if (key === this.shownLegend) return;
    this.shownLegend = key;
    this.legend.replaceChildren(...items.map((item) => h("li", {}, this.key(...item), item[0])));
  }

  key(_, kind, dash) {
    const options = { width: 26, height: 8, class: `aimz-key aimz-key-${kind}`,
      "data-curve": this.shown.curve, "aria-hidden": "true" };
    return svg("svg", options, svg("path", { d: "M1 4H25", "stroke-dasharray": dash.join(" ") }));
  }

  point(left) {
    this.hover = left === null || !this.shown ? null : this.shown.x.invert(left);
    this.redraw();
  }

  walk(event) {
    const stride = STRIDES[event.key];
    if (!this.shown || stride === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook would move to another cell
    const { steps } = this.shown;
    const last = steps.length - 1;
    const now = this.hover === null ? last : steps.findIndex((step) => step >= this.hover);
    this.hover = steps[Math.min(Math.max(now + stride, 0), last)];
    this.redraw();
  }

  drawTip(hover) {
    setFlag(this.tip, "hidden", !hover);
    if (!hover) return;
    const { shown } = this;
    setText(this.tip, readoutLines(shown, hover).join("\n"));
    const left = shown.x.at(hover.step);
    const flip = left > shown.box.width - TIP_WIDTH;
    this.tip.style.left = flip ? "auto" : `${left + 12}px`;
    this.tip.style.right = flip ? `${shown.box.width - left + 12}px` : "auto";
  }
}
