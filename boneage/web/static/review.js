// Decisions by key and mouse, on the grid and on one radiograph; a decision shown is saved on the server.
"use strict";

const grid = document.getElementById("grid");
const mask = document.getElementById("mask");
const message = document.getElementById("message");
const help = document.getElementById("help");
const KEYS = { k: "keep", x: "reject", r: "rotate", R: "rotate-right", f: "flip", m: "open", Enter: "open", u: "undo", "?": "help",
  n: "next", p: "previous" };
let latest = Promise.resolve();

function notify(text, isProblem = false) {
  message.textContent = text;
  message.classList.toggle("problem", isProblem);
}

async function post(path, value) {
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers: { Accept: "application/json" }, body: JSON.stringify(value) });
  } catch {
    throw new Error("The server does not respond. Decisions shown are saved; restart the server and reload.");
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.detail);
  return content;
}

// Requests are sent one at a time, in the order of the keys.
function ask(path, value, use) {
  latest = latest.then(() => post(path, value)).then(use).catch((error) => notify(error.message, true));
}

function show(answer) {
  document.getElementById("progress").value = answer.num_decided;
  document.getElementById("decided").textContent = answer.num_decided.toLocaleString("en");
  notify(`${answer.id}: ${answer.verdict || answer.state}`);
  const hand = grid ? document.getElementById(`hand-${answer.number}`) : Number(mask.dataset.number) === answer.number && mask;
  if (!hand) return null;
  hand.classList.remove("undecided", "kept", "corrected", "rejected");
  hand.classList.add(answer.state);
  hand.querySelector(".verdict").textContent = answer.verdict;
  const [picture, name] = grid ? [hand.querySelector(".tile"), "tile.jpg"] : [hand.querySelector(".crop"), "crop.png"];
  picture.src = `/hands/${answer.number}/${name}?${answer.version}`;
  return hand;
}

function decide(hand, decision, more = {}) {
  ask(`/hands/${hand.dataset.number}/decision`, { decision, ...more }, show);
}

function act(name, hand) {
  if (name === "help") help.showModal();
  else if (name === "undo") undo();
  else if (name === "joint") ask("/joint", {}, (answer) => notify(answer.message));
  else if (name === "next" || name === "previous") document.getElementById(name)?.click();
  else if (!hand) return;
  else if (name === "rotate" || name === "rotate-right") decide(hand, "rotate", { degrees: name === "rotate" ? 90 : -90 });
  else if (name === "flip") decide(hand, "flip");
  else if (name === "keep" || name === "reject") {
    decide(hand, name);
    if (grid) choose(hand.nextElementSibling);
  } else if (name === "open") hand.querySelector("[data-do=open]")?.click();
  else if (name === "accept") accept();
  else if (name === "clear") clear();
}

function undo() {
  if (mask && undoClick()) return;
  ask("/undo", {}, (answer) => {
    const hand = show(answer);
    if (grid && hand) hand.focus();
    if (mask && hand) location.reload();
  });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button && button.dataset.do !== "open") act(button.dataset.do, button.closest(".hand"));
});

document.addEventListener("keydown", (event) => {
  if (help.open || event.target.closest("select, input") || event.altKey || event.metaKey) return;
  if (event.key === "Enter" && event.target.closest("button, a")) return;
  let name = KEYS[event.key];
  if (event.ctrlKey) name = event.key === "z" ? "undo" : undefined;
  else if (mask) name = { a: "accept", Enter: "accept", c: "clear", Escape: "back" }[event.key] ?? name;
  else if (event.key.startsWith("Arrow")) name = event.key;
  if (!name) return;
  event.preventDefault();
  if (name === "back") document.getElementById("back").click();
  else if (name.startsWith("Arrow")) move(name);
  else act(name, mask ?? document.activeElement.closest(".hand"));
});

// The grid: keys apply to the focused radiograph.

function choose(hand) {
  if (hand) hand.focus();
  else notify("Last radiograph on this page; n shows the next page.");
}

