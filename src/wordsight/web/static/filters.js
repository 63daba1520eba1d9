// Filters as chips: each is shown where the library has something to choose from.
import { $, ask, button, make, number } from "./core.js";

const LIMITS = ["label", "after", "before", "folder", "camera", "orientation", "near"];
let facets = null;
let crops = false; // whether some images have crops
let between = false; // two dates are chosen instead of a year
let latest = null; // the query to draw: another may come while the choices are asked for

/** The filters that are on. */
export const filtered = (query) => LIMITS.filter((key) => query[key]);

/** What changes between a search with crops and one without; null where there are none. */
export const otherCrops = (query) => crops ? { crops: query.crops === "true" ? "false" : "true" } : null;

/** Draw the chips for a query; `search` is called with what changes. */
export async function fill(query, search, images, about = null) {
  latest = query;
  if (about) {
    crops = Object.keys(about.crops).some((kind) => kind !== "none");
    facets = await ask("facets").catch(() => null);
    query = latest;
  }
  const chips = facets ? [
    ...years(query, search),
    chip("Folder", query.folder, shortened(facets.folders), (folder) => search({ folder })),
    chip("Camera", query.camera, facets.cameras, (camera) => search({ camera })),
    chip("Label", query.label, facets.labels.map((one) => ({ ...one, text: one.value.replaceAll("_", " ") })), (label) => search({ label })),
    chip("Shape", query.orientation, facets.orientations, (orientation) => search({ orientation })),
  ] : [];
  if (query.near) chips.push(button(`Near ${query.near.replace(/,([^,]*)$/, " within $1")} ✕`, () => search({ near: "" }), { className: "chip on" }));
  if (query.q || query.like.length) {
    chips.push(choice("Sort", query.sort, { score: "Best match first", "-taken": "Newest first", taken: "Oldest first" }, "score", (sort) => search({ sort })));
    if (query.q) chips.push(choice("Strictness", query.false_accept, { 0.01: "Strict", 0.05: "Normal strictness", 0.2: "Lenient" }, "0.05", (rate) => search({ false_accept: rate })));
    if (crops) chips.push(choice("Crops", query.crops, { true: "With crops", false: "Whole images only" }, "true", (value) => search({ crops: value })));
  }
  if (filtered(query).length > 1) chips.push(button("Clear filters", () => search(Object.fromEntries(LIMITS.map((key) => [key, ""]))), { className: "chip" }));
  const held = document.activeElement?.ariaLabel; // the chip that was changed keeps the focus
  $("filters").replaceChildren(...chips.filter(Boolean));
  if (held) $("filters").querySelector(`[aria-label="${held}"]`)?.focus();
}

function choice(name, value, options, usual, change) {
  const select = make("select", { className: "chip", ariaLabel: name }, ...Object.entries(options).map(([key, text]) => new Option(text, key)));
  if (!(value in options)) select.append(new Option(value, value));
  select.value = value;
  select.classList.toggle("on", value !== usual);
  select.addEventListener("change", () => change(select.value));
  return select;
}

/** A chip of values with how many images have them; none where there is nothing to choose. */
function chip(name, value, values, change) {
  if (values.length < 2 && !value) return null;
  const options = Object.fromEntries([["", name], ...values.map((one) => [one.value, `${one.text ?? one.value} (${number(one.images)})`])]);
  const select = choice(name, value, options, "", change);
  // An object would put years and other whole numbers first.
  select.prepend(...[...select.options].filter((option) => !option.value));
  select.value = value;
  return select;
}

function years(query, search) {
  if (!facets.years.length && !query.after && !query.before) return [];
  const year = /^\d{4}$/.test(query.after) && Number(query.before) === Number(query.after) + 1 ? query.after : "";
  const other = between || (!year && (query.after || query.before));
  const select = chip("Date", other ? "between" : year, [...facets.years].reverse(), (value) => {
    between = value === "between";
    if (between) fill(query, search); else search({ after: value, before: value && String(Number(value) + 1) });
  }) ?? choice("Date", other ? "between" : "", { "": "Date" }, "", () => {});
  if (!select.querySelector('[value="between"]')) select.append(new Option("", "between"));
  select.querySelector('[value="between"]').textContent = "Between two dates …";
  if (other) select.value = "between";
  if (!other) return [select];
  const day = (name, key) => {
    const field = make("input", { type: "date", className: "chip", ariaLabel: name, title: name, value: query[key] });
    field.addEventListener("change", () => search({ [key]: field.value }));
    return field;
  };
  return [select, day("Taken from", "after"), day("Taken before", "before")];
}

/** Folders without the beginning that all of them share. */
function shortened(folders) {
  const parts = folders.map((one) => one.value.split("/"));
  let same = 0;
  while (parts.length && parts.every((names) => names.length > same + 1 && names[same] === parts[0][same])) same++;
  return folders.map((one, n) => ({ ...one, text: parts[n].slice(same).join("/") }));
}
