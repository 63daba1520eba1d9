// One image at a time: steps, zoom, what is known of it, its parts, its neighbours.
import { $, api, ask, button, copy, facts, isTiny, make, nameOf, number, save, size, thumbnail, tool } from "./core.js";
import { boxOf, selected, toggle } from "./grid.js";

const view = $("view");
const stage = make("div", { className: "stage" });
const photo = make("div", { className: "photo" });
const picture = make("img", { id: "view-image", draggable: false });
const boxes = make("div", { className: "boxes" });
const title = make("h2", { id: "view-title" });
const told = make("p", { id: "view-status", role: "status" });
const about = make("div", { className: "about", id: "about" });
let list = []; // the images that the arrow keys lead through
let at = 0;
let turn = 0; // answers about another image come too late
let scale = 1, x = 0, y = 0; // zoom, and how far the image is moved
let choosing = false; // a part is being chosen
let details = null;
let actions = {}; // what the page does with an image: search({like}), more(), closed(place)

const tools = {
  close: tool("close", "Close", () => view.close()),
  part: tool("part", "Search in this image", () => choose(!choosing), { ariaPressed: "false" }),
  zoom: tool("zoom", "Zoom", () => zoom(scale > 1 ? 1 : 2.5), { className: "round wide" }),
  full: tool("full", "Full screen", fullScreen, { className: "round wide" }),
  tick: tool("check", "Select", () => { toggle(list[at]); showTick(); }, { ariaPressed: "false" }),
  save: tool("save", "Download", () => save(`${api}originals/${list[at].id}`)),
  info: tool("info", "Details", () => { view.classList.toggle("plain"); tools.info.ariaPressed = String(!view.classList.contains("plain")); fit(); }, { ariaPressed: "true" }),
};
const back = tool("left", "Previous image", () => step(-1));
const next = tool("right", "Next image", () => step(1));
back.classList.add("back");
next.classList.add("next");
photo.append(picture, boxes);
stage.append(photo, back, next);
view.append(make("div", { className: "top" }, tools.close, title, tools.part, tools.zoom, tools.full, tools.tick, tools.save, tools.info), stage, make("div", { className: "side" }, told, about));

/** Show an image of a list. */
export function open(pictures, place, todo) {
  list = pictures;
  actions = todo;
  if (!view.open) {
    view.classList.toggle("plain", innerWidth < 700);
    tools.info.ariaPressed = String(innerWidth >= 700);
    view.showModal();
  }
  go(place);
}

export const isOpen = () => view.open;
export const close = () => view.close();

async function step(by) {
  if (at + by >= list.length && !(await actions.more?.())) return;
  if (at + by >= 0) go(at + by);
}

const tell = (text) => { told.textContent = text; };

async function go(place) {
  at = place;
  const item = list[at], mine = ++turn, name = nameOf(item);
  title.textContent = name;
  tell("");
  choose(false);
  zoom(1);
  boxes.replaceChildren();
  details = null;
  picture.src = `${api}images/${item.id}`;
  picture.alt = item.rank ? `${item.rank}: ${name}` : name;
  picture.className = isTiny(item) ? "tiny" : "";
  photo.style.backgroundImage = `url("${thumbnail(item.id)}")`;
  picture.onerror = () => tell("This image is missing or cannot be read.");
  back.disabled = at === 0;
  next.disabled = at === list.length - 1 && !actions.more;
  fit();
  showTick();
  about.replaceChildren(...describe(item));
  history.replaceState(history.state, "", `#${item.id}`);
  try {
    const answer = await ask(`regions/${item.id}`);
    if (mine !== turn) return;
    details = answer;
    about.replaceChildren(...describe(item, answer));
    fit();
    drawParts();
    const { hits } = await ask(`images/${item.id}/similar?k=13&crops=false`);
    if (mine === turn) about.append(...neighbours(hits.filter((hit) => hit.id !== item.id)));
  } catch (error) { if (mine === turn) tell(error.message); }
}

function showTick() {
  tools.tick.ariaPressed = String(selected.has(list[at].id));
}

/** The image as large as there is room, and no larger than its file; tiny ones are enlarged. */
function fit() {
  const item = details ?? list[at];
  if (!item) return;
  const { width: w, height: h } = item;
  const room = Math.min(stage.clientWidth / w, stage.clientHeight / h);
  const most = isTiny(item) ? Math.max(1, Math.floor(Math.min(room, 400 / Math.max(w, h)))) : Math.min(1, room);
  Object.assign(photo.style, { width: `${w * most}px`, height: `${h * most}px` });
  move();
}

function move() {
  const slackX = Math.max(0, (photo.offsetWidth * scale - stage.clientWidth) / 2), slackY = Math.max(0, (photo.offsetHeight * scale - stage.clientHeight) / 2);
  x = Math.max(-slackX, Math.min(slackX, x));
  y = Math.max(-slackY, Math.min(slackY, y));
  photo.style.transform = scale === 1 ? "" : `translate(${x}px, ${y}px) scale(${scale})`;
  view.classList.toggle("zoomed", scale > 1);
}

