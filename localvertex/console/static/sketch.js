// A sheet of paper to draw on: strokes of a pen, drawn smoothly, and the sheet as a picture.

const PICTURE_SIDE = 280; // pixels of the picture that is sent

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
    this.strokes = strokes;
    this.#render();
    this.changed();
  }

  #begin(event) {
    if (this.pointer !== null || event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.backdrop = null;
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
    draw(context, this.strokes, this.canvas.width, getComputedStyle(this.canvas).color);
  }
}

/** The whole picture, as large as it can be, in the middle. */
function fit(context, bitmap, side) {
  const scale = side / Math.max(bitmap.width, bitmap.height);
  const [width, height] = [bitmap.width * scale, bitmap.height * scale];
  context.imageSmoothingEnabled = scale < 1;
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
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
  context.lineTo(...points.at(-1));
}
