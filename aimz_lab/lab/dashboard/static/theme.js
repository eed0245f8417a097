// The page's theme: light or dark, and the colours that follow from it.

import { setAttribute } from "./elements.js";

/**
 * Mark an element as light or dark, and read its colours.
 * @param root An element of the class `aimz`.
 * @param names Names of the colours.
 * @returns colors by name, and font; or null without a place on the page, or before its styles.
 */
export function themeOf(root, names) {
  const style = getComputedStyle(root);
  const [r, g, b, a] = (style.backgroundColor.match(/[\d.]+/g) ?? []).map(Number);
  const dark = a !== 0 && 0.299 * r + 0.587 * g + 0.114 * b < 128;
  setAttribute(root, "data-theme", dark ? "dark" : "light");
  const colors = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--aimz-${name}`).trim()]));
  if (Object.values(colors).some((value) => value === "")) return null;
  return { colors, font: `11px ${style.fontFamily}` };
}

/** Call `change` whenever the theme may have changed; `disconnect()` of what it returns ends that. */
export function onTheme(change) {
  const observer = new MutationObserver(change);
  for (const element of [document.documentElement, document.body]) {
    observer.observe(element, { attributes: true }); // each page has its own sign of the theme
  }
  return observer;
}
