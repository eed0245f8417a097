// The live dashboard of a run: an anywidget front end without dependencies.
//
// The kernel sets a trait for each panel. The page draws the newest frames as often as drawing stays
// a small share of the time, and reports that pace to the kernel.
// Clicks are messages `{kind, value}`. They may not reach the kernel while a cell runs: the page sends
// `hello`, and enables its buttons when a `welcome` comes back.

import { bestName, bestWords, curveWords, series } from "./chart.js";
import { Curve } from "./curve.js";
import { countView, Dock } from "./dock.js";
import { button, choice, h, icon, setAttribute, setFlag, setText, toggle } from "./elements.js";
import { count, duration, limitOf, noTraining, number, rate, ratio, restAfter, smoothing, usual } from "./math.js";
import { done, isOver, later, position } from "./position.js";
import { hideBelow, recordElement, recordOf, settle } from "./record.js";
import {
  checkPanel, convergencePanel, devicesPanel, paddingPanel, parametersPanel, samplingPanel,
} from "./panels.js";
import { onTheme, themeOf } from "./theme.js";

const PATIENCE_MS = 2000;
const HELLO_AGAIN_MS = 1000;
const NOTICE_MS = 4000;
const TICK_MS = 1000;
const UNREACHABLE =
  "The buttons cannot reach this kernel while the cell runs. " +
  "The interrupt button (■) stops the run cleanly and keeps what it has.";
const TRAITS = ["meta", "previous_runs", "progress", "loss", "padding", "devices", "parameters",
  "sampling", "convergence", "check"];
const COLORS = ["loss", "validation", "rate", "metric", "best", "previous", "grid", "muted", "text",
  "surface"];
const ASKED = {
  stop: "Stopping", pause: "Pausing", checkpoint: "Writing a checkpoint", restore_best: "Stopping, with the best state for the model,",
};
const STYLE_MS = 100;
const LOST = { status: "lost", words: "no longer connected", asked: "" };
const UNHEARD = { status: "lost", words: "not connected", asked: "" };
const HOW_TO_KEEP = "lab.show(handle) or lab.show(model) puts this picture into a cell.";
const OF_THEN = "The kernel does not answer: this is the run as it was last heard of.";
let views = 0;

class View {
  /** Draw into `el`; a docked view does not look for a place in the notebook for the record of the end. */
  constructor(model, el, { docked = false } = {}) {
    this.model = model;
    this.el = el;
    this.docked = docked;
    this.id = `aimz-${model.get("meta").model_id}-${++views}`; // a page has many of these modules
    this.options = { curve: "loss", log: false, whole: false, smooth: true, perRow: true, half: false, wasLog: false, ...model.get("choices") };
    this.reachable = null; // not known yet
    this.heard = false; // a saved notebook may hold a widget of a kernel that is gone
    this.doubted = null; // a rate that was asked back
    this.dirty = new Set(TRAITS);
    this.received = performance.now();
    this.cost = null;
    this.rested = 0;
    this.pace = 0;
    this.painted = new MessageChannel(); // its message arrives once the drawing is done
    this.painted.port1.onmessage = () => this.rest(performance.now() - this.drawn);
    this.discount = countView(model);
    this.build();
    this.listen();
    this.greet();
    this.schedule();
    if (docked && recordOf(model)) this.showRecord();
  }

  build() {
    this.curve = new Curve(() => this.schedule("loss"));
    this.root = h("section", { class: "aimz", role: "region" },
      hideBelow(this.model), this.buildHead(), this.buildTools(), this.buildNotice(), this.curve.element, this.buildStats());
    this.panels = {
      convergence: convergencePanel(), sampling: samplingPanel(),
      padding: paddingPanel(), devices: devicesPanel(),
      parameters: parametersPanel(), check: checkPanel(),
    };
    this.root.append(h("div", { class: "aimz-folds" },
      Object.values(this.panels).map((panel) => panel.element)));
    this.el.append(this.root);
  }

  buildHead() {
    this.title = h("span", { class: "aimz-title" });
    this.method = h("span", { class: "aimz-method" });
    this.pill = h("span", { class: "aimz-pill" });
    this.where = h("span", { class: "aimz-where" });
    this.fill = h("div", { class: "aimz-fill" });
    this.bar = h("div", { class: "aimz-bar", role: "progressbar", "aria-label": "steps done",
      "aria-valuemin": 0, "aria-valuemax": 100 }, this.fill);
    return h("header", {},
      h("div", { class: "aimz-head" }, this.title, this.method),
      h("div", { class: "aimz-state" }, this.pill, this.where), this.bar);
  }

