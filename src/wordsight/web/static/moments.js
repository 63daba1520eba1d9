// Moments in videos, which play in place.
import { $, ask, clock, fileName, make } from "./core.js";

/** Show the moments for words above the pictures, if they are still `wanted` when they come. */
export async function show(words, wanted) {
  const { moments } = await ask(`moments?${new URLSearchParams({ q: words })}`);
  if (!wanted() || !moments.length) return;
  $("moments").replaceChildren(...moments.map((moment) => {
    const name = `${fileName(moment.video)}, ${clock(moment.start)} to ${clock(moment.end)}`;
    const image = make("img", { src: moment.still, alt: `${moment.rank}: ${name}`, loading: "lazy" });
    const play = make("button", { type: "button", className: "play", ariaLabel: `Play ${name}` }, image);
    play.addEventListener("click", () => {
      const video = make("video", { src: moment.media, controls: true, autoplay: true, ariaLabel: name });
      play.replaceWith(video);
      video.focus();
    });
    return make("li", {}, play, make("span", { textContent: name }));
  }));
  $("moments").hidden = false;
}
