// The parts that fold out below the curve: padding, devices, parameters, predictive check.

import { curveWords, sparkline } from "./chart.js";
import { codeName, fold, h, setFlag, setText, svg, table } from "./elements.js";
import { count, duration, number, ratio, SEEN_S, share, size, unpack, WELL_MIXED } from "./math.js";
import { shares } from "./position.js";

const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

/** Wrap a renderer: hide a panel without a frame, and show the error of one that failed. */
function panel(title, open, render) {
  const part = fold(title, open);
  return {
    element: part.element,
    update(frame) {
      setFlag(part.element, "hidden", !frame || Object.keys(frame).length === 0);
      if (part.element.hidden) return;
      if (frame.error) {
        setText(part.headline, "switched off");
        part.extra.replaceChildren();
        part.body.replaceChildren(h("p", {}, `This panel failed and was switched off: ${frame.error}`));
        return;
      }
      render(frame, part);
    },
  };
}

/** The cost of padding, and advice. */
export const paddingPanel = () => panel("Padding", false, (frame, { headline, extra, body }) => {
  const total = frame.rows + frame.n_pad;
  setText(headline, frame.share_of_run === 0 && frame.most === 0
    ? "none"
    : `up to ${count(frame.most)} of ${plural(total, "row")} of a batch only fill it up; ` +
      `${share(frame.share_of_run)} of the work so far`);
  extra.replaceChildren(frame.share_of_run ? meter(frame.share_of_run) : "",
    frame.advice ? h("span", {}, frame.advice) : "");
  body.replaceChildren(...[
    frame.shards.length > 1 && shardPicture(frame),
    facts([
      ...(frame.share_of_epoch === null ? [] : [["last whole epoch", share(frame.share_of_epoch)]]),
      ["whole run", share(frame.share_of_run)],
      ...(frame.n_shards > 1 ? [["rows of a batch are shared by", plural(frame.n_shards, "device")]] : []),
    ]),
    strip("padded rows of each batch", frame.by_step, (v) => `up to ${count(v)} rows`),
    strip("share of padded rows by epoch", frame.by_epoch, (v) => `up to ${share(v)}`),
  ].filter(Boolean));
});

function meter(fraction) {
  return svg("svg", { class: "aimz-meter", viewBox: "0 0 96 8", width: 96, height: 8, "aria-hidden": "true" },
    svg("rect", { class: "aimz-meter-all", width: 96, height: 8, rx: 4 }),
    svg("rect", { class: "aimz-meter-part", width: 96 * fraction, height: 8, rx: 4 }));
}

function shardPicture({ shards, rows, n_pad: padded }) {
  const label = `Rows of the last batch by device: ${rows} of data, ${padded} of padding`;
  return h("div", { class: "aimz-shards", role: "img", "aria-label": label },
    shards.map(([real, pad], i) => h("div", { class: "aimz-shard" },
      h("div", { class: "aimz-cells" }, cells(real, pad)),
      h("span", {}, `${i}`))));
}

// Up to 16 cells a device; beyond, a cell stands for several rows.
function cells(real, pad) {
  const each = Math.max(1, Math.ceil((real + pad) / 16));
  const some = (n, kind) =>
    Array.from({ length: Math.ceil(n / each) }, () => h("i", { class: `aimz-cell aimz-${kind}` }));
  return [...some(real, "real"), ...some(pad, "pad")];
}

function strip(label, trace, words) {
  const values = unpack(trace.high ?? trace.mean);
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  if (values.every((value) => value === most)) return null; // the facts above say it
  return h("div", { class: "aimz-strip" }, h("span", {}, label), spark(values), h("span", {}, words(most)));
}

function spark(values, places) {
  const { line, dots } = sparkline(values, 120, 22, places);
  return svg("svg", { class: "aimz-spark", viewBox: "0 0 120 22", width: 120, height: 22, "aria-hidden": "true" },
    svg("path", { d: line }), svg("path", { class: "aimz-dots", d: places ? dots : "" }));
}

function facts(pairs) {
  return h("dl", { class: "aimz-facts" },
    pairs.map(([term, value]) => h("div", {}, h("dt", {}, term), h("dd", {}, value))));
}

const ACTIVITY_NAMES = {
  preparing: "preparing, up to the first step", validation: "held-out loss", waiting: "waiting for other runs",
  compiling: "compiling since the first step", tracing: "tracing and loading since the first step",
};