  buildTools() {
    this.buttons = {
      stop: button("stop", "Stop", () => this.send("stop")),
      restore_best: button("restore_best", "Stop and restore best", () => this.send("restore_best")),
      pause: button("pause", "Pause", () => this.send(this.paused() ? "resume" : "pause")),
      checkpoint: button("checkpoint", "Checkpoint", () => this.send("checkpoint")),
    };
    this.rate = h("input", { type: "text", inputmode: "decimal", placeholder: "new rate", id: `${this.id}-rate`,
      class: "aimz-rate", size: 7, autocomplete: "off",
      onblur: () => this.leaveRate(), onkeydown: (event) => this.enterRate(event) });
    this.rateBox = h("label", { for: `${this.id}-rate`, class: "aimz-rate-box" }, "learning rate", this.rate);
    this.whyFixed = h("button", { type: "button", class: "aimz-why", onclick: () => this.tellWhyFixed() },
      "learning rate cannot be set: why?");
    this.run = h("div", { class: "aimz-group", role: "group", "aria-label": "Run" },
      Object.values(this.buttons), this.rateBox, this.whyFixed);
    this.curves = choice("Curve", `${this.id}-curve`, (curve) => this.change({ curve }));
    const option = (key, text, title) =>
      toggle(text, this.options[key], title, (on) => this.change({ [key]: on }));
    this.toggles = {
      smooth: option("smooth", "smooth", ""),
      log: option("log", "log", "Logarithmic axis of the distance to the lowest value"),
      whole: option("whole", "whole", "The whole range, with what lies far above the rest"),
      perRow: option("perRow", "per row", "Loss divided by the number of rows"),
      half: option("half", "last half", "Only the second half of the steps"),
    };
    return h("div", { class: "aimz-tools" }, this.run, h("span", { class: "aimz-gap" }),
      h("div", { class: "aimz-group", role: "group", "aria-label": "Picture" },
        this.curves.group, Object.values(this.toggles)));
  }

  buildNotice() {
    this.notice = h("p", { class: "aimz-notice", role: "status", "aria-live": "polite" });
    this.notes = h("ul", { class: "aimz-notes" });
    return h("div", {}, this.notice, this.notes);
  }

  buildStats() {
    this.stats = {};
    const tile = (key, label) => {
      this.stats[key] = h("dd", {});
      return h("div", {}, h("dt", {}, label), this.stats[key]);
    };
    const tiles = h("dl", { class: "aimz-stats" }, tile("loss", "loss"), tile("best", "best"),
      tile("step", "step"), tile("steps_per_s", "steps/s"), tile("rows_per_s", "rows/s"),
      tile("draws", "draws"), tile("divergences", "divergences"), tile("step_size", "step size"),
      tile("r_hat", "worst R-hat"), tile("ess", "least ESS"),
      tile("time", "time"), tile("checkpoint", "checkpoint"));
    this.stats.time.append(h("span", {}), h("small", { class: "aimz-beside" }));
    return tiles;
  }

  showTiles(isSampling) {
    for (const name of ["loss", "best", "step", "rows_per_s"]) setFlag(this.stats[name].parentElement, "hidden", isSampling);
    for (const name of ["draws", "divergences", "step_size", "r_hat", "ess"]) {
      setFlag(this.stats[name].parentElement, "hidden", !isSampling);
    }
    setText(this.stats.steps_per_s.previousElementSibling, isSampling ? "iterations/s" : "steps/s");
  }

  drawSampling() {
    const { chains, draws, divergences, by_chain: each } = this.model.get("sampling");
    const { r_hat: worst, ess, read } = this.model.get("convergence");
    setText(this.stats.draws, chains > 1 ? `${count(draws)} × ${count(chains)}` : count(draws));
    setText(this.stats.divergences, count(divergences));
    const sizes = (each ?? []).map((chain) => chain.step_size).filter(Number.isFinite);
    const ends = sizes.length ? [Math.min(...sizes), Math.max(...sizes)].map((v) => number(v, 2)) : ["-"];
    setText(this.stats.step_size, [...new Set(ends)].join("–"));
    this.stats.r_hat.replaceChildren(ratio(worst), h("small", { class: "aimz-beside" }, limitOf(worst)));
    // Of a part of the draws, it is bounded by their number, and does not grow with the run.
    const part = read ? h("small", { class: "aimz-beside" }, `of ${count(read)} draws read`) : "";
    this.stats.ess.replaceChildren(read ? `≥ ${count(ess)}` : count(ess), part);
  }

