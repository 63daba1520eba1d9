// The page over /api/v1. What is searched for is kept in `query` and in the address, so that the
// browser's Back, a reload and a copied link do what one expects.
import { $, api, ask, button, copy, count, isFrame, make, number, save, send, sentence, thumbnail, tool, tooLarge } from "./core.js";
import * as grid from "./grid.js";
import { fill, filtered, otherCrops } from "./filters.js";
import * as viewer from "./viewer.js";

const USUAL = { q: "", like: [], unlike: [], label: "", after: "", before: "", folder: "", camera: "", orientation: "", near: "", sort: "score", false_accept: "0.05", crops: "true", anyway: "", selection: "" }; // where the address says nothing
const STEP = 100; // images that are fetched at a time
const MOST = 500; // images that are put in the order of time
const SECTIONS = ["search", "classify", "library", "duplicates", "evaluate"];
let query = { ...USUAL };
let turn = 0; // answers that come late are dropped
let asked = null; // the address whose answer is shown
let images = 0; // in the library
let suggestions = null; // once they are known

const isSearch = () => Boolean(query.q || query.like.length || query.unlike.length);

function parameters(extra = {}) {
  const found = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...query, ...extra })) {
    if (Array.isArray(value)) for (const one of value) found.append(key, one);
    else if (value !== (USUAL[key] ?? "")) found.set(key, value);
  }
  return found;
}

// -- search

/** Ask for what `query` says, with these changes. */
async function search(changes = {}, { record = true } = {}) {
  const other = "q" in changes || "like" in changes; // not just other filters
  query = { ...query, selection: "", ...(other ? { anyway: "" } : {}), ...changes };
  query.q = query.q.trim();
  $("q").value = query.q;
  section("search", false);
  if (viewer.isOpen()) viewer.close();
  const address = String(parameters());
  if (record && `?${address}` !== (location.search || "?")) history.pushState(null, "", address ? `?${address}` : location.pathname);
  asked = location.search;
  document.title = [query.q || (query.like.length ? "Similar images" : ""), "wordsight"].filter(Boolean).join(" - ");
  if (query.q) remember(query.q);
  showParts();
  fill(query, search, images);
  suggest(!isSearch());
  $("moments").hidden = true;
  $("hits").setAttribute("aria-busy", "true");
  say(isSearch() ? "Searching …" : "");
  const mine = ++turn;
  try {
    const answer = await ask(path(0));
    if (mine !== turn) return;
    if (isSearch()) showHits(answer, mine); else showNewest(answer, mine);
  } catch (error) {
    if (mine === turn) nothing(sentence(error.message));
  } finally {
    if (mine === turn) $("hits").removeAttribute("aria-busy");
  }
}

/** Where images come from: a selection, a search, or the library as it is. */
function path(skip) {
  if (query.selection) return `selections/${query.selection}`;
  if (!isSearch()) return `images?${parameters({ skip, k: STEP, sort: USUAL.sort, crops: USUAL.crops, false_accept: USUAL.false_accept })}`;
  return `search?${parameters({ skip, k: query.sort === USUAL.sort ? STEP : MOST })}`;
}

/** Gives more of what is shown, while there is more. */
function further(items, mine, key, come = () => {}) {
  return async () => {
    try {
      const answer = await ask(path(items.length));
      if (mine !== turn) return false;
      items.push(...answer[key]);
      come();
      return answer[key].length === STEP;
    } catch { // the server may be back in a while
      await new Promise((resume) => { setTimeout(resume, 3000); });
      return mine === turn;
    }
  };
}

