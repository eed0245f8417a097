// The picture of an explorer: charts, words and numbers of the latest answer. Its controls are widgets
// beside it. Drags, picks and pins are messages; the kernel answers with a new view, which is drawn once.

import { h, setAttribute, setFlag, setText, table } from "../../dashboard/static/elements.js";
import { onTheme, themeOf } from "../../dashboard/static/theme.js";
import { ChartFigure } from "./figure.js";
import { ROLE_COLORS } from "./layers.js";

const STYLE_MS = 100;
const FORBIDDEN = "script, foreignObject, iframe, object, embed";

class ExplorerView {
  constructor(model, el) {
    this.model = model;
    this.figures = [];
    this.build(el);
    this.handlers = {
      "change:view": () => this.update(),
      "change:problem": () => this.showProblem(),
      "msg:custom": (message) => message.kind === "busy" && setText(this.status, "computing…"),
    };
    for (const [event, handler] of Object.entries(this.handlers)) model.on(event, handler);
    this.resizing = new ResizeObserver(() => this.schedule());
    this.resizing.observe(this.root);
    this.theming = onTheme(() => this.schedule(true));
    this.update();
    this.showProblem();
  }

  build(el) {
    const { id, title, pins } = this.model.get("meta");
    // The still picture below is for those who have no panel.
    this.hiding = h("style", {}, `.aimz-still-${id}, .jp-OutputArea-child:has(.aimz-still-${id}) { display: none; }`);
    this.status = h("span", { class: "aimz-where", role: "status" });
    this.pin = h("button", { type: "button", class: "aimz-button", onclick: () => this.togglePin() });
    this.coding = h("button", { type: "button", class: "aimz-button", "aria-expanded": "false",
      onclick: () => this.toggleCode() }, "Code");
    this.problem = h("p", { class: "aimz-notice aimz-explorer-problem", role: "alert", hidden: true });
    this.words = h("div", { class: "aimz-explorer-words", "aria-live": "polite" });
    this.code = h("textarea", { class: "aimz-explorer-code", readonly: true, hidden: true, spellcheck: "false",
      "aria-label": "Code that gives these numbers", onkeydown: (event) => event.stopPropagation() });
    this.drawing = h("div", { class: "aimz-explorer-svg", hidden: true,
      onclick: (event) => this.pick(event), onkeydown: (event) => this.pick(event) });
    this.charts = h("div", { class: "aimz-explorer-charts" });
    this.numbers = h("div", { class: "aimz-body" });
    this.fold = h("details", { class: "aimz-fold" },
      h("summary", {}, h("span", { class: "aimz-fold-title" }, "Numbers")), this.numbers);
    this.root = h("section", { class: "aimz aimz-explorer-picture", role: "region", "aria-label": title || "Explorer" },
      this.hiding,
      h("header", { class: "aimz-head" }, h("span", { class: "aimz-title" }, title),
        h("span", { class: "aimz-gap" }), this.status, pins ? this.pin : null, this.coding),
      this.problem, this.code, this.drawing, this.words, this.charts, this.fold);
    el.append(this.root);
  }

  /** Take the newest view. */
  update() {
    const view = this.view = this.model.get("view");
    setText(this.status, "");
    setText(this.pin, view.pinned ? "Unpin" : "Pin");
    this.showWords(view.sentences);
    this.showSvg(view);
    if (this.code.value !== view.code) {
      this.code.value = view.code;
      this.code.rows = Math.min(view.code.split("\n").length + 1, 24);
    }
    while (this.figures.length > view.charts.length) this.figures.pop().element.remove();
    while (this.figures.length < view.charts.length) {
      const figure = new ChartFigure(
        (name, value) => this.model.send({ kind: "drag", name, value }), () => this.schedule());
      this.figures.push(figure);
      this.charts.append(figure.element);
    }
    view.charts.forEach((chart, i) => this.figures[i].update(chart));
    this.showTable(view.table);
    this.schedule();
  }

  showWords(sentences) {
    const key = sentences.join("\n");
    if (key === this.wordsKey) return;
    this.wordsKey = key;
    this.words.replaceChildren(...sentences.map((sentence) => h("p", {}, sentence)));
  }

  showTable(sent) {
    setFlag(this.fold, "hidden", !sent);
    const key = JSON.stringify(sent);
    if (!sent || key === this.tableKey) return;
    this.tableKey = key;
    const rest = sent.total - sent.rows.length;
    this.numbers.replaceChildren(table("Numbers", sent.columns, sent.rows),
      rest > 0 ? h("p", { class: "aimz-note" }, `and ${rest} more rows: explorer.table()`) : "");
  }

  showSvg({ svg: markup, alt }) {
    setFlag(this.drawing, "hidden", !markup);
    if (markup === this.markup) return;
    this.markup = markup;
    const held = document.activeElement?.closest?.("[data-pick]")?.getAttribute("data-pick");
    // Our own markup; what could run has no place in it all the same.
    const parsed = new DOMParser().parseFromString(markup, "text/html").body;
    for (const element of parsed.querySelectorAll(FORBIDDEN)) element.remove();
    for (const element of parsed.querySelectorAll("*")) {
      for (const { name } of [...element.attributes]) if (name.startsWith("on")) element.removeAttribute(name);
      if (!element.hasAttribute("data-pick")) continue;
      element.setAttribute("tabindex", "0");
      element.setAttribute("role", "button");
    }
    this.drawing.replaceChildren(...parsed.childNodes);
    setAttribute(this.drawing, "aria-label", alt);
    if (held) this.drawing.querySelector(`[data-pick="${CSS.escape(held)}"]`)?.focus();
  }

  showProblem() {
    const problem = this.model.get("problem");
    setText(this.problem, problem);
    setFlag(this.problem, "hidden", !problem);
    setText(this.status, "");
  }

  pick(event) {
    if (event.type === "keydown" && !["Enter", " "].includes(event.key)) return;
    const name = event.target.closest("[data-pick]")?.getAttribute("data-pick");
    if (name === undefined || name === null) return;
    event.preventDefault();
    event.stopPropagation();
    this.model.send({ kind: "pick", value: name });
  }

  togglePin() {
    this.model.send({ kind: this.view.pinned ? "unpin" : "pin" });
  }

  toggleCode() {
    const isOpen = this.code.hidden;
    setFlag(this.code, "hidden", !isOpen);
    setAttribute(this.coding, "aria-expanded", isOpen);
    if (isOpen) this.code.select();
  }

  schedule(themed = false) {
    if (themed) this.theme = null;
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      this.draw();
    });
  }

  draw() {
    this.theme ??= themeOf(this.root, ROLE_COLORS);
    if (!this.theme) {
      if (this.root.isConnected) this.styling = setTimeout(() => this.schedule(), STYLE_MS);
      return;
    }
    const isDrawn = this.figures.every((figure) => figure.draw(this.theme, this.view.alt));
    if (isDrawn && this.view.number > (this.told ?? 0)) {
      this.told = this.view.number;
      this.model.send({ kind: "drawn", value: this.told });
    }
  }

  remove() {
    for (const [event, handler] of Object.entries(this.handlers)) this.model.off(event, handler);
    this.resizing.disconnect();
    this.theming.disconnect();
    cancelAnimationFrame(this.waiting);
    clearTimeout(this.styling);
  }
}

export default {
  render({ model, el }) {
    const view = new ExplorerView(model, el);
    return () => view.remove();
  },
};
