// Moments in videos, which play in place above the scores of their video.
import { $, ask, clock, fileName, make } from "./core.js";

const WIDE = 400, HIGH = 40; // units of the curve's drawing

/** Show the moments for words above the images, if they are still `wanted` when they come. */
export async function show(words, wanted) {
  const { moments, series = [], least } = await ask(`moments?${new URLSearchParams({ q: words })}`);
  if (!wanted() || !moments.length) return;
  const curves = new Map(series.map((each) => [each.video, each]));
  $("moments").replaceChildren(...moments.map((moment) => card(moment, curves.get(moment.video), least)));
  $("moments").hidden = false;
}

function card(moment, series, least) {
  const name = `${fileName(moment.video)}, ${clock(moment.start)} to ${clock(moment.end)}`;
  const image = make("img", { src: moment.still, alt: `${moment.rank}: ${name}`, loading: "lazy" });
  const play = make("button", { type: "button", className: "play", ariaLabel: `Play ${name}` }, image);
  let video = null;
  const open = () => {
    video = make("video", { src: moment.media, controls: true, autoplay: true, ariaLabel: name });
    play.replaceWith(video);
  };
  play.addEventListener("click", () => { open(); video.focus(); });
  const seek = (seconds) => { if (!video) open(); video.currentTime = seconds; };
  return make("li", {}, play, make("span", { textContent: name }), ...(series?.z.length ? [timeline(moment, series, least, seek)] : []));
}

/** The scores of a video over time, with the moment marked; to be moved along, like a slider. */
function timeline(moment, { times, untils, z }, least, seek) {
  const end = untils.at(-1), top = Math.max(...z, least ?? 0, 1);
  const x = (seconds) => (WIDE * seconds / end).toFixed(1), y = (score) => (HIGH - (HIGH - 2) * Math.max(0, score) / top).toFixed(1);
  const path = z.map((score, n) => `${n ? "L" : "M"}${x(times[n])} ${y(score)}H${x(untils[n])}`).join("");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const draw = (tag, attributes) => {
    const node = document.createElementNS(svg.namespaceURI, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    svg.append(node);
  };
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  draw("rect", { x: x(moment.start), y: 0, width: Math.max(2, x(moment.end) - x(moment.start)), height: HIGH });
  if (least != null) draw("line", { x1: 0, x2: WIDE, y1: y(least), y2: y(least) });
  draw("path", { d: path });
  const place = make("input", { type: "range", min: 0, max: end, step: "any", value: moment.best, ariaLabel: `Time in ${fileName(moment.video)}` });
  const say = () => { place.ariaValueText = clock(place.value); };
  say();
  place.addEventListener("input", () => { say(); seek(Number(place.value)); });
  return make("div", { className: "timeline" }, svg, place);
}
