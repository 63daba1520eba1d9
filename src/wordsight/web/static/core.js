// What all parts of the page use: the API, nodes, words.
export const $ = (id) => document.getElementById(id);
export const api = "api/v1/"; // relative: the page may lie under any path of a proxy
const LARGEST = 20 * 2 ** 20; // bytes of an image that the server takes

export async function ask(path, options) {
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

export const send = (path, body) => ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export function button(text, action, props = {}) {
  const node = make("button", { type: "button", textContent: text, ...props });
  node.addEventListener("click", action);
  return node;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstChild.setAttribute("href", `#i-${name}`);
  return svg;
}

/** A round button that shows an icon; its name is read and shown on hover. */
export function tool(symbol, name, action, props = {}) {
  const node = button("", action, { ariaLabel: name, title: name, className: "round", ...props });
  node.append(icon(symbol));
  return node;
}

/** A message of the server as a sentence. */
export const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?:”"]$/.test(text) ? "" : ".");

export const number = (n) => n.toLocaleString("en");
export const count = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
export const size = (bytes) => bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
export const fileName = (path) => path.split(/::|\//).pop();
export const isTiny = (image) => Math.max(image.width, image.height) < 100;
export const thumbnail = (id, side = 320) => `${api}thumbnails/${id}?side=${side}`;

const FRAME = /([^/]+)::t=([\d.]+)$/; // a file and the seconds since its beginning
export const isFrame = (image) => FRAME.test(image.path);

/** The time of a frame in its video, as players show it; null where the image is no frame. */
export function timeOf(image) {
  const frame = FRAME.exec(image.path);
  return frame && clock(Number(frame[2]));
}

/** What an image is called: its label, or its file; a frame of a video has its time beside. */
export function nameOf(image) {
  const frame = FRAME.exec(image.path);
  if (frame) return `${frame[1]}, ${clock(Number(frame[2]))}`;
  return image.label?.replaceAll("_", " ") || fileName(image.path);
}

/** Seconds as players show them: 1:05, and 1:02:05 from an hour on. */
export function clock(seconds) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}:${two(seconds % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
}

export function facts(rows) {
  return make("dl", { className: "facts" }, ...rows.filter(([, value]) => value).flatMap(([key, value]) =>
    [make("dt", { textContent: key }), make("dd", {}, value)]));
}

/** Show a file of the user's; what the browser holds for it is given back. */
export function preview(image, file) {
  const source = URL.createObjectURL(file);
  for (const event of ["load", "error"]) image.addEventListener(event, () => URL.revokeObjectURL(source), { once: true });
  image.src = source;
  return image;
}

export const tooLarge = (file) => file.size > LARGEST && `${file.name} is too large: ${size(file.size)}, and the limit is ${size(LARGEST)}. Make it smaller first.`;

/** Copy text; what to tell the user. */
export async function copy(text, done) {
  try { await navigator.clipboard.writeText(text); return done; }
  catch { return "Your browser does not allow copying here."; }
}

/** Save what is at an address of this site, or what is in a blob, as a file. */
export function save(href, name = "") {
  const link = make("a", { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
