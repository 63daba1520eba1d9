// What images show: labels for one image or for many, as bars and as a table to take away.
import { $, ask, make, preview, save, tooLarge } from "./core.js";

let answers = []; // [file, answer or null], in the order in which they were chosen
let turn = 0; // answers for other labels come too late

/** The section is shown: made when it is for the first time. */
export async function enter(section) {
  if (section.firstChild) return;
  section.innerHTML = `
    <h2>Classify</h2>
    <p>Finds the labels that fit each image best. If none fits, it says so.</p>
    <form id="classify-form">
      <p class="actions"><label class="file button main">Choose images … <input id="classify-image" type="file" accept="image/*" multiple></label>
      <span class="quiet">or drop or paste them here; even 32 × 32 pixels will do</span></p>
      <p><label for="label-set">Labels</label> <select id="label-set" disabled><option value="">Your own labels …</option></select></p>
      <p id="own" hidden><label for="labels">Your labels, separated by commas</label> <input id="labels" value="dog, cat, car"></p>
      <details><summary>Prompt templates</summary>
        <p><label for="template">One template per line; {} stands for the label</label> <textarea id="template" rows="3" spellcheck="false"></textarea></p>
        <p><button id="ensemble" type="button">Use prompt ensemble</button></p>
      </details>
      <p class="actions"><button id="again" type="submit" hidden>Classify again</button> <button id="csv" type="button" hidden>Download CSV</button></p>
    </form>
    <p id="verdict" role="status"></p>
    <ol id="verdicts"></ol>`;
  $("classify-image").addEventListener("change", ({ target }) => { take([...target.files]); target.value = ""; });
  $("classify-form").addEventListener("submit", (event) => { event.preventDefault(); classify(); });
  $("label-set").addEventListener("change", () => { $("own").hidden = $("label-set").value !== ""; });
  $("csv").addEventListener("click", download);
  try {
    const about = await ask("classify");
    $("label-set").prepend(...about.label_sets.map((name) => new Option(name)));
    $("label-set").selectedIndex = 0;
    $("template").value = about.template;
    $("ensemble").onclick = () => { $("template").value = about.ensemble.join("\n"); };
  } catch { $("own").hidden = false; } // one's own labels are left
  $("label-set").disabled = false; // a choice made before the sets were there would be lost
}

/** Classify these files. */
export function take(files) {
  answers = [...files].map((file) => [file, null]);
  $("again").hidden = false;
  $("verdicts").replaceChildren(...answers.map(([file]) => make("li", {},
    preview(make("img", { alt: "" }), file), make("div", {}, make("h3", { textContent: file.name }), make("div", { className: "quiet", textContent: "Waiting …" })))));
  classify();
}

async function classify() {
  const mine = ++turn;
  if (!answers.length) return;
  const params = new URLSearchParams({ labels: $("label-set").value || $("labels").value });
  for (const template of $("template").value.split("\n")) if (template.trim()) params.append("template", template.trim());
  $("csv").hidden = true;
  for (const [n, one] of answers.entries()) {
    $("verdict").textContent = answers.length > 1 ? `Classifying ${n + 1} of ${answers.length} …` : "Classifying …";
    const place = $("verdicts").children[n].lastChild;
    one[1] = null;
    try {
      if (tooLarge(one[0])) throw new Error(tooLarge(one[0]));
      const answer = await ask(`classify?${params}`, { method: "POST", body: one[0] });
      if (mine !== turn) return;
      one[1] = answer;
      place.replaceChildren(...verdict(one[0], answer));
    } catch (error) {
      if (mine !== turn) return;
      place.replaceChildren(make("h3", { textContent: one[0].name }), make("p", { textContent: error.message }));
    }
  }
  const done = answers.filter(([, answer]) => answer).length;
  $("verdict").textContent = `${done} of ${answers.length} classified`;
  $("csv").hidden = !done;
}

const plain = (label) => label.replaceAll("_", " ");

function verdict(file, answer) {
  const head = make("h3", { textContent: answer.none_of_these ? "None of these" : plain(answer.top[0].label) });
  const name = make("p", { className: "quiet", textContent: file.name });
  if (answer.none_of_these) return [head, make("p", { textContent: `No label fits better than unrelated phrases do. Closest: ${answer.top.map((c) => plain(c.label)).join(", ")}.` }), name];
  return [head, ...answer.top.map((c) => make("div", { className: "bar-row" }, make("span", { textContent: plain(c.label) }),
    make("meter", { max: 1, value: c.confidence, ariaLabel: plain(c.label) }), make("span", { textContent: `${(100 * c.confidence).toFixed(1)} %` }))), name];
}

/** The table of what was found; a cell that a spreadsheet would take for a formula is text. */
function download() {
  const cell = (value) => { const text = String(value); return `"${(/^[=+\-@\t]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`; };
  const most = Math.max(...answers.map(([, answer]) => answer?.top.length ?? 0));
  const head = ["file", "verdict", ...Array.from({ length: most }, (_, n) => [`label ${n + 1}`, `confidence ${n + 1}`]).flat()];
  const rows = answers.filter(([, answer]) => answer).map(([file, answer]) => [file.name, answer.none_of_these ? "none of these" : answer.top[0].label, ...answer.top.flatMap((c) => [c.label, c.confidence])]);
  const source = URL.createObjectURL(new Blob([[head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n")], { type: "text/csv" }));
  save(source, "classified.csv");
  setTimeout(() => URL.revokeObjectURL(source), 1000);
}
