// SPDX-License-Identifier: Apache-2.0
//
// The dashboard. /history is what was, /events what comes each second; of a second that was missed
// the history is asked again.

import { recordParts } from "./record.js";
import { $, at, duration, element, short, showFigures, sum, tableRow, when, whole } from "./words.js";

const SECONDS = 900;
const LEAST_SECONDS = 120; // drawn of a young weir
const RETRY_MS = 2000;
const SILENCE_MS = 5000; // then weir is taken for gone
const MARK_PX = 24; // what a finger hits
const LISTS = [
  "cap", "limit", "inFlight", "inFlightSlow", "inFlightStreams", "waiting", "granted", "shed", "exhausted",
];

let times = [];
let last = 0; // the number of the last second that we have
const panels = new Map(); // of each server, by its _id

// --- a server's panel ---

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Stacked from the ground: the water in flight by lane, and above it what waits.
const LAYERS = [
  ["waiting", "Waiting", (past, i) => past.inFlight[i] + past.waiting[i]],
  ["fast", "Fast", (past, i) => past.inFlight[i]],
  ["slow", "Slow", (past, i) => past.inFlightSlow[i] + past.inFlightStreams[i]],
  ["stream", "Streams", (past, i) => past.inFlightStreams[i]],
];

const drawExhausted = (panel) => (chart) => {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.globalAlpha = 0.16;
  ctx.fillStyle = colour("shed");
  panel.past.exhausted.forEach((is, i) => {
    const left = chart.valToPos(times[i] - 1, "x", true);
    const right = chart.valToPos(times[i], "x", true);
    if (is && right > bbox.left) ctx.fillRect(Math.max(left, bbox.left), bbox.top, right - Math.max(left, bbox.left), bbox.height);
  });
  ctx.restore();
};

function axes() {
  const style = { stroke: colour("faint"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return [
    { ...style, size: 26, space: 80, incrs: [15, 30, 60, 180, 300], values: (_, splits) => splits.map(at) },
    { ...style, size: 48, space: 22, incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5].map((power) => n * 10 ** power)).sort((a, b) => a - b) },
  ];
}

const scales = (least) => ({
  x: { time: true, range: () => [times[times.length - 1] - Math.max(LEAST_SECONDS, times.length), times[times.length - 1]] },
  y: { range: (_, __, most) => [0, Math.max(least, 1.1 * (most ?? 0))] },
});

function makeCharts(panel) {
  const common = { width: panel.levels.clientWidth, padding: [8, 28, 0, 0], cursor: { show: false }, legend: { show: false }, axes: axes() };
  const areas = LAYERS.map(([name]) => ({ fill: colour(name), stroke: colour(name), width: 0, points: { show: false } }));
  const cap = { stroke: colour("cap"), width: 2, points: { show: false } };
  panel.charts = [
    new globalThis.uPlot({
      ...common, height: 210, scales: scales(5), hooks: { drawClear: [drawExhausted(panel)], draw: [showMarks(panel)] },
      series: [{}, ...areas, { ...cap, width: 1.5, dash: [6, 4] }, cap],
    }, levels(panel), panel.levels),
    new globalThis.uPlot({
      ...common, height: 90, scales: scales(5),
      series: [{}, { stroke: colour("shed"), fill: colour("shed"), width: 1, points: { show: false } }],
    }, [times, panel.past.shed], panel.refusals),
  ];
}

// A second in which the server was not there has no cap, and is a gap.
function levels(panel) {
  const { past } = panel;
  const known = (value) => times.map((_, i) => (past.cap[i] > 0 ? value(past, i) : null));
  return [times, ...LAYERS.map(([, , value]) => known(value)), known((_, i) => past.limit[i]), known((_, i) => past.cap[i])];
}

function remakeCharts() {
  for (const panel of panels.values()) {
    panel.charts?.forEach((chart) => chart.destroy());
    panel.charts = null;
    draw(panel);
  }
}

function draw(panel) {
  if (panel.article.hidden || times.length === 0) return;
  if (!panel.charts) makeCharts(panel);
  panel.charts[0].setData(levels(panel));
  panel.charts[1].setData([times, panel.past.shed]);
}

