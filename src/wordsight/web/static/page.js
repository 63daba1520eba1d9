"use strict";
// One page over /api/v1. What is searched for is kept in `query` and in the address, so that the
// browser's Back and a copied link do what one expects; an uploaded image alone is in neither.
const $ = (id) => document.getElementById(id);
const api = "api/v1/"; // relative: the page may lie under any path of a proxy
const LARGEST = 20 * 2 ** 20; // bytes of an image that the server takes
const TABS = ["search", "classify", "library", "evaluate"];
const USUAL = { k: "20", rank_by: "auto", false_accept: "0.05" }; // where the address says nothing
let query = { q: "", like: [], unlike: [], upload: null };
let shown = 0; // hits asked for: "More" raises it
let relaxed = false; // the closest were asked for although nothing matches
let turn = 0; // answers that come late are dropped: those to searches,
let viewing = 0; // about the image in the dialog,
let judging = 0; // and to what was classified
let toClassify = null;
let following = null; // the event stream of the running job, until one knows that it has ended
let images = 0; // in the library
let pressed = null; // where a click on the dialog began

async function ask(path, options) {
  let response, answer;
  try {
    response = await fetch(api + path, options);
    answer = await response.json();
  } catch {
    if (response?.status >= 400) throw new Error(`${response.status} ${response.statusText}`);
    const changed = options?.body instanceof File ? " If the image has changed since you chose it, choose it again." : "";
    throw new Error(`The server is not responding. Is wordsight serve still running?${changed}`);
  }
  if (!response.ok) throw new Error(answer.detail || response.statusText);
  return answer;
}

function make(tag, props = {}, ...children) {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
}

function button(text, action, props = {}) {
  const node = make("button", { type: "button", textContent: text, ...props });
  node.addEventListener("click", action);
  return node;
}

