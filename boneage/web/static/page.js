// Drag and drop, paste, file summary and progress by file; the page also works without scripts.
"use strict";

const form = document.getElementById("upload");
const input = document.getElementById("files");
const drop = document.getElementById("drop");
const chosen = document.getElementById("chosen");
const button = form.querySelector("button[type=submit]");
const label = button.textContent;

const own = document.getElementById("own");
const ownRows = document.getElementById("own-rows");

// A row for each of several files, to say what differs from the fields of all.
function listOwn(files) {
  own.hidden = files.length < 2;
  const row = document.getElementById("own-row").content;
  ownRows.replaceChildren(...(own.hidden ? [] : files.map((file) => {
    const made = row.cloneNode(true);
    made.querySelector("legend").textContent = file.name;
    return made;
  })));
}

// The fields of one file: its own age, or own dates, in place of those of all.
function gather(file, row) {
  const fields = new FormData(form);
  fields.set("files", file);
  const given = {};
  for (const input of row.querySelectorAll("[data-field]")) if (input.value) given[input.dataset.field] = input.value;
  const replaced = "age_years" in given || "age_months" in given ? ["birth_date", "film_date", "age_years", "age_months"]
    : "birth_date" in given || "film_date" in given ? ["age_years", "age_months"] : [];
  for (const name of replaced) fields.delete(name);
  for (const [name, value] of Object.entries(given)) fields.set(name, value);
  return fields;
}

function describe() {
  const files = Array.from(input.files);
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  const most = Number(form.dataset.maxBytes);
  let problem = "";
  if (files.length > Number(form.dataset.maxFiles)) problem = `At most ${form.dataset.maxFiles} files at once.`;
  if (bytes > most) problem = `At most ${Math.floor(most / 2 ** 20)} MB at once.`;
  input.setCustomValidity(problem);
  chosen.classList.toggle("problem", problem !== "");
  listOwn(problem ? [] : files);
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

// An age is years and months, or two dates: what is typed last counts.
document.addEventListener("input", (event) => {
  const ages = event.target.closest(".ages");
  if (!ages || !event.target.value || event.target.type === "select-one") return;
  const isDate = event.target.type === "date";
  for (const input of ages.querySelectorAll("input")) if ((input.type === "date") !== isDate) input.value = "";
});

const count = document.getElementById("count");
const MAX_TRIES = 5;

// Send one file; a busy server says when to try again.
async function send(fields, batch) {
  for (let tries = 1; ; tries += 1) {
    const address = batch ? `/files?batch=${encodeURIComponent(batch)}` : "/files";
    const response = await fetch(address, { method: "POST", body: fields });
    const answer = await response.json();
    if (response.ok) return answer;
    if (response.status !== 503 || tries === MAX_TRIES) throw new Error(answer.detail);
    await new Promise((resolve) => { setTimeout(resolve, 1000 * Number(response.headers.get("Retry-After") || 1)); });
  }
}

// A row for each file, and a line that screen readers hear.
async function readAll(files) {
  const [bar, rows] = ["bar", "rows"].map((id) => document.getElementById(id));
  const progress = document.getElementById("progress");
  progress.hidden = false;
  progress.scrollIntoView({ block: "nearest" });
  bar.max = files.length;
  bar.value = 0;
  rows.replaceChildren(...files.map((file) => {
    const row = document.createElement("li");
    row.textContent = `${file.name}: waiting`;
    return row;
  }));
  let [batch, failed] = ["", false];
  for (const [index, file] of files.entries()) {
    const row = rows.children[index];
    row.textContent = `${file.name}: reading…`;
    count.textContent = `${index + 1} of ${files.length}: reading ${file.name}`;
    try {
      const answer = await send(gather(file, ownRows.children[index]), batch);
      batch = answer.batch;
      row.textContent = `${file.name}: ${answer.results[0].text}`;
    } catch (error) {
      failed = true;
      row.textContent = `${file.name}: not read, ${error.message}`;
    }
    bar.value = index + 1;
  }
  count.textContent = `${files.length} of ${files.length} read.`;
  return !failed;
}

form.addEventListener("submit", async (event) => {
  const files = Array.from(input.files);
  button.disabled = true;
  button.textContent = "Reading…";
  count.textContent = `Reading ${files.length === 1 ? files[0].name : `${files.length} files`}`;
  if (files.length < 2) return;
  event.preventDefault();
  const isComplete = await readAll(files);
  button.disabled = false;
  button.textContent = label;
  if (isComplete) {
    location.hash = "readings";
    location.reload();
  } else {
    count.innerHTML = 'Not all files were read. <a href="/">Show the readings</a>';
  }
});
// A page restored from the browser's cache is no longer reading.
window.addEventListener("pageshow", () => {
  button.disabled = false;
  button.textContent = label;
  count.textContent = "";
  describe();
});
if (/^#reading/.test(location.hash)) document.getElementById(location.hash.slice(1))?.focus();
