// A sheet of paper to draw on: strokes of a pen, drawn smoothly, and the sheet as a picture.

const PICTURE_SIDE = 280; // pixels of the picture that is sent
const DOT = 0.01; // pixels that a line is longer than its points say: one of no length, as a dot is, would not be drawn

/** Strokes on a canvas; places and widths are shares of its side, so that the canvas may change its size. */
export class Sketch {
  /**
   * @param {HTMLCanvasElement} canvas what is drawn on; its CSS `color` is the ink's.
   * @param {() => void} changed called after every stroke and whatever else changes the sheet.
   */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.strokes = [];
    this.backdrop = null;
    this.marks = []; // boxes over the backdrop: {box: [x0, y0, x1, y1] as shares of it, label, hue}
    this.penWidth = 0.08;
    this.pointer = null; // the one that is drawing
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#go(event));
    canvas.addEventListener("pointerup", (event) => this.#end(event));
    canvas.addEventListener("pointercancel", (event) => this.#end(event));
    new ResizeObserver(() => this.#fit()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#render());
  }

  get empty() {
    return this.strokes.length === 0 && this.backdrop === null;
  }

  /** Shows a picture in place of strokes. @param {ImageBitmap} bitmap */
  show(bitmap) {
    this.backdrop = bitmap;
    this.#keep([]);
  }

  /** Draws boxes over the picture. @param {{box: number[], label: string, hue: number}[]} marks */
  mark(marks) {
    this.marks = marks;
    this.#render();
  }

  undo() {
    if (this.backdrop) return this.clear();
    this.#keep(this.strokes.slice(0, -1));
  }

  clear() {
    this.show(null);
  }

  /** The sheet as PNG, dark on white whatever the colours of the page. @returns {Promise<Blob>} */
  picture() {
    const sheet = document.createElement("canvas");
    sheet.width = sheet.height = PICTURE_SIDE;
    const context = sheet.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, PICTURE_SIDE, PICTURE_SIDE);
    draw(context, this.strokes, PICTURE_SIDE, "black");
    return new Promise((resolve) => sheet.toBlob(resolve, "image/png"));
  }

  #keep(strokes) {
    this.pointer = null;
    this.marks = [];
    this.strokes = strokes;
    this.#render();
    this.changed();
  }

  #begin(event) {
    if (this.pointer !== null || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.backdrop = null;
    this.marks = [];
    this.strokes = [...this.strokes, { width: this.penWidth, points: [this.#place(event)] }];
    this.#render();
  }

  #go(event) {
    if (event.pointerId !== this.pointer) return;
    // A browser tells of a fast pointer once a frame; the places in between make the line smooth.
    const passed = event.getCoalescedEvents?.() ?? [];
    const points = this.strokes.at(-1).points;
    for (const each of passed.length ? passed : [event]) points.push(this.#place(each));
    this.#render();
  }

  #end(event) {
    if (event.pointerId !== this.pointer) return;
    this.pointer = null;
    this.changed();
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #fit() {
    const side = Math.round(this.canvas.clientWidth * devicePixelRatio);
    if (this.canvas.width !== side) this.canvas.width = this.canvas.height = side;
    this.#render();
  }

  #render() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.backdrop) fit(context, this.backdrop, this.canvas.width);
    for (const mark of this.marks) frame(context, mark, area(this.backdrop, this.canvas.width));
    draw(context, this.strokes, this.canvas.width, getComputedStyle(this.canvas).color);
  }
}

/** The whole picture, as large as it can be, in the middle. */
function fit(context, bitmap, side) {
  const [x, y, width, height] = area(bitmap, side);
  context.imageSmoothingEnabled = width < bitmap.width;
  context.drawImage(bitmap, x, y, width, height);
}

function area(picture, side) {
  if (!picture) return [0, 0, side, side]; // what was drawn, which fills the sheet
  const scale = side / Math.max(picture.width, picture.height);
  const [width, height] = [picture.width * scale, picture.height * scale];
  return [(side - width) / 2, (side - height) / 2, width, height];
}

function frame(context, { box: [left, top, right, bottom], label, hue }, [x, y, width, height]) {
  const unit = Math.max(1, context.canvas.width / 400);
  const [atX, atY] = [x + left * width, y + top * height];
  context.strokeStyle = context.fillStyle = `hsl(${hue} 85% 28%)`;
  context.lineWidth = 2 * unit;
  context.strokeRect(atX, atY, (right - left) * width, (bottom - top) * height);
  context.font = `600 ${12 * unit}px system-ui, sans-serif`;
  const [room, tall] = [context.measureText(label).width + 8 * unit, 17 * unit];
  const above = Math.max(0, atY - tall);
  context.fillRect(atX - unit, above, room, tall);
  context.fillStyle = "white";
  context.fillText(label, atX + 3 * unit, above + 12.5 * unit);
}

function draw(context, strokes, side, ink) {
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = context.fillStyle = ink;
  for (const { width, points } of strokes) {
    context.lineWidth = width * side;
    context.beginPath();
    trace(context, points.map(([x, y]) => [x * side, y * side]));
    context.stroke();
  }
}

/** A line through the middles of neighbouring points, bent towards the points: no corner shows. */
function trace(context, points) {
  context.moveTo(...points[0]);
  for (let i = 1; i < points.length - 1; i++) {
    const [x, y] = points[i];
    const [nextX, nextY] = points[i + 1];
    context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
  }
  const [lastX, lastY] = points.at(-1);
  context.lineTo(lastX + DOT, lastY);
}