const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const size = (bytes) => bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
const percent = (share) => `${Math.round(100 * share)} %`;
const fileName = (path) => path.split(/::|\//).pop();
const isTiny = (image) => Math.max(image.width, image.height) < 100;

function facts(list, rows) {
  list.replaceChildren(...rows.filter(([, value]) => value).flatMap(([key, value]) =>
    [make("dt", { textContent: key }), make("dd", {}, value)]));
}

/** Show a file of the user's; what the browser holds for it is given back. */
function preview(image, file) {
  const source = URL.createObjectURL(file);
  for (const event of ["load", "error"]) image.addEventListener(event, () => URL.revokeObjectURL(source), { once: true });
  image.src = source;
  return image;
}

function drawBox(frame, box, width, height, words, className = "won") {
  const [x0, y0, x1, y1] = box;
  const mark = make("div", { className: `box ${className}` });
  mark.style.left = `${(100 * x0) / width}%`;
  mark.style.top = `${(100 * y0) / height}%`;
  mark.style.width = `${(100 * (x1 - x0)) / width}%`;
  mark.style.height = `${(100 * (y1 - y0)) / height}%`;
  if (words) mark.append(make("span", { textContent: words }));
  frame.append(mark);
  return mark;
}

// -- search

/** How many images are asked for: what the server takes, whatever is typed or in the address. */
const howMany = () => Math.min(500, Math.max(1, Math.round(Number($("k").value)) || Number(USUAL.k)));

function settings() {
  return { label: $("label").value, crops: $("crops").checked, rank_by: $("rank_by").value, false_accept: $("false_accept").value };
}

function parameters(extra = {}) {
  const found = new URLSearchParams();
  if (query.q.trim()) found.set("q", query.q.trim());
  for (const place of query.like) found.append("like", place);
  for (const place of query.unlike) found.append("unlike", place);
  for (const [key, value] of Object.entries({ ...settings(), ...extra })) if (value !== "") found.set(key, value);
  return found;
}

function say(...lines) {
  $("status").className = "";
  $("status").replaceChildren(...lines.map((line) => (typeof line === "string" ? make("p", { textContent: line }) : line)));
}

/** Ask for what `query` says. */
async function search({ anyway = false, k = howMany(), record = true } = {}) {
  $("k").value = howMany();
  tab("search", false);
  if ($("view").open) $("view").close();
  relaxed = anyway;
  showParts();
  if (!query.q.trim() && !query.like.length && !query.upload) {
    if (record && location.search) history.pushState(null, "", location.pathname);
    welcome();
    return;
  }
  if (query.q.trim()) remember(query.q.trim());
  const address = "?" + parameters({ k: $("k").value, ...(anyway ? { anyway } : {}) });
  if (record && !query.upload && address !== location.search) history.pushState(null, "", address);
  const mine = ++turn;
  $("recent").hidden = true;
  $("hits").setAttribute("aria-busy", "true");
  say("Searching …");
  try {
    const path = "search?" + parameters({ k, anyway });
    const answer = await ask(path, query.upload ? { method: "POST", body: query.upload } : undefined);
    if (mine !== turn) return;
    shown = k;
    show(answer, anyway);
  } catch (error) {
    if (mine === turn) nothing(error.message);
  }
}

/** No hits, for this reason. */
function nothing(...lines) {
  say(...lines);
  $("hits").replaceChildren();
  $("hits").removeAttribute("aria-busy");
  $("more").hidden = true;
}

function show(answer, anyway) {
  const lines = [...answer.notices];
  if (answer.verdict === "unsure") {
    lines.push(make("p", { className: "no-match", textContent: "Not sure" }), make("p", { textContent: `Not sure that anything here is “${answer.query}”. ${answer.explanation} The closest images:`, title: scores(answer) }));
  } else if (!answer.match) {
    lines.push(make("p", { className: "no-match", textContent: "No match" }), make("p", { textContent: whyNot(answer), title: scores(answer) }));
    if (!anyway && images) lines.push(button("Show the closest images", () => search({ anyway: true })));
  } else {
    const what = query.upload || query.like.length ? ", most similar first" : ` for “${answer.query}”`;
    lines.push(`${count(answer.hits.length, "image")}${what}`);
  }
  say(...lines);
  $("hits").replaceChildren(...answer.hits.map(card));
  $("hits").removeAttribute("aria-busy");
  $("more").hidden = answer.hits.length < shown || shown >= 500;
}

/** Why nothing matches, and what to try; the figures are the hover text. */
function whyNot(answer) {
  if (answer.p_value === null) return answer.explanation;
  const where = $("label").value ? `Only images labelled “${$("label").value}” were searched. ` : "";
  return `${answer.explanation} ${where}Try other words, or search with a picture of what you mean.`;
}

const scores = (answer) => answer.top_score === null ? "" : `best cosine ${answer.top_score.toFixed(3)}` + (answer.top_z === null ? "" : `, normalised ${answer.top_z.toFixed(1)}`);

function card(hit) {
  const name = hit.label || fileName(hit.path);
  const image = make("img", { src: `${api}thumbnails/${hit.id}`, alt: "", loading: "lazy" });
  if (isTiny(hit)) image.className = "tiny";
  image.addEventListener("error", () => image.replaceWith(make("span", { className: "quiet", textContent: "(file missing)" })), { once: true });
  const frame = make("span", { className: "frame" }, image);
  frame.style.width = `min(100%, ${(isTiny(hit) ? 8 : 9) * hit.width / hit.height}rem)`;
  frame.style.aspectRatio = `${hit.width} / ${hit.height}`;
  if (hit.view.box) drawBox(frame, hit.view.box, hit.width, hit.height, hit.view.label);
  const z = hit.z === null ? "" : `, normalised ${hit.z.toFixed(1)}`;
  const words = make("span", { className: "words" }, `${hit.rank}.`, make("span", { className: "name", textContent: name }), hit.score.toFixed(3));
  const node = button("", () => view(hit), { className: "hit", title: `score ${hit.score.toFixed(4)}${z}\n${hit.path}` });
  node.append(frame, words);
  return make("li", {}, node);
}

/** The images that are part of the search, each with a way to take it out again. */
function showParts() {
  const part = (image, words, remove, against) => make("li", {},
    image,
    make("span", { textContent: words, className: against ? "against" : "" }),
    button("×", () => { remove(); search(); }, { ariaLabel: `Remove: ${words}` }));
  const without = (list, place) => list.filter((one) => one !== place);
  const thumbnail = (place) => make("img", { src: `${api}thumbnails/${place.split(":")[0]}`, alt: "" });
  const name = (place) => (place.includes(":") ? "region" : "this");
  $("parts").replaceChildren(
    ...(query.upload ? [part(preview(make("img", { alt: "" }), query.upload), "like your image", () => { query.upload = null; })] : []),
    ...query.like.map((p) => part(thumbnail(p), `like ${name(p)}`, () => { query.like = without(query.like, p); })),
    ...query.unlike.map((p) => part(thumbnail(p), `not like ${name(p)}`, () => { query.unlike = without(query.unlike, p); }, true)));
}

function welcome() {
  turn++;
  nothing();
  $("status").className = "empty";
  $("status").textContent = images
    ? "Type what you are looking for and press Enter, or drop or paste an image."
    : "The library is empty. Index a folder first. ";
  if (!images) $("status").append(button("Go to the library", () => tab("library")));
  const past = prompts();
  $("recent").hidden = !past.length;
  $("recent").replaceChildren("Recent: ", ...past.slice(0, 8).map((q) => button(q, () => { setQuery({ q }); search(); })),
    button("Clear", () => { localStorage.removeItem("prompts"); recall(); welcome(); }));
}

function setQuery(next) {
  query = { q: "", like: [], unlike: [], upload: null, ...next };
  $("q").value = query.q;
}

function prompts() {
  // Another program that was served at this address may have kept something else by this name.
  try { return [...JSON.parse(localStorage.getItem("prompts") || "[]")].filter((q) => typeof q === "string"); } catch { return []; }
}

function remember(q) {
  const past = [q, ...prompts().filter((p) => p !== q)].slice(0, 30);
  try { localStorage.setItem("prompts", JSON.stringify(past)); } catch { /* no room, no history */ }
  recall();
}

function recall() {
  $("history").replaceChildren(...prompts().map((value) => make("option", { value })));
}

// -- one image

async function view(hit) {
  const mine = ++viewing;
  const tell = (text) => { if (mine === viewing) $("view-status").textContent = text; };
  const name = hit.label || fileName(hit.path);
  $("view-title").textContent = name;
  const image = $("view-image");
  image.src = $("open").href = `${api}images/${hit.id}`;
  image.alt = name;
  image.onerror = () => tell("This image is missing or cannot be read.");
  image.className = isTiny(hit) ? "tiny" : "";
  // Its place is kept before it comes: what is below must not move from under a finger.
  image.style.aspectRatio = `${hit.width} / ${hit.height}`;
  image.style.width = `min(${isTiny(hit) ? "18rem" : `44rem, ${hit.width}px`}, 96vw - 2rem - 2px, ${72 * hit.width / hit.height}vh)`;
  $("view-boxes").replaceChildren();
  $("regions-part").hidden = true;
  $("view-status").textContent = "";
  const rows = [["Score", `${hit.score.toFixed(4)} (cosine)` + (hit.z === null ? "" : `, ${hit.z.toFixed(2)} normalised`)],
    ["Size", `${hit.width} × ${hit.height} pixels`], ["Path", hit.path]];
  facts($("view-facts"), rows);
  const next = (change) => { $("view").close(); change(); search(); };
  $("like").onclick = () => next(() => setQuery({ like: [hit.id] }));
  $("unlike").onclick = () => next(() => { query.unlike = [...new Set([...query.unlike, hit.id])].slice(-10); query.like = query.like.filter((p) => p !== hit.id); });
  $("copy").onclick = async () => {
    try { await navigator.clipboard.writeText(hit.path); tell("Path copied."); }
    catch { tell("Your browser does not allow copying here. Select the path below instead."); }
  };
  $("where").onclick = async () => {
    try {
      const { location } = await ask(`regions/${hit.id}?location=true`);
      tell(location ? `Taken at ${location.map((degrees) => degrees.toFixed(5)).join(", ")} (latitude, longitude).` : "This file does not say where the photograph was taken.");
    } catch (error) { tell(error.message); }
  };
  if (!$("view").open) $("view").showModal();
  try {
    const about = await ask(`regions/${hit.id}`);
    if (mine !== viewing) return;
    facts($("view-facts"), [...rows.slice(0, 2), ["File", size(about.bytes)], ...Object.entries(about.taken).map(([k, v]) => [k[0].toUpperCase() + k.slice(1), v]), rows[2]]);
    const found = about.views.map((region, n) => ({ ...region, n })).filter((region) => region.box);
    $("regions-part").hidden = !found.length;
    $("regions").replaceChildren(...found.map((region) => {
      const won = hit.view.box && region.box.every((v, i) => Math.abs(v - hit.view.box[i]) < 0.6);
      const words = region.label || (won ? "best" : String(region.n));
      const mark = drawBox($("view-boxes"), region.box, about.width, about.height, words, won ? "won" : region.label ? "other" : "faint");
      const node = button(`${region.n}. ${region.label || "region"}${won ? " (best)" : ""}`, () => next(() => setQuery({ like: [`${hit.id}:${region.n}`] })));
      for (const [event, lit] of [["focus", true], ["mouseenter", true], ["blur", false], ["mouseleave", false]]) node.addEventListener(event, () => mark.classList.toggle("lit", lit));
      return node;
    }));
  } catch (error) { tell(error.message); }
}

/** The dialog was closed: nothing of it is there when another image is opened. */
function leave() {
  if ($("view").open) return; // again meanwhile
  viewing++;
  $("view-image").removeAttribute("src");
}

// -- classify

async function loadWordings() {
  const about = await ask("classify");
  $("label-set").prepend(...about.label_sets.map((name) => new Option(name)));
  $("label-set").selectedIndex = 0;
  $("template").value = about.template;
  $("ensemble").onclick = () => { $("template").value = about.ensemble.join("\n"); };
}

const tooLarge = (file) => file.size > LARGEST && `${file.name} is too large: ${size(file.size)}, and the limit is ${size(LARGEST)}. Make it smaller first.`;

function chooseToClassify(file) {
  if (tooLarge(file)) { judging++; $("verdict").textContent = tooLarge(file); return; }
  toClassify = file;
  $("classify-name").textContent = file.name;
  preview($("classify-preview"), file).hidden = false;
  $("classify-preview").onload = ({ target }) => { target.className = target.naturalWidth < 100 ? "tiny" : ""; };
  classify();
}

async function classify() {
  if (!toClassify) { $("verdict").textContent = "Choose an image first."; return; }
  const params = new URLSearchParams({ labels: $("label-set").value || $("labels").value });
  for (const template of $("template").value.split("\n")) if (template.trim()) params.append("template", template.trim());
  const mine = ++judging;
  $("verdict").textContent = "Classifying …";
  try {
    const answer = await ask("classify?" + params, { method: "POST", body: toClassify });
    if (mine !== judging) return;
    const first = answer.none_of_these ? "None of these" : answer.top[0].label.replaceAll("_", " ");
    const closest = answer.top.map((c) => c.label.replaceAll("_", " ")).join(", ");
    $("verdict").replaceChildren(make("p", { className: "no-match", textContent: first }),
      ...(answer.none_of_these ? [make("p", { textContent: `No label fits this image better than unrelated phrases do. Closest: ${closest}.` })] : answer.top.map((c) => make("div", { className: "bar" }, make("span", { textContent: c.label }),
        make("progress", { max: 1, value: c.confidence, ariaLabel: c.label }),
        make("span", { textContent: `${(100 * c.confidence).toFixed(1)} %` })))));
  } catch (error) { if (mine === judging) $("verdict").textContent = error.message; }
}

// -- library

async function loadLibrary() {
  const about = await ask("library");
  images = about.images;
  const crops = Object.entries(about.crops).map(([name, n]) => `${count(n, "image")} ${name === "none" ? "without" : `with ${name}`}`);
  facts($("facts"), [["Images", count(about.images, "image")], ["Views", `${count(about.views, "view")} (whole images and crops)`],
    ["Crops", crops.join(", ")], ["Labels", about.labels.length ? `${about.labels.length}: ${about.labels.slice(0, 12).map((l) => `${l.label} (${l.images})`).join(", ")}${about.labels.length > 12 ? ", …" : ""}` : "none (images are not in class folders)"],
    ["Model", `${about.model.name} (${about.model.dim} dimensions)`], ["Size on disk", size(about.bytes)], ["Created", (about.created || "").slice(0, 10)], ["Location", about.library]]);
  $("banner").hidden = about.model.name !== "starter";
  const label = $("label").value;
  $("label").replaceChildren(new Option("any", ""), ...about.labels.map((l) => new Option(`${l.label} (${l.images})`, l.label)));
  chooseLabel(label);
  if ($("status").className === "empty") welcome(); // there may be images now
  $("skipped-part").hidden = !about.skipped.length;
  $("skipped").replaceChildren(...about.skipped.map((s) => make("tr", {}, make("td", { textContent: s.path }), make("td", { textContent: s.reason }))));
}

/** Choose a label, known or not: a filter that the address names is never left out unseen. */
function chooseLabel(label) {
  $("label").value = label;
  if ($("label").selectedIndex < 0) $("label").append(new Option(label, label, true, true));
  $("label").disabled = $("label").length < 2;
}

async function loadFolders() {
  const { folders } = await ask("index/folders");
  $("index-form").hidden = !folders.length;
  $("no-folders").hidden = folders.length > 0;
  $("folder").replaceChildren(...folders.map((f) => new Option(f.path, f.id)));
  const { jobs } = await ask("index/jobs");
  const running = jobs.find((job) => job.state === "running");
  if (running) follow(running);
  else if (following) told(jobs[0] || { state: "failed", error: "the server was restarted" }); // its end was missed
}

function follow(job) {
  following?.close();
  following = new EventSource(`${api}index/jobs/${job.id}/events`);
  $("cancel").hidden = false;
  $("cancel").disabled = false;
  $("cancel").onclick = () => { $("cancel").disabled = true; ask(`index/jobs/${job.id}`, { method: "DELETE" }).catch((error) => { $("job").textContent = error.message; }); };
  following.onmessage = (event) => told(JSON.parse(event.data));
  following.onerror = () => { following?.close(); $("job").textContent = "Connection lost. Reload this page to follow the job."; };
  told(job);
}

function told(job) {
  const running = job.state === "running";
  $("progress").hidden = !running;
  if (job.total) { $("progress").max = job.total; $("progress").value = job.done; } else $("progress").removeAttribute("value");
  $("index-form").querySelector("[type=submit]").disabled = running;
  if (running) {
    $("job").textContent = job.total ? `${job.done.toLocaleString("en")} of ${count(job.total, "image")}` : `Scanning ${job.path} …`;
    return;
  }
  following?.close();
  following = null;
  $("cancel").hidden = true;
  const report = job.report;
  $("job").textContent = {
    done: report && `Done in ${report.seconds.toFixed(1)} s: ${report.indexed} indexed, ${report.reused} moved or copied, ${report.unchanged} unchanged, ${report.failed.length} skipped.`,
    cancelled: `Cancelled. The ${count(job.done, "image")} done so far are kept.`,
    failed: `Failed: ${job.error}`,
  }[job.state];
  loadLibrary().catch(() => {}); // the next visit of this tab says why
}

async function startJob() {
  try { follow(await ask("index/jobs", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ folder: $("folder").value, crops: $("index-crops").value || null }) })); }
  catch (error) { $("job").textContent = error.message; }
}

