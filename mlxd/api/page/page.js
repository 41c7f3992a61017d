// The page at `/`: how the server is, how to connect to it, and a small chat.
// It calls /health and /v1/responses of its own server, and makes text into nodes, never into HTML.

const $ = (id) => document.getElementById(id);
const PAUSE = { ok: 5000, other: 2000 };
const PATIENCE = 10_000;
const base = new URL(".", location.href).href.replace(/\/$/, "");

// One entry a client: the APIs that it can use, and what to type. `key` has the ways to write a key.
const CLIENTS = [
  {
    name: "curl", apis: ["openai_chat"], note: "In a terminal",
    text: (url, model, key) => `curl ${url}/chat/completions \\
  -H 'content-type: application/json' \\${header("authorization: Bearer ", key)}
  -d '{"model": "${model}", "stream": true, "max_tokens": 200,
       "messages": [{"role": "user", "content": "Hello"}]}'`,
  },
  {
    name: "curl", apis: ["anthropic"], note: "In a terminal",
    text: (url, model, key) => `curl ${url}/v1/messages \\
  -H 'content-type: application/json' -H 'anthropic-version: 2023-06-01' \\${header("x-api-key: ", key)}
  -d '{"model": "${model}", "stream": true, "max_tokens": 200,
       "messages": [{"role": "user", "content": "Hello"}]}'`,
  },
  {
    name: "curl", apis: ["openai_responses"], note: "In a terminal",
    text: (url, model, key) => `curl ${url}/responses \\
  -H 'content-type: application/json' \\${header("authorization: Bearer ", key)}
  -d '{"model": "${model}", "stream": true, "max_output_tokens": 200, "input": "Hello"}'`,
  },
  {
    name: "OpenAI, Python", apis: ["openai_chat"], note: "pip install openai",
    text: (url, model, key) => `${key.imports}from openai import OpenAI

client = OpenAI(base_url="${url}", api_key=${key.python})
answer = client.chat.completions.create(
    model="${model}", messages=[{"role": "user", "content": "Hello"}]
)
print(answer.choices[0].message.content)`,
  },
  {
    name: "OpenAI, Python", apis: ["openai_responses"], note: "pip install openai",
    text: (url, model, key) => `${key.imports}from openai import OpenAI

client = OpenAI(base_url="${url}", api_key=${key.python})
answer = client.responses.create(model="${model}", input="Hello")
print(answer.output_text)`,
  },
  {
    name: "Anthropic, Python", apis: ["anthropic"], note: "pip install anthropic",
    text: (url, model, key) => `${key.imports}from anthropic import Anthropic

client = Anthropic(base_url="${url}", api_key=${key.python})
message = client.messages.create(
    model="${model}", max_tokens=200, messages=[{"role": "user", "content": "Hello"}]
)
print(message.content[0].text)`,
  },
  {
    name: "Environment", apis: ["openai_chat", "openai_responses", "anthropic"],
    note: "For most other tools and agents",
    text: (_, model, key) => [
      ...(has("openai_chat") || has("openai_responses") ? [
        `export OPENAI_BASE_URL=${base}/v1`,
        `export OPENAI_API_KEY=${key.env}`,
        `export OPENAI_MODEL=${model}`,
      ] : []),
      ...(has("anthropic") ? [
        `export ANTHROPIC_BASE_URL=${base}`,
        `export ANTHROPIC_AUTH_TOKEN=${key.env}`,
        `export ANTHROPIC_MODEL=${model}`,
      ] : []),
    ].join("\n"),
  },
];
const header = (name, key) => (key.shell ? `\n  -H "${name}${key.shell}" \\` : "");
const TITLES = {
  openai_chat: "OpenAI Chat Completions", openai_responses: "OpenAI Responses",
  anthropic: "Anthropic Messages", azure: "Azure OpenAI", ollama: "Ollama",
};
const NO_KEY = { shell: "", env: "unused", python: '"unused"', imports: "" };
const BY_NAME = {
  shell: "$MLXD_API_KEY", env: '"$MLXD_API_KEY"',
  python: 'os.environ["MLXD_API_KEY"]', imports: "import os\n\n",
};
const STATES = {
  ok: "Ready", loading: "Loading", restarting: "Restarting", stalled: "Stalled", failed: "Failed",
  draining: "Shutting down", gone: "No answer", key: "Key needed", refused: "Refused",
};