function showHits(answer, mine) {
  const { hits, verdict } = answer;
  const words = `“${answer.query}”`, byImage = query.like.length || query.unlike.length;
  const inOrder = query.sort === USUAL.sort;
  const { estimate, low, high } = answer.count ?? {};
  const about = answer.count && `${low === high ? "" : estimate === 1 ? "Probably " : "About "}${count(estimate, "image")}`;
  const heading = (text) => make("h2", { textContent: text });
  const lines = answer.notices.map((text) => make("p", { textContent: sentence(text) }));
  if (verdict === "unsure") lines.push(heading(byImage ? "Not sure that anything here is similar" : `Not sure that anything here is ${words}`), make("p", { textContent: `${answer.explanation} These come closest:` }));
  else if (verdict === "none") lines.push(heading(byImage ? "No match: nothing here is similar" : `No match for ${words}`), make("p", { textContent: answer.explanation }), ...whatToTry());
  else lines.push(make("p", { textContent: byImage ? "Most similar first" : about ? `${about} ${estimate === 1 ? "matches" : "match"} ${words}` : `Best matches for ${words}`, title: answer.count ? `Between ${number(low)} and ${number(high)}` : "" }));
  say(...lines);
  $("status").classList.toggle("block", lines.length > 1);
  suggest(verdict === "none" && !query.anyway);
  if (query.q && hits.some(isFrame)) import("./moments.js").then(({ show }) => show(query.q, () => mine === turn)).catch(() => {}); // the hits are there
  // Where relevant hits end: what follows is less likely.
  const above = new Map();
  const draw = () => {
    const cut = hits.findIndex((hit) => hit.relevant === false);
    if (verdict === "match" && inOrder && cut > 0) above.set(cut, `${about ?? count(cut, "image")} ${(estimate ?? cut) === 1 ? "matches" : "match"}. Less likely matches follow.`);
  };
  draw();
  $("hits").classList.toggle("cut", verdict === "match");
  grid.show(hits, { above, next: inOrder && hits.length === STEP ? further(hits, mine, "hits", draw) : null });
  openNamed();
}

function whatToTry() {
  const limits = filtered(query);
  const found = [];
  if (!query.anyway) found.push(button("Show the closest images", () => search({ anyway: "true" }), { className: "main" }));
  if (limits.length) found.push(button("Search without filters", () => search(Object.fromEntries(limits.map((key) => [key, USUAL[key]])))));
  const near = close(query.q);
  return [make("p", {}, ...(near ? ["Did you mean ", button(near, () => search({ q: near }), { className: "link" }), "? "] : []), "Try simpler or different words, or search with an image."), make("p", { className: "actions" }, ...found)];
}

/** The word among those that this library knows that is a slip or two away from what was typed. */
function close(typed) {
  const word = typed.toLowerCase();
  const distance = (a, b) => {
    let row = [...Array(b.length + 1).keys()];
    for (let i = 1; i <= a.length; i++) {
      const above = row;
      row = [i];
      for (let j = 1; j <= b.length; j++) row[j] = Math.min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] !== b[j - 1]));
    }
    return row.at(-1);
  };
  return word.length > 2 && (suggestions ?? []).map(({ text }) => text).find((text) => text !== word && distance(text, word) <= (word.length > 5 ? 2 : 1) + (word.length === text.length ? 1 : 0));
}

function showNewest({ total, images: found }, mine) {
  const limited = filtered(query).length || query.selection;
  if (!limited && !total) {
    nothing(make("h2", { textContent: "The library is empty" }), make("p", { textContent: "Index a folder of images first." }), button("Go to the library", () => section("library"), { className: "main" }));
    return;
  }
  if (limited && !total && !query.selection) {
    nothing(make("h2", { textContent: "No images" }), make("p", { textContent: "Nothing in the library passes these filters." }), button("Show all images", () => search({ ...USUAL }), { className: "main" }));
    return;
  }
  say(make("p", { textContent: query.selection ? `${count(total, "image")} in this selection` : limited ? count(total, "image") : `${count(total, "image")}, newest first` }));
  const above = new Map();
  const month = ({ metadata }) => metadata.taken?.slice(0, 7);
  const headed = () => {
    for (let n = 0; n < found.length; n++) {
      const here = month(found[n]);
      if (!above.has(n) && here && (n === 0 || here !== month(found[n - 1]))) above.set(n, new Date(`${here}-01T00:00`).toLocaleDateString("en", { month: "long", year: "numeric" }));
    }
  };
  headed();
  grid.show(found, { above, next: total > found.length ? further(found, mine, "images", headed) : null });
  openNamed();
}

function say(...lines) {
  $("status").className = "";
  $("status").replaceChildren(...lines.map((line) => (typeof line === "string" ? make("p", { textContent: line }) : line)));
}