// -- evaluate

function showEvaluation(answer) {
  const keys = ["recall@1", "recall@5", "recall@10", "precision@10", "mrr", "map", "median_rank"].filter((key) => key in Object.values(answer.methods)[0]);
  const head = make("tr", {}, make("th", { scope: "col", textContent: "Method" }), ...keys.map((key) => make("th", { scope: "col", textContent: { mrr: "MRR", map: "mAP", median_rank: "Median rank" }[key] || key.replace("recall", "Recall").replace("precision", "Precision") })));
  const rows = Object.entries(answer.methods).map(([name, figures]) => make("tr", {}, make("th", { scope: "row", textContent: name }),
    ...keys.map((key) => {
      const [low, high] = answer.intervals[name]?.[key] || [];
      const plain = key === "median_rank";
      return make("td", {}, plain ? String(figures[key]) : figures[key].toFixed(3), ...(low === undefined || plain ? [] : [make("small", { textContent: `${low.toFixed(3)}–${high.toFixed(3)}` })]));
    })));
  $("figures").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  $("plot").src = `${api}evaluation/plot?${answer.table_version}-${Date.now()}`;
  $("evaluation").hidden = false;
  $("evaluation-status").textContent = `${answer.queries} prompts, ${count(answer.gallery, "image")}. The small figures are 95 % intervals.`;
}

