// The table of the runs that go on, with a button to stop and one to pause each.
//
// The page asks for news while it shows the table, so that the kernel has nothing to do otherwise.

import { button, h, setFlag, setText } from "./elements.js";
import { hideBelow, recordOf, settle } from "./record.js";

const ASK_MS = 1000;
const PATIENCE_MS = 3000;
const UNHEARD = "The kernel does not answer: these are the runs as they were last heard of. While a cell runs, "
  + "the kernel's interrupt button stops that cell's run.";
const LOST = "The kernel was restarted or has ended; these runs are not continued.";

class RunsTable {
  constructor(model, el) {
    this.model = model;
    this.body = h("tbody", {});
    this.notice = h("p", { class: "aimz-notice", role: "status", hidden: true });
    this.root = h("section", { class: "aimz aimz-runs", role: "region", "aria-label": "Runs that go on" },
      hideBelow(model),
      h("div", { class: "aimz-scroll" }, h("table", { class: "aimz-table" },
        h("thead", {}, h("tr", {}, ["run", "kernel", "", ""].map((name) => h("th", { scope: "col" }, name)))),
        this.body)),
      this.notice);
    el.append(this.root);
    this.heard = performance.now();
    this.handlers = {
      "change:rows": () => this.draw(),
      "change:record": () => {
        clearInterval(this.asking);
        this.stopSettling = settle(model, el);
      },
      "msg:custom": () => {
        this.heard = performance.now();
      },
      "comm:close": () => this.lose(),
      comm_live_update: () => this.lose(),
    };
    for (const [event, handler] of Object.entries(this.handlers)) model.on(event, handler);
    this.asking = setInterval(() => this.ask("refresh"), ASK_MS);
    this.ask("refresh");
    this.draw();
  }

  ask(kind, value = null) {
    this.model.send({ kind, value });
    const isUnheard = performance.now() - this.heard > PATIENCE_MS;
    if (isUnheard !== this.unheard) {
      this.unheard = isUnheard;
      this.draw();
    }
    setFlag(this.notice, "hidden", !isUnheard);
    setText(this.notice, isUnheard ? UNHEARD : "");
  }

  /** The kernel was restarted or is gone: what it told last stays, without buttons. */
  lose() {
    clearInterval(this.asking);
    this.lost = true;
    setFlag(this.notice, "hidden", false);
    setText(this.notice, LOST);
    this.draw();
  }

  position(row) {
    if (this.lost) return `no longer connected · was ${row.position}`;
    if (this.unheard && !row.is_over) return `no answer · was ${row.position}`;
    return row.position;
  }

  draw() {
    const rows = this.model.get("rows").map((row) => ({ ...row, position: this.position(row), isOver: row.is_over || this.lost || this.unheard }));
    const key = JSON.stringify(rows.map((row) => ({ ...row, position: "" })));
    if (key === this.shown) { // the buttons stay, and with them the focus
      rows.forEach((row, i) => setText(this.body.children[i].children[2], row.position));
      return;
    }
    this.shown = key;
    this.body.replaceChildren(...rows.map((row) => this.row(row)));
  }

  row({ number, model, method, position, isOver, is_paused: isPaused, is_stopping: isStopping }) {
    const pause = isPaused ? "resume" : "pause";
    const named = (action, word) => {
      const element = button(action, word, () => this.ask(action, number));
      element.setAttribute("aria-label", `${word} run ${number}, ${model}`);
      setFlag(element, "disabled", isStopping);
      return element;
    };
    const buttons = isOver ? [] : [named("stop", "Stop"), named(pause, isPaused ? "Resume" : "Pause")];
    return h("tr", {}, h("td", {}, `${number}`),
      h("td", {}, h("strong", {}, model), h("br", {}), h("span", { class: "aimz-method" }, method)),
      h("td", {}, position), h("td", {}, h("div", { class: "aimz-group" }, buttons)));
  }

  remove() {
    clearInterval(this.asking);
    this.stopSettling?.();
    for (const [event, handler] of Object.entries(this.handlers)) this.model.off(event, handler);
  }
}

export default {
  render({ model, el }) {
    if (recordOf(model)) return settle(model, el);
    const table = new RunsTable(model, el);
    return () => table.remove();
  },
};