/** Zoom in or out; the point of the screen that is named stays where it is. */
function zoom(to, point = null) {
  to = Math.max(1, Math.min(12, to));
  const frame = stage.getBoundingClientRect();
  const px = (point?.x ?? frame.x + frame.width / 2) - frame.x - frame.width / 2, py = (point?.y ?? frame.y + frame.height / 2) - frame.y - frame.height / 2;
  x = px - (px - x) * to / scale;
  y = py - (py - y) * to / scale;
  scale = to;
  if (scale > 1 && list[at] && Math.max(list[at].width, list[at].height) > 1600 && !picture.src.includes("full")) picture.src = `${api}images/${list[at].id}?full=true`;
  move();
}

function fullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else view.requestFullscreen?.().catch(() => tell("Your browser does not allow full screen here."));
}

// -- what is known of it

function describe(item, more = null) {
  const known = item.metadata ?? {};
  const scores = item.score === undefined ? "" : `${item.score.toFixed(4)}` + (item.z === null ? "" : `, normalised ${item.z.toFixed(2)}`);
  const rows = [
    ["Taken", (known.taken ?? more?.taken.taken)?.replace("T", " ").replace(/\.\d+/, "").replace("+00:00", " UTC")],
    ["Camera", known.camera ?? more?.taken.camera], ["Lens", known.lens ?? more?.taken.lens],
    ["Exposure", more && [more.taken.exposure && `${exposure(more.taken.exposure)} s`, more.taken.aperture && `f/${more.taken.aperture}`, more.taken.iso && `ISO ${more.taken.iso}`].filter(Boolean).join(", ")],
    ["Text", item.line], ["Keywords", known.keywords?.join(", ")],
    ["Label", item.label], ["Size", `${number(item.width)} × ${number(item.height)}` + (more ? `, ${size(more.bytes)}` : "")],
    ["File", item.path],
    ["Rank", item.rank && number(item.rank)], ["Probability", item.probability != null && `${Math.round(100 * item.probability)} %`],
    ["Similarity", scores],
  ];
  return [
    make("div", { className: "actions" },
      button("Find similar", () => search({ like: [item.id] }), { className: "main" }),
      button("Not like this", () => actions.search({ unlike: item.id })),
      button("Copy path", async () => { const mine = turn, text = await copy(item.path, "Path copied."); if (mine === turn) tell(text); }),
      make("a", { className: "button", href: `${api}images/${item.id}?full=true`, target: "_blank", rel: "noopener", textContent: "Open full size" }),
      button("Where was it taken?", where)),
    facts(rows)];
}

const exposure = (seconds) => seconds < 0.5 ? `1/${Math.round(1 / seconds)}` : String(Number(seconds));

async function where() {
  const mine = turn, item = list[at];
  try {
    const { location } = await ask(`regions/${item.id}?location=true`);
    if (mine !== turn) return;
    if (!location) { tell("This file does not say where it was taken."); return; }
    const place = location.map((degrees) => degrees.toFixed(5)).join(", ");
    told.replaceChildren(`Taken at ${place}. `, button("Images taken near here", () => search({ near: `${place.replace(" ", "")},1km` })));
  } catch (error) { if (mine === turn) tell(error.message); }
}

function neighbours(hits) {
  if (!hits.length) return [];
  const strip = hits.slice(0, 12).map((hit, n) => {
    const node = button("", () => open(hits, n, { ...actions, more: null }), { ariaLabel: `Similar: ${nameOf(hit)}` });
    node.append(make("img", { src: thumbnail(hit.id), alt: "", loading: "lazy" }));
    return node;
  });
  return [make("h3", { textContent: "Similar images" }), make("div", { className: "strip" }, ...strip)];
}

function search(what) {
  view.close();
  actions.search(what);
}

// -- parts

/** The part that won, and while a part is chosen all that are known, each to be searched for. */
function drawParts() {
  const item = list[at];
  if (!details) return;
  const known = details.views.map((part, n) => ({ ...part, n })).filter((part) => part.box);
  const won = (part) => item.view?.box && part.box.every((value, i) => Math.abs(value - item.view.box[i]) < 0.6);
  boxes.replaceChildren(...known.filter((part) => choosing || won(part)).map((part) => {
    const node = boxOf(part.box, details, "button");
    const name = part.label || `part ${part.n}`;
    Object.assign(node, { type: "button", ariaLabel: `Search for this part: ${name}`, title: `Search for this part: ${name}`, onclick: () => search({ like: [`${item.id}:${part.n}`] }) });
    if (won(part)) node.classList.add("won");
    if (choosing) node.append(make("span", { textContent: part.label || "" }));
    return node;
  }));
}

