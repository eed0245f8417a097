// A chart on the page: its canvas, legend and readout, and the handles that the reader drags.

import { h, setAttribute, setFlag, setText, svg } from "../../dashboard/static/elements.js";
import { nearest, number } from "../../dashboard/static/math.js";
import { paintChart, ROLES } from "./layers.js";
import { heightOf, place, readAt, readChart } from "./plot.js";

const SEND_MS = 30;
const TIP_ROOM = 190;
const MARK_ROOM = 18; // between the middle of a handle and the end of its words, beside the words
const HANDLE_ROW_PX = 20;
const NUDGES = {
  ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity,
};
const STRIDE_PX = { ArrowLeft: -8, ArrowRight: 8, PageDown: -60, PageUp: 60, Home: -Infinity, End: Infinity };

/** A chart; `drag(name, place)` is called while a handle moves, `redraw()` when it must be painted. */
export class ChartFigure {
  constructor(drag, redraw) {
    this.drag = drag;
    this.redraw = redraw;
    this.pointer = null;
    this.held = null; // a handle that is being dragged: its name, place and the axis of then
    this.canvas = h("canvas", { tabindex: 0, role: "img", class: "aimz-canvas",
      onpointermove: (event) => this.point([event.offsetX, event.offsetY]),
      onpointerleave: () => this.point(null),
      onblur: () => this.point(null),
      onkeydown: (event) => this.walk(event) });
    this.title = h("span", { class: "aimz-explorer-title" });
    this.unit = h("span", {});
    this.legend = h("ul", { class: "aimz-legend" });
    this.tip = h("div", { class: "aimz-tip", hidden: true, role: "status" });
    this.handles = new Map();
    this.box = h("div", { class: "aimz-canvas-box" }, this.canvas, this.tip);
    this.element = h("figure", { class: "aimz-explorer-chart" },
      h("div", { class: "aimz-chart-head" }, h("span", {}, this.title, " ", this.unit), this.legend), this.box);
  }

  /** Take a chart as it was sent. */
  update(sent) {
    this.chart = readChart(sent);
    setText(this.title, sent.title);
    setText(this.unit, sent.y_label);
    setAttribute(this.element, "data-size", sent.size);
    this.box.style.height = `${heightOf(sent)}px`;
    this.showHandles();
  }

  /** Name the layers, and the handles whose words have no room beside them. */
  showLegend(handles) {
    const layers = this.chart.layers.flatMap((layer) => (layer.kind === "cells"
      ? layer.kinds.map(([name, role]) => [name, role, "cells", false])
      : layer.label ? [[layer.label, layer.role, layer.kind === "bars" && layer.low ? "points" : layer.kind, layer.dashed]] : []));
    const items = [...layers, ...handles.map(([words, role]) => [words, role, "points", false])];
    const key = JSON.stringify(items);
    if (key === this.legendKey) return;
    this.legendKey = key;
    this.legend.replaceChildren(...items.map(([name, role, kind, dashed]) =>
      h("li", {}, swatch(role, kind, dashed), name)));
  }

  showHandles() {
    const wanted = new Map(this.chart.handles.map((handle) => [handle.name, handle]));
    for (const [name, element] of this.handles) {
      if (wanted.has(name)) continue;
      element.remove();
      this.handles.delete(name);
    }
    for (const [name, { label, role }] of wanted) {
      if (this.handles.has(name)) continue;
      const element = h("div", { class: "aimz-explorer-handle", role: "slider", tabindex: 0,
        style: `--aimz-handle: var(--aimz-${ROLES[role]})`,
        "aria-label": label || name, "aria-orientation": "horizontal", title: `Drag: ${label || name}`,
        onpointerdown: (event) => this.grab(event, name),
        onpointermove: (event) => this.pull(event, name),
        onpointerup: () => this.release(),
        onpointercancel: () => this.release(),
        onkeydown: (event) => this.nudge(event, name) },
        h("span", { class: "aimz-explorer-handle-mark", "aria-hidden": "true" }));
      this.handles.set(name, element);
      this.box.append(element);
    }
  }

  /** Paint; `theme` has colors by name and font. */
  draw(theme, words) {
    const width = this.box.clientWidth;
    if (width === 0 || !this.chart) return false;
    const ctx = this.prepare(width, theme.font);
    this.placed = place(this.chart, width, (text) => ctx.measureText(text).width, this.held?.limits);
    paintChart(ctx, this.placed, theme.colors, this.pointer && this.pointer[0]);
    this.drawTip();
    this.moveHandles((text) => ctx.measureText(text).width);
    setAttribute(this.canvas, "aria-label", `${this.chart.title || "Chart"}. ${words} Arrow keys read the values.`);
    return true;
  }