/** No images, for this reason. */
function nothing(...lines) {
  say(...lines);
  $("status").className = "block";
  grid.show([]);
}

/** The images that are part of the search, each with a way to take it out again. */
function showParts() {
  const part = (key, place, words) => {
    const remove = tool("close", `Remove: ${words}`, () => search({ [key]: query[key].filter((one) => one !== place) }));
    const [id] = place.split(/[:@]/);
    const source = id.length === 32 ? `${api}uploads/${id}` : thumbnail(id);
    return make("li", { className: key, title: words }, make("img", { src: source, alt: words }), remove);
  };
  const name = (place) => (/[:@]/.test(place) ? "this part" : place.length === 32 ? "your image" : "this");
  $("parts").replaceChildren(...query.like.map((p) => part("like", p, `like ${name(p)}`)), ...query.unlike.map((p) => part("unlike", p, `not like ${name(p)}`)));
  $("q").placeholder = isSearch() ? "Add words" : "Search your images";
}

/** Search with an image of the user's, which the server keeps for a day. */
async function upload(file) {
  section("search", false);
  const mine = ++turn;
  if (tooLarge(file)) { nothing(tooLarge(file)); return; }
  say("Searching …");
  try {
    const { id } = await ask("uploads", { method: "POST", body: file });
    if (mine === turn) search({ like: [id], q: $("q").value });
  } catch (error) { if (mine === turn) nothing(sentence(error.message)); }
}

/** Their place is kept until one knows them: what is below must not move. */
const suggest = (on) => { $("suggestions").hidden = !on || suggestions?.length === 0; };

// -- one image

const actions = {
  more: async () => { const before = grid.shown().length; await grid.fetchMore(); return grid.shown().length > before; },
  search: ({ like = query.like, unlike, near }) => {
    history.replaceState(null, "", location.pathname + location.search);
    if (near) search({ ...USUAL, near });
    else if (unlike) search({ unlike: [...new Set([...query.unlike, unlike])].slice(-10), like: query.like.filter((place) => place !== unlike) });
    else search({ ...USUAL, like });
  },
  closed: (place, list) => {
    if (history.state?.viewing) history.back();
    else history.replaceState(null, "", location.pathname + location.search);
    if (list === grid.shown()) grid.focus(place);
  },
};

function openViewer(place, list = grid.shown()) {
  history.pushState({ viewing: true }, "", `#${list[place].id}`);
  viewer.open(list, place, list === grid.shown() ? actions : { ...actions, more: null });
}

/** Show the image that the address names. */
async function openNamed() {
  const id = /^#([0-9a-f]{16})$/.exec(location.hash)?.[1];
  if (!id || viewer.isOpen()) return;
  const place = grid.shown().findIndex((item) => item.id === id);
  try { viewer.open(place < 0 ? [await ask(`regions/${id}`)] : grid.shown(), Math.max(0, place), actions); } catch { /* it is gone */ }
}

// -- several images

function showSelection() {
  const { selected } = grid, bar = $("selection");
  bar.hidden = !selected.size;
  const keep = () => send("selections", { images: [...selected.keys()] });
  const told = make("span", { role: "status", textContent: `${number(selected.size)} selected` });
  const attempt = (work) => async () => {
    try { told.textContent = await work(); } catch (error) { told.textContent = error.message; }
  };
  bar.replaceChildren(told,
    button("Download", attempt(async () => { save(`${api}selections/${(await keep()).id}/zip`); return "Download started"; }), { className: "main" }),
    button("Copy paths", attempt(() => copy([...selected.values()].map((item) => item.path).join("\n"), "Paths copied"))),
    button("Copy link", attempt(async () => copy(new URL(`?selection=${(await keep()).id}`, location.origin + location.pathname).href, "Link copied; it works for a day"))),
    tool("close", "Clear selection", () => { grid.selectNone(); grid.focus(); }));
}

// -- what was searched for before

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

// -- the page as a whole

function section(wanted, record = true) {
  for (const node of document.querySelectorAll("nav button")) node.ariaPressed = String(node.dataset.tab === wanted);
  for (const name of SECTIONS) $(name).hidden = name !== wanted;
  const hash = wanted === "search" ? "" : `#${wanted}`;
  if (record && hash !== location.hash) history.pushState(null, "", hash || location.pathname + location.search);
  if (wanted !== "search") import(`./${wanted}.js`).then(({ enter }) => enter($(wanted), openViewer));
}