/** Devices and memory, compilations, and time by activity, which is drawn with the clock. */
export function devicesPanel() {
  const bar = svg("svg", { class: "aimz-time", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" });
  const legend = h("ul", { class: "aimz-legend", "aria-label": "Share of wall time" });
  let drawn = "";
  const part = panel("Devices", false, (frame, { headline, extra, body }) => {
    const { compiled, process } = frame;
    const first = frame.devices[0];
    const name = frame.n_devices > 1 ? `${first.name} and ${frame.n_devices - 1} more` : first.name;
    const memory = first.in_use ?? process.in_use;
    setText(headline, `${name} · ${size(memory)} of memory${compiled ? ` · ${compilations(compiled)}` : ""}`);
    extra.replaceChildren(bar);
    body.replaceChildren(
      legend,
      facts([
        ["memory of this session", `${size(process.in_use)}, at most ${size(process.peak)}`],
        ["arrays on the devices", count(frame.live_buffers)],
        ...(frame.bytes_per_step ? [["training data sent to the devices", `${size(frame.bytes_per_step)} for each step`]] : []),
        ...(first.in_use === null ? [["devices", `${plural(frame.n_devices, first.kind)}`]] : []),
      ]),
      first.in_use === null ? "" : deviceTable(frame),
      ...(compiled?.count ? [compilationTable(compiled), sideBySide(compiled)] : []),
    );
  });
  return {
    ...part,
    /** Draw the time by activity; none is shared out before the first step begins. */
    drawTime(progress) {
      const parts = progress.words === "preparing" ? [] : shares(progress);
      if (String(parts) === drawn) return;
      drawn = String(parts);
      bar.replaceChildren(...timeBar(parts));
      legend.replaceChildren(...timeLegend(parts));
    },
  };
}

/** How many programs were compiled, and the time that passed for it. */
function compilations({ count: n, passed: [before, since] }) {
  const waits = [[before, "before the first step"], [since, "since the first step"]]
    .filter(([seconds]) => seconds >= SEEN_S).map(([seconds, when]) => `${duration(seconds)} ${when}`);
  return n ? [plural(n, "compilation"), ...waits].join(", ") : "no compilation";
}

function timeBar(parts) {
  let left = 0;
  return parts.map(([name, part]) => {
    const bar = svg("rect", { class: `aimz-time-${name}`, x: 100 * left, width: 100 * part, height: 8 });
    left += part;
    return bar;
  });
}

const timeLegend = (parts) => parts.map(([name, part]) => h("li", {},
  h("i", { class: `aimz-swatch aimz-time-${name}` }), `${ACTIVITY_NAMES[name] ?? name} ${share(part)}`));

function deviceTable({ devices, n_devices: n }) {
  const rows = devices.map((d) => [d.name, d.kind, size(d.in_use), size(d.peak), size(d.limit)]);
  if (n > devices.length) rows.push([`and ${n - devices.length} more`, "", "", "", ""]);
  return table("Devices", ["device", "kind", "in use", "at most", "limit"], rows);
}

function compilationTable({ count: n, seconds, longest }) {
  const rows = longest.map((c) => [codeName(c.name), `${c.count}×`, number(c.seconds, 2), c.cause]);
  const sum = (name) => longest.reduce((total, c) => total + c[name], 0);
  const others = n - sum("count");
  if (others > 0) rows.push(["others", `${others}×`, number(Math.max(seconds - sum("seconds"), 0), 2), ""]);
  return table("Compilations", ["program", "times compiled", "seconds", "last compiled"], rows);
}

function sideBySide({ seconds, passed: [before, since] }) {
  return h("p", { class: "aimz-note" }, seconds - before - since < SEEN_S ? ""
    : `Some compiled side by side, or beside the steps: of ${duration(seconds)} of compiling, the run waited for ${duration(before + since)}.`);
}

/** The parameters of the guide that moved most, at the step of their values. */
export const parametersPanel = () => panel("Parameters", false, (frame, { headline, extra, body }) => {
  const [first] = frame.rows;
  const at = `step ${count(frame.step)}`;
  setText(headline, first ? `${first.site} (${first.kind}) moves most: ${moved(first)}, at ${at}` : "followed from here on");
  extra.replaceChildren();
  body.replaceChildren(first
    ? table("Parameters that moved most", ["parameter", "", `value at ${at}`, "moved", "path"],
      frame.rows.map((r) => [codeName(r.site), r.kind, number(r.value), moved(r), spark(unpack(r.path), unpack(frame.steps))]))
    : "",
  h("p", { class: "aimz-note" }, first
    ? `Moved over the last ${plural(first.over_steps, "step")}; a location in standard deviations of its posterior. ${frame.note}`
    : frame.note));
});

const MOST_SDS = 1000; // beyond, a scale of the guide is far too small, and the number tells nothing

const moved = (row) => row.moved === null ? "not finite"
  : row.unit !== "sd" ? share(Number(row.moved.toFixed(4)))
    : row.moved > MOST_SDS ? `over ${count(MOST_SDS)} sd` : `${number(row.moved, 2)} sd`;

/** Divergences, step size and acceptance of each chain. */
export const samplingPanel = () => panel("Chains", false, (frame, { headline, extra, body }) => {
  const { warming_up: isWarming, draws, of, divergences } = frame;
  setText(headline, isWarming
    ? `warm-up: ${count(frame.iterations)} of ${count(frame.warmup)} iterations`
    : `${count(draws)} of ${plural(of, "draw")} in ${frame.chains > 1 ? `each of ${plural(frame.chains, "chain")}` : "a chain"}` +
      (divergences === null ? "" : ` · ${divergences ? plural(divergences, "divergence") : "no divergences"}`));
  extra.replaceChildren(frame.advice ? h("span", {}, frame.advice) : "");
  const columns = [["divergences", count], ["step_size", (v) => number(v, 3)],
    ["acceptance_rate", (v) => number(v, 3)], ["n_steps", (v) => number(v, 3)]]
    .filter(([name]) => name in (frame.by_chain[0] ?? {}));
  body.replaceChildren(columns.length
    ? table("Chains", ["chain", ...columns.map(([name]) => curveWords(name, true))],
      frame.by_chain.map((chain, i) => [count(i + 1), ...columns.map(([name, write]) => write(chain[name]))]))
    : "");
});

/** R-hat and effective sample sizes of the worst values. */
export const convergencePanel = () => panel("Convergence", true, (frame, { headline, extra, body }) => {
  const isBad = frame.r_hat !== null && frame.r_hat > WELL_MIXED;
  const [reach, held] = isBad ? ["up to", "above"] : ["at most", "within the limit of"];
  const rHat = `R-hat ${reach} ${ratio(frame.r_hat)} (${frame.r_hat_of}), ${held} ${WELL_MIXED}`;
  const agree = isBad ? "the chains do not agree yet" : "";
  const some = frame.judged < frame.total ? `of ${count(frame.judged)} of ${plural(frame.total, "value")}` : "";
  setText(headline, [some, frame.r_hat !== null && rHat,
    `ESS at least ${count(frame.ess)}${frame.read ? ` of the ${count(frame.read)} draws read` : ""} (${frame.ess_of})`, agree].filter(Boolean).join(" · "));
  extra.replaceChildren();
  body.replaceChildren(
    table("Values that fare worst", ["value", "mean", "sd", `R-hat (limit ${WELL_MIXED})`, "ESS bulk", "ESS tail"],
      frame.rows.map((r) => [codeName(r.name), number(r.mean, 3), number(r.sd, 3), ratio(r.r_hat),
        count(r.ess_bulk), count(r.ess_tail)])),
    h("p", { class: "aimz-note" }, `After ${plural(frame.draws, "draw")} of each chain; ` +
      (frame.judged < frame.total ? `${count(frame.judged)} of ${count(frame.total)} values were judged${frame.left_out ? `: ${frame.left_out}` : ""}.`
        : `${plural(frame.total, "value")} judged.`) +
      (frame.read ? ` While it runs, ${count(frame.read)} of the draws of all chains are read; the whole has a higher ESS, and it is known at the end.` : "")));
});

/** Observed against replicated data. */
export const checkPanel = () => panel("Predictive check", true, (frame, { headline, extra, body }) => {
  setText(headline, `epoch ${frame.epoch}, ${plural(frame.n_draws, "draw")}; ` +
    `${share(frame.mean_below)} of the replicated means lie below the observed one`);
  extra.replaceChildren();
  body.replaceChildren(densityPicture(frame), h("ul", { class: "aimz-legend" },
    h("li", {}, h("i", { class: "aimz-swatch aimz-density-observed" }), "observed"),
    h("li", {}, h("i", { class: "aimz-swatch aimz-density-replicated" }), "replicated, with 90% band")));
});

function densityPicture(frame) {
  const [width, height] = [640, 150];
  const [observed, replicated] = [unpack(frame.observed), unpack(frame.replicated)];
  const [low, high] = frame.band.map(unpack);
  const most = Math.max(...observed, ...high) || 1;
  const x = (i, n) => (width * (i + 0.5)) / n;
  const y = (value) => height - 18 - (value / most) * (height - 26);
  const path = (values) =>
    Array.from(values, (v, i) => `${i ? "L" : "M"}${x(i, values.length).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  const under = Array.from(low, (_, i) => low.length - 1 - i)
    .map((i) => `L${x(i, low.length).toFixed(1)} ${y(low[i]).toFixed(1)}`).join("");
  return svg("svg", {
    class: "aimz-density", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Density of observed and replicated values from ${number(frame.low)} to ${number(frame.high)}`,
  },
  svg("path", { class: "aimz-density-band", d: `${path(high)}${under}Z` }),
  svg("path", { class: "aimz-density-replicated", d: path(replicated) }),
  svg("path", { class: "aimz-density-observed", d: path(observed) }),
  svg("text", { x: 4, y: height - 4 }, number(frame.low)),
  svg("text", { x: width - 4, y: height - 4, "text-anchor": "end" }, number(frame.high)));
}
