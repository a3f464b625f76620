// The controls of a viewer: which row a panel shows, which boxes, and what the colours mean.

const KINDS = ["classification", "localisation", "both", "duplicate", "background"];

// A select with [value, text] entries.
function choice(entries, changed, attributes = {}) {
  const select = make("select", attributes);
  for (const [value, text] of entries) {
    const option = make("option", { value });
    option.textContent = text;
    select.append(option);
  }
  select.addEventListener("change", changed);
  return select;
}

function rowSelect(subject, side, changed) {
  const rows = Object.entries(subject.rows).map(([row, about]) => [row, about.title]);
  const select = choice(rows, changed, { "aria-label": side ? "row at the right" : "row in the middle" });
  select.value = side && subject.after ? subject.after : subject.before;
  return select;
}

class Filters {
  // `changed` is called when other boxes pass, `redraw` when the same ones are drawn otherwise.
  constructor(subject, changed, redraw) {
    const classes = subject.classes.map((name, label) => [label, name]);
    this.classes = choice([["all", "all"], ...classes], changed);
    const wrong = KINDS.map((kind) => [kind, `wrong: ${kind}`]);
    const kinds = [["all", "all"], ["right", "right"], ["wrong", "wrong"], ...wrong, ["missed", "missed objects"]];
    this.kinds = choice(kinds, changed);
    this.own = make("input", { type: "checkbox" });
    this.own.checked = true;
    this.score = make("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0.3 });
    this.least = make("output");
    this.members = make("input", { type: "checkbox" });
    this.own.addEventListener("change", changed);
    this.members.addEventListener("change", redraw);
    this.score.addEventListener("input", () => {
      this.own.checked = false;
      changed();
    });
    const label = (kind, ...parts) => make("label", { class: kind }, ...parts);
    this.element = make(
      "div",
      { class: "filters" },
      label("by-class", "class", this.classes),
      label("by-kind", "boxes", this.kinds),
      label("by-score", "score at least", this.score, this.least),
      label("by-own", this.own, "the best-F1 score of each row"),
      label("by-members", this.members, "suppressed boxes"),
    );
  }
}

function keyOfColours() {
  const sample = (kind, text) => {
    const place = [4, 3, 22, 13];
    const box = kind === "explained" ? explaining(place, "member") : outlined(place, kind);
    const icon = draw("svg", { width: 26, height: 16, viewBox: "0 0 26 16", "aria-hidden": "true" }, box);
    return make("li", {}, make("span", { class: "drawn" }, icon), text);
  };
  const keys = make("li");
  for (const [name, text] of [["\u2190 \u2192", " image  "], ["\u2191 \u2193", " box  "], ["Enter", " keep  "], ["Esc", " let go"]]) {
    const kbd = make("kbd");
    kbd.textContent = name;
    keys.append(kbd, text);
  }
  return make(
    "ul",
    { class: "key" },
    sample("right", "right"),
    sample("wrong", "wrong"),
    sample("missed", "object that the row misses"),
    sample("found", "object that is found"),
    sample("explained", "suppressed boxes of the cluster"),
    keys,
  );
}
