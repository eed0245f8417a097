// The lasting record of a run: its picture with a summary, in place of the live view.

import { h } from "./elements.js";

const WIDGET_VIEW = "application/vnd.jupyter.widget-view+json";
const REPLACED_MS = 1000; // the kernel's own replacement of the output comes first

/** The record as a MIME bundle, or undefined while the run goes on. */
export const recordOf = (model) => model.get("record")?.data;

/** Whether an output stands for the widget of this id where there is none. */
const standsBelow = (data, id) => [data?.["text/html"] ?? ""].flat().join("").includes(`aimz-still-${id}`);

/** The outputs of the notebook, each with its list and its place there. */
function* outputsOf(cells) {
  for (const { outputs } of cells) {
    for (let i = 0; i < (outputs?.length ?? 0); i++) yield { outputs, i, data: outputs.get(i).data };
  }
}

/** The cells of the widget's notebook; `undefined` on pages of other makers, who do not let us at them. */
const cellsOf = (model) => model.widget_manager?.context?.model?.cells;

/** Whether the notebook has an output with the widget, and one with its record; `undefined` if it cannot be read. */
export function shownIn(model) {
  const { model_id: id } = model.get("meta");
  const html = recordOf(model)?.["text/html"];
  try {
    const cells = cellsOf(model);
    if (!cells) return {};
    const all = [...outputsOf(cells)].map(({ data }) => data);
    return {
      widget: all.some((data) => data?.[WIDGET_VIEW]?.model_id === id),
      record: Boolean(html) && all.some((data) => [data?.["text/html"] ?? ""].flat().join("").includes(html)),
    };
  } catch {
    return {};
  }
}

/**
 * Put the record where the notebook's outputs show this widget, so that it is saved with them.
 *
 * The kernel replaces its output by itself, but a page that was loaded again does not know which one
 * that is. Pages of other makers do not let us at their outputs: there nothing happens.
 */
export function keepRecord(model) {
  const id = model.get("meta").model_id;
  const { data, metadata } = structuredClone(model.get("record"));
  try {
    for (const { outputs, i, data: shown } of outputsOf(cellsOf(model) ?? [])) {
      if (shown?.[WIDGET_VIEW]?.model_id === id) {
        outputs.set(i, { output_type: "display_data", data, metadata });
      } else if (standsBelow(shown, id)) {
        outputs.set(i, { output_type: "display_data", data: { "text/plain": "" }, metadata: {} });
      }
    }
  } catch (error) {
    console.warn("The record of a run is shown, but not kept in the notebook.", error);
  }
}

/** A style that hides what stands below a widget for those who have none. */
export function hideBelow(model) {
  const mark = `.aimz-still-${model.get("meta").model_id}`;
  return h("style", {}, `${mark}, .jp-OutputArea-child:has(${mark}) { display: none; }`);
}

/** Keep the record, and show it in `el` too if that is still there. Returns a function that stops it. */
export function settle(model, el) {
  const timers = [
    setTimeout(() => keepRecord(model)),
    setTimeout(() => {
      // A page at whose outputs we cannot get has both.
      el.replaceChildren(hideBelow(model), recordElement(model));
    }, REPLACED_MS),
  ];
  return () => timers.forEach(clearTimeout);
}

/** The record as an element. */
export function recordElement(model) {
  const data = recordOf(model);
  const record = h("div", { class: "aimz-record" });
  // Our own summary, whose texts the kernel has escaped.
  if (data["text/html"]) record.innerHTML = data["text/html"];
  else record.append(h("pre", {}, data["text/plain"]));
  return record;
}