function makePanel(id) {
  const article = element("article");
  const panel = {
    id, article,
    past: Object.fromEntries(LISTS.map((list) => [list, times.map(() => 0)])),
    title: element("h2"), pills: element("span"), kind: element("small"),
    marks: element("div", "marks"), trouble: element("p", "alarm"),
    figures: element("dl", "figures"), levels: element("div", "chart"), refusals: element("div", "chart"),
    charts: null,
  };
  article.dataset.server = id;
  panel.title.append(element("span", "", id), " ", panel.kind, panel.pills);
  const legend = element("ul", "legend");
  for (const [name, text] of [["fast", "in flight, fast"], ["slow", "in flight, slow"], ["stream", "streams"], ["waiting", "waiting"], ["rule", "cap"], ["rule dashed", "limit"], ["shed", "shed"]]) {
    legend.append(element("li", name, text));
  }
  article.append(
    panel.title, panel.trouble, panel.figures, legend,
    element("p", "unit", "Requests at one time; shaded while exhausted, ▲ opens the record"), panel.marks, panel.levels,
    element("p", "unit", "Requests shed a second"), panel.refusals,
  );
  $("#servers").append(article);
  panels.set(id, panel);
  return panel;
}

const panelOf = (id) => panels.get(id) ?? makePanel(id);

function statesOf(server) {
  const bad = [["tripped", "breaker tripped"], ["failing", "cannot connect"]]
    .filter(([key]) => server[key]).map(([, text]) => text);
  if (server.exhausted) bad.unshift(`exhausted: ${server.trouble}`);
  if (!server.usable && !server.failing) bad.push("not usable");
  return bad.length ? bad : ["usable"];
}

function showPills(panel, texts) {
  if (panel.pills.textContent === texts.join("")) return;
  panel.pills.replaceChildren(...texts.map((text) => element("span", text === "usable" ? "pill" : "pill bad", text)));
}

function showServer(server) {
  const panel = panelOf(server._id);
  // The place where requests wait that no server suits is shown when there are any.
  panel.article.hidden = server._id === "(none)" && !panel.past.waiting.some(Boolean) && !panel.past.shed.some(Boolean);
  panel.kind.textContent = server.kind;
  showPills(panel, statesOf(server));
  panel.trouble.textContent = server.exhausted ? "" : server.trouble; // else a pill has it
  showFigures(panel.figures, [
    ["inFlight", "in flight", whole.format(server.inFlight)],
    ["limit", "limit just now", whole.format(server.limit)],
    ["cap", "cap", whole.format(server.cap)],
    ["waiting", "waiting for a permit", whole.format(server.waiting)],
    ["refused", "shed since start", whole.format(sum(server.refused))],
    ["granted", "let in since start", whole.format(server.granted)],
    ["inFlightSlow", "in the slow lane", whole.format(server.inFlightSlow)],
    ["slowLimit", "slow lane's limit", whole.format(server.slowLimit)],
    ["inFlightStreams", "streams", whole.format(server.inFlightStreams)],
    ["open", "connections open", whole.format(server.open)],
    ["tripped", "breaker", server.tripped ? "tripped" : "not tripped"],
    ["slowness", "slower than unloaded", `${short.format(server.slowness)} ×`],
    ["roundTrip", "round trip", server.roundTrip > 0 ? duration(server.roundTrip) : "–"],
    ["lag", "replication lag", duration(server.lag)],
  ]);
}

function showServers(servers) {
  const there = new Set(servers.map((server) => server._id));
  for (const [id, panel] of panels) {
    if (!there.has(id)) {
      showPills(panel, ["gone"]);
      if (!panel.past.cap.some(Boolean)) {
        panel.charts?.forEach((chart) => chart.destroy());
        panel.article.remove();
        panels.delete(id);
      }
    }
  }
  servers.forEach(showServer);
}

// --- exhaustions ---

const items = new Map(); // by the event's id: its place in the list, and what is known of it

const words = (cause) => cause.replaceAll("_", " ");

function showHead(item, event) {
  const end = event.end > 0 ? when(event.end) : "now";
  const line = `${when(event.begin)} – ${end} · ${event.server} · ${duration(event.duration)} `;
  item.summary.replaceChildren(line, element("span", event.end > 0 ? "pill past" : "pill bad", words(event.cause)), element("p", "", event.verdict));
}

// Fetches the record of one that is open: it may have changed, or be no more.
async function learnRecord(item) {
  const reply = await fetch(`exhaustions/${encodeURIComponent(item.id)}`, { signal: AbortSignal.timeout(SILENCE_MS) });
  if (reply.status === 404) {
    item.note.textContent = item.event
      ? "weir keeps the latest 64 and has no record of this one any more: this is what it was."
      : `weir has no record of the exhaustion ${item.id}: it keeps the latest 64 since it was started.`;
    return;
  }
  if (!reply.ok) throw new Error(`exhaustions: ${reply.status}`);
  item.event = await reply.json();
  item.note.textContent = "";
  showHead(item, item.event);
  item.record.replaceChildren(...recordParts(item.event));
}

