// Predictions as a person reads them: classes with bars, anything else as a table of names and values.

const MOST_BARS = 12;
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 1 });

/** Whether a prediction tells classes apart. */
export function isClassification(prediction) {
  const probabilities = prediction?.probabilities;
  return (
    prediction?.class !== undefined &&
    Array.isArray(probabilities) &&
    probabilities.length > 0 &&
    probabilities.every((each) => typeof each === "number")
  );
}

/** What is to be said first: the likeliest class and its probability, or the one value of a prediction. */
export function headline(prediction) {
  if (isClassification(prediction)) {
    return [String(prediction.class), percent.format(Math.max(...prediction.probabilities))];
  }
  return typeof prediction === "object" && prediction !== null ? ["", ""] : [String(prediction), ""];
}

/** The element that shows the rest. */
export function details(prediction) {
  if (isClassification(prediction)) return bars(prediction);
  return typeof prediction === "object" && prediction !== null ? values(prediction) : element("div");
}

function bars(prediction) {
  const probabilities = prediction.probabilities;
  const first = probabilities.indexOf(Math.max(...probabilities));
  // Few classes stay in their places; of many, only the likeliest are shown.
  let shown = [...probabilities.keys()];
  if (shown.length > MOST_BARS) {
    shown = shown.sort((a, b) => probabilities[b] - probabilities[a]).slice(0, MOST_BARS);
  }
  const table = element("table", "bars");
  const all = shown.length === probabilities.length;
  table.append(caption(all ? "Probability of each class" : `The ${shown.length} likeliest of ${probabilities.length}`));
  for (const index of shown) {
    const row = table.insertRow();
    row.className = index === first ? "first" : "";
    row.append(rowHeader(name(prediction, index, first)));
    const track = element("div", "track");
    const fill = element("div", "fill");
    fill.style.width = `${100 * probabilities[index]}%`;
    track.append(fill);
    row.insertCell().append(track);
    row.insertCell().textContent = percent.format(probabilities[index]);
  }
  return table;
}

/** A class's name: an answer may carry all of them in `classes`; of others only the likeliest one's is known. */
function name(prediction, index, first) {
  const names = prediction.classes;
  if (Array.isArray(names) && names.length === prediction.probabilities.length) return String(names[index]);
  return index === first ? String(prediction.class) : String(index);
}

function values(prediction) {
  const table = element("table", "values");
  table.append(caption("What the endpoint answered"));
  for (const [key, value] of Object.entries(prediction)) {
    const row = table.insertRow();
    row.append(rowHeader(key));
    row.insertCell().textContent = typeof value === "string" ? value : JSON.stringify(value);
  }
  return table;
}

function caption(text) {
  const made = element("caption", "hidden");
  made.textContent = text;
  return made;
}

function rowHeader(text) {
  const made = element("th");
  made.scope = "row";
  made.textContent = text;
  return made;
}

function element(tag, className = "") {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}
