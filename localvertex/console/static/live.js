// Keeps a page up to date while it is open, and follows links within it without loading all of it again.
//
// The server renders; here, parts of the page are put in place of what was there. Parts are elements with an id and
// `data-live`. A page with `data-follow` is told by server-sent events, at its own address, which parts have changed;
// a link with `data-swap` leads to the same page in another view, of which all parts are taken.

let source = null;

follow();
document.addEventListener("visibilitychange", follow); // a browser has few connections: only seen pages take one
document.addEventListener("click", swap);
window.addEventListener("popstate", () => show(location.href));
window.addEventListener("pagehide", stop);
window.addEventListener("pageshow", follow);
for (const log of document.querySelectorAll("[data-tail]")) log.scrollTop = log.scrollHeight;

function follow() {
  stop();
  if (document.hidden || !document.querySelector("main[data-follow]")) return;
  source = new EventSource(location.href);
  source.onmessage = (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) put(id, html);
  };
  source.addEventListener("end", () => {
    stop();
    document.querySelector("main").removeAttribute("data-follow");
  });
}

function stop() {
  source?.close();
  source = null;
}

/** Puts what the server has rendered in place, and leaves focus and scrolling as they were. */
function put(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const folds = [...part.querySelectorAll("details[id]")].map((each) => [each.id, each.open]);
  const scrolled = [...part.querySelectorAll("[data-tail], [data-scroll]")].map((each) => [each.id, each]);
  part.innerHTML = html; // escaped by the templates; the page's policy lets no inline script run
  for (const [fold, open] of folds) document.getElementById(fold)?.toggleAttribute("open", open);
  for (const each of part.querySelectorAll("[data-tail], [data-scroll]")) {
    const before = scrolled.find(([name]) => name === each.id)?.[1];
    const tail = each.hasAttribute("data-tail") && (!before || before.atEnd !== false);
    if (tail) each.scrollTop = each.scrollHeight;
    else if (before) [each.scrollTop, each.scrollLeft] = before.place ?? [0, 0];
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

// Scrolling does not bubble, but it can be caught on the way down.
document.addEventListener("scroll", remember, true);

function remember({ target }) {
  if (!target.matches?.("[data-tail], [data-scroll]")) return;
  target.place = [target.scrollTop, target.scrollLeft];
  target.atEnd = target.scrollTop + target.clientHeight >= target.scrollHeight - 4;
}

function swap(event) {
  const link = event.target.closest?.("a[data-swap]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  // A link in an SVG has its address one step further in.
  const address = link.href.baseVal ?? link.href;
  show(address, link.id, link.dataset.swap);
}

async function show(address, focus = "", aim = "") {
  stop();
  let text;
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(answer.statusText);
    text = await answer.text();
  } catch {
    return location.assign(address); // whose own failure says what is wrong
  }
  const fresh = new DOMParser().parseFromString(text, "text/html");
  if (location.href !== new URL(address, location.href).href) history.pushState(null, "", address);
  for (const part of fresh.querySelectorAll("[data-live]")) put(part.id, part.innerHTML);
  document.querySelector("main").toggleAttribute("data-follow", fresh.querySelector("main[data-follow]") !== null);
  if (focus) document.getElementById(focus)?.focus({ preventScroll: true });
  if (aim) {
    const target = document.getElementById(aim);
    target?.focus({ preventScroll: true });
    target?.scrollIntoView({ block: "nearest", behavior: "auto" });
  }
  follow();
}
