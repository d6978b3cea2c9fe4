// SPDX-License-Identifier: Apache-2.0
//
// The record of an exhaustion, as a document: what is known has words and units, and what a newer
// weir has besides is shown all the same.

import { duration, element, short, showFigures, tableRow, when, whole } from "./words.js";

const TITLES = {
  causes: "Why: each known cause by its evidence",
  remedies: "What to do",
  holders: "Held permits at the begin, longest first",
  "worst.holders": "Held permits then, longest first",
  worst: "When most waited",
  waiters: "Who waited, by tenant",
  shed: "Requests refused, by reason",
  shapes: "What held the connections, in connection-seconds a second",
  upstreams: "Connections to the server meanwhile",
  left: "Left open and idle, at most",
  deployment: "What the deployment said of itself",
  "deployment.connections": "Its connections",
  "deployment.operations": "Its operations",
  "deployment.members": "Its members",
  "deployment.plan": "How it executes the shape",
  "deployment.index": "The index for that",
  "deployment.unanswered": "What it did not answer",
  "operations.longest": "Under way there, longest first",
  "left.owners": "Left open, by app and user",
};
const WORDS = { p50: "wait p50", p99: "wait p99", at: "when" };
const SECONDS = ["duration", "longestWait", "held", "age", "idle", "p50", "p99", "meanBefore", "meanDuring", "meanOpening", "meanLogin", "meanLoginBefore", "longestIdle", "away", "threshold", "running", "lag"];
const TIMES = ["begin", "end", "at"];
const FIRST = ["remedies", "causes", "deployment"];
const ELSEWHERE = ["_id", "verdict", "cause", "server"]; // in the line that opens it, and below

const word = (key) => WORDS[key] ?? key.replace(/[A-Z_]/g, (letter) => ` ${letter.toLowerCase().replace("_", "")}`).trim();

function told(key, value) {
  if (value === "" || value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (TIMES.includes(key) && typeof value === "number") return value > 0 ? when(value) : "–";
  if (SECONDS.includes(key) && typeof value === "number") return duration(value);
  if (typeof value === "number") return (Number.isInteger(value) ? whole : short).format(value);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}

const isDocument = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function table(documents) {
  const keys = [...new Set(documents.flatMap(Object.keys))];
  const made = element("table", "cards");
  const head = element("tr");
  const isText = (key) => documents.some((each) => typeof each[key] === "string");
  for (const key of keys) head.append(element("th", isText(key) ? "" : "number", word(key)));
  made.append(element("thead"), element("tbody"));
  made.tHead.append(head);
  made.tBodies[0].append(...documents.map((each) => tableRow(
    keys.map((key) => [key, word(key), key in each ? told(key, each[key]) : "", isText(key)]),
  )));
  const scroll = element("div", "scroll");
  scroll.append(made);
  return scroll;
}

// One click selects all that is to be typed.
function remedies(list) {
  const made = element("ul", "remedies");
  for (const remedy of list) {
    const item = element("li", "", remedy.what);
    item.append(element("code", "", remedy.type));
    made.append(item);
  }
  return made;
}

function causes(list) {
  const made = element("ol", "causes");
  for (const cause of list) {
    const item = element("li");
    const meter = element("meter");
    meter.value = cause.score;
    item.append(meter, element("b", "", `${word(cause.cause)} ${short.format(cause.score)}`), element("span", "", cause.says));
    made.append(item);
  }
  return made;
}

const isThere = (value) => (Array.isArray(value) ? value.length > 0 : Object.values(value).some(Boolean));

function shown(key, value) {
  if (key === "remedies") return [remedies(value)];
  if (key === "causes") return [causes(value)];
  if (key === "shed") return parts(Object.fromEntries(Object.entries(value).filter(([, count]) => count)), key);
  if (isDocument(value)) return parts(value, key);
  if (value.every(isDocument)) return [table(value)];
  return [element("p", "", value.map((each) => told(key, each)).join(", "))];
}

// The figures of a document, then its parts under their titles.
function parts(document, name) {
  const keys = Object.keys(document).filter((key) => !ELSEWHERE.includes(key));
  const inner = keys.filter((key) => typeof document[key] === "object" && document[key] !== null);
  const plain = keys.filter((key) => !inner.includes(key));
  const rank = (key) => (FIRST.includes(key) ? FIRST.indexOf(key) : FIRST.length);
  const list = element("dl", "figures");
  showFigures(list, plain.map((key) => [key, word(key), told(key, document[key])]));
  inner.sort((a, b) => rank(a) - rank(b));
  const sections = inner.filter((key) => isThere(document[key])).map((key) => {
    const section = element("section");
    section.dataset.part = key;
    section.append(element("h3", "", TITLES[`${name}.${key}`] ?? TITLES[key] ?? word(key)), ...shown(key, document[key]));
    return section;
  });
  return plain.length > 0 ? [list, ...sections] : sections;
}

const sameHolders = (a, b) => a.length === b.length &&
  a.every((holder, i) => holder.client === b[i].client && holder.shape === b[i].shape);

export function recordParts(all) {
  const record = { ...all };
  if (record.worst?.holders && sameHolders(record.worst.holders, record.holders ?? [])) {
    const { holders, ...rest } = record.worst;
    record.worst = { ...rest, heldBy: "the same as at the begin" };
  }
  const foot = element("p", "foot", `${record._id} · `);
  const link = element("a", "", "as JSON");
  link.href = `exhaustions/${encodeURIComponent(record._id)}`;
  foot.append(link, `; in a terminal: weir explain-event ${record._id}`);
  return [...parts(record, ""), foot];
}
