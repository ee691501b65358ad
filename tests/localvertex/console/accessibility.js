// What keeps people out of a page, each finding in one sentence. Contrast is as WCAG 2 defines it: 4.5 : 1 for text,
// 3 : 1 for large text.
() => {
  const found = [];
  const tell = (what, element) => {
    const id = element.id ? "#" + element.id : "";
    found.push(`${what}: <${element.tagName.toLowerCase()}${id}> ${element.textContent.trim().slice(0, 40)}`);
  };
  const seen = (element) => {
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    return box.width > 1 && box.height > 1 && style.visibility !== "hidden" && style.display !== "none";
  };
  const inSvg = (element) => element.ownerSVGElement !== undefined && element.ownerSVGElement !== null;

  const numbers = (colour) => {
    const srgb = colour.startsWith("color(srgb");
    const [r, g, b, a = 1] = colour.match(/-?[\d.]+(?:e-?\d+)?/g).map(Number);
    return srgb ? [255 * r, 255 * g, 255 * b, a] : [r, g, b, a];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const box = inSvg(element) && element.tagName === "text" ? element.parentElement.querySelector(":scope > rect") : null;
    const painted = box ? getComputedStyle(box).fill : getComputedStyle(element).backgroundColor;
    const colour = painted === "none" ? [0, 0, 0, 0] : numbers(painted);
    return colour[3] >= 1 ? colour : over(colour, ground(element.parentElement));
  };

  // Text against what is behind it.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const looked = new Set();
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || looked.has(element) || !seen(element)) continue;
    looked.add(element);
    if (element.closest("script, style, noscript, title, :disabled, .hidden, .skip")) continue;
    const style = getComputedStyle(element);
    const behind = ground(element);
    const ink = over(numbers(inSvg(element) ? style.fill : style.color), behind);
    const [low, high] = [light(ink), light(behind)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && parseInt(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) tell(`contrast of ${ratio.toFixed(2)}`, element);
  }

  // Every control has a name.
  const named = (element) => {
    const by = (element.getAttribute("aria-labelledby") ?? "").split(" ").filter(Boolean)
      .map((id) => document.getElementById(id)?.textContent.trim()).join("");
    const labels = [...(element.labels ?? [])].map((each) => each.textContent.trim()).join("");
    const picture = element.querySelector("img[alt]")?.alt ?? "";
    return by || labels || element.getAttribute("aria-label") || element.textContent.trim() || picture || element.title;
  };
  for (const element of document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, iframe, summary")) {
    if (element.tagName === "INPUT" && ["submit", "button"].includes(element.type) && element.value) continue;
    const name = element.tagName === "SELECT" || element.tagName === "TEXTAREA" || element.tagName === "INPUT"
      ? element.getAttribute("aria-label") || [...element.labels].map((each) => each.textContent.trim()).join("")
        || element.getAttribute("aria-labelledby")
      : named(element);
    if (!name) tell("no name", element);
  }
  for (const element of document.querySelectorAll("img:not([alt])")) tell("picture without alt", element);
  for (const element of document.querySelectorAll("[role=region], [role=img], [role=group], section[aria-label], section[aria-labelledby]")) {
    if (!element.getAttribute("aria-label") && !named(element)) tell("no name", element);
  }

  // Landmarks, headings, language, title.
  if (!document.documentElement.lang) found.push("the document has no language");
  if (!document.title.trim()) found.push("the document has no title");
  for (const [tag, least, most] of [["main", 1, 1], ["h1", 1, 1], ["header", 1, 9], ["nav", 1, 99]]) {
    const count = [...document.querySelectorAll(tag)].filter(seen).length;
    if (count < least || count > most) found.push(`${count} <${tag}>`);
  }
  const navigations = [...document.querySelectorAll("nav")].map((each) => each.getAttribute("aria-label"));
  if (new Set(navigations).size < navigations.length) found.push("two <nav> of one name, or of none");
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
    const its = Number(heading.tagName[1]);
    if (its > level + 1) tell(`heading of level ${its} after one of level ${level}`, heading);
    level = its;
  }

  // References and ids.
  const ids = [...document.querySelectorAll("[id]")].map((each) => each.id);
  for (const id of new Set(ids.filter((each, index) => ids.indexOf(each) !== index))) found.push(`two elements are #${id}`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for", "aria-controls"]) {
    for (const element of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(" ")) {
        if (id && !document.getElementById(id)) tell(`${attribute} of nothing, ${id}`, element);
      }
    }
  }

  // Tables, lists, focus order.
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption && !table.getAttribute("aria-label")) tell("table without caption", table);
    for (const head of table.querySelectorAll("th")) if (!head.scope && head.textContent.trim()) tell("header cell without scope", head);
  }
  for (const element of document.querySelectorAll("ul > *, ol > *")) {
    if (!["LI", "SCRIPT", "TEMPLATE"].includes(element.tagName)) tell("not a list item in a list", element);
  }
  for (const element of document.querySelectorAll("[tabindex]")) {
    if (element.tabIndex > 0) tell("takes the focus out of turn", element);
  }
  for (const element of document.querySelectorAll("[aria-hidden=true]")) {
    if (element.querySelector("a[href], button, input, select, textarea, [tabindex='0']")) tell("hidden, but can be focused", element);
  }
  for (const element of document.querySelectorAll("*")) {
    const style = getComputedStyle(element);
    const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY)
      && (element.scrollWidth > element.clientWidth + 1 || element.scrollHeight > element.clientHeight + 1);
    if (!scrolls || element === document.scrollingElement || element === document.body || !seen(element)) continue;
    if (!element.matches("textarea, select, iframe") && element.tabIndex < 0
      && !element.querySelector("a[href], button, input, select, textarea, [tabindex='0']")) tell("scrolls, but not by keys", element);
  }

  // At any width, the page itself does not scroll sideways.
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 1) {
    const widest = [...document.querySelectorAll("main *")].filter((each) => !each.closest("svg"))
      .find((each) => each.getBoundingClientRect().right > innerWidth + 1 && !each.parentElement.closest(".scroll, .graph"));
    found.push(`the page is ${wide} pixels too wide` + (widest ? `, by <${widest.tagName} class="${widest.className}">` : ""));
  }
  return found;
}
