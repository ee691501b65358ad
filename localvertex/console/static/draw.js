// The drawing page: what is on the paper goes to the chosen endpoint, and its answer is shown.

import { details, headline } from "./answers.js";
import { Sketch } from "./sketch.js";

const NO_ENDPOINT = "No endpoint has a deployed model yet. Deploy one, and choose it here.";
const WAITING_SHOWS_AFTER = 250; // milliseconds

const at = (id) => document.getElementById(id);
const [endpoint, paper, problem, answer] = ["endpoint", "paper", "problem", "answer"].map(at);
const sketch = new Sketch(paper, changed);
let asking = null; // the request under way
let opened = null; // the file of the picture that the paper shows

at("undo").addEventListener("click", () => sketch.undo());
at("clear").addEventListener("click", () => sketch.clear());
at("pen").addEventListener("input", (event) => (sketch.penWidth = event.target.valueAsNumber / 100));
at("file").addEventListener("change", open);
endpoint.addEventListener("change", choose);
document.addEventListener("keydown", key);
window.addEventListener("focus", list); // models may have been deployed meanwhile
list();

async function list() {
  try {
    const found = await call("api/endpoints");
    const chosen = endpoint.value || new URLSearchParams(location.search).get("endpoint");
    endpoint.replaceChildren(...found.map((each) => option(each, found)));
    endpoint.disabled = found.length === 0;
    if (found.some((each) => each.name === chosen)) endpoint.value = chosen;
    if (!found.length) endpoint.append(new Option("none", ""));
    tell(found.length ? "" : NO_ENDPOINT);
  } catch (error) {
    tell(error.message);
  }
}

function option(each, all) {
  const alike = all.filter((other) => other.display_name === each.display_name).length > 1;
  const where = alike ? ` (${each.location}, ${each.name.split("/").at(-1)})` : "";
  const made = new Option(each.display_name + where, each.name);
  made.title = each.models.join(", ");
  return made;
}

function choose() {
  history.replaceState(null, "", `?${new URLSearchParams({ endpoint: endpoint.value })}`);
  ask();
}

function key(event) {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") sketch.undo();
  else if (event.key === "Delete" && document.activeElement === paper) sketch.clear();
  else return;
  event.preventDefault();
}

async function open(event) {
  const [file] = event.target.files;
  event.target.value = ""; // the same file can be opened again
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file);
    opened = file;
    sketch.show(bitmap);
  } catch {
    tell(`${file.name} is no picture that this browser can read.`);
  }
}

function changed() {
  if (!sketch.backdrop) opened = null;
  at("undo").disabled = at("clear").disabled = sketch.empty;
  paper.classList.toggle("empty", sketch.empty);
  const strokes = sketch.strokes.length;
  const shows = opened ? opened.name : strokes ? `${strokes} stroke${strokes > 1 ? "s" : ""}` : "nothing yet";
  paper.setAttribute("aria-label", `Paper, showing ${shows}`);
  ask();
}

/** Asks about what is there now; an answer to what was there before is dropped. */
async function ask() {
  asking?.abort();
  const mine = (asking = endpoint.value && !sketch.empty ? new AbortController() : null);
  answer.ariaBusy = Boolean(mine);
  if (!mine) return endpoint.value && show(null);
  const waiting = setTimeout(() => answer.replaceChildren(opened ? `Asking about ${opened.name}…` : "Asking…"),
    WAITING_SHOWS_AFTER);
  try {
    const picture = await base64(opened ?? (await sketch.picture()));
    const instances = [{ bytes_inputs: { b64: picture } }];
    const told = await call("api/predict", { endpoint: endpoint.value, instances }, mine.signal);
    if (mine === asking) show(told);
  } catch (error) {
    if (mine !== asking) return;
    show(null);
    tell(error.message);
  } finally {
    clearTimeout(waiting);
    if (mine === asking) answer.ariaBusy = false;
  }
}

function show(told) {
  tell("");
  answer.replaceChildren();
  at("details").replaceChildren();
  at("source").textContent = "";
  if (!told?.predictions.length) return answer.append(sketch.empty ? "Nothing is drawn yet." : "No answer.");
  const prediction = told.predictions[0];
  const [first, share] = headline(prediction);
  if (first) {
    const strong = document.createElement("strong");
    strong.textContent = first;
    answer.append(strong, share);
  }
  at("details").append(details(prediction));
  at("source").textContent = `${told.model} · ${Math.round(1000 * told.seconds)} ms`;
}

function tell(message) {
  problem.textContent = message;
  problem.hidden = !message;
}

/** Calls the console. @throws {Error} with a sentence to show. */
async function call(path, body, signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  let response, told;
  try {
    response = await fetch(path, body ? options : {});
    told = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("localvertex does not answer. Start it again with `localvertex start`.");
  }
  if (!response.ok) throw new Error(told.error?.message ?? `The console answered ${response.status}.`);
  return told;
}

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
