// How well the library finds its own labels: a table, and Recall@K as bars.
import { $, ask, count, make } from "./core.js";

const KEYS = ["recall@1", "recall@5", "recall@10", "precision@10", "mrr", "map", "median_rank"];
const NAMES = { mrr: "MRR", map: "mAP", median_rank: "Median rank" };

/** The section is shown: made when it is for the first time. */
export function enter(section) {
  if (!section.firstChild) {
    section.innerHTML = `
      <h2>Evaluate</h2>
      <p>Each label of the library is used as a prompt; images with that label count as correct.</p>
      <button id="run-evaluation" type="button" class="main">Run evaluation</button>
      <p id="evaluation-status" role="status"></p>
      <div id="evaluation" hidden>
        <div class="scroll" tabindex="0" role="region" aria-label="Figures"><table id="figures"></table></div>
        <div id="plot"></div>
      </div>`;
    $("run-evaluation").addEventListener("click", run);
  }
  ask("evaluation").then((answer) => $("run-evaluation").disabled || show(answer)).catch(() => {});
}

const name = (key) => NAMES[key] || key.replace("recall", "Recall").replace("precision", "Precision");

function show(answer) {
  const methods = Object.entries(answer.methods);
  const keys = KEYS.filter((key) => key in methods[0][1]);
  const head = make("tr", {}, make("th", { scope: "col", textContent: "Method" }), ...keys.map((key) => make("th", { scope: "col", textContent: name(key) })));
  const rows = methods.map(([method, figures]) => make("tr", {}, make("th", { scope: "row", textContent: method }),
    ...keys.map((key) => {
      const [low, high] = answer.intervals[method]?.[key] || [];
      const plain = key === "median_rank";
      return make("td", {}, plain ? String(figures[key]) : figures[key].toFixed(3), ...(low === undefined || plain ? [] : [make("small", { textContent: `${low.toFixed(3)}–${high.toFixed(3)}` })]));
    })));
  $("figures").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
  $("plot").replaceChildren(...keys.filter((key) => key.startsWith("recall")).flatMap((key) => [make("h3", { textContent: name(key) }),
    ...methods.map(([method, figures]) => make("div", { className: "bar-row" }, make("span", { textContent: method }), make("meter", { max: 1, value: figures[key], ariaLabel: `${name(key)}, ${method}` }), make("span", { textContent: figures[key].toFixed(3) })))]));
  $("evaluation").hidden = false;
  $("evaluation-status").textContent = `${answer.queries} prompts, ${count(answer.gallery, "image")}. The small figures are 95 % intervals.`;
}

async function run() {
  $("run-evaluation").disabled = true;
  $("evaluation-status").textContent = "Measuring … This takes about a minute for a large library.";
  try { show(await ask("evaluation", { method: "POST" })); }
  catch (error) { $("evaluation-status").textContent = error.message; }
  $("run-evaluation").disabled = false;
}
