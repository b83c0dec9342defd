"use strict";
/* Asks the sandbox's control routes for what it does, and shows it. Text is only ever set as text. */

const EVERY_MS = 1500;
const LARGEST = 300 * 1024 * 1024;
const FAULTS = [
  ["503 to the next generation", { kind: "status", path: "*-generation", status: 503 }],
  ["429 to the next request", { kind: "status", path: "/v1/*", origin: "api", status: 429, headers: { "Retry-After": "5" } }],
  ["402 to the next generation", { kind: "status", path: "*-generation", status: 402, body: { error: "Payment failed. Update your payment method in the billing portal.", code: "paymentFailed" } }],
  ["Lose the response to the next generation", { kind: "reset-after", path: "*-generation" }],
  ["Reset the next upload part", { kind: "reset-before", path: "/v1/uploads/parts/*", bytes: 1000 }],
  ["Cut the next download short", { kind: "truncate", path: "/m/*", bytes: 1000 }],
  ["Delay the next request by 10 s", { kind: "delay", path: "/v1/*", origin: "api", seconds: 10 }],
  ["Next generation fails", { kind: "fail-generation", error: "No speech found." }],
  ["Next generation takes a minute", { kind: "processing-seconds", seconds: 60 }],
  ["Next transcript comes 30 s late", { kind: "transcript-pending", seconds: 30 }],
  ["Next result is not ready for 30 s", { kind: "artifact-not-ready", seconds: 30 }],
];

const byId = (id) => document.getElementById(id);
let token = takeToken();
let timer = 0;
let urls = [];
let listening = 0;

/* The token comes in the address's fragment, which no server sees, and is kept for this tab. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function button(text, action, className) {
  const element = make("button", text, className);
  element.type = "button";
  element.addEventListener("click", action);
  return element;
}

async function call(method, route, body) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(`/sandbox/${route}`, {
    method, headers, cache: "no-store", body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) {
    askForToken(token ? "This is not the sandbox's token." : "");
    throw new Error("The sandbox asks for its control token.");
  }
  if (!response.ok) {
    const refusal = await response.json().catch(() => ({}));
    throw new Error(refusal.error || `The sandbox responded ${response.status}.`);
  }
  return response;
}

function askForToken(reason) {
  clearTimeout(timer);
  byId("main").hidden = true;
  byId("token-form").hidden = false;
  byId("token-error").textContent = reason;
  setState("lost", "locked");
}

function setState(name, text) {
  byId("state").className = name;
  byId("state-text").textContent = text;
}

function say(text) {
  const message = byId("message");
  message.textContent = text;
  message.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { message.hidden = true; }, 4000);
}

async function act(method, route, body, done) {
  try {
    await call(method, route, body);
    say(done);
    await refresh();
  } catch (error) {
    say(error.message);
  }
}

async function refresh() {
  clearTimeout(timer);
  try {
    const shown = await (await call("GET", "overview")).json();
    byId("token-form").hidden = true;
    byId("main").hidden = false;
    setState("live", "live");
    show(shown);
  } catch (error) {
    if (byId("token-form").hidden === false) return;
    setState("lost", "no connection");
    if (!(error instanceof TypeError)) say(error.message);
  }
  if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

/* Replace content only where it changed: a reader's selection, focus and scroll position stay. */
function put(id, data, build) {
  const place = byId(id);
  const version = JSON.stringify(data);
  if (place.version === version) return;
  place.version = version;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...[].concat(build(data)));
  if (focused) place.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function show(shown) {
  const { sandbox, ledger } = shown;
  byId("about").textContent =
    `${sandbox.apiUrl} · protocol ${sandbox.protocol} · engine ${sandbox.engine} · nothing here is billed`;
  put("sums", ledger, sums);
  put("projects", shown.projects, projects);
  put("faults", shown.faults, faults);
  put("webhooks", shown.webhooks, webhooks);
  put("requests", shown.requests, requests);
}

function sums(ledger) {
  const minutes = Math.round((ledger.billedSeconds / 60) * 10) / 10;
  return [
    ["Generations", ledger.generations],
    ["Would be billed", `${minutes} min`],
    ["At 1 cent a minute", `$${(ledger.billedCents / 100).toFixed(2)}`],
    ["Projects", ledger.projects],
    ["Without upload", ledger.projectsWithoutUpload],
    ["Open uploads", ledger.openUploads],
  ].map(([name, value]) => {
    const sum = make("div", null, "sum");
    sum.append(make("span", name, "quiet"), make("b", value));
    return sum;
  });
}

