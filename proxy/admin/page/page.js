// SPDX-License-Identifier: Apache-2.0
//
// The dashboard. /history is what was, /events what comes each second; of a second that was missed
// the history is asked again. All text goes in by textContent: names come from anybody.

const SECONDS = 900;
const LEAST_SECONDS = 120; // drawn of a young weir
const RETRY_MS = 2000;
const SILENCE_MS = 5000; // then weir is taken for gone
const LATELY_S = 60;
const LISTS = [
  "cap", "limit", "inFlight", "inFlightSlow", "inFlightStreams", "waiting", "granted", "shed", "exhausted",
];

let times = [];
let last = 0; // the number of the last second that we have
const panels = new Map(); // of each server, by its _id
const heldBefore = new Map(); // of each shape, by its _id: [[time, held], ...] of the last minute

const $ = (selector, within = document) => within.querySelector(selector);

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// --- words and numbers ---

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

const at = (seconds) => clock.format(new Date(1000 * seconds));

function duration(seconds) {
  if (seconds < 0.001) return `${short.format(1e6 * seconds)} µs`;
  if (seconds < 1) return `${short.format(1000 * seconds)} ms`;
  if (seconds < 120) return `${short.format(seconds)} s`;
  if (seconds < 7200) return `${short.format(seconds / 60)} min`;
  return `${whole.format(Math.round(seconds / 3600))} h`;
}

const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);

// Rows of [key, name, value]; made once, then only their values change.
function showFigures(list, figures) {
  for (const [key, name, value] of figures) {
    let place = $(`[data-key="${key}"]`, list);
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
      ...common, height: 210, scales: scales(5), hooks: { drawClear: [drawExhausted(panel)] },
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
    article,
    past: Object.fromEntries(LISTS.map((list) => [list, times.map(() => 0)])),
    title: element("h2"), pill: element("span", "pill"), kind: element("small"),
    figures: element("dl", "figures"), levels: element("div", "chart"), refusals: element("div", "chart"),
    charts: null,
  };
  article.dataset.server = id;
  panel.title.append(element("span", "", id), " ", panel.kind, panel.pill);
  const legend = element("ul", "legend");
  for (const [name, text] of [["fast", "in flight, fast"], ["slow", "in flight, slow"], ["stream", "streams"], ["waiting", "waiting"], ["rule", "cap"], ["rule dashed", "limit"], ["shed", "shed"]]) {
    legend.append(element("li", name, text));
  }
  article.append(
    panel.title, panel.figures, legend,
    element("p", "unit", "Requests at one time; shaded while exhausted"), panel.levels,
    element("p", "unit", "Requests shed a second"), panel.refusals,
  );
  $("#servers").append(article);
  panels.set(id, panel);
  return panel;
}

const panelOf = (id) => panels.get(id) ?? makePanel(id);

function serverState(server) {
  if (server.exhausted) return ["exhausted", true];
  if (server.tripped) return ["breaker open", true];
  if (server.failing) return ["cannot connect", true];
  return server.usable ? ["usable", false] : ["not usable", true];
}

function showServer(server) {
  const panel = panelOf(server._id);
  const [state, bad] = serverState(server);
  // The place where requests wait that no server suits is shown when there are any.
  panel.article.hidden = server._id === "(none)" && !panel.past.waiting.some(Boolean) && !panel.past.shed.some(Boolean);
  panel.kind.textContent = server.kind;
  panel.pill.textContent = state;
  panel.pill.classList.toggle("bad", bad);
  showFigures(panel.figures, [
    ["inFlight", "in flight", whole.format(server.inFlight)],
    ["limit", "limit now", whole.format(server.limit)],
    ["cap", "cap", whole.format(server.cap)],
    ["waiting", "waiting for a permit", whole.format(server.waiting)],
    ["refused", "shed since start", whole.format(sum(server.refused))],
    ["granted", "let in since start", whole.format(server.granted)],
    ["inFlightSlow", "in the slow lane", whole.format(server.inFlightSlow)],
    ["inFlightStreams", "streams", whole.format(server.inFlightStreams)],
    ["open", "connections open", whole.format(server.open)],
    ["roundTrip", "round trip", server.roundTrip > 0 ? duration(server.roundTrip) : "–"],
    ["lag", "replication lag", server.lag > 0 ? duration(server.lag) : "0 s"],
  ]);
}

function showServers(servers) {
  const there = new Set(servers.map((server) => server._id));
  for (const [id, panel] of panels) {
    if (!there.has(id)) {
      panel.pill.textContent = "gone";
      panel.pill.classList.add("bad");
      if (!panel.past.cap.some(Boolean)) {
        panel.charts?.forEach((chart) => chart.destroy());
        panel.article.remove();
        panels.delete(id);
      }
    }
  }
  servers.forEach(showServer);
}

// --- exhaustion ---

