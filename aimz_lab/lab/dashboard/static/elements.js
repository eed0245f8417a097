// Elements of the page: make them, and change only those that differ.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element; text is a child and never read as markup. */
export function h(tag, props = {}, ...children) {
  return build(document.createElement(tag), props, children);
}

/** Make an SVG element. */
export function svg(tag, props = {}, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Set an element's text, if it differs. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Set an attribute, if it differs; null removes it. */
export function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Switch an attribute on or off, if it differs: a browser restyles even what stays the same. */
export function setFlag(element, name, on) {
  if (element[name] !== Boolean(on)) element[name] = Boolean(on);
}

const ICONS = {
  stop: "M4 4h8v8H4z",
  restore_best: "M8 1.5l2 4.3 4.7.6-3.5 3.2.9 4.7L8 12l-4.1 2.3.9-4.7L1.3 6.4 6 5.8z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  resume: "M5 3l8 5-8 5z",
  checkpoint: "M7 2h2v6h2.6L8 12 4.4 8H7zM3 13h10v1.5H3z",
};

/** An icon of the toolbar, hidden from screen readers. */
export function icon(name) {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" },
    svg("path", { d: ICONS[name], fill: "currentColor" }),
  );
}

/** A button with an icon and a word. */
export function button(name, text, onclick) {
  return h("button", { type: "button", class: "aimz-button", "data-action": name, onclick },
    icon(name), h("span", {}, text));
}

/** A button that stays pressed. */
export function toggle(text, pressed, title, onchange) {
  const element = h("button", {
    type: "button", class: "aimz-toggle", "aria-pressed": String(pressed), title,
    onclick: () => {
      const now = element.getAttribute("aria-pressed") !== "true";
      element.setAttribute("aria-pressed", String(now));
      onchange(now);
    },
  }, text);
  return element;
}

/** One choice of several, as radio buttons drawn as a bar; arrow keys move among them. */
export function choice(label, name, onchange) {
  const group = h("div", { class: "aimz-choice", role: "radiogroup", "aria-label": label });
  let shown = "";
  return {
    group,
    show(options, current) {
      const key = JSON.stringify([options, current]);
      if (key === shown) return;
      shown = key;
      setFlag(group, "hidden", options.length < 2);
      group.replaceChildren(...options.map(([value, text]) => h("label", {},
        h("input", {
          type: "radio", name, value, checked: value === current, onchange: () => onchange(value),
        }),
        h("span", {}, text))));
    },
  };
}

/** A part that folds out below a heading. */
export function fold(title, open = false) {
  const headline = h("span", { class: "aimz-headline" });
  const extra = h("span", { class: "aimz-extra" });
  const body = h("div", { class: "aimz-body" });
  const element = h("details", { class: "aimz-fold", open, hidden: true },
    h("summary", {}, h("span", { class: "aimz-fold-title" }, title),
      h("div", { class: "aimz-said" }, headline, extra)), body);
  return { element, headline, extra, body };
}

/** A name in code, which a narrow table breaks at its joints. */
export function codeName(text) {
  return h("code", {}, text.split(/(?<=[_.,[])/).flatMap((part, i) => (i ? [h("wbr"), part] : [part])));
}

/** A table from rows of cells; a cell is text or an element. */
export function table(caption, head, rows) {
  return h("div", { class: "aimz-scroll" }, h("table", { class: "aimz-table" },
    h("caption", { class: "aimz-hidden" }, caption),
    h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col" }, cell)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}
