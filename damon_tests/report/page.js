// SPDX-License-Identifier: GPL-2.0
// Filters, order, permalinks, copying, theme. Without it the page is a plain document with everything in it.
const all = selector => [...document.querySelectorAll(selector)];
const tests = all("details.test"), list = document.getElementById("tests");
const field = document.getElementById("words"), area = document.getElementById("area"), order = document.getElementById("order");
const said = document.getElementById("said"), chosen = new Set();
document.getElementById("tools").hidden = false;
document.getElementById("theme").hidden = false;

function narrow() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const test of tests) {
    const text = words.length ? (test.dataset.verdict + " " + test.textContent).toLowerCase() : "";
    const fits = (!chosen.size || chosen.has(test.dataset.verdict)) && (!area.value || test.dataset.area === area.value)
      && words.every(word => text.includes(word));
    test.hidden = !fits;
    shown += fits;
  }
  for (const button of all(".count")) button.setAttribute("aria-pressed", chosen.has(button.dataset.verdict));
  const total = `${tests.length.toLocaleString("en")} test${tests.length === 1 ? "" : "s"}`;
  said.textContent = shown === tests.length ? total : `${shown.toLocaleString("en")} of ${total}`;
}
function sort() {
  const by = { verdict: t => +t.dataset.order, time: t => -t.dataset.seconds, name: t => t.dataset.id }[order.value];
  const sorted = [...tests].sort((a, b) => (by(a) > by(b)) - (by(a) < by(b)) || +a.dataset.order - +b.dataset.order);
  list.append(...sorted);
}
function choose(verdict) {
  chosen.has(verdict) ? chosen.delete(verdict) : chosen.add(verdict);
  narrow();
}
field.addEventListener("input", narrow);
area.addEventListener("change", narrow);
order.addEventListener("change", sort);
for (const button of all(".count")) button.addEventListener("click", () => choose(button.dataset.verdict));
for (const button of all(".matrix button")) button.addEventListener("click", () => {
  chosen.clear();
  area.value = button.dataset.area;
  field.value = button.dataset.words;
  narrow();
  document.getElementById("tests-title").scrollIntoView();
  field.focus({ preventScroll: true });
});
for (const button of all("[data-copy]")) button.addEventListener("click", async () => {
  const text = document.getElementById(button.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
  } catch {
    getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
    button.textContent = "selected";
  }
});
document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
// A permalink opens its test; / goes to the words, j and k to the next and the previous test.
function reveal() {
  const test = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (test && test.matches("details.test")) {
    test.open = true;
    test.hidden = false;
    test.scrollIntoView();
  }
}
addEventListener("hashchange", reveal);
addEventListener("keydown", event => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") { event.preventDefault(); field.focus(); }
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const shown = all("details.test:not([hidden]) > summary"), at = shown.indexOf(document.activeElement);
  shown[Math.min(shown.length - 1, Math.max(0, at + step))]?.focus();
});
narrow();
reveal();
