// What the keys do, for whoever presses "?".
import { $, make, tool } from "./core.js";

const KEYS = {
  "Everywhere": { "/": "Search", "1 to 5": "Images, Classify, Library, Duplicates, Evaluate", "?": "These keys" },
  "Search field": { "Enter": "Search", "Tab, Enter": "Go to the images" },
  "Images": { "Arrows, Home, End": "Go to another image", "Enter": "Open", "Space or x": "Select", "Shift + arrows": "Select several", "Ctrl + A": "Select all that are loaded", "c": "With crops, or whole images only", "Esc": "Clear the selection" },
  "One image": { "Left, right": "Previous, next", "+, -, 0": "Zoom in, out, fit", "f": "Full screen", "i": "Details", "d": "Download", "x": "Select", "s": "Search in this image", "Esc": "Close" },
};

/** Show them, until Esc or the button closes them. */
export function open() {
  const dialog = $("keys");
  if (!dialog.firstChild) dialog.append(
    make("div", { className: "top" }, make("h2", { id: "keys-title", textContent: "Keys" }), tool("close", "Close", () => dialog.close())),
    make("div", { className: "groups" }, ...Object.entries(KEYS).map(([place, keys]) => make("section", {}, make("h3", { textContent: place }), make("dl", {}, ...Object.entries(keys).flatMap(([key, does]) =>
      [make("dt", { textContent: key }), make("dd", { textContent: does })]))))));
  dialog.showModal();
}
