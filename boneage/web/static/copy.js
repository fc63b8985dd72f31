// Copy the text of a report; without a secure connection, by its selection.
"use strict";

for (const button of document.querySelectorAll(".copy")) {
  const text = document.getElementById(button.dataset.text);
  const status = button.closest(".screen").querySelector(".copied");
  button.hidden = false;
  button.addEventListener("click", async () => {
    let copied = true;
    try {
      await navigator.clipboard.writeText(text.value);
    } catch {
      text.closest("details").open = true;
      text.select();
      copied = document.execCommand("copy");
    }
    status.textContent = copied ? "Copied." : "Not copied: the text below is selected, press Ctrl C.";
  });
}
