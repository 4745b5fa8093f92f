// The page is complete without this; it narrows the table of measurements.
"use strict";
document.documentElement.classList.add("js");
const find = document.getElementById("find");
const bad = document.getElementById("only-bad");
const groups = Array.from(document.querySelectorAll("details.group"));

// A word matches where a word begins, so that float16 does not find bfloat16.
function pattern(word) {
  return new RegExp((/^\w/.test(word) ? "\\b" : "") + word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i");
}

function narrow() {
  const words = find.value.split(/\s+/).filter(Boolean).map(pattern);
  const active = words.length > 0 || bad.checked;
  let shown = 0;
  for (const group of groups) {
    const title = group.firstElementChild.textContent;
    let here = 0;
    for (const row of group.querySelectorAll("tbody tr")) {
      const text = title + " " + row.textContent;
      const keep = words.every((word) => word.test(text)) && (!bad.checked || "bad" in row.dataset);
      row.hidden = !keep;
      here += keep ? 1 : 0;
    }
    group.hidden = active && here === 0;
    if (active && here > 0) group.open = true;
    shown += here;
  }
  document.getElementById("shown").textContent = active ? shown + " shown" : "";
}

let waiting = 0;
find.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(narrow, 120); });
bad.addEventListener("change", narrow);

for (const chip of document.querySelectorAll("a.chip[data-find]")) {
  chip.addEventListener("click", () => { find.value = chip.dataset.find; bad.checked = false; narrow(); });
}

function follow() {
  const target = document.getElementById(location.hash.slice(1));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
window.addEventListener("hashchange", follow);
follow();