function* eventsOf(id, past) {
  for (let i = 0; i < times.length; i++) {
    if (!past.exhausted[i] || past.exhausted[i - 1]) continue;
    const ended = past.exhausted.indexOf(0, i);
    const end = ended < 0 ? times.length : ended;
    const span = (list) => list.slice(i, end);
    yield {
      id, begin: times[i], end: ended < 0 ? null : times[end], cap: past.cap[i],
      lasted: times[end - 1] - times[i] + 1,
      shed: span(past.shed).reduce((all, one) => all + one, 0),
      inFlight: Math.max(...span(past.inFlight)), waiting: Math.max(...span(past.waiting)),
      slow: Math.max(...span(past.inFlightSlow)), least: Math.min(...span(past.limit)),
    };
  }
}

function showEvent(item, event) {
  const details = item.firstChild ?? element("details");
  if (!item.firstChild) {
    details.append(element("summary"), element("dl", "figures"));
    item.append(details);
  }
  details.firstChild.textContent =
    `${at(event.begin)} – ${event.end ? at(event.end) : "now"} · ${event.id} · lasted ${duration(event.lasted)} · ${whole.format(event.shed)} shed`;
  showFigures(details.lastChild, [
    ["inFlight", "most in flight", whole.format(event.inFlight)],
    ["slow", "of these slow, at most", whole.format(event.slow)],
    ["waiting", "most waiting", whole.format(event.waiting)],
    ["least", "lowest limit", whole.format(event.least)],
    ["cap", "cap", whole.format(event.cap)],
    ["shed", "shed", whole.format(event.shed)],
  ]);
}

function showEvents() {
  const events = [...panels].flatMap(([id, panel]) => [...eventsOf(id, panel.past)]);
  events.sort((a, b) => b.begin - a.begin);
  const list = $("#events ol");
  const items = new Map([...list.children].map((item) => [item.dataset.key, item]));
  const wanted = events.map((event) => {
    const key = `${event.begin} ${event.id}`;
    const item = items.get(key) ?? element("li");
    item.dataset.key = key;
    showEvent(item, event);
    return item;
  });
  $("#events .empty").hidden = events.length > 0;
  // Moving an element closes nothing, but takes the focus: only when something is new.
  if (wanted.length !== list.children.length || wanted.some((item, i) => item !== list.children[i])) {
    list.replaceChildren(...wanted);
  }
}

// --- shapes ---

// How long it held connections in the last minute, or since we look if that is less.
function heldLately(shape, now) {
  const before = (heldBefore.get(shape._id) ?? []).filter(([time, held]) => time > now - LATELY_S && held <= shape.held);
  before.push([now, shape.held]);
  heldBefore.set(shape._id, before);
  return shape.held - before[0][1];
}

function shapeRow(shape, many) {
  const row = element("tr");
  const name = element("td", "shape", shape.shape);
  if (shape.slow) name.append(" ", element("span", "pill bad", "slow lane"));
  if (many) name.append(" ", element("small", "", shape.server));
  row.append(name);
  for (const [key, title, value] of [
    ["lately", "last minute", `${short.format(shape.lately)} s`],
    ["held", "since start", `${short.format(shape.held)} s`],
    ["now", "under way", whole.format(shape.now)],
    ["meanHeld", "mean held", duration(shape.meanHeld)],
    ["requests", "requests", whole.format(shape.requests)],
  ]) {
    const cell = element("td", "number", value);
    cell.dataset.key = key;
    cell.dataset.name = title;
    row.append(cell);
  }
  return row;
}

function showShapes(lists, many, now) {
  const shapes = [...new Map(lists.flat().map((shape) => [shape._id, shape])).values()];
  for (const shape of shapes) shape.lately = heldLately(shape, now);
  for (const id of heldBefore.keys()) {
    if (!shapes.some((shape) => shape._id === id)) heldBefore.delete(id);
  }
  shapes.sort((a, b) => b.lately - a.lately || b.now - a.now || b.held - a.held);
  $("#shapes .empty").hidden = shapes.length > 0;
  $("#shapes .scroll").hidden = shapes.length === 0;
  $("#shapes tbody").replaceChildren(...shapes.slice(0, 20).map((shape) => shapeRow(shape, many)));
}

// --- what comes ---

function showTotals(totals) {
  $("#about").textContent = `weir ${totals.version} · up since ${new Date(1000 * totals.startTime).toLocaleString()}`;
  showFigures($("#totals"), [
    ["clients", "connections of apps", whole.format(totals.clients)],
    ["upstreams", "connections to servers", whole.format(totals.upstreams)],
    ["pins", "cursors and transactions", whole.format(totals.pins)],
    ["failed", "errors by weir since start", whole.format(sum(totals.failed))],
    ["emergency", "emergency", totals.emergency ? "on" : "off"],
  ]);
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
  showEvents();
  const servers = event.servers.filter((server) => server._id !== "(none)");
  showShapes([event.shapes_by_held, event.shapes_by_now], servers.length > 1, event.history.times[0]);
  panels.forEach(draw);
  const exhausted = event.servers.filter((server) => server.exhausted).length;
  document.title = exhausted ? "▲ weir: exhausted" : "weir";
  setStatus("live", `Live · ${at(event.history.times[0])}`);
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
connect();
