// SPDX-License-Identifier: Apache-2.0
//
// Elements, and numbers as people read them. All text goes in by textContent: names come from
// anybody.

export const $ = (selector, within = document) => within.querySelector(selector);

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

export const whole = new Intl.NumberFormat("en");
export const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

export const at = (seconds) => clock.format(new Date(1000 * seconds));

// With the day, unless that is today.
export function when(seconds) {
  const day = (date) => date.toLocaleDateString("sv"); // 2026-11-27
  const date = new Date(1000 * seconds);
  return day(date) === day(new Date()) ? at(seconds) : `${day(date)} ${at(seconds)}`;
}

export function duration(seconds) {
  if (seconds === 0) return "0 s";
  if (seconds < 0.001) return `${short.format(1e6 * seconds)} µs`;
  if (seconds < 1) return `${short.format(1000 * seconds)} ms`;
  if (seconds < 120) return `${short.format(seconds)} s`;
  if (seconds < 7200) return `${short.format(seconds / 60)} min`;
  return `${whole.format(Math.round(seconds / 3600))} h`;
}

export const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);

// Rows of [key, name, value]; made once, then only their values change.
export function showFigures(list, figures) {
  for (const [key, name, value] of figures) {
    let place = $(`[data-key="${CSS.escape(key)}"]`, list);
    if (!place) {
      const pair = element("div");
      place = element("dd");
      place.dataset.key = key;
      pair.append(element("dt", "", name), place);
      list.append(pair);
    }
    if (place.textContent !== value) place.textContent = value;
  }
}

// A row of a table: cells of [key, title, text], the first of which is the name.
export function tableRow(cells) {
  const row = element("tr");
  for (const [key, title, text, isText] of cells) {
    const cell = element("td", isText ? "text" : "number", text);
    cell.dataset.key = key;
    cell.dataset.name = title;
    row.append(cell);
  }
  return row;
}