const refresh = (item) => learnRecord(item).catch((error) => console.error(error)); // the next second tries again

function makeItem(id) {
  const item = {
    id, event: null, place: element("li"), details: element("details"), summary: element("summary"),
    note: element("p", "note"), record: element("div", "record"),
  };
  item.place.dataset.id = id;
  item.summary.textContent = id;
  item.details.append(item.summary, item.note, item.record);
  item.details.addEventListener("toggle", () => {
    if (!item.details.open) return;
    history.replaceState(null, "", `#${encodeURIComponent(id)}`); // to be passed on
    refresh(item);
  });
  item.place.append(item.details);
  items.set(id, item);
  return item;
}

function openEvent(id) {
  const item = items.get(id) ?? makeItem(id);
  if (!item.place.isConnected) $("#events ol").prepend(item.place);
  $("#events .empty").hidden = true;
  item.details.open = true;
  item.place.scrollIntoView({ block: "start" });
}

function openNamed() {
  if (location.hash.length > 1) openEvent(decodeURIComponent(location.hash.slice(1)));
}

// What is open stays, also when newer ones have taken its place.
function showEvents(events) {
  const there = new Set(events.map((event) => event._id));
  for (const event of events) {
    const item = items.get(event._id) ?? makeItem(event._id);
    const changed = !item.event || ["end", "duration", "verdict"].some((key) => item.event[key] !== event[key]);
    if (item.details.open && changed) refresh(item);
    if (!item.details.open) item.event = event;
    showHead(item, event);
  }
  for (const [id, item] of items) {
    if (there.has(id)) continue;
    if (!item.details.open) {
      item.place.remove();
      items.delete(id);
    } else if (item.listed || (!item.event && !item.note.textContent)) refresh(item);
  }
  for (const item of items.values()) item.listed = there.has(item.id);
  const begin = (item) => item.event?.begin ?? Infinity;
  const wanted = [...items.values()].sort((a, b) => begin(b) - begin(a)).map((item) => item.place);
  const list = $("#events ol");
  $("#events .empty").hidden = wanted.length > 0;
  // Moving an element closes nothing, but takes the focus: only when something is new.
  if (wanted.length !== list.children.length || wanted.some((place, i) => place !== list.children[i])) {
    list.replaceChildren(...wanted);
  }
}

// On the time axis, above the water: a mark for each, which opens it.
const showMarks = (panel) => (chart) => {
  const width = chart.over.clientWidth;
  panel.marks.style.marginLeft = `${chart.over.offsetLeft}px`;
  panel.marks.style.width = `${width}px`;
  const wanted = [];
  for (const item of items.values()) {
    const event = item.event;
    const from = event?.server === panel.id ? chart.valToPos(event.begin, "x") : NaN;
    const to = event ? chart.valToPos(event.end > 0 ? event.end : times[times.length - 1], "x") : NaN;
    if (!(to > 0 && from < width)) continue;
    if (!item.mark) {
      item.mark = element("button", "mark", "▲");
      item.mark.addEventListener("click", () => openEvent(item.id));
    }
    const left = Math.max(0, Math.min(from, width - MARK_PX));
    item.mark.style.left = `${left}px`;
    item.mark.style.width = `${Math.max(MARK_PX, to - left)}px`;
    item.mark.title = `${at(event.begin)}, ${duration(event.duration)}: ${event.verdict}`;
    item.mark.setAttribute("aria-label", `Exhaustion at ${item.mark.title}`);
    wanted.push(item.mark);
  }
  if (wanted.length !== panel.marks.children.length || wanted.some((mark, i) => mark !== panel.marks.children[i])) {
    panel.marks.replaceChildren(...wanted);
  }
};

// --- shapes and tenants ---

// What of a kind is shown.
const kinds = {
  shapes: {
    name: (shape) => shape.shape,
    now: (shape) => shape.now,
    columns: (shape) => [
      ["meanHeld", "mean held", duration(shape.meanHeld)],
      ["requests", "requests", whole.format(shape.requests)],
    ],
  },
  tenants: {
    name: (tenant) => tenant.tenant,
    now: (tenant) => tenant.inFlight + tenant.waiting,
    columns: (tenant) => [
      ["waiting", "waiting", whole.format(tenant.waiting)],
      ["served", "served", whole.format(tenant.served)],
      ["shed", "shed", whole.format(tenant.shed)],
    ],
  },
};