function move(key) {
  const hands = [...grid.querySelectorAll(".hand")];
  const place = hands.indexOf(document.activeElement.closest(".hand"));
  const columns = hands.filter((hand) => hand.offsetTop === hands[0].offsetTop).length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  (hands[place < 0 ? 0 : place + step] ?? hands[place])?.focus();
}

if (grid) {
  grid.addEventListener("click", (event) => event.target.closest(".hand")?.focus());
  for (const select of document.querySelectorAll("select")) select.addEventListener("change", () => select.form.submit());
  (document.getElementById(location.hash.slice(1)) ?? grid.querySelector(".hand"))?.focus();
}

// One radiograph: the server computes an outline from clicks and a box.

const svg = document.getElementById("radiograph");
const outline = document.getElementById("outline");
const original = outline?.getAttribute("d");
let clicks = [];
let box = null;
let down = null;
let numAsked = 0;

function locate(event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const { width, height } = svg.viewBox.baseVal;
  return [Math.min(Math.max(point.x, 0), width - 1), Math.min(Math.max(point.y, 0), height - 1)];
}

function between([x, y], [x2, y2]) {
  return [Math.min(x, x2), Math.min(y, y2), Math.max(x, x2) + 1, Math.max(y, y2) + 1].map(Math.floor);
}

function drawBox(corners) {
  const [left, top, right, bottom] = corners ?? [0, 0, 0, 0];
  const values = { x: left, y: top, width: right - left, height: bottom - top };
  for (const [name, value] of Object.entries(values)) document.getElementById("box").setAttribute(name, value);
}

function draw() {
  const circles = clicks.map(([x, y, isOn]) => {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [name, value] of Object.entries({ cx: x, cy: y, r: svg.viewBox.baseVal.height / 120 })) circle.setAttribute(name, value);
    circle.classList.add(isOn ? "on" : "off");
    return circle;
  });
  document.getElementById("clicks").replaceChildren(...circles);
  drawBox(box);
  const isEmpty = !clicks.length && !box;
  for (const button of document.querySelectorAll("[data-do=accept], [data-do=clear]")) button.disabled = isEmpty;
  return isEmpty;
}

async function correct() {
  const number = ++numAsked;
  if (draw()) {
    outline.setAttribute("d", original);
    svg.classList.remove("asking");
    return;
  }
  svg.classList.add("asking");
  try {
    const answer = await post(`/hands/${mask.dataset.number}/outline`, { clicks, box });
    if (number !== numAsked) return;
    outline.setAttribute("d", answer.outline);
    notify(answer.message, true);
  } catch (error) {
    notify(error.message, true);
  }
  if (number === numAsked) svg.classList.remove("asking");
}

function undoClick() {
  if (!clicks.length && !box) return false;
  if (clicks.length) clicks.pop();
  else box = null;
  correct();
  return true;
}

function clear() {
  clicks = [];
  box = null;
  correct();
}

function accept() {
  if (!clicks.length && !box) return;
  ask(`/hands/${mask.dataset.number}/decision`, { decision: "mask", clicks, box }, () => location.reload());
}

if (svg) {
  svg.addEventListener("contextmenu", (event) => event.preventDefault());
  svg.addEventListener("pointerdown", (event) => {
    down = { x: event.clientX, y: event.clientY, place: locate(event), isBox: false };
    svg.setPointerCapture(event.pointerId);
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (!down) return;
    down.isBox ||= Math.hypot(event.clientX - down.x, event.clientY - down.y) > 8;
    if (down.isBox) drawBox(between(down.place, locate(event)));
  });
  svg.addEventListener("pointerup", (event) => {
    if (!down) return;
    if (down.isBox) box = between(down.place, locate(event));
    else clicks.push([...down.place, !(event.shiftKey || event.button === 2)]);
    down = null;
    correct();
  });
  svg.addEventListener("pointercancel", () => {
    down = null;
    draw();
  });
}