async function runEvaluation() {
  $("run-evaluation").disabled = true;
  $("evaluation-status").textContent = "Measuring … This takes about a minute for a large library.";
  try { showEvaluation(await ask("evaluation", { method: "POST" })); }
  catch (error) { $("evaluation-status").textContent = error.message; }
  $("run-evaluation").disabled = false;
}

// -- the page as a whole

function tab(wanted, record = true) {
  for (const node of document.querySelectorAll("nav button")) {
    node.setAttribute("aria-pressed", String(node.dataset.tab === wanted));
    $(node.dataset.tab).hidden = node.dataset.tab !== wanted;
  }
  const hash = wanted === "search" ? "" : `#${wanted}`;
  if (record && hash !== location.hash) history.pushState(null, "", hash || location.pathname + location.search);
  const failed = (error) => { $("job").textContent = error.message; };
  if (wanted === "library") { loadLibrary().catch(failed); loadFolders().catch(failed); }
  if (wanted === "evaluate") ask("evaluation").then((answer) => $("run-evaluation").disabled || showEvaluation(answer)).catch(() => {});
}

/** Do what the address says. */
function fromAddress() {
  const address = new URLSearchParams(location.search);
  setQuery({ q: address.get("q") || "", like: address.getAll("like"), unlike: address.getAll("unlike") });
  for (const [id, usual] of Object.entries(USUAL)) {
    $(id).value = address.get(id) ?? usual;
    if (!$(id).value) $(id).value = usual;
  }
  chooseLabel(address.get("label") ?? "");
  $("crops").checked = address.get("crops") !== "false";
  $("rate").textContent = percent($("false_accept").value);
  search({ anyway: address.get("anyway") === "true", record: false });
  const wanted = location.hash.slice(1);
  if (TABS.includes(wanted)) tab(wanted, false);
}

