"use strict";
// What all parts of the page share. Text is only ever set as text, never as HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function shown(value, digits = 1) {
  return value === null || value === undefined ? "-" : value.toFixed(digits);
}

function signed(value, digits = 1) {
  if (value === null || value === undefined) return "-";
  return (value > 0 ? "+" : "") + value.toFixed(digits).replace("-", "\u2212");
}

// A long table shows its first rows, and the rest on request.
for (const button of document.querySelectorAll("button[data-more]")) {
  const table = document.querySelector(`table.${button.dataset.more}`);
  const late = table.querySelectorAll("tr.late");
  if (!late.length) continue;
  const say = (isCut) => {
    button.textContent = isCut ? `show ${late.length} more rows` : "show fewer rows";
    button.setAttribute("aria-expanded", String(!isCut));
  };
  table.classList.add("cut");
  button.hidden = false;
  say(true);
  button.addEventListener("click", () => say(table.classList.toggle("cut")));
}
