// Near-duplicates side by side, with a suggestion which to keep. Nothing is deleted: the others can be
// selected, and then saved or their paths copied, as any selection.
import { $, ask, button, count, fileName, icon, isTiny, make, number, size, thumbnail } from "./core.js";
import { selected, toggle } from "./grid.js";

const STEP = 50; // groups that are drawn at a time
let open = () => {}; // shows an image of a list
let groups = [];
let drawn = 0;

/** The section is shown: made when it is for the first time; `view` opens an image of a list. */
export function enter(section, view) {
  open = view;
  if (!section.firstChild) {
    section.innerHTML = `
      <h2>Duplicates</h2>
      <p>Copies, crops and photographs taken in a row, side by side. The first of each group is the suggested
      one to keep, by size and sharpness. Nothing is deleted.</p>
      <p class="actions"><button id="find-duplicates" type="button" class="main">Find duplicates</button>
      <button id="select-extra" type="button" hidden>Select all but the best</button></p>
      <progress id="duplicates-progress" aria-label="Finding duplicates" max="1" value="0" hidden></progress>
      <p id="duplicates-status" role="status"></p>
      <div id="groups"></div>
      <button id="more-groups" type="button" hidden>Show more groups</button>`;
    $("find-duplicates").addEventListener("click", find);
    $("select-extra").addEventListener("click", () => select(groups.flatMap(others)));
    $("more-groups").addEventListener("click", draw);
    $("hits").addEventListener("select", mark); // the selection is that of all sections
  }
  if (!$("find-duplicates").disabled) follow(ask("duplicates"));
}

const others = ({ images }) => images.slice(1);

function select(images) {
  for (const image of images) if (!selected.has(image.id)) toggle(image);
}

const find = () => follow(ask("duplicates", { method: "POST" }));

/** Show an answer, and the ones after it until the search has ended. */
async function follow(asked) {
  $("find-duplicates").disabled = true;
  try {
    let answer = await asked;
    while (answer.state === "reading" || answer.state === "comparing") {
      tell(answer);
      await new Promise((resume) => { setTimeout(resume, 500); });
      answer = await ask("duplicates");
    }
    tell(answer);
  } catch (error) { $("duplicates-status").textContent = error.message; }
  $("duplicates-progress").hidden = true;
  $("find-duplicates").disabled = false;
}

function tell({ state, done, total, error, found }) {
  const bar = $("duplicates-progress");
  bar.hidden = state !== "reading" && state !== "comparing";
  if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
  const nouns = { reading: "image", comparing: "pair" };
  if (state in nouns) {
    const how = state === "reading" ? "Reading" : "Comparing";
    $("duplicates-status").textContent = total ? `${how}: ${number(done)} of ${count(total, nouns[state])}` : `${how} …`;
  } else if (state === "failed") $("duplicates-status").textContent = `Failed: ${error}`;
  else if (found) show(found);
}

function show(found) {
  groups = found.groups;
  drawn = 0;
  $("groups").replaceChildren();
  $("select-extra").hidden = !groups.length;
  const more = groups.reduce((sum, group) => sum + group.images.length - 1, 0);
  const skipped = found.skipped.length ? ` ${count(found.skipped.length, "image")} could not be read.` : "";
  const alike = found.expected > found.false_merge && groups.length ? " Many images here are nearly alike: some groups may be wrong." : "";
  $("duplicates-status").textContent = (groups.length
    ? `${count(groups.length, "group")} in ${count(found.images, "image")}; ${number(more)} besides the best ones.`
    : `No duplicates in ${count(found.images, "image")}.`) + alike + skipped;
  $("find-duplicates").textContent = "Search again";
  draw();
}

function draw() {
  $("groups").append(...groups.slice(drawn, drawn + STEP).map(drawGroup));
  drawn = Math.min(groups.length, drawn + STEP);
  $("more-groups").hidden = drawn === groups.length;
  mark();
}

function drawGroup(group) {
  const { images, likeness } = group;
  const alike = likeness >= 1 ? "identical files" : `likeness ${likeness.toFixed(2)}`;
  const heading = make("div", { className: "actions" }, make("h3", { textContent: `${count(images.length, "image")}, ${alike}` }),
    button(images.length > 2 ? "Select the others" : "Select the other", () => select(others(group))));
  return make("section", { className: "group", ariaLabel: `${fileName(images[0].path)} and ${images.length - 1} more` }, heading,
    make("ul", {}, ...images.map((image, place) => card(images, place))));
}

function card(images, place) {
  const image = images[place], name = fileName(image.path);
  const picture = make("img", { src: thumbnail(image.id, 640), alt: name, loading: "lazy", className: isTiny(image) ? "tiny" : "" });
  picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "gone", textContent: `${name}: the file is missing` })), { once: true });
  const tick = make("button", { type: "button", className: "tick", ariaLabel: `Select ${name}` }, icon("check"));
  tick.addEventListener("click", () => toggle(image));
  const known = [`${number(image.width)} × ${number(image.height)}`, size(image.bytes), image.taken?.slice(0, 16).replace("T", " ")];
  const shown = make("button", { type: "button", className: "hit", ariaLabel: `Open ${name}` }, picture);
  shown.addEventListener("click", () => open(place, images));
  const node = make("li", {}, shown, tick, make("p", {}, ...(place ? [] : [make("strong", { textContent: "Keep" }), " "]),
    make("span", { textContent: name, title: image.path }), make("small", { textContent: known.filter(Boolean).join(", ") })));
  node.dataset.id = image.id;
  return node;
}

function mark() {
  for (const node of $("groups").querySelectorAll("li")) {
    const on = selected.has(node.dataset.id);
    node.classList.toggle("selected", on);
    node.querySelector(".tick").setAttribute("aria-pressed", on);
  }
}
