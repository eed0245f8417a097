// The map of a call on workers: its parts in the order of the rows, and what each worker does.
//
// A cell is a part, or some that follow one another. Its colour says who has it, its shape how it
// stands; its title says both in words, and so does the table below.

import { button, h, setAttribute, setFlag, setText } from "./elements.js";
import { hideBelow, recordOf, settle } from "./record.js";
import { onTheme, themeOf } from "./theme.js";

const PATIENCE_MS = 2000;
const HELLO_AGAIN_MS = 1000;
const UNHEARD = "The button cannot reach this kernel while the cell runs. " +
  "The interrupt button (■) stops the call; nothing is kept.";
const STATES = {
  running: "running", completed: "completed", stopped: "stopped", failed: "failed",
};
const COLORS = 6; // of workers, again from the first one
const HEAD = ["worker", "has now", "parts", "", "draws", "busy", "lost"];

class WorkerMapView {
  constructor(model, el) {
    this.model = model;
    this.el = el;
    this.isHeard = false;
    this.build();
    this.handlers = {
      "change:call": () => this.draw(),
      "change:record": () => {
        this.stopSettling = settle(model, el);
      },
      "msg:custom": ({ kind }) => {
        if (kind === "welcome") this.hear(true);
      },
    };
    for (const [event, handler] of Object.entries(this.handlers)) model.on(event, handler);
    this.theming = onTheme(() => themeOf(this.root, []));
    this.styling = setTimeout(() => themeOf(this.root, []), 100); // once the style sheet is there
    this.greet();
    this.draw();
  }

  build() {
    const { kernel, link } = this.model.get("meta");
    this.pill = h("span", { class: "aimz-pill" });
    this.where = h("div", { class: "aimz-call-where" });
    this.fill = h("div", { class: "aimz-fill" });
    this.bar = h("div", { class: "aimz-bar", role: "progressbar", "aria-label": "done",
      "aria-valuemin": 0, "aria-valuemax": 100 }, this.fill);
    this.stop = button("stop", "Stop", () => this.model.send({ kind: "stop" }));
    setFlag(this.stop, "disabled", true);
    this.cells = h("div", { class: "aimz-map", role: "img" });
    this.head = h("tr", {}, HEAD.map((name) => h("th", { scope: "col" }, name)));
    this.body = h("tbody", {});
    this.more = h("p", { class: "aimz-note" });
    this.notice = h("p", { class: "aimz-notice", role: "status", hidden: true });
    this.root = h("section", { class: "aimz aimz-call", role: "region", "aria-label": `Workers of ${kernel}` },
      hideBelow(this.model),
      h("header", {},
        h("div", { class: "aimz-head" }, h("span", { class: "aimz-title" }, kernel),
          h("span", { class: "aimz-method" }, "on workers"), h("span", { class: "aimz-gap" }), this.pill),
        this.bar),
      h("div", { class: "aimz-tools" }, this.stop, this.where, h("span", { class: "aimz-gap" }),
        isPage(link) ? h("a", { href: link, target: "_blank", rel: "noopener" }, "Dask's dashboard") : null),
      this.notice, this.cells,
      h("div", { class: "aimz-scroll" }, h("table", { class: "aimz-table" }, h("thead", {}, this.head), this.body)),
      this.more);
    this.el.append(this.root);
  }

  greet() {
    const hello = () => {
      if (this.isHeard || this.model.get("call").status !== "running") return;
      this.model.send({ kind: "hello" });
      this.greeting = setTimeout(hello, HELLO_AGAIN_MS);
    };
    hello();
    this.patience = setTimeout(() => this.hear(this.isHeard), PATIENCE_MS);
  }

  hear(isHeard) {
    this.isHeard = isHeard;
    setFlag(this.notice, "hidden", isHeard);
    setText(this.notice, isHeard ? "" : UNHEARD);
    this.draw();
  }

  draw() {
    const { status, is_stopping: isStopping, position, share, unit, cells, workers, more } = this.model.get("call");
    setAttribute(this.pill, "data-status", status);
    setText(this.pill, isStopping && status === "running" ? "stopping" : STATES[status]);
    setText(this.where, position);
    this.fill.style.transform = `scaleX(${share ?? 0})`;
    if (share !== null) setAttribute(this.bar, "aria-valuenow", Math.round(100 * share));
    setFlag(this.stop, "disabled", !this.isHeard || isStopping || status !== "running");
    this.drawCells(cells, position);
    setText(this.head.children[3], `${unit}s`);
    while (this.body.children.length < workers.length) this.body.append(this.row());
    workers.forEach((one, i) => this.fillRow(this.body.children[i], i, one));
    setText(this.more, more ? `and ${more} more workers` : "");
  }

  drawCells(cells, position) {
    setAttribute(this.cells, "aria-label", `Parts in the order of the rows: ${position}`);
    while (this.cells.children.length > cells.length) this.cells.lastChild.remove();
    while (this.cells.children.length < cells.length) this.cells.append(h("span", {}));
    cells.forEach(([state, worker, title], i) => {
      const cell = this.cells.children[i];
      setAttribute(cell, "data-state", state);
      setAttribute(cell, "data-worker", worker < 0 ? null : worker % COLORS);
      setAttribute(cell, "title", title);
    });
  }

  row() {
    return h("tr", {}, HEAD.map(() => h("td", {})));
  }

  fillRow(row, i, { name, has, parts, count, size, busy, lost }) {
    if (!row.firstChild.firstChild) {
      row.firstChild.append(h("span", { class: "aimz-worker", "data-worker": i % COLORS }), h("strong", {}));
    }
    setText(row.firstChild.lastChild, name);
    [has, parts, count, size, busy, lost].forEach((text, at) => setText(row.children[at + 1], text));
  }

  remove() {
    clearTimeout(this.greeting);
    clearTimeout(this.patience);
    clearTimeout(this.styling);
    this.theming.disconnect();
    this.stopSettling?.();
    for (const [event, handler] of Object.entries(this.handlers)) this.model.off(event, handler);
  }
}

/** Whether a link leads to a page, and is no code. */
function isPage(link) {
  return /^https?:\/\//.test(link ?? "");
}

export default {
  render({ model, el }) {
    if (recordOf(model)) return settle(model, el);
    const view = new WorkerMapView(model, el);
    return () => view.remove();
  },
};
