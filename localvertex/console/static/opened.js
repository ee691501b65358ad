// Files that a person opens or drops: which are pictures, and which are texts whose rows are instances.

const PICTURES = /\.(png|jpe?g|gif|webp|bmp)$/i;
const TEXTS = /\.(json|jsonl|ndjson|csv|tsv|txt)$/i;

/** `picture`, `text` or `other`. @param {File} file */
export function kindOf(file) {
  if (PICTURES.test(file.name) || file.type.startsWith("image/")) return "picture";
  return TEXTS.test(file.name) || file.type === "application/json" || file.type === "text/csv" ? "text" : "other";
}

/** A text as JSON to be sent. @throws {Error} with a sentence to show. */
export function asText(file, text) {
  return JSON.stringify(instances(file, text), null, 2);
}

function instances(file, text) {
  try {
    if (/\.[ct]sv$/i.test(file.name) || file.type === "text/csv") return rows(text, /\.tsv$/i.test(file.name) ? "\t" : ",");
    if (/\.(jsonl|ndjson)$/i.test(file.name)) return lines(text).map((line) => JSON.parse(line));
    if (/\.txt$/i.test(file.name)) return lines(text);
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${file.name} is not what its name says: ${error.message}.`);
  }
}

function lines(text) {
  return text.split(/\r?\n/).filter((line) => line.trim());
}

/** The rows of a table as objects, numbers as numbers. */
function rows(text, separator) {
  const [names, ...rest] = cells(text, separator);
  return rest.map((row) => Object.fromEntries(names.map((name, index) => [name.text, value(row[index])])));
}

function value(cell) {
  if (!cell) return "";
  const { text, quoted } = cell;
  return !quoted && text.trim() !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** RFC 4180: cells may be quoted, and hold the separator, line breaks, and quotes that are doubled. */
function cells(text, separator) {
  const table = [];
  let row = [];
  let cell = { text: "", quoted: false };
  let inside = false;
  const end = () => {
    row.push(cell);
    cell = { text: "", quoted: false };
  };
  for (let i = 0; i < text.length; i++) {
    const letter = text[i];
    if (inside && letter === '"' && text[i + 1] === '"') cell.text += text[++i];
    else if (letter === '"' && (inside || !cell.text)) [inside, cell.quoted] = [!inside, true];
    else if (!inside && letter === separator) end();
    else if (!inside && /[\r\n]/.test(letter)) {
      if (letter === "\r" && text[i + 1] === "\n") i++;
      end();
      if (row.length > 1 || row[0].text) table.push(row);
      row = [];
    } else cell.text += letter;
  }
  end();
  if (row.length > 1 || row[0].text) table.push(row);
  return table;
}
