// The mask of one radiograph: points and a box by mouse, touch or keys, of which the server computes an outline.
"use strict";

const original = outline.getAttribute("d");
const modes = document.getElementById("modes");
const ignored = document.getElementById("ignored");
// A step of the crosshair, as a share of the height shown.
const STEP_SHARE = 1 / 40;
let marks = { clicks: [], box: null };
let [past, future] = [[], []];
let notFollowed = [];
let corner = null;
let crosshair = null;
let down = null;
let numAsked = 0;

function getMode() {
  return modes.querySelector(":checked").value;
}

function within(point) {
  return { x: Math.min(Math.max(point.x, 0), width - 1), y: Math.min(Math.max(point.y, 0), height - 1) };
}

function between(one, other) {
  const [xs, ys] = ["x", "y"].map((axis) => [one[axis], other[axis]]);
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1].map(Math.floor);
}

function make(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function drawBox(corners) {
  const [left, top, right, bottom] = corners ?? [0, 0, 0, 0];
  const values = { x: left, y: top, width: right - left, height: bottom - top };
  for (const [name, value] of Object.entries(values)) document.getElementById("box").setAttribute(name, value);
}

// Plus on the hand, minus beside it, a ring around what was not followed; the same size at any zoom.
function draw() {
  const radius = height / zoom / 90;
  const drawn = marks.clicks.map(([x, y, isOn], place) => {
    const group = make("g", { class: isOn ? "on" : "off", transform: `translate(${x} ${y}) scale(${radius})` });
    group.append(make("circle", { r: 1 }), make("path", { d: isOn ? "M-.6 0H.6M0-.6V.6" : "M-.6 0H.6" }));
    if (notFollowed.includes(place)) {
      group.classList.add("ignored");
      group.append(make("circle", { r: 2, class: "ring" }));
    }
    return group;
  });
  document.getElementById("clicks").replaceChildren(...drawn);
  drawBox(corner && crosshair ? between(corner, crosshair) : marks.box);
  if (crosshair) {
    const { x, y } = crosshair;
    const [near, far] = [radius, 4 * radius];
    const arms = `M${x - far} ${y}H${x - near}M${x + near} ${y}H${x + far}M${x} ${y - far}V${y - near}M${x} ${y + near}V${y + far}`;
    for (const path of document.querySelectorAll("#crosshair path")) path.setAttribute("d", arms);
  }
  const isEmpty = !marks.clicks.length && !marks.box;
  for (const button of document.querySelectorAll("[data-do=accept], [data-do=clear]")) button.disabled = isEmpty;
  return isEmpty;
}

async function correct() {
  const number = ++numAsked;
  notFollowed = [];
  if (draw()) {
    outline.setAttribute("d", original);
    film.classList.remove("asking");
    return;
  }
  film.classList.add("asking");
  try {
    const answer = await post(`/hands/${mask.dataset.number}/outline`, marks);
    if (number !== numAsked) return;
    outline.setAttribute("d", answer.outline);
    notFollowed = answer.not_followed;
    draw();
    notify(answer.message, true);
  } catch (error) {
    notify(error.message, true);
  }
  if (number === numAsked) film.classList.remove("asking");
}

function setMarks(next) {
  past.push(marks);
  future = [];
  marks = next;
  correct();
}

// Undo and redo go through the marks first, then through the decisions.
function step(from, to, elsewhere) {
  corner = null;
  if (!from.length) return elsewhere();
  to.push(marks);
  marks = from.pop();
  return correct();
}

function mark(point, isOff) {
  if (getMode() === "box" && !isOff) {
    if (!corner) {
      corner = point;
      crosshair = { ...point };
      draw();
      notify("First corner set. Set the opposite one.");
      return;
    }
    const box = between(corner, point);
    corner = null;
    notify("");
    setMarks({ ...marks, box });
    return;
  }
  setMarks({ ...marks, clicks: [...marks.clicks, [point.x, point.y, !(isOff || getMode() === "outside")]] });
}

function accept() {
  if (!marks.clicks.length && !marks.box) return;
  if (notFollowed.length) {
    document.getElementById("num-ignored").textContent = notFollowed.length;
    ignored.returnValue = "";
    ignored.showModal();
  } else sendMask();
}

function sendMask() {
  ask(`/hands/${mask.dataset.number}/decision`, { decision: "mask", ...marks }, () => location.reload());
}

function tellPlace() {
  const [x, y] = [crosshair.x, crosshair.y].map(Math.floor);
  const isInside = outline.isPointInFill(new DOMPoint(crosshair.x, crosshair.y));
  document.getElementById("place").textContent = `Crosshair ${x}, ${y}: ${isInside ? "inside" : "outside"} the outline`;
}

// The view follows the crosshair.
function moveCrosshair(right, below, event) {
  const size = event.shiftKey ? 1 : Math.max((height / zoom) * STEP_SHARE, 1);
  crosshair = crosshair ? within({ x: crosshair.x + right * size, y: crosshair.y + below * size }) : { x: centre[0], y: centre[1] };
  film.focus({ preventScroll: true });
  const away = [crosshair.x - centre[0], crosshair.y - centre[1]];
  const most = [width, height].map((side) => (0.45 * side) / zoom);
  panBy(...away.map((distance, axis) => Math.sign(distance) * Math.max(Math.abs(distance) - most[axis], 0)));
  tellPlace();
}

Object.assign(ACTIONS, {
  accept,
  clear: () => setMarks({ clicks: [], box: null }),
  undo: () => step(past, future, () => goBackTo("/undo")),
  redo: () => step(future, past, () => goBackTo("/redo")),
  back: () => {
    if (!corner) return document.getElementById("back").click();
    corner = null;
    return draw();
  },
  mark: (_, event) => (crosshair ? mark(crosshair, event.shiftKey) : moveCrosshair(0, 0, event)),
  left: (_, event) => moveCrosshair(-1, 0, event),
  right: (_, event) => moveCrosshair(1, 0, event),
  up: (_, event) => moveCrosshair(0, -1, event),
  down: (_, event) => moveCrosshair(0, 1, event),
});
for (const [place, value] of ["hand", "outside", "box"].entries()) {
  ACTIONS[value] = () => {
    const radio = modes.querySelector(`[value=${value}]`);
    radio.checked = true;
    corner = null;
    draw();
    notify(`Mark: ${radio.parentElement.textContent.trim()}`);
  };
  KEYS[place + 1] = value;
}
for (const name of ["in", "out"]) ACTIONS[name] = () => VIEW_ACTIONS[name](crosshair);
for (const name of ["reset", "invert", "outline"]) ACTIONS[name] = () => VIEW_ACTIONS[name]();
Object.assign(KEYS, VIEW_KEYS, { a: "accept", c: "clear", Escape: "back", Enter: "mark", " ": "mark", ArrowLeft: "left",
  ArrowRight: "right", ArrowUp: "up", ArrowDown: "down" });

modes.hidden = false;
modes.addEventListener("change", () => { corner = null; draw(); });
film.addEventListener("view", draw);
ignored.addEventListener("close", () => { if (ignored.returnValue === "accept") sendMask(); });
document.getElementById("comment").addEventListener("submit", (event) => {
  event.preventDefault();
  ask(`/hands/${mask.dataset.number}/comment`, { comment: event.target.elements.comment.value }, (answer) => {
    show(answer);
    notify(answer.comment ? "Comment saved." : "Comment removed.");
  });
});

// A drag draws a box; by finger it moves the view, unless a box is asked for.
film.addEventListener("contextmenu", (event) => event.preventDefault());
film.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  if (down) return;
  film.setPointerCapture(event.pointerId);
  film.focus({ preventScroll: true });
  down = { x: event.clientX, y: event.clientY, id: event.pointerId, held: locate(event), isDrag: false,
    isBox: event.pointerType !== "touch" || getMode() === "box" };
});
film.addEventListener("pointermove", (event) => {
  if (event.pointerId !== down?.id) return;
  down.isDrag ||= Math.hypot(event.clientX - down.x, event.clientY - down.y) > 8;
  if (down.isDrag && down.isBox) drawBox(between(within(down.held), within(locate(event))));
  else if (down.isDrag) dragTo(down.held, event);
});
film.addEventListener("pointerup", (event) => {
  if (event.pointerId !== down?.id) return;
  const { isDrag, isBox, held } = down;
  down = null;
  if (!isDrag) mark(within(held), event.shiftKey || event.button === 2);
  else if (isBox) {
    corner = null;
    setMarks({ ...marks, box: between(within(held), within(locate(event))) });
  }
});
film.addEventListener("pointercancel", () => {
  down = null;
  draw();
});
