// The dock in a corner of the page: the controls of a run that has no view on the page.
//
// Clearing or running a cell again takes the view of a run away, and the run goes on. A cell that is
// far away may have no view yet. A run that ends without a place in the notebook keeps its record here,
// also when the page is loaded again: the kernel knows whether the card was open or has been closed.

import { h, setAttribute, setText } from "./elements.js";
import { isOver } from "./position.js";
import { recordOf, shownIn } from "./record.js";

const CHECK_MS = 1000;
const LINGER = 6; // checks for which the end is shown that the notebook has too
const GOES_ON = "Close this card. The run goes on: lab.running() lists it.";

const viewCounts = new Map(); // by widget

/** Count a view of a widget; returns a function that discounts it. */
export function countView(model) {
  const id = model.get("meta").model_id;
  viewCounts.set(id, (viewCounts.get(id) ?? 0) + 1);
  return () => viewCounts.set(id, viewCounts.get(id) - 1);
}

/** What a reading of the widget's manager finds; `undefined` on pages of makers who refuse it. */
function ofManager(model, read) {
  try {
    return read(model.widget_manager);
  } catch {
    return undefined;
  }
}

/** Whether the notebook of the widget has been closed on this page. */
function isClosed(model) {
  return Boolean(ofManager(model, (manager) =>
    manager?.isDisposed || manager?.context === null || manager?.context?.isDisposed));
}

const ENDS = ["comm:close", "comm_live_update"];
const NEWS = ["change:progress", "msg:custom"];

/** Keeps the controls of a run on the page; `makeView` draws them into an element. */
export class Dock {
  constructor(model, makeView) {
    this.model = model;
    this.makeView = makeView;
    this.missed = this.kept = 0;
    this.heard = this.seen = this.told = false;
    this.checking = setInterval(() => this.check(), CHECK_MS);
    this.lose = () => this.remove();
    this.hear = () => {
      this.heard = true;
    };
    for (const event of ENDS) model.on(event, this.lose);
    for (const event of NEWS) model.on(event, this.hear);
  }

  check() {
    if (isClosed(this.model)) {
      this.remove();
      return;
    }
    const over = isOver(this.model.get("progress")) || Boolean(recordOf(this.model));
    const hasView = (viewCounts.get(this.model.get("meta").model_id) ?? 0) > (this.entry ? 1 : 0);
    this.missed = hasView ? 0 : this.missed + 1;
    this.seen ||= hasView;
    if (this.seen && !hasView && !over) this.tellIfCleared();
    const isDue = !over || this.hasRecordAlone();
    if (this.entry) this.checkEntry(over, hasView);
    // The second time: a view that moves is away for a moment.
    else if (isDue && this.missed > 1) this.openOnceHeard();
    if (!isDue && !this.entry) clearInterval(this.checking);
  }

  /** Whether the record of the run was in a card when the page was loaded again, and is nowhere else. */
  hasRecordAlone() {
    if (!this.model.get("card").open) return false;
    const { widget, record } = shownIn(this.model);
    return widget === false && record === false;
  }

  /** Tell the kernel, for pages that are loaded later. */
  tellCard(open) {
    this.model.send({ kind: "card", value: open });
  }

  /** Without an output the kernel puts the record under its cell, if that still runs. */
  tellIfCleared() {
    if (this.told || shownIn(this.model).widget !== false) return;
    this.told = true;
    this.model.send({ kind: "cleared" });
  }

  checkEntry(over, hasView) {
    setAttribute(this.closing, "title", over ? null : GOES_ON);
    this.kept = over && shownIn(this.model).record ? this.kept + 1 : 0;
    if (hasView || this.kept > LINGER) this.putAway();
  }

  /** A saved notebook may hold the widget of a kernel that is gone; that one has no controls. */
  openOnceHeard() {
    if (this.heard) this.open();
    else this.model.send({ kind: "hello" });
  }

  open() {
    const toggle = h("button", { type: "button", "aria-expanded": "false",
      onclick: () => this.unfold(toggle) }, "Show");
    const el = h("div", {});
    const path = ofManager(this.model, (manager) => manager?.context?.path);
    this.closing = h("button", { type: "button", title: GOES_ON, onclick: () => this.dismiss() }, "Close");
    this.entry = h("div", { class: "aimz-dock", title: path ?? "" }, el,
      h("div", { class: "aimz-dock-buttons" }, toggle, this.closing));
    const docks = document.querySelector(".aimz-docks") ??
      document.body.appendChild(h("aside", { class: "aimz-docks", "aria-label": "Runs without a view" }));
    docks.append(this.entry);
    this.removeView = this.makeView(el);
    this.tellCard(true);
  }

  unfold(toggle) {
    const open = this.entry.toggleAttribute("data-open");
    toggle.setAttribute("aria-expanded", String(open));
    setText(toggle, open ? "Hide" : "Show");
  }

  putAway() {
    this.tellCard(false);
    this.close();
  }

  dismiss() {
    this.tellCard(false);
    this.remove();
  }

  close() {
    this.removeView?.();
    this.entry?.remove();
    this.entry = this.removeView = null;
  }

  remove() {
    clearInterval(this.checking);
    for (const event of ENDS) this.model.off(event, this.lose);
    for (const event of NEWS) this.model.off(event, this.hear);
    this.close();
  }
}