  prepare(width, font) {
    const [ratio, height] = [window.devicePixelRatio || 1, heightOf(this.chart)];
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) {
      [this.canvas.width, this.canvas.height] = size;
      this.canvas.style.height = `${height}px`;
    }
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.font = font;
    return ctx;
  }

  drawTip() {
    const lines = this.pointer && readAt(this.placed, ...this.pointer);
    setFlag(this.tip, "hidden", !lines);
    if (!lines) return;
    setText(this.tip, lines.join("\n"));
    const { width } = this.placed.box;
    const flip = this.pointer[0] > width - TIP_ROOM;
    this.tip.style.left = flip ? "auto" : `${this.pointer[0] + 12}px`;
    this.tip.style.right = flip ? `${width - this.pointer[0] + 12}px` : "auto";
  }

  /** Put each handle in a row of its own above the axis: two may stand at one place of it. */
  moveHandles(measure) {
    const { x, box } = this.placed;
    const [low, high] = this.held?.limits ?? this.chart.x_limits;
    const handles = this.chart.handles.map(
      (sent) => (this.held?.name === sent.name ? movedTo(sent, this.held.at) : sent));
    const lefts = handles.map(({ at }) => Math.min(Math.max(x.at(at), box.left), box.right));
    const values = handles.map(({ at, text }) => text || (this.chart.x_names[at] ?? number(at)));
    const words = handles.map(({ mark }, row) => (mark && handles.length > 1 ? `${mark}: ${values[row]}` : ""));
    const rooms = words.map((said) => MARK_ROOM + measure(said));
    // Wherever a handle is dragged, there is room on one side of it; nothing moves meanwhile.
    if (!this.held) this.isNarrow = 2 * Math.max(0, ...rooms) > box.right - box.left;
    this.showLegend(this.isNarrow ? handles.map(({ role }, row) => [words[row], role]).filter(([said]) => said) : []);
    handles.forEach(({ name, at }, row) => {
      const element = this.handles.get(name);
      const left = lefts[row];
      element.style.left = `${left}px`;
      element.style.top = `${box.bottom - row * HANDLE_ROW_PX}px`;
      element.style.setProperty("--aimz-stem", `${row * HANDLE_ROW_PX}px`);
      for (const [key, value] of [["valuemin", low], ["valuemax", high], ["valuenow", at]]) {
        setAttribute(element, `aria-${key}`, Number(value.toPrecision(6)));
      }
      setAttribute(element, "aria-valuetext", values[row]);
      setText(element.firstChild, this.isNarrow ? "" : words[row]);
      const room = rooms[row];
      const isCovered = left + room > box.right || lefts.some((other) => left < other && other < left + room);
      setAttribute(element, "data-side", isCovered && left - room >= box.left ? "left" : "right");
    });
  }

  // Reading.

  point(pointer) {
    this.pointer = pointer;
    this.redraw();
  }

  walk(event) {
    const stride = STRIDE_PX[event.key];
    if (!this.placed || stride === undefined) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook would move to another cell
    const { left, right, top, bottom } = this.placed.box;
    const [x, y] = this.pointer ?? [left, (top + bottom) / 2];
    this.point([Math.min(Math.max(x + stride, left), right), y]);
  }

  // Dragging.

  grab(event, name) {
    event.preventDefault();
    event.currentTarget.setPointerCapture(event.pointerId);
    event.currentTarget.focus();
    this.held = { name, at: this.handle(name).at, limits: this.chart.x_limits };
  }

  pull(event, name) {
    if (this.held?.name !== name) return;
    const left = event.clientX - this.box.getBoundingClientRect().left;
    this.held.at = this.placeOf(this.handle(name), left);
    this.sending ??= setTimeout(() => this.send(), SEND_MS);
    this.redraw();
  }

  send() {
    clearTimeout(this.sending);
    this.sending = null;
    if (this.held) this.drag(this.held.name, this.held.at);
  }

  release() {
    if (!this.held) return;
    if (this.sending) this.send();
    this.leave(this.held.name, this.held.at);
    this.held = null;
  }

  /** Leave a handle at a place until the answer is there. */
  leave(name, at) {
    this.chart.handles = this.chart.handles.map((handle) => (handle.name === name ? movedTo(handle, at) : handle));
    this.redraw();
  }

  handle(name) {
    return this.chart.handles.find((handle) => handle.name === name);
  }

  /** The place that a handle takes next to a pixel. */
  placeOf({ places }, pixel) {
    const { x, box } = this.placed;
    const at = x.invert(Math.min(Math.max(pixel, box.left), box.right));
    return places.length ? places[nearest(places, at)] : at;
  }

  nudge(event, name) {
    const steps = NUDGES[event.key];
    if (steps === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const { x, box } = this.placed;
    const handle = this.handle(name);
    const moved = handle.places.length ? stepped(handle, steps)
      : this.placeOf(handle, x.at(handle.at) + (steps * (box.right - box.left)) / 100);
    this.leave(name, moved);
    this.drag(name, moved);
  }
}

/** A handle at another place, whose value the page knows only where it has places of its own. */
const movedTo = (handle, at) =>
  (at === handle.at ? handle : { ...handle, at, text: handle.places.length ? "" : handle.text });

/** The place that is so many places away, or the last one on that side. */
function stepped({ at, places }, steps) {
  const ahead = steps > 0 ? places.filter((place) => place > at) : places.filter((place) => place < at).reverse();
  return ahead[Math.min(Math.abs(steps), ahead.length) - 1] ?? at;
}

function swatch(role, kind, dashed) {
  const color = `var(--aimz-${ROLES[role]})`;
  const marks = {
    points: () => svg("circle", { cx: 10, cy: 5, r: 3, fill: color }),
    line: () => svg("path", { d: "M1 5H19", stroke: color, "stroke-width": 2, "stroke-dasharray": dashed ? "5 3" : null }),
    rule: () => svg("path", { d: "M1 5H19", stroke: color, "stroke-width": 2, "stroke-dasharray": "5 3" }),
  };
  const filled = () => svg("rect", { x: 2, y: 1, width: 16, height: 8, rx: 2, fill: color,
    "fill-opacity": kind === "cells" ? 1 : 0.35, stroke: color });
  return svg("svg", { width: 20, height: 10, "aria-hidden": "true" }, (marks[kind] ?? filled)());
}
