// Zoom, pan, window, level, invert and outline of one film; the page shows the whole film without scripts.
"use strict";

const film = document.getElementById("film");
const outline = document.getElementById("outline");
const controls = document.getElementById("controls");
const [width, height] = [film.viewBox.baseVal.width, film.viewBox.baseVal.height];
const MAX_ZOOM = 16;
let zoom = 1;
let centre = [width / 2, height / 2];

function place() {
  const [w, h] = [width / zoom, height / zoom];
  centre = [Math.min(Math.max(centre[0], w / 2), width - w / 2), Math.min(Math.max(centre[1], h / 2), height - h / 2)];
  film.setAttribute("viewBox", `${centre[0] - w / 2} ${centre[1] - h / 2} ${w} ${h}`);
  document.getElementById("zoomed").textContent = `${Math.round(100 * zoom)}%`;
}

function locate(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(film.getScreenCTM().inverse());
}

function zoomBy(factor, at) {
  const point = at || { x: centre[0], y: centre[1] };
  const next = Math.min(Math.max(zoom * factor, 1), MAX_ZOOM);
  centre = [point.x + ((centre[0] - point.x) * zoom) / next, point.y + ((centre[1] - point.y) * zoom) / next];
  zoom = next;
  place();
}

function pan(right, down) {
  centre = [centre[0] + (right * width) / zoom / 10, centre[1] + (down * height) / zoom / 10];
  place();
}

// PS3.3 C.11.2.1.2, on the 256 greys of the film.
function grey() {
  const [window_, level] = ["window", "level"].map((name) => Number(controls.elements[name].value));
  const sign = controls.elements.invert.checked ? -1 : 1;
  for (const part of document.querySelectorAll("#grey [type=linear]")) {
    part.setAttribute("slope", (sign * 255) / window_);
    part.setAttribute("intercept", 0.5 - (sign * level) / window_);
  }
  outline.toggleAttribute("hidden", !controls.elements.outline.checked);
}

const ACTIONS = {
  in: () => zoomBy(1.5),
  out: () => zoomBy(1 / 1.5),
  left: () => pan(-1, 0),
  right: () => pan(1, 0),
  up: () => pan(0, -1),
  down: () => pan(0, 1),
  reset: () => {
    zoom = 1;
    controls.reset();
    place();
    grey();
  },
};
const KEYS = {
  "+": "in", "=": "in", "-": "out", 0: "reset",
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
};

controls.hidden = false;
controls.addEventListener("input", grey);
controls.addEventListener("submit", (event) => event.preventDefault());
for (const button of controls.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => ACTIONS[button.dataset.do]());
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.type === "range") return;
  if (event.key === "i" || event.key === "o") {
    const box = controls.elements[event.key === "i" ? "invert" : "outline"];
    box.checked = !box.checked;
    grey();
  } else if (KEYS[event.key]) {
    event.preventDefault();
    ACTIONS[KEYS[event.key]]();
  }
});
film.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, locate(event));
}, { passive: false });
film.addEventListener("pointerdown", (event) => {
  film.setPointerCapture(event.pointerId);
  film.held = locate(event);
});
film.addEventListener("pointermove", (event) => {
  if (!film.held) return;
  const now = locate(event);
  centre = [centre[0] + film.held.x - now.x, centre[1] + film.held.y - now.y];
  place();
});
for (const kind of ["pointerup", "pointercancel"]) film.addEventListener(kind, () => { film.held = null; });
// A page restored from the browser's cache keeps its controls.
window.addEventListener("pageshow", () => {
  place();
  grey();
});