function rowOf(kind, one, many) {
  const row = tableRow([
    ["name", "", kind.name(one), true],
    ["heldLately", "last minute", `${short.format(one.heldLately)} s`],
    ["held", "since start", `${short.format(one.held)} s`],
    ["now", "under way", whole.format(kind.now(one))],
    ...kind.columns(one),
  ]);
  if (one.slow) row.firstChild.append(" ", element("span", "pill bad", "slow lane"));
  if (many) row.firstChild.append(" ", element("small", "", one.server));
  return row;
}

function showMost(name, lists, many) {
  const kind = kinds[name];
  const all = [...new Map(lists.flat().map((one) => [one._id, one])).values()];
  const shown = all.filter((one) => one.held > 0 || kind.now(one) > 0 || one.shed > 0 || one.requests > 0);
  shown.sort((a, b) => b.heldLately - a.heldLately || kind.now(b) - kind.now(a) || b.held - a.held);
  $(`#${name} .empty`).hidden = shown.length > 0;
  $(`#${name} .scroll`).hidden = shown.length === 0;
  $(`#${name} tbody`).replaceChildren(...shown.slice(0, 20).map((one) => rowOf(kind, one, many)));
}

// --- what comes ---

function showTotals(totals) {
  $("#about").textContent = `weir ${totals.version} · up since ${when(totals.startTime)}`;
  showFigures($("#totals"), [
    ["clients", "connections of apps", whole.format(totals.clients)],
    ["upstreams", "connections to servers", whole.format(totals.upstreams)],
    ["pins", "cursors and transactions", whole.format(totals.pins)],
    ["failed", "errors by weir since start", whole.format(sum(totals.failed))],
  ]);
  const ends = totals.emergencyEndsIn > 0 ? `for ${duration(totals.emergencyEndsIn)} more` : "until it is switched off";
  const why = totals.emergencyWhy ? `: ${totals.emergencyWhy}` : "";
  $("#emergency").textContent = totals.emergency ? `▲ Emergency ${ends}${why}` : "";
}

async function learnHistory() {
  const reply = await fetch("history", { signal: AbortSignal.timeout(SILENCE_MS) });
  if (!reply.ok) throw new Error(`history: ${reply.status}`);
  const history = await reply.json();
  times = history.times;
  last = history.second;
  for (const panel of panels.values()) {
    for (const list of LISTS) panel.past[list] = times.map(() => 0);
  }
  for (const server of history.servers) {
    const { past } = panelOf(server._id);
    // One that left and came back is there twice.
    for (const list of LISTS) past[list] = past[list].map((value, i) => value + server[list][i]);
  }
}

function addSecond(history) {
  for (const server of history.servers) panelOf(server._id);
  const now = new Map(history.servers.map((server) => [server._id, server]));
  times = [...times, history.times[0]].slice(-SECONDS);
  last = history.second;
  for (const [id, { past }] of panels) {
    for (const list of LISTS) past[list] = [...past[list], now.get(id)?.[list][0] ?? 0].slice(-SECONDS);
  }
}

function setStatus(state, text) {
  document.documentElement.className = state;
  if ($("#status").textContent !== text) $("#status").textContent = text;
}

async function take(event) {
  if (event.history.second !== last + 1) await learnHistory();
  else addSecond(event.history);
  showTotals(event.totals[0]);
  showServers(event.servers);
  showEvents(event.exhaustions_by_begin);
  const servers = event.servers.filter((server) => server._id !== "(none)");
  const now = event.history.times[0];
  showMost("shapes", [event.shapes_by_heldLately, event.shapes_by_now], servers.length > 1);
  showMost("tenants", [event.tenants_by_heldLately, event.tenants_by_waiting], servers.length > 1);
  panels.forEach(draw);
  const exhausted = event.servers.filter((server) => server.exhausted).length;
  document.title = exhausted ? "▲ weir: exhausted" : "weir";
  setStatus("live", `Live · ${at(now)}`);
}

let source;
let silence;
let turn = Promise.resolve();

function lose() {
  source.close();
  clearTimeout(silence);
  last = 0;
  const when = times.length ? `; last seen ${at(times[times.length - 1])}` : "";
  setStatus("gone", `weir does not answer${when}. Trying again …`);
  setTimeout(connect, RETRY_MS);
}

function connect() {
  const mine = new EventSource("events");
  source = mine;
  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(lose, SILENCE_MS);
  };
  listen();
  mine.onmessage = (message) => {
    listen();
    // One after the other: the history may have to be waited for.
    turn = turn.then(() => (mine === source ? take(JSON.parse(message.data)) : null))
      .catch((error) => { console.error(error); last = 0; });
  };
  mine.onerror = lose;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", remakeCharts);
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth !== width) remakeCharts();
  width = innerWidth;
});
addEventListener("hashchange", openNamed);
openNamed();
connect();
