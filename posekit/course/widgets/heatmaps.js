// One keypoint's heatmap, its middle, and the cloud of reading errors, computed in the page: nothing waits for the
// kernel. The arithmetic is that of heatmaps.py; the browser test holds the two together.

const FLOOR = 1e-10; // blurred values below this are lifted to it before the logarithm
const KERNEL = 11; // cells that DARK blurs over
const MAX_STEP = 2; // cells; a longer step of DARK is no step

// Values of a Gaussian at cells 0..length-1, zero beyond three sigmas of the nearest cell.
function profile(position, length, sigma, rounded) {
  const middle = Math.trunc(position + 0.5), mean = rounded ? middle : position;
  const reach = Math.floor(3 * sigma), values = new Float32Array(length);
  for (let i = Math.max(0, middle - reach); i <= Math.min(length - 1, middle + reach); i++)
    values[i] = Math.exp((-0.5 * (i - mean) ** 2) / sigma ** 2);
  return values;
}

// Map (side, side) of a keypoint at x, y cells, its noise from rows of `pitch` whole numbers of `unit` deviations.
export function encode(map, x, y, side, { sigma, rounded, noise, draws, start, pitch, unit }) {
  const row = profile(x, side, sigma, rounded), column = profile(y, side, sigma, rounded);
  for (let j = 0, n = 0; j < side; j++)
    for (let i = 0; i < side; i++, n++)
      map[n] = column[j] * row[i] + (noise ? noise * draws[start + j * pitch + i] * unit : 0);
  return map;
}

const BLUR = (() => {
  const sigma = 0.3 * ((KERNEL - 1) * 0.5 - 1) + 0.8;
  const w = Array.from({ length: KERNEL }, (_, i) => Math.exp(-((i - (KERNEL - 1) / 2) ** 2) / (2 * sigma ** 2)));
  const sum = w.reduce((a, b) => a + b);
  return w.map((v) => v / sum);
})();

// Logarithm of the blurred map at a cell; outside the map is zero.
function logBlurred(map, side, x, y) {
  let sum = 0;
  const half = (KERNEL - 1) / 2;
  for (let j = Math.max(-half, -y); j <= Math.min(half, side - 1 - y); j++)
    for (let i = Math.max(-half, -x); i <= Math.min(half, side - 1 - x); i++)
      sum += BLUR[j + half] * BLUR[i + half] * map[(y + j) * side + x + i];
  return Math.log(Math.max(sum, FLOOR));
}

// DARK's Newton step from the highest cell.
function darkStep(map, side, x, y) {
  if (!(x > 1 && x < side - 2 && y > 1 && y < side - 2)) return [0, 0];
  const at = (dx, dy) => logBlurred(map, side, x + dx, y + dy), middle = at(0, 0);
  const gx = (at(1, 0) - at(-1, 0)) / 2, gy = (at(0, 1) - at(0, -1)) / 2;
  const hxx = (at(2, 0) + at(-2, 0)) / 4 - middle / 2, hyy = (at(0, 2) + at(0, -2)) / 4 - middle / 2;
  const hxy = (at(-1, -1) - at(1, -1) - at(-1, 1) + at(1, 1)) / 4;
  const determinant = hxx * hyy - hxy * hxy;
  if (determinant === 0) return [0, 0];
  const step = [(hxy * gy - hyy * gx) / determinant, (hxy * gx - hxx * gy) / determinant];
  return step.every((v) => Math.abs(v) <= MAX_STEP) ? step : [0, 0];
}

// Position in cells of a map (side, side): "argmax", "quarter", "dark" or "soft-argmax".
export function decode(map, side, decoder, beta) {
  let best = 0;
  for (let n = 1; n < side * side; n++) if (map[n] > map[best]) best = n;
  if (decoder === "soft-argmax") {
    let sum = 0, sx = 0, sy = 0;
    for (let j = 0, n = 0; j < side; j++)
      for (let i = 0; i < side; i++, n++) {
        const p = Math.exp(beta * (map[n] - map[best]));
        sum += p; sx += p * i; sy += p * j;
      }
    return [sx / sum, sy / sum];
  }
  if (!(map[best] > 0)) best = 0;
  const x = best % side, y = Math.floor(best / side);
  let step = [0, 0];
  if (decoder === "dark") step = darkStep(map, side, x, y);
  if (decoder === "quarter" && x > 1 && x < side - 1 && y > 1 && y < side - 1)
    step = [1, side].map((d) => 0.25 * Math.sign(map[best + d] - map[best - d]));
  return [x + step[0], y + step[1]];
}

