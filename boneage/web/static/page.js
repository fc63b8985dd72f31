// Drag and drop, paste, file summary and progress text; the page also works without scripts.
"use strict";

const form = document.getElementById("upload");
const input = document.getElementById("files");
const drop = document.getElementById("drop");
const chosen = document.getElementById("chosen");
const button = form.querySelector("button");
const label = button.textContent;

function describe() {
  const files = Array.from(input.files);
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const most = Number(form.dataset.maxBytes);
  let problem = "";
  if (files.length > Number(form.dataset.maxFiles)) problem = `At most ${form.dataset.maxFiles} files at once.`;
  if (bytes > most) problem = `At most ${Math.floor(most / 2 ** 20)} MB at once.`;
  input.setCustomValidity(problem);
  chosen.classList.toggle("problem", problem !== "");
  if (problem) chosen.textContent = problem;
  else if (files.length === 1) chosen.textContent = files[0].name;
  else if (files.length) chosen.textContent = `${files.length} files`;
  else chosen.textContent = "Choose files, or drop or paste them here.";
}

function take(files) {
  if (!files.length) return;
  input.files = files;
  describe();
  button.focus();
}

input.addEventListener("change", describe);
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => take(event.clipboardData.files));

form.addEventListener("submit", () => {
  button.disabled = true;
  button.textContent = "Reading…";
});
// A page restored from the browser's cache is no longer reading.
window.addEventListener("pageshow", () => {
  button.disabled = false;
  button.textContent = label;
  describe();
});
if (location.hash === "#readings") document.getElementById("readings")?.focus();
