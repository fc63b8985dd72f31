// Zoom, pan, window, level, invert and outline of one radiograph; pages show it whole without scripts.
"use strict";

const film = document.getElementById("film");
const outline = document.getElementById("outline");
const controls = document.getElementById("controls");
const [width, height] = [film.viewBox.baseVal.width, film.viewBox.baseVal.height];
const MAX_ZOOM = 16;
let zoom = 1;
let centre = [width / 2, height / 2];

// Listeners of "view" draw anew what depends on the scale.
function place() {
  const [w, h] = [width / zoom, height / zoom];
  centre = [Math.min(Math.max(centre[0], w / 2), width - w / 2), Math.min(Math.max(centre[1], h / 2), height - h / 2)];
  film.setAttribute("viewBox", `${centre[0] - w / 2} ${centre[1] - h / 2} ${w} ${h}`);
  document.getElementById("zoomed").textContent = `${Math.round(100 * zoom)}%`;
  film.dispatchEvent(new Event("view"));
}

function locate(event) {
  return new DOMPoint(event.clientX, event.clientY).matrixTransform(film.getScreenCTM().inverse());
}

function zoomBy(factor, at) {
  const next = Math.min(Math.max(zoom * factor, 1), MAX_ZOOM);
  centre = [at.x + ((centre[0] - at.x) * zoom) / next, at.y + ((centre[1] - at.y) * zoom) / next];
  zoom = next;
  place();
}

function panBy(right, down) {
  centre = [centre[0] + right, centre[1] + down];
  place();
}

// Keep the point under the pointer that a drag began at.
function dragTo(held, event) {
  const now = locate(event);
  panBy(held.x - now.x, held.y - now.y);
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

function toggle(name) {
  if (controls.elements[name].disabled) return;
  controls.elements[name].checked = !controls.elements[name].checked;
  grey();
}

const VIEW_KEYS = { "+": "in", "=": "in", "-": "out", 0: "reset", i: "invert", o: "outline" };
const VIEW_ACTIONS = {
  in: (at) => zoomBy(1.5, at ?? { x: centre[0], y: centre[1] }),
  out: (at) => zoomBy(1 / 1.5, at ?? { x: centre[0], y: centre[1] }),
  left: () => panBy(-width / zoom / 10, 0),
  right: () => panBy(width / zoom / 10, 0),
  up: () => panBy(0, -height / zoom / 10),
  down: () => panBy(0, height / zoom / 10),
  invert: () => toggle("invert"),
  outline: () => toggle("outline"),
  reset: () => {
    zoom = 1;
    controls.reset();
    place();
    grey();
  },
};

controls.hidden = false;
controls.addEventListener("input", grey);
controls.addEventListener("submit", (event) => event.preventDefault());
for (const button of controls.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => VIEW_ACTIONS[button.dataset.view]());
}
film.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.2 : 1 / 1.2, locate(event));
}, { passive: false });
// A page restored from the browser's cache keeps its controls.
window.addEventListener("pageshow", () => {
  place();
  grey();
});
