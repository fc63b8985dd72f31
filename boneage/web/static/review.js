// Decisions by key, mouse and touch, on the list and on one radiograph; a decision shown is saved on the server.
"use strict";

const grid = document.getElementById("grid");
const mask = document.getElementById("mask");
const message = document.getElementById("message");
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
  hand.querySelector(".verdict").textContent = answer.verdict || "undecided";
  hand.querySelector(".comment").textContent = answer.comment;
  const [picture, name] = grid ? [hand.querySelector(".tile"), "tile.jpg"] : [hand.querySelector(".crop"), "crop.png"];
  picture.src = `/hands/${answer.number}/${name}?${answer.version}`;
  return hand;
}

function decide(hand, decision, more = {}) {
  ask(`/hands/${hand.dataset.number}/decision`, { decision, ...more }, show);
}

function decideAndGoOn(hand, decision) {
  decide(hand, decision);
  if (!grid) return;
  if (hand.nextElementSibling) hand.nextElementSibling.focus();
  else notify("Last radiograph on this page; n shows the next page.");
}

function goBackTo(path) {
  ask(path, {}, (answer) => {
    const hand = show(answer);
    if (grid && hand) hand.focus();
    if (mask && hand) location.reload();
  });
}

// By name, with the radiograph that is meant; the page of one radiograph adds its own.
const ACTIONS = {
  help: () => document.getElementById("help").showModal(),
  undo: () => goBackTo("/undo"),
  redo: () => goBackTo("/redo"),
  joint: () => ask("/joint", {}, (answer) => notify(answer.message)),
  next: () => document.getElementById("next")?.click(),
  previous: () => document.getElementById("previous")?.click(),
  keep: (hand) => decideAndGoOn(hand, "keep"),
  reject: (hand) => decideAndGoOn(hand, "reject"),
  rotate: (hand) => decide(hand, "rotate", { degrees: 90 }),
  "rotate-right": (hand) => decide(hand, "rotate", { degrees: -90 }),
  flip: (hand) => decide(hand, "flip"),
  open: (hand) => hand.querySelector("[data-do=open]").click(),
};
const WITHOUT_HAND = ["help", "undo", "redo", "joint", "next", "previous"];
const KEYS = { k: "keep", x: "reject", r: "rotate", R: "rotate-right", f: "flip", u: "undo", U: "redo", n: "next",
  p: "previous", "?": "help" };

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) ACTIONS[button.dataset.do](button.closest(".hand"), event);
});

// What a field or a button does with a key itself.
function isTakenByField(event) {
  const field = event.target.closest("select, input, textarea, summary, button, a");
  if (!field) return false;
  if (field.matches("select, textarea, input:not([type=radio], [type=checkbox], [type=range])")) return true;
  if (field.matches("input")) return event.key.length !== 1 || event.key === " ";
  return event.key === "Enter" || event.key === " ";
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || event.altKey || event.metaKey || isTakenByField(event)) return;
  let name = KEYS[event.key];
  if (event.ctrlKey) name = { z: "undo", Z: "redo", y: "redo" }[event.key];
  else if (event.key.length === 1 && event.key !== " " && !hasShortcuts()) return;
  const hand = mask ?? document.activeElement.closest(".hand");
  if (!name || !(hand || WITHOUT_HAND.includes(name) || grid && name.startsWith("go-"))) return;
  event.preventDefault();
  ACTIONS[name](hand, event);
});

// The list: keys apply to the focused radiograph, the one that Tab stops at.

function rove(hand) {
  for (const other of grid.querySelectorAll(".hand")) {
    const place = other === hand ? 0 : -1;
    for (const part of [other, ...other.querySelectorAll("button, a")]) part.tabIndex = place;
  }
}

function go(step) {
  const hands = [...grid.querySelectorAll(".hand")];
  const place = hands.indexOf(document.activeElement.closest(".hand"));
  const columns = hands.filter((hand) => hand.offsetTop === hands[0]?.offsetTop).length;
  const next = { left: place - 1, right: place + 1, up: place - columns, down: place + columns, first: 0,
    last: hands.length - 1 }[step];
  (hands[place < 0 && step !== "last" ? 0 : next] ?? hands[place])?.focus();
}

if (grid) {
  for (const step of ["left", "right", "up", "down", "first", "last"]) ACTIONS[`go-${step}`] = () => go(step);
  Object.assign(KEYS, { m: "open", Enter: "open", ArrowLeft: "go-left", ArrowRight: "go-right", ArrowUp: "go-up",
    ArrowDown: "go-down", Home: "go-first", End: "go-last" });
  grid.addEventListener("focusin", (event) => rove(event.target.closest(".hand")));
  grid.addEventListener("click", (event) => { if (!event.target.closest("button, a")) event.target.closest(".hand")?.focus(); });
  const first = document.getElementById(location.hash.slice(1)) ?? grid.querySelector(".hand");
  if (first) first.focus();
}