  listen() {
    this.stopListening = [];
    const on = (event, handler) => {
      this.model.on(event, handler);
      this.stopListening.push(() => this.model.off(event, handler));
    };
    for (const name of TRAITS) {
      on(`change:${name}`, () => {
        if (name === "progress") {
          this.received = performance.now();
          if (this.model.get("progress").words !== "preparing") this.preparing = undefined;
        }
        this.heard = true;
        this.refresh(name);
      });
    }
    on("change:record", () => {
      if (this.docked) this.showRecord();
      else this.stopSettling = settle(this.model, this.el);
    });
    on("msg:custom", (message) => this.take(message));
    for (const event of ["comm:close", "comm_live_update"]) on(event, () => this.lose());
    this.resizing = new ResizeObserver(() => this.schedule(this.theme ? "loss" : "theme"));
    this.resizing.observe(this.root);
    this.theming = onTheme(() => this.schedule("theme"));
    this.ticking = setInterval(() => this.tick(), TICK_MS);
  }

  greet() {
    const hello = () => {
      if (this.reachable || isOver(this.model.get("progress"))) return;
      this.model.send({ kind: "hello" });
      this.greeting = setTimeout(hello, HELLO_AGAIN_MS);
    };
    hello();
    this.patience = setTimeout(() => {
      if (this.reachable === null) this.setReachable(false);
    }, PATIENCE_MS);
  }

  /** The record takes the place of what moved; the head stays. */
  showRecord() {
    const [head, ...moved] = this.root.querySelectorAll(":scope > :not(style)");
    for (const part of moved) part.remove();
    head.after(recordElement(this.model), h("p", { class: "aimz-note aimz-how" }, HOW_TO_KEEP));
  }

  setReachable(reachable) {
    this.reachable = reachable;
    this.schedule("progress");
  }

  take({ kind, why, what, age_s: age }) {
    this.heard = true;
    if (kind === "preparing") {
      this.preparing = what;
      this.schedule("progress");
    }
    if (kind === "welcome") {
      this.received = performance.now() - 1000 * age; // a page that comes later has old frames
      this.setReachable(true);
    }
    // From here on the frames say what the request waits for; the next one is drawn soon.
    if (kind === "taken" && this.said === this.requested) this.said = "";
    if (kind === "refused") this.say(why);
    if (kind === "doubted") this.doubt(why);
  }

  /** Move the clock on if no frame did: each drawing costs time of the cores that train. */
  tick() {
    if (performance.now() - this.drawn >= 0.9 * TICK_MS) this.refresh("progress");
  }

  /** The kernel was restarted or is gone: its last frames stay on the page. */
  lose() {
    this.lost = true;
    clearInterval(this.ticking);
    this.setReachable(false);
  }

  send(kind, value = null) {
    this.model.send({ kind, value });
    this.requested = this.awaited(kind, kind.endsWith("learning_rate") ? value : null);
    this.say(this.requested);
  }

