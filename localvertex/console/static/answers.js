// Predictions as a person reads them: classes with bars, things found in a picture with their boxes, anything else as
// a table of names and values. What a prediction is, its keys say.

const MOST_BARS = 12;
const LEAST_SCORE = 0.3; // of a thing found, to be shown
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

/**
 * The things that a prediction has found in a picture, the surest first; none if it is no detection.
 *
 * Boxes are [ymin, xmin, ymax, xmax] as shares of the picture, as those of TensorFlow's object detection are.
 */
export function detections(prediction) {
  const [boxes, scores, names] = ["boxes", "scores", "class_names"].map((key) => prediction?.[`detection_${key}`]);
  if (!isDetection(prediction)) return [];
  return boxes
    .map(([top, left, bottom, right], index) => {
      const name = String(names?.[index] ?? prediction.detection_classes?.[index] ?? "");
      return { name, score: scores[index], box: [left, top, right, bottom], hue: hue(name) };
    })
    .filter(({ score, box }) => score >= LEAST_SCORE && box.every(Number.isFinite))
    .sort((a, b) => b.score - a.score);
}

/** Whether a prediction tells where things are. */
export function isDetection(prediction) {
  const [boxes, scores] = [prediction?.detection_boxes, prediction?.detection_scores];
  return (
    Array.isArray(boxes) &&
    Array.isArray(scores) &&
    boxes.length === scores.length &&
    boxes.every((box) => Array.isArray(box) && box.length === 4)
  );
}

/** What stands on a box. */
export function label({ name, score }) {
  return `${name} ${percent.format(score)}`.trim();
}

function hue(name) {
  return [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 200);
}

/** What is to be said first: the likeliest class and its probability, or the one value of a prediction. */
export function headline(prediction) {
  if (isClassification(prediction)) {
    return [String(prediction.class), percent.format(Math.max(...prediction.probabilities))];
  }
  if (isDetection(prediction)) {
    const found = detections(prediction).length;
    return [String(found), found === 1 ? "thing found" : "things found"];
  }
  return typeof prediction === "object" && prediction !== null ? ["", ""] : [String(prediction), ""];
}

/** The element that shows the rest. */
export function details(prediction) {
  if (isClassification(prediction)) return bars(prediction);
  if (isDetection(prediction)) return things(prediction);
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

function things(prediction) {
  const found = detections(prediction);
  const all = prediction.detection_boxes.length;
  const table = element("table", "values");
  table.append(caption(`Things found with a score of ${percent.format(LEAST_SCORE)} or more, of ${all}`));
  for (const each of found) {
    const row = table.insertRow();
    row.append(rowHeader(each.name || "thing"));
    const score = row.insertCell();
    score.className = "number";
    score.textContent = percent.format(each.score);
    const [left, top, right, bottom] = each.box.map((share) => percent.format(share));
    row.insertCell().textContent = `${left} to ${right} across, ${top} to ${bottom} down`;
  }
  return table;
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