const page = { key: "", health: null, version: "", shown: "", model: "", client: "curl", gone: 0, timer: 0 };
const has = (api) => page.health?.apis.some((each) => each.name === api);
const auth = () => (page.key ? { authorization: `Bearer ${page.key}` } : {});

function make(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function copyButton(source, label) {
  return make("button", "Copy", { type: "button", "data-copy": source, "aria-label": label });
}

// --- How the server is

async function look() {
  clearTimeout(page.timer);
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const reply = await fetch("health", { headers: auth(), cache: "no-store", signal });
    const health = await reply.json();
    if (typeof health.status !== "string") show("refused", wordsOf(health, reply.status));
    else seen(health);
  } catch {
    lost();
  }
  // Two may have been under way; and nobody watches a page in the background.
  clearTimeout(page.timer);
  const pause = page.state === "ok" && !chat.running ? PAUSE.ok : PAUSE.other;
  if (!document.hidden || chat.running) page.timer = setTimeout(look, pause);
}

function seen(health) {
  const locked = !health.engine;
  const back = page.gone ? `Back after ${secondsSince(page.gone)} s. ` : "";
  page.gone = 0;
  if (locked && page.key) {
    // Not sent again: the server counts wrong keys.
    page.key = "";
    $("wrong").textContent = "The server does not take this key.";
  }
  const asks = locked && $("door").hidden;
  $("door").hidden = !locked;
  document.querySelector("main").classList.toggle("closed", locked);
  if (locked) {
    if (asks) $("key").focus();
    return show("key", health.status === "ok" ? "" : `The server is ${health.status}.`);
  }
  page.version ||= health.version;
  const updated = page.version !== health.version;
  if (updated && !chat.turns.length && !chat.running) location.reload();
  // What people work with is made anew only when it must be: the focus would be lost.
  const shown = JSON.stringify([health.models.map((each) => each.id), health.apis]);
  const changed = shown !== page.shown;
  Object.assign(page, { health, shown });
  $("wrong").textContent = "";
  $("version").textContent = health.version;
  showModels();
  if (changed) { offerModels(); showBases(); showExample(); openChat(); showRoutes(); }
  const reload = updated ? "Reload this page, which is of an earlier version. " : "";
  show(health.status, `${back}${reload}${detail(health)}`);
}

function lost() {
  page.gone ||= Date.now();
  // While it ends, a server takes no connections and finishes the answers that are under way.
  if (chat.running) return show("draining", "No new requests are taken; the answer below goes on.");
  show("gone", `Nothing has answered at ${base} for ${secondsSince(page.gone)} s. Trying again.`);
}

function detail({ status, engine, models, requests }) {
  if (status === "ok" || status === "loading") {
    const loading = models.find((each) => each.state === "loading");
    const share = loading?.progress ? `, ${Math.round(100 * loading.progress)} %` : "";
    if (loading) return `${status === "ok" ? "loading " : ""}${loading.id}${share}`;
    const { running, waiting } = requests;
    return running + waiting ? `${running} running, ${waiting} waiting` : "";
  }
  return engine.reason || models.find((each) => each.reason)?.reason || "";
}

function show(state, words) {
  page.state = state;
  $("state").dataset.state = state;
  // Only what differs: a screen reader reads every change.
  if ($("word").textContent !== (STATES[state] ?? state)) $("word").textContent = STATES[state] ?? state;
  if ($("detail").textContent !== words) $("detail").textContent = words;
  document.body.classList.toggle("stale", ["gone", "refused"].includes(state));
  document.title = state === "ok" ? "mlxd" : `${STATES[state] ?? state} · mlxd`;
}

function secondsSince(moment) { return Math.round((Date.now() - moment) / 1000); }

function say(words) { $("said").textContent = words; }

function wordsOf(body, status) {
  return body?.error?.message ?? body?.message ?? `The server answered with status ${status}.`;
}

// --- How to connect to it