/** Do what the address says. */
function fromAddress() {
  const wanted = SECTIONS.includes(location.hash.slice(1)) ? location.hash.slice(1) : "search";
  if (viewer.isOpen() && !location.hash) viewer.close();
  if (asked !== location.search) {
    const address = new URLSearchParams(location.search);
    const next = Object.entries(USUAL).map(([key, usual]) => [key, Array.isArray(usual) ? address.getAll(key) : address.get(key) ?? usual]);
    search(Object.fromEntries(next), { record: false });
  } else openNamed();
  section(wanted, false);
}

function taken(files) {
  if (!files.length) return;
  if ($("classify").hidden) upload(files[0]);
  else import("./classify.js").then(({ take }) => take(files));
}

function banner(model) {
  if (model !== "starter" || localStorage.getItem("banner") === "seen") return;
  $("banner").append(tool("close", "Do not show this again", () => { $("banner").hidden = true; localStorage.setItem("banner", "seen"); }));
  $("banner").hidden = false;
}

for (const node of document.querySelectorAll("nav button")) node.addEventListener("click", () => {
  if (node.dataset.tab === "search" && !$("search").hidden) search({ ...USUAL }); else section(node.dataset.tab);
});
document.querySelector(".brand").addEventListener("click", (event) => { event.preventDefault(); search({ ...USUAL }); });
$("search-form").addEventListener("submit", (event) => { event.preventDefault(); search({ q: $("q").value }); });
for (const node of document.querySelectorAll(".skip")) node.addEventListener("click", (event) => {
  event.preventDefault();
  section("search");
  if (node.hash === "#hits") grid.focus(); else $("moments").querySelector("button").focus();
});
$("query-image").addEventListener("change", ({ target }) => { if (target.files[0]) upload(target.files[0]); target.value = ""; });
$("hits").addEventListener("open", ({ detail }) => openViewer(detail));
$("hits").addEventListener("select", showSelection);
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea") || document.querySelector("dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); section("search"); $("q").select(); }
  if (event.key === "?") import("./keys.js").then(({ open }) => open());
  if (event.key === "Escape" && grid.selected.size) grid.selectNone();
  const { tab } = document.querySelector(`nav [aria-keyshortcuts="${Number(event.key)}"]:not([hidden])`)?.dataset ?? {};
  if (tab && !event.target.matches("select")) { section(tab); $(tab).focus(); }
  // With and without crops, at the same place.
  const { place } = event.target.dataset, change = event.key === "c" && place && isSearch() && otherCrops(query);
  if (change) search(change).then(() => grid.focus(Number(place)));
});
const holdsFiles = (event) => event.dataTransfer.types.includes("Files"); // text is dragged into fields
document.addEventListener("dragover", (event) => { if (holdsFiles(event)) { event.preventDefault(); document.body.classList.add("dropping"); } });
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => { if (holdsFiles(event)) { event.preventDefault(); document.body.classList.remove("dropping"); taken([...event.dataTransfer.files]); } });
// Office programs put an image of the text beside it: in a field the text is meant.
document.addEventListener("paste", (event) => event.target.matches?.("input, textarea") && event.clipboardData.types.includes("text/plain") || taken([...event.clipboardData.files]));
addEventListener("popstate", fromAddress);

recall();
fromAddress();
ask("library").then((about) => {
  images = about.images;
  document.querySelector('[data-tab="evaluate"]').hidden = !about.labels.length;
  banner(about.model.name);
  fill(query, search, images, about);
}).catch(() => {});
addEventListener("load", () => ask("suggestions").then((answer) => { // images first
  ({ suggestions } = answer);
  $("suggestions").replaceChildren(...suggestions.map(({ text, image }) => {
    const node = button("", () => search({ q: text }), { className: "suggestion" });
    node.append(make("img", { src: thumbnail(image), alt: "" }), text);
    return node;
  }));
  suggest(!isSearch() || !grid.shown().length);
}).catch(() => { $("suggestions").hidden = true; }));