// What one setting of the controls gives: the map, the true and the read position in pixels, the errors in pixels.
export function read(state, facts) {
  const { cells, decoder, noise, offset, rounded } = state, { sigma, beta, window: side, unit } = facts;
  const stride = facts.crop / cells, middle = Math.floor(cells / 2);
  const common = { sigma, rounded, noise, unit };
  const x = middle + offset, y = middle + facts.down;
  const map = encode(new Float32Array(cells * cells), x, y, cells,
    { ...common, draws: facts.field, start: 0, pitch: facts.crop });
  const found = decode(map, cells, decoder, beta).map((v) => v * stride);
  const part = new Float32Array(side * side), samples = facts.places.length / 2;
  const errors = [];
  let sum = 0;
  for (let n = 0; n < samples; n++) {
    const at = [0, 1].map((d) => side / 2 + facts.places[2 * n + d]);
    encode(part, at[0], at[1], side, { ...common, draws: facts.draws, start: n * side * side, pitch: side });
    const error = decode(part, side, decoder, beta).map((v, d) => (v - at[d]) * stride);
    errors.push(error);
    sum += Math.hypot(...error);
  }
  return { map, stride, true: [x * stride, y * stride], found, errors, mean: sum / samples };
}

function frame(pen, x, y, w, h, colour, width) {
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.strokeRect(x, y, w, h);
}

function ring(pen, x, y, radius, colour, width) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.stroke();
}

function drawMap(pen, sheet, x0, y0, { side, magnified }, cells) {
  pen.drawImage(sheet, x0, y0, side, side);
  const zoom = side / cells, across = magnified * zoom, middle = (Math.floor(cells / 2) + 0.5) * zoom;
  frame(pen, x0 + middle - across / 2, y0 + middle - across / 2, across, across, "white", 1);
}

function drawMiddle(pen, sheet, x0, y0, { side, magnified }, cells, reading) {
  const across = Math.min(cells, magnified), zoom = side / across;
  const first = Math.min(Math.max(Math.floor(cells / 2) - Math.floor(magnified / 2), 0), cells - across);
  pen.drawImage(sheet, first, first, across, across, x0, y0, side, side);
  pen.fillStyle = "rgba(80, 80, 80, 0.5)";
  for (let i = 1; i < across; i++) {
    pen.fillRect(x0, y0 + Math.round(i * zoom), side, 1);
    pen.fillRect(x0 + Math.round(i * zoom), y0, 1, side);
  }
  const at = (p) => [x0, y0].map((corner, d) => corner + (p[d] / reading.stride - first + 0.5) * zoom);
  const [x, y] = at(reading.true), arm = 11;
  for (const [width, cross, circle] of [[5, "black", "black"], [2, "white", "#ff963c"]]) {
    pen.fillStyle = cross;
    pen.fillRect(x - arm - width / 2, y - width / 2, 2 * arm + width, width);
    pen.fillRect(x - width / 2, y - arm - width / 2, width, 2 * arm + width);
    ring(pen, ...at(reading.found), 9, circle, width);
  }
}

function drawCloud(pen, x0, y0, { side, range, looks }, reading) {
  const zoom = side / (2 * range), x = x0 + side / 2, y = y0 + side / 2, cell = reading.stride * zoom;
  pen.fillStyle = looks.grid;
  pen.fillRect(x0, y, side, 1);
  pen.fillRect(x, y0, 1, side);
  frame(pen, x - cell / 2, y - cell / 2, cell, cell, looks.muted, 1);
  pen.fillStyle = looks.dot;
  for (const [dx, dy] of reading.errors) {
    if (Math.max(Math.abs(dx), Math.abs(dy)) >= range) continue;
    pen.beginPath();
    pen.arc(x + dx * zoom, y + dy * zoom, 1.75, 0, 2 * Math.PI);
    pen.fill();
  }
  ring(pen, x, y, reading.mean * zoom, looks.ring, 2);
  frame(pen, x0 + 0.5, y0 + 0.5, side - 1, side - 1, looks.muted, 1);
}

