// Try an endpoint: what is on the paper, or written as JSON, goes to it, and its answer is shown.

import { details, detections, headline, label } from "./answers.js";
import { call } from "./call.js";
import { asText, kindOf } from "./opened.js";
import { Sketch } from "./sketch.js";

const NO_ENDPOINT = "No endpoint has a deployed model yet. Deploy one, and choose it here.";
const NOTHING = "Nothing is drawn yet.";
const WAITING_SHOWS_AFTER = 250; // milliseconds

const at = (id) => document.getElementById(id);
const only = at("try")?.dataset.endpoint;
if (only !== undefined) begin();

function begin() {
  const [endpoint, paper, problem, answer, request] = ["endpoint", "paper", "problem", "answer", "request"].map(at);
  const sketch = new Sketch(paper, changed);
  let asking = null; // the request under way
  let opened = null; // the file that the paper shows

  at("undo").addEventListener("click", undo);
  at("clear").addEventListener("click", clear);
  at("pen").addEventListener("input", (event) => (sketch.penWidth = event.target.valueAsNumber / 100));
  at("file").addEventListener("change", ({ target }) => {
    const [file] = target.files;
    open(file);
    target.value = ""; // the same file can be opened again
  });
  at("send").addEventListener("click", askWritten);
  at("input-name").addEventListener("change", () => isPaper() && ask());
  endpoint.addEventListener("change", choose);
  document.addEventListener("keydown", key);
  document.addEventListener("paste", ({ clipboardData }) => isPaper() && open(clipboardData.files[0]));
  for (const way of document.querySelectorAll("[name=way]")) way.addEventListener("change", turn);
  const bench = at("try");
  bench.addEventListener("dragover", hover);
  bench.addEventListener("dragleave", () => bench.classList.remove("over"));
  bench.addEventListener("drop", drop);
  window.addEventListener("focus", list); // models may have been deployed meanwhile
  turn();
  list();

  async function list() {
    if (only) return void (endpoint.replaceChildren(new Option("this one", only)), (endpoint.disabled = false));
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

  function choose() {
    history.replaceState(null, "", `?${new URLSearchParams({ endpoint: endpoint.value })}`);
    if (isPaper()) ask();
  }

  function isPaper() {
    return document.querySelector("[name=way]:checked").value === "paper";
  }

  /** Shows the way of asking that is chosen. */
  function turn() {
    at("way-paper").hidden = !isPaper();
    at("way-request").hidden = isPaper();
    asking?.abort();
    asking = null;
    answer.ariaBusy = false;
    show(null);
  }

  function key(event) {
    const command = event.ctrlKey || event.metaKey;
    if (command && event.key === "Enter" && document.activeElement === request) askWritten();
    else if (!isPaper() || event.target.matches("input:not([type=range]), textarea")) return;
    else if (command && !event.shiftKey && event.key.toLowerCase() === "z") undo();
    else if (event.key === "Delete" && document.activeElement === paper) clear();
    else return;
    event.preventDefault();
  }

  function hover(event) {
    if (![...event.dataTransfer.items].some((item) => item.kind === "file")) return;
    event.preventDefault();
    bench.classList.add("over");
  }

  function drop(event) {
    bench.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    open(event.dataTransfer.files[0]);
  }

  /** A picture is shown and sent, a text is laid out to be sent, any other file is sent as it is. */
  async function open(file) {
    if (!file) return;
    const kind = kindOf(file);
    if (kind === "text") {
      try {
        request.value = asText(file, await file.text());
        document.querySelector("[name=way][value=request]").checked = true;
        turn();
        request.focus();
      } catch (error) {
        tell(error.message);
      }
      return;
    }
    document.querySelector("[name=way][value=paper]").checked = true;
    turn();
    let bitmap = null;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      if (kind === "picture") return tell(`${file.name} is no picture that this browser can read.`);
    }
    if (!bitmap) sketch.show(null);
    opened = file;
    if (bitmap) sketch.show(bitmap);
    else changed();
  }

  function undo() {
    if (opened) clear();
    else sketch.undo();
  }

  function clear() {
    opened = null;
    sketch.clear();
  }

  function changed() {
    if (opened && !sketch.backdrop && (kindOf(opened) === "picture" || sketch.strokes.length)) opened = null;
    const empty = sketch.empty && !opened;
    at("undo").disabled = at("clear").disabled = empty;
    paper.classList.toggle("empty", empty);
    const strokes = sketch.strokes.length;
    const shows = opened ? opened.name : strokes ? `${strokes} stroke${strokes > 1 ? "s" : ""}` : "nothing yet";
    paper.setAttribute("aria-label", `Paper, showing ${shows}`);
    ask();
  }

  /** Asks about what is on the paper now; an answer to what was there before is dropped. */
  function ask() {
    asking?.abort();
    if (!endpoint.value || (sketch.empty && !opened)) {
      asking = null;
      answer.ariaBusy = false;
      return endpoint.value && show(null);
    }
    return put(async () => {
      const bytes = { b64: await base64(opened ?? (await sketch.picture())) };
      const name = at("input-name").value.trim();
      return { instances: [name ? { [name]: bytes } : bytes] };
    });
  }

  function askWritten() {
    asking?.abort();
    let written;
    try {
      written = JSON.parse(request.value);
    } catch (error) {
      return tell(`What is written is not JSON: ${error.message}.`);
    }
    const { instances, parameters } = Array.isArray(written) ? { instances: written } : written ?? {};
    if (!Array.isArray(instances)) return tell('Write a list of instances, or {"instances": […]}.');
    return put(async () => ({ instances, ...(parameters === undefined ? {} : { parameters }) }));
  }

  /** Puts a question to the endpoint. @param {() => Promise<object>} question */
  async function put(question) {
    if (!endpoint.value) return;
    const mine = (asking = new AbortController());
    answer.ariaBusy = true;
    const waiting = setTimeout(() => answer.replaceChildren(opened ? `Asking about ${opened.name}…` : "Asking…"),
      WAITING_SHOWS_AFTER);
    try {
      const told = await call("api/predict", { endpoint: endpoint.value, ...(await question()) }, mine.signal);
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
    if (!told?.predictions.length) {
      return answer.append(!isPaper() ? "Nothing is asked yet." : sketch.empty && !opened ? NOTHING : "No answer.");
    }
    const [first, ...others] = told.predictions;
    const [said, share] = headline(first);
    if (said) {
      const strong = document.createElement("strong");
      strong.textContent = said;
      answer.append(strong, share);
    }
    if (isPaper()) sketch.mark(detections(first).map((each) => ({ ...each, label: label(each) })));
    at("details").append(details(first), ...others.map(another));
    const rounded = Math.round(1000 * told.seconds);
    at("source").textContent = `${told.model} · ${rounded} ms`;
  }

  function tell(message) {
    problem.textContent = message;
    problem.hidden = !message;
  }
}

function another(prediction, index) {
  const part = document.createElement("section");
  const title = document.createElement("h3");
  title.textContent = [`Instance ${index + 2}`, ...headline(prediction)].filter(Boolean).join(": ");
  part.append(title, details(prediction));
  return part;
}

function option(each, all) {
  const alike = all.filter((other) => other.display_name === each.display_name).length > 1;
  const where = alike ? ` (${each.location}, ${each.name.split("/").at(-1)})` : "";
  const made = new Option(each.display_name + where, each.name);
  made.title = each.models.join(", ");
  return made;
}

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  let text = "";
  for (let i = 0; i < bytes.length; i += 0x8000) text += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(text);
}