function nothing(text) {
  return make("p", text, "quiet");
}

function projects(list) {
  if (!list.length) return nothing("No projects yet. Point a connection at this sandbox and run a DAG.");
  return list.map((project) => {
    const block = make("div", null, "project");
    const head = make("div", null, "project-head");
    head.append(
      make("b", project.fileName),
      make("span", project.status, statusClass(project.status)),
      make("span", project.sizeBytes === null ? "no recording yet" : size(project.sizeBytes), "quiet"),
      make("span", project.contentType, "quiet optional"),
      make("span", clock(project.createdAt), "quiet"));
    block.append(head, ...project.generations.map((it) => generation(project, it)));
    return block;
  });
}

function generation(project, it) {
  const row = make("div", null, "generation");
  const name = make("span");
  name.append(make("b", it.status, statusClass(it.status)), make("span", ` ${it.model.replace("diffio-", "")}`, "quiet"));
  if (it.status !== "complete" && it.status !== "failed") name.append(make("div", it.stage, "quiet"));
  const bar = make("progress");
  bar.max = 100;
  bar.value = it.status === "failed" ? 0 : it.percent;
  bar.setAttribute("aria-label", `${it.percent} percent`);
  const cost = make("span", `${it.billedSeconds} s · ${it.billedCents} ¢`, "cost quiet");
  row.append(name, bar, cost);
  if (it.results.length) {
    const listen = button("Listen", () => open(project, it), "primary listen");
    listen.dataset.key = it.generationId;
    row.append(listen);
  } else {
    row.append(make("span", null, "empty"));
  }
  if (it.error) row.append(make("span", [it.error, it.errorDetails].filter(Boolean).join(" "), "error bad"));
  return row;
}

function statusClass(status) {
  return { complete: "good", delivered: "good", failed: "bad" }[status] || "warn";
}

function table(columns, rows) {
  const element = make("table"), head = make("tr"), body = make("tbody");
  for (const [text, className] of columns) head.append(make("th", text, className));
  for (const cells of rows) {
    const row = make("tr");
    cells.forEach((cell, index) => {
      const data = make("td", null, columns[index][1]);
      data.append(cell instanceof Node ? cell : document.createTextNode(cell));
      row.append(data);
    });
    body.append(row);
  }
  const top = make("thead");
  top.append(head);
  element.append(top, body);
  return element;
}

function requests(list) {
  if (!list.length) return nothing("No requests yet.");
  return table(
    [["Time"], ["Request", "wide"], ["Status", "number"], ["Took", "number optional"], ["In", "number optional"], ["Out", "number optional"]],
    grouped(list).map(({ it, count }) => {
      const what = make("span");
      what.append(make("code", `${it.method} ${it.path}`));
      if (count > 1) what.append(make("span", ` × ${count}`, "quiet"));
      if (it.fault) what.append(make("span", `  fault: ${it.fault}`, "bad"));
      if (it.apiKeySeen && it.origin === "media") what.append(make("span", "  API key leaked", "bad"));
      const bad = it.status === null || it.status >= 400;
      return [
        clock(it.at), what, make("span", it.status === null ? "none" : it.status, bad ? "bad" : "good"),
        it.milliseconds === null ? "" : `${it.milliseconds} ms`,
        it.bytesIn ? size(it.bytesIn) : "", it.bytesOut ? size(it.bytesOut) : "",
      ];
    }));
}

/* Pollers ask the same again and again; that is one line with a count. */
function grouped(list) {
  const groups = [];
  for (const it of list) {
    const name = [it.method, it.path, it.status, it.fault].join(" ");
    const last = groups[groups.length - 1];
    if (last && last.name === name) last.count++;
    else groups.push({ name, it, count: 1 });
  }
  return groups;
}

function webhooks(state) {
  const parts = [];
  for (const it of state.endpoints) {
    const line = make("p");
    line.append(make("code", it.url), make("span", ` ${it.mode}`, "quiet"));
    parts.push(line);
  }
  if (!state.endpoints.length) parts.push(nothing("No endpoint. Start with --webhook-url, or call webhooks/configure."));
  if (state.deliveries.length) {
    parts.push(table([["Event", "wide"], ["Attempts", "optional"], ["State"], [""]], state.deliveries.slice().reverse().map((it) => {
      const resend = button("Resend", () => act("POST", "webhooks/resend", { messageId: it.messageId }, "Sent again."));
      resend.dataset.key = it.messageId;
      return [
        it.event.eventType.replace("generation.", ""),
        it.attempts.map((status) => status || "none").join(", "),
        make("span", it.state, statusClass(it.state)), resend,
      ];
    })));
  }
  return parts;
}