function size(bytes) {
  if (!bytes) return "";
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.ceil(bytes / 1e6)} MB`;
}

function showModels() {
  const { models } = page.health;
  const cell = (label, text, more = {}) => make("td", text, { "data-label": label, ...more });
  $("models").querySelector("tbody").replaceChildren(...models.map((model) => {
    const name = cell("Name", model.id);
    if (model.aliases) name.append(make("small", model.aliases.join(", ")));
    const progress = model.progress ? ` ${Math.round(100 * model.progress)} %` : "";
    const state = cell("State", model.state + progress, { "data-state": model.state });
    const why = model.state === "unloaded" ? "loads at its first request" : model.reason;
    if (why) state.append(make("small", why));
    const window = model.context_length?.toLocaleString("en") ?? "";
    const row = make("tr");
    row.append(name, state, cell("In memory", size(model.bytes)), cell("Window", window));
    return row;
  }));
}

function offerModels() {
  const names = page.health.models.map((model) => model.id);
  if (!names.includes(page.model)) page.model = names[0] ?? "";
  for (const select of document.querySelectorAll("select.model")) {
    select.replaceChildren(...names.map((name) => make("option", name, { value: name })));
    select.value = page.model;
  }
}

// One line for all APIs of one address.
function showBases() {
  const titles = new Map();
  for (const { name, title, base_path } of page.health.apis) {
    titles.set(base_path, [...titles.get(base_path) ?? [], TITLES[name] ?? title]);
  }
  $("bases").replaceChildren(...[...titles].flatMap(([path, names]) => {
    const id = `base${path.replaceAll("/", "-")}`;
    const url = make("dd");
    url.append(make("code", base + path, { id }));
    const copy = make("dd");
    copy.append(copyButton(id, `Copy the base URL for ${names.join(", ")}`));
    return [make("dt", names.join(", ")), url, copy];
  }));
}

function showRoutes() {
  for (const node of document.querySelectorAll("[data-api]")) node.hidden = !has(node.dataset.api);
}

function showExample() {
  // Of several ways to use one client the first that the enabled APIs allow.
  const usable = CLIENTS.filter((each) => each === usableClient(each.name));
  const chosen = usable.find((each) => each.name === page.client) ?? usable[0];
  $("clients").replaceChildren($("clients").firstElementChild, ...usable.map((each) => {
    const label = make("label");
    label.append(make("input", "", { type: "radio", name: "client", value: each.name }), make("span", each.name));
    label.firstChild.checked = each === chosen;
    return label;
  }));
  fillExample(chosen);
}

function usableClient(name) {
  return CLIENTS.find((each) => each.name === name && each.apis.some(has));
}

function fillExample(client) {
  $("connect").querySelector(".code").hidden = !client;
  if (!client) return;
  const api = page.health.apis.find((each) => client.apis.includes(each.name));
  $("snippet").textContent = client.text(base + api.base_path, page.model, page.key ? BY_NAME : NO_KEY);
  $("snippet-note").textContent = client.note;
}

async function copy(button, source) {
  let done = true;
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // Browsers have no clipboard for pages that come over plain HTTP from another machine.
    getSelection().selectAllChildren(source);
    done = document.execCommand("copy");
  }
  const words = done ? "Copied" : "Selected";
  button.textContent = words;
  say(words);
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// --- Text to nodes: fences, headings, lists, bold, code

const ITEM = /^( *)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;
const FENCE = /^ {0,3}(```+|~~~+)([^`]*)$/;

// The pieces of a text as lists of lines; a fence that is still open goes to the end.
function blocks(text) {
  const found = [];
  let open = null;
  for (const line of text.split("\n")) {
    if (open?.fence) {
      open.lines.push(line);
      const bare = line.trim();
      if (bare.startsWith(open.fence) && !bare.replaceAll(open.fence[0], "")) {
        open.closed = true;
        open = null;
      }
      continue;
    }
    const fence = line.match(FENCE);
    let kind = line.trim() ? "text" : "gap";
    if (fence) kind = "fence";
    else if (HEADING.test(line)) kind = "heading";
    else if (ITEM.test(line)) kind = "list";
    const goesOn = kind === open?.kind ? kind !== "heading" : kind === "text" && open?.kind === "list";
    if (goesOn) open.lines.push(line);
    else found.push(open = { kind, lines: [line], fence: fence?.[1] ?? "" });
  }
  return found;
}

function inline(node, text) {
  let end = 0;
  for (const match of text.matchAll(/`([^`\n]+)`|\*\*([^*\n]+)\*\*|(?<![\w*])\*(?=[^\s*])([^*\n]+)\*(?!\w)/g)) {
    const [, code, bold, italic] = match;
    node.append(text.slice(end, match.index));
    node.append(code ? make("code", code) : inline(make(bold ? "strong" : "em"), bold ?? italic));
    end = match.index + match[0].length;
  }
  node.append(text.slice(end));
  return node;
}

function drawn({ kind, lines, closed }) {
  if (kind === "gap") return document.createComment("");
  if (kind === "heading") return inline(make("h3"), lines[0].match(HEADING)[1]);
  if (kind === "text") return inline(make("p"), lines.join("\n"));
  if (kind === "fence") {
    const box = make("div", "", { class: "code" });
    const bar = make("div", "", { class: "bar" });
    bar.append(make("span", lines[0].match(FENCE)[2].trim()), copyButton("", "Copy the code"));
    box.append(bar, make("pre", lines.slice(1, closed ? -1 : undefined).join("\n"), { tabindex: 0 }));
    return box;
  }
  const items = lines.map((line) => line.match(ITEM));
  const list = make(items.some((item) => item && /\d/.test(item[2])) ? "ol" : "ul");
  for (const [at, item] of items.entries()) {
    if (!item) inline(list.lastChild, ` ${lines[at].trim()}`);
    else {
      const depth = ["", "deep", "deeper"][Math.min(2, item[1].length >> 1)];
      const mark = /\d/.test(item[2]) ? { value: parseInt(item[2]) } : {};
      const dot = "value" in mark ? "" : " dot-item";
      list.append(inline(make("li", "", { class: depth + dot, ...mark }), item[3]));
    }
  }
  return list;
}

// Draws a text that grows: all pieces but the last are final, so each is drawn few times.
class Text {
  constructor(node) { this.node = node; this.whole = ""; this.tail = ""; this.last = null; }
  add(text) {
    this.whole += text;
    this.tail += text;
    const pieces = blocks(this.tail);
    this.last?.remove();
    for (const piece of pieces) this.node.append(this.last = drawn(piece));
    this.tail = pieces.at(-1).lines.join("\n");
  }
}

// --- The chat

const LOST = "The connection was lost.";
const STOPPED = "Stopped.";
// `previous` is what the server goes on from; `unsent` has turns that it does not know.
const chat = { running: null, previous: null, unsent: [], turns: [] };

function openChat() {
  const there = has("openai_responses");
  $("nochat").hidden = there;
  for (const id of ["ask", "log", "new"]) $(id).hidden = !there;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const lines = frame.split("\n").filter((line) => line.startsWith("data: "));
      const data = lines.map((line) => line.slice(6)).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function addAnswer(question) {
  $("hint").hidden = true;
  const answer = make("article", "", { class: "answer", "aria-label": "Answer", "aria-busy": "true" });
  const thought = make("details", "", { hidden: "" });
  const said = make("div", "", { class: "said" });
  const note = make("p", "", { class: "note" });
  thought.append(make("summary", "Thinking"), make("div"));
  answer.append(thought, said, note);
  $("log").append(make("div", question, { class: "question" }), answer);
  const began = Date.now();
  return { answer, thought, note, text: new Text(said), waiting: "", thinking: "", began, first: 0, frame: 0 };
}

// What has arrived is drawn once a frame of the screen, however many pieces it came in.
function draw(turn) {
  turn.frame = 0;
  const log = $("log");
  const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  if (turn.thinking) {
    turn.thought.hidden = false;
    turn.thought.lastChild.append(turn.thinking);
  }
  if (turn.waiting) turn.text.add(turn.waiting);
  turn.thinking = turn.waiting = "";
  if (follow) log.scrollTop = log.scrollHeight;
}

function take(turn, event) {
  if (event.type.endsWith(".delta") && /output_text|refusal/.test(event.type)) turn.waiting += event.delta;
  else if (/reasoning\w*\.delta$/.test(event.type)) turn.thinking += event.delta;
  else if (event.type === "error") throw new Error(wordsOf(event, 500));
  else if (event.response) turn.response = event.response;
  if (turn.waiting || turn.thinking) turn.first ||= Date.now();
  turn.frame ||= requestAnimationFrame(() => draw(turn));
}

async function request(turn, input, model, retry = true) {
  const body = { model, input: [...chat.unsent, { role: "user", content: input }], stream: true };
  if (chat.previous) body.previous_response_id = chat.previous;
  if ($("temperature").value) body.temperature = Number($("temperature").value);
  const reply = await fetch("v1/responses", {
    method: "POST", headers: { "content-type": "application/json", ...auth() },
    body: JSON.stringify(body), signal: turn.abort.signal,
  });
  if (reply.ok) return reply;
  const refusal = await reply.json().catch(() => null);
  if (retry && chat.previous && refusal?.error?.code === "previous_response_not_found") {
    // It has expired there, and goes on from what stands here.
    Object.assign(chat, { previous: null, unsent: [...chat.turns] });
    return request(turn, input, model, false);
  }
  throw new Error(wordsOf(refusal, reply.status));
}

async function ask(input) {
  const turn = Object.assign(addAnswer(input), { abort: new AbortController(), model: page.model });
  const ticking = setInterval(() => {
    turn.note.textContent = `${turn.first ? "" : "waiting, "}${secondsSince(turn.began)} s`;
  }, 1000);
  chat.running = turn;
  busy(true);
  let problem = "";
  try {
    const reply = await request(turn, input, turn.model);
    const answered = reply.headers.get("x-mlxd-model");
    if (answered) turn.model = answered;
    for await (const event of events(reply.body)) take(turn, event);
    const { status, error } = turn.response ?? {};
    if (!["completed", "incomplete"].includes(status)) throw new Error(error?.message ?? LOST);
  } catch (error) {
    // What a browser says of a connection differs, and is no sentence.
    problem = error instanceof TypeError ? LOST : error.message;
    if (turn.abort.signal.aborted) problem = STOPPED;
  }
  clearInterval(ticking);
  cancelAnimationFrame(turn.frame);
  draw(turn);
  end(turn, input, problem);
}

function end(turn, input, problem) {
  const { response, text, note } = turn;
  const pair = [{ role: "user", content: input }, { role: "assistant", content: text.whole }];
  if (!problem) Object.assign(chat, { previous: response.id, unsent: [] });
  else if (text.whole) chat.unsent.push(...pair);
  else if (!$("prompt").value) $("prompt").value = input;
  if (text.whole || !problem) chat.turns.push(...pair);
  const tokens = response?.usage?.output_tokens ?? 0;
  const seconds = (Date.now() - turn.first) / 1000;
  const figures = [turn.model];
  if (response?.status === "incomplete") figures.push("cut at the limit of tokens");
  if (tokens && turn.first) {
    figures.push(`${tokens} tokens`);
    // Of an answer that came in one piece there is no speed to tell.
    if (seconds > 0.05) figures.push(`${(tokens / seconds).toFixed(1)} tokens/s`);
    figures.push(`first after ${((turn.first - turn.began) / 1000).toFixed(1)} s`);
  }
  note.textContent = problem || figures.join(" · ");
  note.classList.toggle("problem", Boolean(problem) && problem !== STOPPED);
  turn.answer.removeAttribute("aria-busy");
  chat.running = null;
  busy(false);
  $("log").scrollTop = $("log").scrollHeight;
  look();
}

function busy(is) {
  // The focus would be lost with a button that goes.
  if ([$("stop"), $("send")].includes(document.activeElement)) $("prompt").focus();
  $("stop").hidden = !is;
  $("send").hidden = is;
  $("new").disabled = is || !chat.turns.length;
}

// --- What people do

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = $("key").value.trim();
  $("key").value = "";
  if (/^[\x21-\x7e]+$/.test(key)) {
    page.key = key;
    look();
  } else $("wrong").textContent = "A key has visible ASCII characters only, without spaces.";
});
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value.trim();
  if (!text || chat.running || !$("temperature").reportValidity()) return;
  $("prompt").value = "";
  ask(text);
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("stop").addEventListener("click", () => chat.running?.abort.abort());
$("new").addEventListener("click", () => {
  Object.assign(chat, { previous: null, unsent: [], turns: [] });
  $("log").replaceChildren($("hint"));
  $("hint").hidden = false;
  $("new").disabled = true;
  $("prompt").focus();
});
document.addEventListener("keydown", (event) => { if (event.key === "Escape") chat.running?.abort.abort(); });
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button, $(button.dataset.copy) ?? button.closest(".code").querySelector("pre"));
});
document.addEventListener("change", ({ target }) => {
  if (target.matches("select.model")) {
    page.model = target.value;
    for (const select of document.querySelectorAll("select.model")) select.value = page.model;
  } else if (target.name === "client") page.client = target.value;
  else return;
  fillExample(usableClient(page.client));
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
addEventListener("hashchange", openRoutes);
function openRoutes() {
  if (location.hash !== "#routes") return;
  $("routes").open = true;
  $("routes").scrollIntoView();
}
look().then(openRoutes);
