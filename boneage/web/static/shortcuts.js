// Shortcuts of one character, which can be turned off in a browser: speech input and typing errors press them too.
"use strict";

const SHORTCUTS = "boneage-shortcuts";

function hasShortcuts() {
  try {
    return localStorage.getItem(SHORTCUTS) !== "off";
  } catch {
    return true; // a browser that stores nothing
  }
}

for (const box of document.querySelectorAll("[name=shortcuts]")) {
  box.checked = hasShortcuts();
  box.addEventListener("change", () => localStorage.setItem(SHORTCUTS, box.checked ? "on" : "off"));
}