/** Begin to choose a part of the image, or end it. */
function choose(on) {
  choosing = on;
  tools.part.ariaPressed = String(on);
  view.classList.toggle("choosing", on);
  photo.querySelector(".own")?.remove();
  if (!list[at]) return;
  drawParts();
  if (!on) { tell(""); return; }
  zoom(1);
  tell("Click a box, or draw your own. With the keyboard: arrows move the box, Shift + arrows resize it, Enter searches.");
  const { offsetWidth: w, offsetHeight: h } = photo;
  own([w * 0.25, h * 0.25, w * 0.75, h * 0.75]).focus();
}

/** One's own box, x0, y0, x1, y1 in pixels of the page within the image. */
function own(box) {
  photo.querySelector(".own")?.remove();
  const { offsetWidth: w, offsetHeight: h } = photo;
  const node = boxOf(box, { width: w, height: h }, "div");
  node.classList.add("own");
  const go = button("Search for this part", () => {
    const item = details ?? list[at];
    const factor = item.width / w;
    search({ like: [`${list[at].id}@${box.map((value) => Math.round(value * factor)).join(",")}`] });
  }, { className: "main" });
  go.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const [dx, dy] = [by[0] * w / 20, by[1] * h / 20];
    const moved = event.shiftKey ? [box[0], box[1], Math.max(box[0] + w / 20, box[2] + dx), Math.max(box[1] + h / 20, box[3] + dy)] : [box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy];
    if (moved[0] >= 0 && moved[1] >= 0 && moved[2] <= w + 1 && moved[3] <= h + 1) own(moved).focus();
  });
  node.append(go);
  photo.append(node);
  return go;
}

// -- fingers, mouse, keys

const fingers = new Map();
let began = null; // where a finger or the mouse came down

const inPhoto = (event) => {
  const frame = photo.getBoundingClientRect();
  return { x: Math.max(0, Math.min(frame.width, event.clientX - frame.x)), y: Math.max(0, Math.min(frame.height, event.clientY - frame.y)) };
};

stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest(choosing ? "button:not(.box)" : "button")) return;
  fingers.set(event.pointerId, event);
  began = { x: event.clientX, y: event.clientY, from: inPhoto(event), left: x, top: y, distance: apart(), scale };
  // Whoever draws over a box does not click it.
  if (!choosing) stage.setPointerCapture(event.pointerId);
});

const apart = () => { const [a, b] = [...fingers.values()]; return b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0; };

stage.addEventListener("pointermove", (event) => {
  if (!fingers.has(event.pointerId)) return;
  fingers.set(event.pointerId, event);
  if (fingers.size === 2) {
    const [a, b] = [...fingers.values()];
    zoom(began.scale * apart() / began.distance, { x: (a.clientX + b.clientX) / 2, y: (a.clientY + b.clientY) / 2 });
    began.pinched = true;
  } else if (choosing) {
    const to = inPhoto(event), { from } = began;
    if (Math.hypot(event.clientX - began.x, event.clientY - began.y) > 8) stage.setPointerCapture(event.pointerId);
    if (Math.abs(to.x - from.x) > 8 && Math.abs(to.y - from.y) > 8) own([Math.min(from.x, to.x), Math.min(from.y, to.y), Math.max(from.x, to.x), Math.max(from.y, to.y)]);
  } else if (scale > 1) {
    [x, y] = [began.left + event.clientX - began.x, began.top + event.clientY - began.y];
    move();
  }
});

for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => {
  if (!fingers.delete(event.pointerId) || kind === "pointercancel" || began.pinched || choosing || scale > 1) return;
  const [dx, dy] = [event.clientX - began.x, event.clientY - began.y];
  if (event.pointerType !== "mouse" && Math.abs(dx) > 50 && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1);
  else if (event.pointerType !== "mouse" && dy > 90 && dy > 2 * Math.abs(dx)) view.close();
});
stage.addEventListener("dblclick", (event) => { if (!choosing && !event.target.closest("button")) zoom(scale > 1 ? 1 : 2.5, { x: event.clientX, y: event.clientY }); });
stage.addEventListener("wheel", (event) => { event.preventDefault(); if (!choosing) zoom(scale * Math.exp(-event.deltaY / 300), { x: event.clientX, y: event.clientY }); }, { passive: false });

document.addEventListener("keydown", (event) => {
  if (!view.open || event.ctrlKey || event.metaKey || event.altKey) return;
  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoom(scale * 1.5), "=": () => zoom(scale * 1.5), "-": () => zoom(scale / 1.5), 0: () => zoom(1), f: fullScreen, i: () => tools.info.click(), d: () => tools.save.click(), s: () => choose(!choosing), x: () => tools.tick.click() };
  if (!(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
view.addEventListener("cancel", (event) => { if (choosing) { event.preventDefault(); choose(false); tools.part.focus(); } });
view.addEventListener("close", () => {
  turn++;
  picture.removeAttribute("src");
  if (document.fullscreenElement) document.exitFullscreen();
  actions.closed(at, list);
});
addEventListener("resize", () => { if (view.open) fit(); });