  enterRate(event) {
    if (!["Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has keys of its own for them
    if (event.key === "Escape") this.restoreRate();
    else if (this.rate.value.trim() === "") {
      this.restoreRate();
      if (this.rate.value) this.say(`The learning rate stays at ${this.rate.value}.`);
    } else if (this.doubted !== null && this.rate.value === this.doubted) this.setDoubtedRate();
    else this.setRate();
  }

  /** The rate that goes on, or the one that is asked for, as the field has it. */
  presentRate() {
    const progress = this.model.get("progress");
    const rate = progress.asked_rate ?? progress.learning_rate;
    return rate ? number(rate, 3) : "";
  }

  restoreRate() {
    this.forgetDoubt();
    this.rate.value = this.lastRate = this.presentRate();
    this.schedule("progress");
  }

  /** A rate that is left without Enter is not set: the field goes back to the present one. */
  leaveRate() {
    if (this.rate.value === this.lastRate) return;
    const typed = this.rate.value.trim();
    const why = this.refusal();
    this.forgetDoubt();
    this.rate.value = this.lastRate ?? "";
    if (typed && why) this.say(`${why} The learning rate was not changed.`);
    else if (typed) this.say(`The learning rate was not set to ${typed}: press Enter in the field to set it.`);
    else this.schedule("progress");
  }

  /** Keep the question until another rate is typed, or Enter is pressed again. */
  doubt(why) {
    this.doubted = this.rate.value;
    this.lastRate = null; // leaving the field does not set it
    setAttribute(this.rate, "aria-invalid", "true");
    this.say(why);
    clearTimeout(this.forgetting);
  }

  forgetDoubt() {
    this.doubted = null;
    this.said = "";
    setAttribute(this.rate, "aria-invalid", null);
  }

  tellWhyFixed() {
    this.say(this.model.get("progress").why_fixed);
    clearTimeout(this.forgetting); // it is long
  }

  setDoubtedRate() {
    this.forgetDoubt();
    this.lastRate = this.rate.value;
    this.send("sure_learning_rate", Number(this.rate.value));
  }

  /** Why the field holds no learning rate, or "". */
  refusal() {
    const { value } = this.rate;
    if (value.trim() !== "" && Number(value) > 0 && Number.isFinite(Number(value))) return "";
    const comma = /^\s*\d+,\d+\s*$/.test(value) ? " Write it with a point." : "";
    return `A learning rate is a positive number; got “${value}”.${comma}`;
  }

  setRate() {
    const why = this.refusal();
    if (why) {
      this.doubted = null; // another entry: a rate that was asked back is asked back again
      this.say(why);
      setAttribute(this.rate, "aria-invalid", "true");
      return;
    }
    const value = Number(this.rate.value);
    setAttribute(this.rate, "aria-invalid", null);
    this.doubted = null;
    this.lastRate = this.rate.value;
    this.send("learning_rate", value);
  }

  say(text) {
    this.said = text;
    clearTimeout(this.forgetting);
    this.forgetting = setTimeout(() => {
      this.said = "";
      this.schedule("progress");
    }, NOTICE_MS);
    this.schedule("progress");
  }

  paused() {
    const { status, asked } = this.model.get("progress");
    return status === "paused" || asked === "pause";
  }

  /** What a request waits for, in words: the run gets to it between two chunks of steps. */
  awaited(asked, rate = null) {
    const { status, step } = this.model.get("progress");
    const when = status === "paused" && !["stop", "restore_best"].includes(asked) ? "once the run goes on"
      : this.preparing ? "once the steps are compiled for it"
      : step ? "after the steps under way" : "once the first steps are compiled";
    if (asked in ASKED) return `${ASKED[asked]} ${when}…`;
    return rate === null ? "" : `Setting the learning rate to ${number(rate, 3)} ${when}…`;
  }

  change(options) {
    Object.assign(this.options, { wasLog: false }, options);
    if (!isOver(this.model.get("progress"))) this.model.send({ kind: "choices", value: this.options });
    this.schedule("loss");
  }

  /** Stay with the axis that the data chose, in the saved picture too. */
  keepAxis(wasLog) {
    this.options.wasLog = wasLog;
    if (this.reachable && !isOver(this.model.get("progress"))) this.model.send({ kind: "choices", value: this.options });
  }

  /** Draw a new frame: at once when the status changes, else after the rest. */
  refresh(name) {
    const { status, asked } = this.model.get("progress");
    const wait = status === this.shownStatus && asked === this.shownAsked ? this.rested - performance.now() : 0;
    if (wait <= 0) {
      this.schedule(name);
      return;
    }
    this.dirty.add(name);
    this.waiting ??= setTimeout(() => this.schedule(), wait);
  }

  /** Rest so long that drawing stays a small share of the time, and report the pace. */
  rest(cost) {
    this.cost = usual(this.cost, cost);
    const rest = restAfter(this.cost);
    this.rested = this.drawn + rest;
    if (!this.reachable || isOver(this.model.get("progress"))) return;
    if (rest > 1.5 * this.pace || rest < this.pace / 1.5) {
      this.pace = rest;
      this.model.send({ kind: "pace", value: rest / 1000 });
    }
  }

  schedule(name) {
    if (name) this.dirty.add(name);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    const dirty = this.dirty;
    this.dirty = new Set();
    clearTimeout(this.waiting);
    this.waiting = null;
    this.drawn = performance.now();
    this.painted.port2.postMessage(null);
    this.beat();
    if (this.theme === undefined || dirty.has("theme")) this.readTheme();
    if (dirty.has("meta")) this.drawMeta();
    const ended = Boolean(recordOf(this.model)); // the record has taken the frames' place
    // First, since the chart reads its width: after the changes below, the page would be laid out again.
    if (!ended && this.theme && ["loss", "previous_runs", "theme", "meta"].some((name) => dirty.has(name))) this.drawChart();
    if (["progress", "meta", "sampling"].some((name) => dirty.has(name))) this.drawProgress();
    if (ended) return;
    if (this.model.get("meta").is_sampling && ["sampling", "convergence", "meta"].some((name) => dirty.has(name))) {
      this.drawSampling();
    }
    for (const [name, panel] of Object.entries(this.panels)) {
      if (dirty.has(name)) panel.update(this.model.get(name));
    }
  }

  /** Blink the running light, together with another drawing. */
  beat() {
    if (this.drawn - (this.beaten ?? -Infinity) < 0.9 * TICK_MS) return;
    this.beaten = this.drawn;
    this.pill.toggleAttribute("data-beat");
  }

  /** Read the colours; without a place on the page, or before its styles, there are none yet. */
  readTheme() {
    const theme = themeOf(this.root, COLORS);
    if (theme === null) {
      // A canvas draws in black what has no colour: the curve waits. Its place on the page is observed.
      if (this.root.isConnected) this.styling = setTimeout(() => this.schedule("theme"), STYLE_MS);
      return;
    }
    this.theme = theme;
  }

  drawMeta() {
    const meta = this.model.get("meta");
    // Runs of one kernel have one name: a number tells them apart.
    setText(this.title, meta.number ? `${meta.model} · run ${meta.number}` : meta.model);
    const isSampling = Boolean(meta.is_sampling);
    setText(this.method, [meta.method, meta.n_obs && `${count(meta.n_obs)} rows`,
      !isSampling && meta.batch_size && `batches of ${count(meta.batch_size)}`, meta.scaled].filter(Boolean).join(" · "));
    setAttribute(this.root, "aria-label", `${isSampling ? "Chains" : "Training"} of ${meta.model}`);
    for (const name of ["log", "whole"]) setFlag(this.toggles[name], "hidden", isSampling);
    this.showTiles(isSampling);
  }

  drawProgress() {
    const meta = this.model.get("meta");
    const since = (performance.now() - this.received) / 1000;
    const reported = this.model.get("progress");
    const over = isOver(reported);
    const progress = over ? reported : { ...(this.heard ? later(reported, since) : reported), ...this.gone() };
    if (progress.status !== this.shownStatus) this.said = "";
    this.shownStatus = progress.status;
    this.shownAsked = progress.asked;
    setAttribute(this.pill, "data-status", progress.status);
    setText(this.pill, progress.words);
    setText(this.where, position(meta, progress, this.model.get("sampling"), this.preparing));
    const part = done(progress);
    setFlag(this.bar, "hidden", part === null);
    this.fill.style.transform = `scaleX(${part ?? 0})`;
    setAttribute(this.bar, "aria-valuenow", Math.round(100 * (part ?? 0)));
    this.drawControls(progress, over);
    setText(this.stats.step, count(progress.step));
    setText(this.stats.steps_per_s, rate(progress.steps_per_s));
    setText(this.stats.rows_per_s, rate(progress.rows_per_s));
    setFlag(this.stats.rows_per_s.parentElement, "hidden", !progress.rows_per_s || Boolean(meta.is_sampling));
    // The time to prepare stands at the top as long as that goes on.
    this.drawTime(progress.words === "preparing" ? null : progress);
    if (!over) this.panels.devices.drawTime(progress);
    setFlag(this.stats.checkpoint.parentElement, "hidden", !progress.checkpoint);
    if (progress.checkpoint) setText(this.stats.checkpoint, `${duration(progress.checkpoint.age_s + since)} ago`);
    this.drawNotice(progress, over);
    if (over) clearInterval(this.ticking);
  }

  /** What stands in place of the progress of a kernel that is gone, or has not been heard. */
  gone() {
    if (this.lost) return LOST;
    return this.reachable === false && !this.heard ? UNHEARD : {};
  }

  /** The time of the training, and smaller that of what was none. */
  drawTime(progress) {
    const [time, rest] = this.stats.time.childNodes;
    setText(time, progress ? duration(progress.trained_s) : "-");
    setText(rest, progress ? noTraining(progress) : "");
  }

  drawControls(progress, over) {
    setFlag(this.run, "hidden", over || progress.status === "lost");
    setFlag(this.buttons.checkpoint, "hidden", !progress.can_checkpoint);
    setFlag(this.rateBox, "hidden", !progress.can_set_learning_rate);
    setFlag(this.whyFixed, "hidden", progress.can_set_learning_rate || !progress.why_fixed);
    setFlag(this.buttons.restore_best, "hidden", !progress.best_state);
    setAttribute(this.buttons.restore_best, "title",
      `Stop, and give the model the best state so far, that of step ${count(this.model.get("loss").best_step ?? progress.best_state)}`);
    const { pause, ...others } = this.buttons;
    const stopping = progress.asked === "stop";
    for (const element of [pause, ...Object.values(others)]) setFlag(element, "disabled", !this.reachable || stopping);
    setFlag(this.rate, "disabled", !this.reachable);
    const word = this.paused() ? "Resume" : "Pause";
    if (pause.lastChild.textContent !== word) pause.replaceChildren(icon(word.toLowerCase()), h("span", {}, word));
    const rate = this.presentRate();
    if (this.root.getRootNode().activeElement !== this.rate && rate) {
      if (this.doubted !== null) this.forgetDoubt();
      if (this.rate.value !== rate) this.rate.value = this.lastRate = rate;
    }
  }

  drawNotice(progress, over) {
    const why = this.lost && !over ? "The kernel was restarted or has ended; this run is not continued."
      : progress.status === "completed" ? "" : progress.reason;
    const says = over || this.lost ? why
      : progress.status === "lost" ? OF_THEN
      : this.reachable === false ? UNREACHABLE : this.said || this.awaited(progress.asked, progress.asked_rate);
    setText(this.notice, says);
    setFlag(this.notice, "hidden", !says);
    const notes = progress.notes ?? [];
    if (JSON.stringify(notes) !== this.shownNotes) {
      this.shownNotes = JSON.stringify(notes);
      this.notes.replaceChildren(...notes.map((note) => h("li", {}, note)));
    }
  }

  drawChart() {
    const loss = this.model.get("loss");
    if (loss.error) {
      this.curve.fail(loss.error);
      return;
    }
    const names = Object.keys(loss.traces ?? { loss: null });
    if (names.length && !names.includes(this.options.curve)) this.options.curve = names[0];
    // A rate is neither smoothed nor divided by the rows.
    const isChains = Boolean(this.model.get("meta").is_sampling);
    setFlag(this.toggles.smooth, "hidden", isChains || this.options.curve === "learning_rate");
    if (loss.traces?.loss) setAttribute(this.toggles.smooth, "title", smoothing(loss.traces.loss.steps, loss.averaged_epoch));
    setFlag(this.toggles.perRow, "hidden", isChains || !loss.n_obs || this.options.curve !== "loss");
    this.curves.show(names.map((name) => [name, curveWords(name, isChains)]), this.options.curve);
    const curves = series(loss, this.model.get("previous_runs").runs ?? [], this.options);
    const perRow = loss.n_obs && this.options.perRow;
    const scaled = (value) => number(value === null || perRow ? value : value * (loss.n_obs || 1));
    setText(this.stats.loss, scaled(loss.now ?? null));
    const words = bestWords(loss);
    setText(this.stats.best.previousElementSibling, bestName(loss, this.options.perRow));
    this.stats.best.replaceChildren(scaled(loss.best ?? null),
      h("small", {}, loss.best_step ? ` at ${count(loss.best_step)}` : ""),
      ...(words.below ? [h("small", { class: "aimz-beside" }, words.below)] : []));
    setAttribute(this.stats.best.parentElement, "title", words.about);
    this.curve.draw(curves, this.options, this.theme, this.model.get("progress").words);
    const isLog = !this.options.log && this.curve.shown?.view.kind === "log";
    if (isLog !== this.options.wasLog) this.keepAxis(isLog);
  }

  remove() {
    this.discount();
    this.stopSettling?.();
    clearInterval(this.ticking);
    clearTimeout(this.styling);
    clearTimeout(this.greeting);
    clearTimeout(this.patience);
    clearTimeout(this.forgetting);
    clearTimeout(this.waiting);
    this.painted.port1.close();
    cancelAnimationFrame(this.frame);
    this.resizing.disconnect();
    this.theming.disconnect();
    for (const stop of this.stopListening) stop();
  }
}

export default {
  initialize({ model }) {
    const dock = new Dock(model, (el) => {
      const view = new View(model, el, { docked: true });
      return () => view.remove();
    });
    return () => dock.remove();
  },
  render({ model, el }) {
    if (recordOf(model)) return settle(model, el);
    const view = new View(model, el);
    return () => view.remove();
  },
};