function numbers(view, Kind) {
  return new Kind(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function render({ model, el }) {
  const facts = { ...model.get("facts") };
  facts.draws = numbers(model.get("draws"), Int8Array);
  facts.field = numbers(model.get("field"), Int8Array);
  facts.places = numbers(model.get("places"), Float32Array);
  const table = numbers(model.get("colours"), Uint8Array);
  const { side, gap, head, foot, looks, sizes, decoders } = facts;
  const width = 3 * side + 4 * gap, height = side + head + foot + 2 * gap, ratio = window.devicePixelRatio || 1;
  const canvas = document.createElement("canvas"), sheet = document.createElement("canvas");
  canvas.className = "posekit-heatmaps";
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.cssText = `width: ${width}px; max-width: 100%; display: block;`;
  canvas.setAttribute("role", "img");
  el.append(canvas);
  const pen = canvas.getContext("2d");
  let waiting = 0;

  // Marks and rings stay inside their panel.
  function within(x, y, act) {
    pen.save();
    pen.beginPath();
    pen.rect(x, y, side, side);
    pen.clip();
    act();
    pen.restore();
  }

  function draw() {
    waiting = 0;
    const state = { cells: sizes[model.get("size")], decoder: decoders[model.get("decoder")],
      noise: model.get("noise"), offset: model.get("offset"), rounded: model.get("rounded") };
    const reading = read(state, facts), cells = state.cells;
    sheet.width = sheet.height = cells;
    const small = sheet.getContext("2d"), pixels = small.createImageData(cells, cells);
    for (let n = 0; n < cells * cells; n++) {
      const level = 3 * Math.trunc(Math.min(Math.max(reading.map[n], 0), 1) * 255);
      for (let c = 0; c < 3; c++) pixels.data[4 * n + c] = table[level + c];
      pixels.data[4 * n + 3] = 255;
    }
    small.putImageData(pixels, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.fillStyle = looks.panel;
    pen.fillRect(0, 0, width, height);
    const left = (n) => gap + n * (side + gap), top = gap + head;
    drawMap(pen, sheet, left(0), top, facts, cells);
    within(left(1), top, () => drawMiddle(pen, sheet, left(1), top, facts, cells, reading));
    within(left(2), top, () => drawCloud(pen, left(2), top, facts, reading));
    const bound = facts.bounds[state.decoder];
    const limit = bound ? `, bound ${(bound[Number(state.rounded)] * reading.stride).toFixed(2)} px` : "";
    const off = Math.hypot(reading.found[0] - reading.true[0], reading.found[1] - reading.true[1]);
    const heads = [`Map: ${cells} x ${cells} cells, ${reading.stride} px each`,
      `Its middle, read ${off.toFixed(2)} px off`, `Mean error ${reading.mean.toFixed(2)} px${limit}`];
    pen.textBaseline = "top";
    heads.forEach((text, n) => {
      pen.fillStyle = looks.ink;
      pen.font = "15px sans-serif";
      pen.fillText(text, left(n), gap, side);
      pen.fillStyle = looks.muted;
      pen.font = "13px sans-serif";
      pen.fillText(facts.feet[n], left(n), gap + head + side + 4, side);
    });
    canvas.setAttribute("aria-label", `${heads.join(". ")}.`);
    canvas.dataset.reading = JSON.stringify({ ...state, found: reading.found, mean: reading.mean });
  }

  const later = () => { waiting = waiting || requestAnimationFrame(draw); }; // at most one picture a frame
  const events = ["size", "decoder", "noise", "offset", "rounded"].map((name) => `change:${name}`);
  events.forEach((event) => model.on(event, later));
  draw();
  return () => events.forEach((event) => model.off(event, later));
}

export default { render };
