// The lasting record of a run: its picture with a summary, in place of the live view.

import { h } from "./elements.js";

const WIDGET_VIEW = "application/vnd.jupyter.widget-view+json";
const REPLACED_MS = 1000; // the kernel's own replacement of the output comes first

/** The record as a MIME bundle, or undefined while the run goes on. */
export const recordOf = (model) => model.get("record")?.data;

/** Whether an output stands for the widget of this id where there is none. */
const standsBelow = (data, id) => [data?.["text/html"] ?? ""].flat().join("").includes(`aimz-still-${id}`);

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
    for (const { outputs } of model.widget_manager?.context?.model?.cells ?? []) {
      for (let i = 0; i < (outputs?.length ?? 0); i++) {
        if (outputs.get(i).data?.[WIDGET_VIEW]?.model_id === id) {
          outputs.set(i, { output_type: "display_data", data, metadata });
        } else if (standsBelow(outputs.get(i).data, id)) {
          outputs.set(i, { output_type: "display_data", data: { "text/plain": "" }, metadata: {} });
        }
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
    setTimeout(() => showRecord(model, el), REPLACED_MS),
  ];
  return () => timers.forEach(clearTimeout);
}

function showRecord(model, el) {
  const data = recordOf(model);
  const record = h("div", { class: "aimz-record" });
  // Our own summary, whose texts the kernel has escaped.
  if (data["text/html"]) record.innerHTML = data["text/html"];
  else record.append(h("pre", {}, data["text/plain"]));
  el.replaceChildren(hideBelow(model), record); // a page at whose outputs we cannot get has both
}
