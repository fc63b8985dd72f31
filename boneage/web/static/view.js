// The viewer of a reading: arrows and drags pan.
"use strict";

const ARROWS = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" };
let held = null;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.type === "range") return;
  const name = ARROWS[event.key] ?? (hasShortcuts() ? VIEW_KEYS[event.key] : undefined);
  if (!name) return;
  event.preventDefault();
  VIEW_ACTIONS[name]();
});
film.addEventListener("pointerdown", (event) => {
  film.setPointerCapture(event.pointerId);
  held = locate(event);
});
film.addEventListener("pointermove", (event) => { if (held) dragTo(held, event); });
for (const kind of ["pointerup", "pointercancel"]) film.addEventListener(kind, () => { held = null; });
