// Digests of artifacts, asked for when the page is there: to read them may take longer than to draw the graph.

import { call } from "./call.js";

const AT_ONCE = 50;
const known = new Map();
let asking = false;

const graph = document.getElementById("graph");
if (graph) new MutationObserver(fill).observe(graph, { childList: true });
centre();
fill();

/** The box that the page is about, in the middle of what is seen. */
function centre() {
  const [box, room] = [document.querySelector(".node.chosen"), document.getElementById("graph-scroll")];
  if (!box || !room) return;
  const [inner, outer] = [box.getBoundingClientRect(), room.getBoundingClientRect()];
  room.scrollLeft += inner.left + inner.width / 2 - outer.left - outer.width / 2;
  room.scrollTop += inner.top + inner.height / 2 - outer.top - outer.height / 2;
}

async function fill() {
  show();
  if (asking) return;
  asking = true;
  let wanted;
  while ((wanted = missing()).length) {
    try {
      const found = await call("api/digests", { artifacts: wanted });
      for (const name of wanted) known.set(name, found[name] ?? "");
    } catch {
      break; // the page is of use without them
    }
    show();
  }
  asking = false;
}

function missing() {
  const names = [...document.querySelectorAll("[data-digest]")].map((each) => each.dataset.digest);
  return [...new Set(names)].filter((name) => !known.has(name)).slice(0, AT_ONCE);
}

function show() {
  for (const each of document.querySelectorAll("[data-digest]")) {
    const digest = known.get(each.dataset.digest);
    if (digest === undefined || each.dataset.filled) continue;
    each.dataset.filled = "yes";
    each.textContent = digest ? digest.slice(0, each.closest("svg") ? 8 : 12) : each.closest("svg") ? "" : "none";
  }
}
