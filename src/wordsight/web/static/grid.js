// Images in justified rows. Only the rows near the screen are in the document, so ten thousand
// images scroll as ten do.
import { $, icon, isTiny, make, nameOf, thumbnail, timeOf } from "./core.js";

const GAP = 8;
const HEADING = 44; // pixels that a heading between rows takes
const list = $("hits");
let items = []; // hits in their order
let headings = new Map(); // the words above a place
let rows = [];
let height = 0;
let width = 0;
let current = 0; // the place that the Tab key leads to
let anchor = 0; // where a range of selected images begins
let more = null; // gives further images
let loading = null; // the promise of them
let ahead = 0; // screens that are drawn above and below the one that is seen
const drawn = new Map(); // the nodes of a row, by its number
export const selected = new Map(); // images by their id

/** Show images; `next` gives a promise of true while there are more. */
export function show(found, { above = new Map(), next = null } = {}) {
  items = found;
  headings = above;
  more = next;
  loading = null;
  current = anchor = 0;
  for (const n of [...drawn.keys()]) clear(n);
  ahead = 0; // what is seen comes first
  lay();
  Promise.all([...list.querySelectorAll("img")].map((image) => image.complete || new Promise((done) => { for (const end of ["load", "error"]) image.addEventListener(end, done, { once: true }); }))).then(() => {
    if (items !== found) return; // other images are shown by now
    ahead = 1;
    draw();
  });
}

export const shown = () => items;

const aspect = (item) => Math.min(3, Math.max(0.4, (item.width || 4) / (item.height || 3)));

/** The height at which an image is drawn at most: its own, and tiny ones a whole number of times. */
const tallest = (item) => isTiny(item) ? item.height * Math.max(1, Math.floor(128 / Math.max(item.width, item.height, 1))) : item.height || 240;

/** Places of all rows. A row is full at its usual height, or with as many as fit the width; it is
    no taller than the largest of its files. */
export function layout(all, wide, breaks = new Map()) {
  const most = Math.max(2, Math.round(wide / 250));
  const usual = Math.min(300, Math.max(150, wide / 5));
  const found = [];
  let top = 0, from = 0, sum = 0, limit = 0;
  const close = (to, tall) => {
    found.push({ top, height: tall, from, to });
    top += tall + GAP;
    from = to;
    sum = 0;
    limit = 0;
  };
  for (let n = 0; n < all.length; n++) {
    if (breaks.has(n)) {
      if (n > from) close(n, Math.min(usual, limit, found.at(-1)?.height ?? usual));
      found.push({ top, height: HEADING, from: n, to: n, text: breaks.get(n) });
      top += HEADING;
    }
    sum += aspect(all[n]);
    limit = Math.max(limit, tallest(all[n]));
    const tall = (wide - GAP * (n - from)) / sum;
    if (tall <= limit && (tall <= usual || n - from + 1 >= most)) close(n + 1, tall);
  }
  if (from < all.length) {
    const tall = (wide - GAP * (all.length - from - 1)) / sum;
    close(all.length, Math.min(usual, limit, tall));
  }
  return { rows: found, height: top };
}

function lay() {
  width = list.clientWidth;
  if (!width) return; // another section is shown
  const old = rows;
  ({ rows, height } = layout(items, width, headings));
  list.style.height = `${height}px`;
  const same = (one, other) => one && other && one.top === other.top && one.height === other.height && one.to === other.to;
  const focused = list.contains(document.activeElement);
  for (const n of [...drawn.keys()]) if (!same(old[n], rows[n])) clear(n);
  draw();
  if (focused && !list.contains(document.activeElement)) list.querySelector(`[data-place="${current}"]`)?.focus({ preventScroll: true });
}

function clear(n) {
  for (const node of drawn.get(n)) node.remove();
  drawn.delete(n);
}

/** The first row that ends below a height. */
function rowAt(y) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].top + rows[middle].height < y) low = middle + 1; else high = middle;
  }
  return low;
}

