"use strict";
const $ = (id) => document.getElementById(id);
const api = "/api/v1/";
let current = null; // {load(k) -> answer, k}: what "More" asks again
let turn = 0; // answers that come late are dropped

async function ask(path, options) {
  const response = await fetch(api + path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || response.statusText);
  return answer;
}

function make(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

function settings() {
  return { crops: $("crops").checked, rank_by: $("rank_by").value, false_accept: $("false_accept").value };
}

function drawBox(frame, box, width, height) {
  const [x0, y0, x1, y1] = box;
  const mark = make("div", { className: "box" });
  mark.style.left = `${(100 * x0) / width}%`;
  mark.style.top = `${(100 * y0) / height}%`;
  mark.style.width = `${(100 * (x1 - x0)) / width}%`;
  mark.style.height = `${(100 * (y1 - y0)) / height}%`;
  frame.append(mark);
}

function name(hit) {
  return hit.label || hit.path.split(/::|\//).pop();
}

function card(hit) {
  const image = make("img", { src: `${api}thumbnails/${hit.id}`, alt: name(hit), loading: "lazy" });
  if (Math.max(hit.width, hit.height) < 100) image.className = "tiny";
  const frame = make("span", { className: "frame" }, image);
  if (hit.view.box) drawBox(frame, hit.view.box, hit.width, hit.height);
  const z = hit.z === null ? "" : `, normalised ${hit.z.toFixed(1)}`;
  const words = make("span", { className: "words", textContent: `${hit.rank}. ${name(hit)} ${hit.score.toFixed(3)}` });
  const button = make("button", { type: "button", className: "hit", title: `score ${hit.score.toFixed(4)}${z}\n${hit.path}` }, frame, words);
  button.addEventListener("click", () => view(hit));
  return make("li", {}, button);
}

function show(answer, anyway) {
  const status = $("status");
  status.replaceChildren();
  for (const notice of answer.notices) status.append(make("p", { textContent: notice }));
  if (!answer.match) {
    status.append(make("p", { className: "no-match", textContent: "No match" }),
                  make("p", { textContent: `${answer.explanation}.` }));
    if (!answer.hits.length && anyway) {
      const closest = make("button", { type: "button", textContent: "Show the closest anyway" });
      closest.addEventListener("click", anyway);
      status.append(closest);
    }
  } else {
    status.append(make("p", { textContent: `${answer.hits.length} images for ${answer.query}` }));
  }
  $("hits").replaceChildren(...answer.hits.map(card));
  $("more").hidden = !current || answer.hits.length < current.k || current.k >= 500;
}

async function run(load, k, anyway) {
  current = { load, k };
  const mine = ++turn;
  $("status").textContent = "Searching …";
  try {
    const answer = await load(k);
    if (mine === turn) show(answer, anyway);
  } catch (error) {
    if (mine === turn) { $("status").textContent = error.message; $("hits").replaceChildren(); $("more").hidden = true; }
  }
}

function byWords(q, anyway = false) {
  if (!q.trim()) { $("status").textContent = "Type what to look for, for example: a dog."; return; }
  remember(q);
  const params = { q, ...settings() };
  history.replaceState(null, "", "?" + new URLSearchParams(params));
  const load = (k) => ask("search?" + new URLSearchParams({ ...params, k, anyway }));
  return run(load, Number($("k").value), () => byWords(q, true));
}

function byImage(file) {
  tab("search");
  const load = (k) => ask("search?" + new URLSearchParams({ q: $("q").value, k, crops: $("crops").checked }), { method: "POST", body: file });
  return run(load, Number($("k").value));
}

function remember(q) {
  let past = [];
  try { past = JSON.parse(localStorage.getItem("prompts") || "[]"); } catch { /* none */ }
  past = [q, ...past.filter((p) => p !== q)].slice(0, 30);
  localStorage.setItem("prompts", JSON.stringify(past));
  recall(past);
}

function recall(past) {
  $("history").replaceChildren(...past.map((value) => make("option", { value })));
}

async function view(hit) {
  $("view-title").textContent = name(hit);
  const image = $("view-image");
  image.src = `${api}images/${hit.id}`;
  image.alt = name(hit);
  image.className = Math.max(hit.width, hit.height) < 100 ? "tiny" : "";
  $("view-boxes").replaceChildren();
  $("view-facts").textContent = `${hit.path} · ${hit.width} × ${hit.height} pixels · score ${hit.score.toFixed(4)}`;
  $("like").onclick = () => {
    $("view").close();
    run((k) => ask(`images/${hit.id}/similar?` + new URLSearchParams({ k, crops: $("crops").checked })), Number($("k").value));
  };
  $("copy").onclick = async () => {
    try { await navigator.clipboard.writeText(hit.path); $("copy").textContent = "Copied"; } catch { $("copy").textContent = "Select the path above"; }
  };
  $("copy").textContent = "Copy path";
  $("view").showModal();
  const about = await ask(`regions/${hit.id}`);
  for (const region of about.views) if (region.box) drawBox($("view-boxes"), region.box, about.width, about.height);
}

async function classify(file) {
  const params = new URLSearchParams({ labels: $("labels").value, template: $("template").value });
  $("verdict").textContent = "Looking …";
  try {
    const answer = await ask("classify?" + params, { method: "POST", body: file });
    const first = answer.none_of_these ? "None of these" : answer.top[0].label;
    $("verdict").replaceChildren(make("p", { className: "no-match", textContent: first }), ...answer.top.map((c) =>
      make("div", { className: "bar" }, make("span", { textContent: c.label }),
           make("progress", { max: 1, value: c.confidence, ariaLabel: c.label }),
           make("span", { textContent: `${(100 * c.confidence).toFixed(1)} %` }))));
  } catch (error) { $("verdict").textContent = error.message; }
}

async function facts() {
  const about = await ask("library");
  const text = (value) => (value !== null && typeof value === "object" ? JSON.stringify(value) : String(value));
  $("facts").replaceChildren(...Object.entries(about).flatMap(([key, value]) =>
    [make("dt", { textContent: key.replaceAll("_", " ") }), make("dd", { textContent: text(value) })]));
  const model = typeof about.model === "object" ? about.model.name : about.model;
  $("banner").hidden = model !== "starter";
  if (!about.images) $("status").textContent = "The library is empty. Index a folder first: wordsight index FOLDER";
}

function tab(wanted) {
  for (const button of document.querySelectorAll("nav button")) {
    button.setAttribute("aria-pressed", String(button.dataset.tab === wanted));
    $(button.dataset.tab).hidden = button.dataset.tab !== wanted;
  }
}

for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => { tab(button.dataset.tab); if (button.dataset.tab === "library") facts(); });
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); byWords($("q").value); });
$("query-image").addEventListener("change", (event) => event.target.files[0] && byImage(event.target.files[0]));
$("classify-form").addEventListener("submit", (event) => { event.preventDefault(); classify($("classify-image").files[0]); });
$("false_accept").addEventListener("input", () => { $("rate").textContent = $("false_accept").value; });
$("more").addEventListener("click", () => run(current.load, Math.min(500, current.k + 20)));
$("close").addEventListener("click", () => $("view").close());
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files[0]) byImage(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => event.clipboardData.files[0] && byImage(event.clipboardData.files[0]));

try { recall(JSON.parse(localStorage.getItem("prompts") || "[]")); } catch { /* none */ }
facts().catch(() => {});
const start = new URLSearchParams(location.search);
if (start.get("q")) {
  $("q").value = start.get("q");
  if (start.has("crops")) $("crops").checked = start.get("crops") === "true";
  if (start.has("rank_by")) $("rank_by").value = start.get("rank_by");
  if (start.has("false_accept")) { $("false_accept").value = start.get("false_accept"); $("rate").textContent = $("false_accept").value; }
  byWords(start.get("q"));
}
