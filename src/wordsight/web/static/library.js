// The library: what it holds, folders to index, files that were left out.
import { $, ask, count, facts, make, number, send, size } from "./core.js";

let following = null; // the event stream of the running job, until one knows that it has ended

/** The section is shown: made when it is for the first time, and brought up to date. */
export async function enter(section) {
  if (!section.firstChild) {
    section.innerHTML = `
      <h2>Library</h2>
      <div id="facts"></div>
      <p id="larger" class="quiet" hidden>This is the small built-in model. It finds everyday things in photographs.
      A full CLIP model also knows people, actions and colours: <code>wordsight models</code> lists them.</p>
      <h2>Index a folder</h2>
      <p id="no-folders" class="quiet" hidden>To index a folder from this page, start the server with
      <code>wordsight serve --allow-index DIR</code>. Or run <code>wordsight index DIR</code>.</p>
      <form id="index-form" class="actions" hidden>
        <span class="field"><label for="folder">Folder</label> <select id="folder"></select></span>
        <span class="field"><label for="index-crops">Crops</label> <select id="index-crops"><option value="">same as last time</option><option value="none">none</option><option value="tiles">tiles</option><option value="maskrcnn">objects (Mask R-CNN)</option></select></span>
        <button type="submit" class="main">Index</button>
        <button id="cancel" type="button" hidden>Cancel</button>
      </form>
      <progress id="progress" aria-label="Indexing" max="1" value="0" hidden></progress>
      <p id="job" role="status"></p>
      <div id="skipped-part" hidden>
        <h2>Skipped files</h2>
        <div class="scroll" tabindex="0" role="region" aria-label="Skipped files">
          <table><thead><tr><th scope="col">File</th><th scope="col">Reason</th></tr></thead><tbody id="skipped"></tbody></table>
        </div>
      </div>`;
    $("index-form").addEventListener("submit", (event) => { event.preventDefault(); startJob(); });
  }
  const failed = (error) => { $("job").textContent = error.message; };
  load().catch(failed);
  loadFolders().catch(failed);
}

async function load() {
  const about = await ask("library");
  const crops = Object.entries(about.crops).filter(([kind]) => kind !== "none").map(([kind, n]) => `${kind.split(",")[0]}: ${count(n, "image")}`).join(", ");
  $("facts").replaceChildren(facts([
    ["Contents", count(about.images, "image") + (about.views > about.images ? `, ${count(about.views, "view")} (images and crops)` : "")],
    ["Crops", crops], ["Model", `${about.model.name}, ${about.model.dim} dimensions`], ["On disk", size(about.bytes)], ["Folder", about.library],
    ["Labels", about.labels.slice(0, 30).map(({ label, images }) => `${label} (${number(images)})`).join(", ") + (about.labels.length > 30 ? ` and ${about.labels.length - 30} more` : "")]]));
  $("larger").hidden = about.model.name !== "starter";
  $("skipped-part").hidden = !about.skipped.length;
  $("skipped").replaceChildren(...about.skipped.map(({ path, reason }) => make("tr", {}, make("td", { textContent: path }), make("td", { textContent: reason }))));
}

async function loadFolders() {
  const { folders } = await ask("index/folders");
  $("no-folders").hidden = folders.length > 0;
  $("index-form").hidden = !folders.length;
  $("folder").replaceChildren(...folders.map(({ id, path }) => new Option(path, id)));
  const { jobs } = await ask("index/jobs");
  const running = jobs.find((job) => job.state === "running");
  if (running) follow(running);
  else if (following) told(jobs[0] || { state: "failed", error: "the server was restarted" }); // its end was missed
}

function follow(job) {
  following?.close();
  following = new EventSource(`api/v1/index/jobs/${job.id}/events`);
  $("cancel").hidden = false;
  $("cancel").disabled = false;
  $("cancel").onclick = () => { $("cancel").disabled = true; ask(`index/jobs/${job.id}`, { method: "DELETE" }).catch((error) => { $("job").textContent = error.message; }); };
  following.onmessage = (event) => told(JSON.parse(event.data));
  following.onerror = () => { following?.close(); $("job").textContent = "Connection lost. Reload this page to follow the job."; };
  told(job);
}

function told(job) {
  const running = job.state === "running";
  $("progress").hidden = !running;
  if (job.total) { $("progress").max = job.total; $("progress").value = job.done; } else $("progress").removeAttribute("value");
  $("index-form").querySelector("[type=submit]").disabled = running;
  if (running) {
    $("job").textContent = job.total ? `${number(job.done)} of ${count(job.total, "image")}` : `Scanning ${job.path} …`;
    return;
  }
  following?.close();
  following = null;
  $("cancel").hidden = true;
  const report = job.report;
  $("job").textContent = {
    done: report && `Done in ${report.seconds.toFixed(1)} s: ${report.indexed} indexed, ${report.reused} moved or copied, ${report.unchanged} unchanged, ${report.failed.length} skipped.`,
    cancelled: `Cancelled. The ${count(job.done, "image")} done so far are kept.`,
    failed: `Failed: ${job.error}`,
  }[job.state];
  load().catch(() => {}); // the next visit of this section says why
}

async function startJob() {
  try { follow(await send("index/jobs", { folder: $("folder").value, crops: $("index-crops").value || null })); }
  catch (error) { $("job").textContent = error.message; }
}