function draw() {
  if (!width) return;
  const start = scrollY - list.offsetTop;
  const first = rowAt(start - ahead * innerHeight), last = rowAt(start + (1 + ahead) * innerHeight);
  const kept = rows.findIndex((row) => row.from <= current && current < row.to); // keeps the focus
  for (const n of [...drawn.keys()]) if ((n < first || n > last) && n !== kept) clear(n);
  for (let n = first; n <= Math.min(last, rows.length - 1); n++) if (!drawn.has(n)) put(n);
  if (kept >= 0 && !drawn.has(kept)) put(kept);
  if (start + 3 * innerHeight > height) fetchMore();
}

/** Ask for more images, if there are any. */
export function fetchMore() {
  if (!more) return Promise.resolve();
  if (!loading) {
    const mine = loading = more().then((further) => {
      if (loading !== mine) return; // other images are shown by now
      loading = null;
      if (!further) more = null;
      lay();
    });
  }
  return loading;
}

function put(n) {
  const row = rows[n];
  const nodes = row.text ? [make("li", { className: "heading", textContent: row.text })] : [];
  let left = 0;
  for (let place = row.from; place < row.to; place++) {
    const wide = row.height * aspect(items[place]);
    nodes.push(card(place, left, wide, row));
    left += wide + GAP;
  }
  if (row.text) nodes[0].style.top = `${row.top}px`;
  // In the order of the images, for whoever listens to the page.
  const after = [...drawn.keys()].filter((other) => other > n).sort((a, b) => a - b)[0];
  const before = after === undefined ? null : drawn.get(after)[0];
  for (const node of nodes) list.insertBefore(node, before);
  drawn.set(n, nodes);
}

function card(place, left, wide, row) {
  const item = items[place];
  const name = nameOf(item), told = item.rank ? `${item.rank}: ${name}` : name;
  const side = Math.max(wide, row.height) * devicePixelRatio > 340 ? 640 : 320;
  const image = make("img", { src: item.thumbnail ?? thumbnail(item.id, side), alt: told, decoding: "async" });
  if (isTiny(item)) image.className = "tiny";
  image.addEventListener("error", () => image.replaceWith(make("span", { className: "gone", textContent: `${name}: the file is missing` })), { once: true });
  const inner = make("span", { className: "inner" }, image), tall = Math.min(row.height, tallest(item)); // smaller files are not enlarged
  Object.assign(inner.style, { width: `${wide * tall / row.height}px`, height: `${tall}px` });
  const hit = make("button", { type: "button", className: "hit", tabIndex: place === current ? 0 : -1 }, inner, make("span", { className: "name", ariaHidden: "true", textContent: name }));
  hit.dataset.place = place;
  const time = timeOf(item);
  if (time) hit.append(make("span", { className: "time", ariaHidden: "true", textContent: time }));
  if (item.view?.box) inner.append(boxOf(item.view.box, item));
  const tick = make("button", { type: "button", className: "tick", tabIndex: -1, ariaLabel: `Select ${told}` }, icon("check"));
  const node = make("li", { className: item.relevant === false ? "faint" : "" }, hit, tick);
  node.setAttribute("aria-posinset", place + 1);
  node.setAttribute("aria-setsize", more ? -1 : items.length);
  Object.assign(node.style, { left: `${left}px`, top: `${row.top}px`, width: `${wide}px`, height: `${row.height}px` });
  mark(node, selected.has(item.id));
  return node;
}

function mark(node, on) {
  node.classList.toggle("selected", on);
  node.lastChild.setAttribute("aria-pressed", on);
}

export function boxOf(box, { width: w, height: h }, tag = "span") {
  const node = make(tag, { className: "box" });
  const [x0, y0, x1, y1] = box;
  Object.assign(node.style, { left: `${(100 * x0) / w}%`, top: `${(100 * y0) / h}%`, width: `${(100 * (x1 - x0)) / w}%`, height: `${(100 * (y1 - y0)) / h}%` });
  return node;
}

// -- selection

/** Select an image or leave it out; with `range` all from the last one on. */
function select(place, range) {
  const on = range || !selected.has(items[place].id);
  const [from, to] = range ? [Math.min(anchor, place), Math.max(anchor, place)] : [place, place];
  for (let n = from; n <= to; n++) {
    if (on) selected.set(items[n].id, items[n]); else selected.delete(items[n].id);
  }
  anchor = place;
  remark();
}

/** Select an image or leave it out, also one that is not in the rows. */
export function toggle(item) {
  if (!selected.delete(item.id)) selected.set(item.id, item);
  remark();
}