function taken(file) {
  if (!file) return;
  if (!$("classify").hidden) chooseToClassify(file);
  else if (tooLarge(file)) { turn++; tab("search", false); nothing(tooLarge(file)); }
  else { query.upload = file; query.like = []; query.q = $("q").value; search(); }
}

for (const node of document.querySelectorAll("nav button")) node.addEventListener("click", () => tab(node.dataset.tab));
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); query.q = $("q").value; search(); });
for (const id of ["label", "crops", "rank_by", "false_accept", "k"]) $(id).addEventListener("change", () => { query.q = $("q").value; search(); });
$("false_accept").addEventListener("input", () => { $("rate").textContent = percent($("false_accept").value); });
$("more").addEventListener("click", () => search({ k: Math.min(500, shown + 20), record: false, anyway: relaxed }));
$("query-image").addEventListener("change", ({ target }) => { taken(target.files[0]); target.value = ""; });
$("classify-image").addEventListener("change", ({ target }) => { if (target.files[0]) chooseToClassify(target.files[0]); target.value = ""; });
$("classify-form").addEventListener("submit", (event) => { event.preventDefault(); classify(); });
$("label-set").addEventListener("change", () => { $("own").hidden = $("label-set").value !== ""; });
$("index-form").addEventListener("submit", (event) => { event.preventDefault(); startJob(); });
$("run-evaluation").addEventListener("click", runEvaluation);
$("close").addEventListener("click", () => $("view").close());
$("view").addEventListener("close", leave);
// Beside it, that is: not at the end of a selection that began inside.
$("view").addEventListener("pointerdown", ({ target }) => { pressed = target; });
$("view").addEventListener("click", ({ target }) => target === $("view") && pressed === target && $("view").close());
const holdsFiles = (event) => event.dataTransfer.types.includes("Files"); // text is dragged into fields
document.addEventListener("dragover", (event) => { if (holdsFiles(event)) { event.preventDefault(); document.body.classList.add("dropping"); } });
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => { if (holdsFiles(event)) { event.preventDefault(); document.body.classList.remove("dropping"); taken(event.dataTransfer.files[0]); } });
// Office programs put a picture of the text beside it: in a field the text is meant.
document.addEventListener("paste", (event) => event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain") || taken(event.clipboardData.files[0]));
window.addEventListener("popstate", fromAddress);

recall();
loadWordings().catch(() => { $("own").hidden = false; }); // one's own labels are left
loadLibrary().catch(() => {}).finally(() => {
  // Whoever was quicker than the page has asked already, or is typing: that stands.
  if (query.q || query.upload || query.like.length) return;
  const typed = location.search ? "" : $("q").value;
  fromAddress();
  if (typed) $("q").value = typed;
});
