// Drag the joints of a skeleton; similarity and OKS are computed here, so that nothing waits for the kernel.

const INK = "#22252b", PANEL = "#fbfaf7";
const LEVELS = [0.5, 0.75, 0.95]; // keypoint similarities that get a ring around the chosen joint
const EPSILON = 2 ** -52; // pycocotools adds it to the area

// Keypoint similarity exp(-d^2 / (2 s^2 k^2)) with s^2 = area and k = 2 sigma (COCO keypoint evaluation).
export function similarity(point, truth, sigma, area) {
  const dx = point[0] - truth[0], dy = point[1] - truth[1], k = 2 * sigma;
  return Math.exp(-(dx * dx + dy * dy) / (k * k) / (area + EPSILON) / 2);
}

// Object keypoint similarity: the mean over labelled keypoints; 0 when none is labelled.
export function oks(points, truth, visibility, sigmas, area) {
  let sum = 0, count = 0;
  for (let i = 0; i < truth.length; i++) {
    if (!visibility[i]) continue;
    sum += similarity(points[i], truth[i], sigmas[i], area);
    count += 1;
  }
  return count ? sum / count : 0;
}

// Distance at which a keypoint's similarity falls to a level, in pixels.
export function radius(level, sigma, area) {
  return 2 * sigma * Math.sqrt(area) * Math.sqrt(-2 * Math.log(level));
}

function draw(context, state, zoom) {
  const { image, points, truth, visibility, sigmas, limbs, colours, area, chosen } = state;
  const at = (p) => [(p[0] + 0.5) * zoom, (p[1] + 0.5) * zoom]; // pixel centres lie half a pixel inside
  context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
  for (let i = 0; i < truth.length; i++) {
    if (!visibility[i]) continue;
    context.beginPath();
    context.arc(...at(truth[i]), radius(LEVELS[0], sigmas[i], area) * zoom, 0, 2 * Math.PI);
    context.fillStyle = "rgba(255, 255, 255, 0.22)";
    context.fill();
  }
  for (const level of LEVELS) {
    context.beginPath();
    context.arc(...at(truth[chosen]), radius(level, sigmas[chosen], area) * zoom, 0, 2 * Math.PI);
    context.strokeStyle = "white";
    context.lineWidth = 1.5;
    context.stroke();
  }
  limbs.forEach(([a, b], n) => {
    if (!visibility[a] || !visibility[b]) return;
    for (const [width, colour] of [[5, INK], [3, colours[n]]]) {
      context.beginPath();
      context.moveTo(...at(points[a]));
      context.lineTo(...at(points[b]));
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.stroke();
    }
  });
}

function render({ model, el }) {
  const get = (name) => model.get(name);
  const [height, width] = get("size");
  const zoom = get("zoom");
  const truth = get("truth"), visibility = get("visibility"), sigmas = get("sigmas"), names = get("names");
  const image = new Image();
  const root = document.createElement("div");
  root.className = "posekit-joints";
  const stage = document.createElement("div");
  stage.className = "stage";
  stage.style.width = `${width * zoom}px`;
  stage.style.height = `${height * zoom}px`;
  stage.setAttribute("role", "group");
  stage.setAttribute("aria-label", get("label"));
  const canvas = document.createElement("canvas");
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * zoom * ratio);
  canvas.height = Math.round(height * zoom * ratio);
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  const readout = document.createElement("output");
  readout.setAttribute("aria-live", "polite");
  const reset = document.createElement("button");
  reset.textContent = "Put every joint back";
  reset.className = "reset";
  stage.append(canvas);
  root.append(stage, readout, reset);
  el.append(root);

  let chosen = get("chosen");
  let points = get("keypoints").map((p) => [...p]);
  let pending = 0;
  const handles = truth.map((_, i) => {
    const handle = document.createElement("button");
    handle.className = "joint";
    handle.hidden = !visibility[i];
    handle.dataset.joint = names[i];
    stage.append(handle);
    return handle;
  });

  function refresh() {
    const state = { image, points, truth, visibility, sigmas, limbs: get("limbs"), colours: get("colours"),
      area: get("area"), chosen };
    if (image.complete) draw(context, state, zoom * ratio);
    points.forEach((p, i) => {
      handles[i].style.left = `${(p[0] + 0.5) * zoom}px`;
      handles[i].style.top = `${(p[1] + 0.5) * zoom}px`;
      handles[i].classList.toggle("chosen", i === chosen);
      handles[i].setAttribute("aria-label", `${names[i]}, x ${p[0].toFixed(1)}, y ${p[1].toFixed(1)} pixels`);
    });
    const off = Math.hypot(points[chosen][0] - truth[chosen][0], points[chosen][1] - truth[chosen][1]);
    const one = similarity(points[chosen], truth[chosen], sigmas[chosen], get("area"));
    const all = oks(points, truth, visibility, sigmas, get("area"));
    readout.textContent =
      `OKS ${all.toFixed(3)}. ${names[chosen]}: ${off.toFixed(1)} px off, similarity ${one.toFixed(3)}. ` +
      `Rings: similarity ${LEVELS.join(", ")}.`;
    return all;
  }

  function send() {
    pending = 0;
    model.set("keypoints", points.map((p) => [...p]));
    model.set("oks", oks(points, truth, visibility, sigmas, get("area")));
    model.set("chosen", chosen);
    model.save_changes();
  }

  function move(i, x, y) {
    points[i] = [Math.min(Math.max(x, -0.5), width - 0.5), Math.min(Math.max(y, -0.5), height - 0.5)];
    chosen = i;
    refresh();
    if (!pending) pending = requestAnimationFrame(send); // at most one message a frame
  }

  handles.forEach((handle, i) => {
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = stage.getBoundingClientRect();
      move(i, (event.clientX - box.left) / zoom - 0.5, (event.clientY - box.top) / zoom - 0.5);
    });
    handle.addEventListener("focus", () => { chosen = i; refresh(); });
    handle.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const step = steps[event.key];
      if (event.key !== "Tab") event.stopPropagation(); // JupyterLab would take the arrows to change cells
      if (!step) return;
      event.preventDefault();
      const size = event.shiftKey ? 10 : 1;
      move(i, points[i][0] + size * step[0], points[i][1] + size * step[1]);
    });
  });
  reset.addEventListener("click", () => { points = truth.map((p) => [...p]); refresh(); send(); });
  const fromKernel = () => { points = get("keypoints").map((p) => [...p]); refresh(); };
  model.on("change:keypoints", fromKernel);

  image.onload = () => { refresh(); send(); };
  image.src = URL.createObjectURL(new Blob([get("picture")], { type: "image/png" }));
  return () => { model.off("change:keypoints", fromKernel); URL.revokeObjectURL(image.src); };
}

export default { render };