export function selectNone() {
  selected.clear();
  remark();
}

function remark() {
  for (const node of list.querySelectorAll("li:not(.heading)")) mark(node, selected.has(items[node.firstChild.dataset.place].id));
  list.classList.toggle("selecting", selected.size > 0);
  list.dispatchEvent(new Event("select"));
}

// -- keys and clicks

/** Lead the focus to an image. */
export function focus(place = current) {
  if (!items.length) return;
  current = Math.max(0, Math.min(items.length - 1, place));
  const row = rows.find((one) => one.from <= current && current < one.to);
  const top = row.top + list.offsetTop, head = document.querySelector("header").offsetHeight;
  if (top < scrollY + head + GAP) scrollTo(0, top - head - GAP);
  else if (top + row.height > scrollY + innerHeight) scrollTo(0, top + row.height - innerHeight + 80);
  draw();
  for (const hit of list.querySelectorAll(".hit")) hit.tabIndex = Number(hit.dataset.place) === current ? 0 : -1;
  list.querySelector(`[data-place="${current}"]`)?.focus({ preventScroll: true });
}

/** The image above (-1) or below (1), at about the same place from the left. */
function beside(direction) {
  const node = list.querySelector(`[data-place="${current}"]`).parentNode;
  const middle = node.offsetLeft + node.offsetWidth / 2;
  let n = rows.findIndex((row) => row.from <= current && current < row.to) + direction;
  while (rows[n]?.text) n += direction;
  if (!rows[n]) return current;
  let left = 0, place = rows[n].from;
  for (; place < rows[n].to - 1; place++) {
    left += rows[n].height * aspect(items[place]) + GAP;
    if (left > middle) break;
  }
  return place;
}

list.addEventListener("keydown", (event) => {
  const steps = { ArrowRight: () => current + 1, ArrowLeft: () => current - 1, ArrowDown: () => beside(1), ArrowUp: () => beside(-1), Home: () => 0, End: () => items.length - 1 };
  const place = Number(event.target.dataset.place);
  if (!event.target.matches(".hit") || event.ctrlKey && event.key !== "a" || event.metaKey && event.key !== "a") return;
  current = place;
  if (event.key in steps) {
    const to = Math.max(0, Math.min(items.length - 1, steps[event.key]()));
    if (event.shiftKey) { if (!selected.size) { anchor = place; select(place); } const begin = anchor; select(to, true); anchor = begin; }
    focus(to);
  } else if (event.key === " " || event.key === "x") select(place, event.shiftKey);
  else if (event.key === "a" && (event.ctrlKey || event.metaKey)) { anchor = 0; select(items.length - 1, true); }
  else return;
  event.preventDefault();
});

list.addEventListener("click", (event) => {
  const hit = event.target.closest("li")?.querySelector(".hit");
  if (!hit) return;
  const place = Number(hit.dataset.place);
  current = place;
  if (pressing < 0) { pressing = 0; return; } // the end of a long press
  if (event.target.closest(".tick") || event.shiftKey || event.ctrlKey || event.metaKey || selected.size && event.detail) select(place, event.shiftKey);
  else list.dispatchEvent(new CustomEvent("open", { detail: place }));
});

// A finger that rests on an image selects it.
let pressing = 0;
list.addEventListener("pointerdown", (event) => {
  const hit = event.pointerType === "touch" && event.target.closest(".hit");
  if (hit) pressing = setTimeout(() => { pressing = -1; select(Number(hit.dataset.place)); }, 450);
});
for (const end of ["pointerup", "pointercancel", "pointermove"]) list.addEventListener(end, (event) => {
  if (end !== "pointermove" || Math.hypot(event.movementX, event.movementY) > 3) { if (pressing > 0) clearTimeout(pressing); }
});
list.addEventListener("contextmenu", (event) => { if (pressing) event.preventDefault(); });

let waiting = 0;
const soon = () => { waiting ||= requestAnimationFrame(() => { waiting = 0; draw(); }); };
addEventListener("scroll", soon, { passive: true });
// Behind an open dialog there is no scroll bar: what is wider for that is not laid out anew.
new ResizeObserver(() => { if (list.clientWidth !== width && !document.querySelector("dialog[open]")) lay(); }).observe(list);