function faults(list) {
  const open = list.filter((it) => it.nth === "every" || it.struck < (it.times || 1));
  if (!open.length) return nothing("No fault is waiting.");
  return table([["Fault"], ["Path", "wide"], ["Struck", "number"]], open.map((it) => [
    it.kind, make("code", it.path), `${it.struck} of ${it.nth === "every" && !it.times ? "∞" : it.times || 1}`,
  ]));
}

function size(count) {
  const units = ["bytes", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit++; }
  return `${unit ? count.toFixed(1) : count} ${units[unit]}`;
}

function clock(text) {
  return new Date(text).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/* Players, spectrograms and transcript of one generation. */
async function open(project, it) {
  const turn = ++listening;
  close();
  byId("listen").hidden = false;
  byId("listen-title").textContent = `${project.fileName}: before and after`;
  byId("listen").scrollIntoView({ behavior: "smooth", block: "start" });
  const kind = it.results.includes("video") ? "video" : "audio";
  const top = await play("before", `originals/${project.apiProjectId}`, kind, project.sizeBytes, turn);
  await play("after", `results/${it.generationId}/${kind}`, kind, project.sizeBytes, turn, top);
  if (it.results.includes("transcript")) await transcript(it, turn);
}

async function play(place, route, kind, bytes, turn, top) {
  const figure = byId(place), note = figure.querySelector(".note"), canvas = figure.querySelector("canvas");
  if (bytes > LARGEST) {
    note.textContent = `${size(bytes)} is too large to play here.`;
    return undefined;
  }
  note.textContent = "Loading.";
  try {
    const content = await (await call("GET", route)).arrayBuffer();
    if (turn !== listening) return undefined;
    const url = URL.createObjectURL(new Blob([content]));
    urls.push(url);
    const player = make(kind);
    player.controls = true;
    player.src = url;
    player.addEventListener("error", () => { note.textContent = "This browser cannot play the format."; });
    figure.querySelector(".player").replaceChildren(player);
    const samples = await decodeMono(content);
    if (turn !== listening) return undefined;
    const found = drawSpectrogram(canvas, samples, top);
    canvas.setAttribute("aria-label", `Spectrogram of the recording ${place} restoration`);
    note.textContent = `${(samples.length / SPECTRUM_RATE).toFixed(1)} s, 0 to 8 kHz`;
    return found;
  } catch (error) {
    note.textContent = error instanceof DOMException ? "This browser cannot decode the format." : error.message;
    return undefined;
  }
}

async function transcript(it, turn) {
  const content = await (await call("GET", `results/${it.generationId}/transcript`)).json();
  if (turn !== listening) return;
  const segments = content.segments || [];
  byId("transcript").replaceChildren(...(segments.length ? segments : [{}]).map((segment) => {
    const item = make("li");
    if (segment.start === undefined) {
      item.append(make("span", "No speech found.", "quiet"));
    } else {
      item.append(button(`${segment.start.toFixed(1)} to ${segment.end.toFixed(1)} s  ${segment.text}`, () => {
        const player = byId("after").querySelector("audio, video");
        if (player) { player.currentTime = segment.start; player.play(); }
      }));
    }
    return item;
  }));
}

function leave() {
  listening++;
  close();
  byId("listen").hidden = true;
}

function close() {
  for (const url of urls) URL.revokeObjectURL(url);
  urls = [];
  for (const place of ["before", "after"]) {
    const figure = byId(place), canvas = figure.querySelector("canvas");
    figure.querySelector(".player").replaceChildren();
    figure.querySelector(".note").textContent = "";
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
  }
  byId("transcript").replaceChildren();
}

byId("fault-buttons").append(...FAULTS.map(([text, fault]) =>
  button(text, () => act("POST", "faults", fault, "The fault is waiting."))));
byId("faults-clear").addEventListener("click", () => act("DELETE", "faults", undefined, "No fault is left."));
byId("reset").addEventListener("click", () => {
  if (confirm("Forget all projects, keys, webhooks, faults and requests?")) {
    leave();
    act("POST", "reset", undefined, "Everything is forgotten.");
  }
});
byId("listen-close").addEventListener("click", leave);
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  sessionStorage.setItem("token", token);
  byId("token").value = "";
  refresh();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
