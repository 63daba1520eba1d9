// Moments in videos, which play in place.
import { $, clock, fileName, make } from "./core.js";

/** Show moments above the pictures. */
export function show(moments) {
  $("moments").replaceChildren(...moments.map((moment) => {
    const name = `${fileName(moment.video)}, ${clock(moment.start)} to ${clock(moment.end)}`;
    const image = make("img", { src: moment.thumbnail, alt: `${moment.rank}: ${name}` });
    const play = make("button", { type: "button", className: "play", ariaLabel: `Play ${name}` }, image);
    play.addEventListener("click", () => {
      const video = make("video", { src: moment.link, controls: true, autoplay: true, ariaLabel: name });
      play.replaceWith(video);
      video.focus();
    });
    return make("li", {}, play, make("span", { textContent: name }));
  }));
  $("moments").hidden = false;
}
