// The viewer: truth and two rows of an image side by side.

const HINT =
  "Point at a box or tap it, or walk through the boxes with \u2191 and \u2193, to see its cluster; click or Enter keeps it.";

class Viewer {
  constructor(section, subject) {
    this.section = section;
    this.subject = subject;
    this.number = 0;
    this.hovered = null; // [row, position]
    this.pinned = null;
    this.rows = Object.keys(subject.rows);
    this.build();
    this.open(0);
  }

  build() {
    const stand = this.section.querySelector(".stand");
    this.previous = make("button", { type: "button", class: "previous" }, "\u2190 previous");
    this.next = make("button", { type: "button", class: "next" }, "next \u2192");
    this.where = make("span", { class: "where" });
    this.name = make("span", { class: "name" });
    this.facts = make("span", { class: "facts" });
    this.previous.addEventListener("click", () => this.open(this.number - 1));
    this.next.addEventListener("click", () => this.open(this.number + 1));
    const bar = make("div", { class: "bar" }, this.previous, this.next, this.where, this.name, this.facts);

    this.panels = [new Panel("Truth"), new Panel(""), new Panel("")];
    this.selects = [0, 1].map((side) => rowSelect(this.subject, side, () => this.forget()));
    this.panels[1].title.replaceWith(this.selects[0]);
    if (this.rows.length > 1) this.panels[2].title.replaceWith(this.selects[1]);
    else this.panels[2].figure.hidden = true;
    const panels = make("div", { class: "panels" }, ...this.panels.map((panel) => panel.figure));
    this.detail = make("div", { class: "detail", "aria-live": "polite" });
    this.filters = new Filters(this.subject, () => this.forget(), () => this.render());
    stand.append(bar, this.filters.element, panels, this.detail, keyOfColours());
    stand.hidden = false;
    this.panels.forEach((panel, side) => this.listen(panel, side));
    for (const button of this.section.querySelectorAll("button.case")) {
      const example = this.subject.cases[button.dataset.case];
      if (example.picture) {
        button.querySelector(".thumb").style.backgroundImage = `url("${example.picture}")`;
      }
      button.addEventListener("click", () => this.show(Number(button.dataset.case)));
    }
    new ResizeObserver(() => this.render()).observe(panels);
  }

  listen(panel, side) {
    const svg = panel.overlay;
    const at = (event) => {
      const group = event.target.closest("[data-box]");
      return group ? [Number(group.dataset.side), Number(group.dataset.box)] : null;
    };
    svg.addEventListener("pointermove", (event) => this.hover(at(event)));
    svg.addEventListener("pointerleave", () => this.hover(null));
    svg.addEventListener("click", (event) => this.pin(at(event)));
    svg.addEventListener("keydown", (event) => this.walk(event, side));
  }

  // The image `number` with its place on the screen, for buttons elsewhere on the page.
  show(number) {
    this.open(number);
    this.section.querySelector(".stand").scrollIntoView({ block: "start" });
  }

  open(number) {
    const count = this.subject.cases.length;
    this.number = Math.min(Math.max(number, 0), count - 1);
    this.hovered = this.pinned = null;
    const example = this.subject.cases[this.number];
    this.previous.disabled = this.number === 0;
    this.next.disabled = this.number === count - 1;
    const losses = this.subject.losses;
    const isLoss = this.number < losses;
    const place = isLoss ? `${this.number + 1} of ${losses}` : `${this.number - losses + 1} of ${count - losses}`;
    const kind = !this.subject.differ ? "image" : isLoss ? "loss" : "win";
    this.where.textContent = `${kind} ${place}`;
    this.name.textContent = example.name;
    for (const button of this.section.querySelectorAll("button.case")) {
      button.setAttribute("aria-current", String(Number(button.dataset.case) === this.number));
    }
    for (const panel of this.panels) panel.open(example, example.name);
    this.render();
  }

  forget() {
    this.hovered = this.pinned = null;
    this.render();
  }

  get active() {
    return this.pinned ?? this.hovered;
  }

  hover(place) {
    const same = String(place) === String(this.hovered);
    this.hovered = place;
    if (!same && this.pinned === null) this.render();
  }

  pin(place) {
    this.pinned = String(place) === String(this.pinned) ? null : place;
    this.render();
  }

  walk(event, side) {
    if (!["ArrowUp", "ArrowDown", "Enter", " ", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") return this.forget();
    if (side === 0) return;
    const boxes = this.visible(side).sort((a, b) => b[1][SCORE] - a[1][SCORE]);
    if (!boxes.length) return;
    const current = this.active && this.active[0] === side ? this.active[1] : null;
    const place = boxes.findIndex(([position]) => position === current);
    if (event.key === "Enter" || event.key === " ") {
      if (current !== null) this.pin([side, current]);
      return;
    }
    const step = event.key === "ArrowDown" ? 1 : -1;
    const next = place < 0 ? 0 : (place + step + boxes.length) % boxes.length;
    this.pinned = null;
    this.hovered = [side, boxes[next][0]];
    this.render();
  }

  row(side) {
    return this.selects[side - 1].value;
  }

  detections(side) {
    return this.subject.cases[this.number].rows[this.row(side)] ?? [];
  }

  threshold(side) {
    const own = this.subject.rows[this.row(side)].threshold;
    return this.filters.own.checked ? own ?? 0 : Number(this.filters.score.value);
  }

  isOfClass(label) {
    return this.filters.classes.value === "all" || Number(this.filters.classes.value) === label;
  }

  // The detections of a side that pass all filters, as [position, detection].
  visible(side) {
    const least = this.threshold(side);
    const kind = this.filters.kinds.value;
    return this.detections(side)
      .map((box, position) => [position, box])
      .filter(([, box]) => box[SCORE] >= least && this.isOfClass(box[LABEL]))
      .filter(([, box]) => {
        if (kind === "all") return true;
        if (kind === "wrong") return KINDS.includes(box[KIND]);
        return box[KIND] === kind;
      });
  }

  // Positions of the objects that a side finds with the boxes over its threshold.
  found(side) {
    const least = this.threshold(side);
    return new Set(
      this.detections(side).filter((box) => box[SCORE] >= least && box[OBJECT] >= 0).map((box) => box[OBJECT]),
    );
  }

  render() {
    const example = this.subject.cases[this.number];
    const sides = this.rows.length > 1 ? [1, 2] : [1];
    const found = Object.fromEntries(sides.map((side) => [side, this.found(side)]));
    this.filters.least.textContent = this.filters.own.checked ? "auto" : Number(this.filters.score.value).toFixed(2);
    this.renderTruth(example, found);
    for (const side of sides) this.renderRow(example, side, found[side]);
    const ap = sides.map((side) => shown(example.ap[this.row(side)])).join(" \u2192 ");
    this.facts.textContent = `AP of this image ${ap}, ${example.objects} objects`;
    this.renderDetail(example);
  }

  renderTruth(example, found) {
    const panel = this.panels[0];
    const sets = Object.values(found);
    const groups = [];
    let missed = 0;
    example.truth.forEach((object, position) => {
      const isCrowd = object[5] === 1;
      const isFound = sets.every((set) => set.has(position));
      if (!isCrowd && !isFound) missed += 1;
      if (!this.isOfClass(object[LABEL])) return;
      if (this.filters.kinds.value === "missed" && (isFound || isCrowd)) return;
      const kind = isCrowd ? "crowd" : isFound ? "found" : "missed";
      const group = outlined(object, kind);
      if (this.active) {
        const target = this.targetOf(example);
        group.classList.add(position === target ? "active" : "dim");
      }
      groups.push([area(object), group, object]);
    });
    groups.sort((a, b) => b[0] - a[0]);
    const tags = this.active ? [] : panel.tag(groups.map(([, , object]) => [object, this.subject.classes[object[LABEL]]]));
    panel.overlay.replaceChildren(...groups.map(([, group]) => group), ...tags);
    const objects = example.truth.filter((object) => object[5] === 0).length;
    panel.note.textContent = `${objects} objects` + (missed ? `, ${missed} missed by a row` : "");
  }

  renderRow(example, side, found) {
    const panel = this.panels[side];
    const boxes = this.visible(side);
    const active = this.active;
    const cluster = this.activeBox()?.[CLUSTER] ?? -1;
    const layers = [];
    if (["all", "missed"].includes(this.filters.kinds.value)) {
      example.truth.forEach((object, position) => {
        if (object[5] === 1 || found.has(position) || !this.isOfClass(object[LABEL])) return;
        const group = outlined(object, "missed");
        group.lastChild.remove(); // It is the truth, so there is no cluster to point at.
        if (active) group.classList.add("dim");
        layers.push(group);
      });
    }
    if (this.filters.members.checked) {
      const used = new Set(boxes.map(([, box]) => box[CLUSTER]).filter((number) => number >= 0));
      for (const number of used) {
        for (const member of example.clusters[number].members) layers.push(explaining(member, "member"));
      }
    }
    const top = [];
    const falling = [...boxes, ...this.partner(side, boxes, cluster)].sort((a, b) => area(b[1]) - area(a[1]));
    for (const [position, box] of falling) {
      const kind = box[KIND] === "right" ? "right" : KINDS.includes(box[KIND]) ? "wrong" : "crowd";
      const group = outlined(box, kind);
      group.dataset.side = side;
      group.dataset.box = position;
      if (active) {
        const isActive = active[0] === side ? active[1] === position : cluster >= 0 && box[CLUSTER] === cluster;
        group.classList.add(isActive ? "active" : "dim");
        if (isActive) top.push(group);
      }
      layers.push(group);
    }
    // The boxes of the cluster lie over all others, and its kept box over them.
    if (active) layers.push(...this.explained(example, side), ...top);
    const byScore = [...boxes].sort((a, b) => b[1][SCORE] - a[1][SCORE]);
    const tagged = active ? byScore.filter(([position]) => active[0] === side && active[1] === position) : byScore;
    layers.push(...panel.tag(tagged.map(([, box]) => [box, `${this.subject.classes[box[LABEL]]} ${box[SCORE].toFixed(2)}`])));
    panel.overlay.replaceChildren(...layers);
    const wrong = boxes.filter(([, box]) => KINDS.includes(box[KIND])).length;
    panel.note.textContent = `${boxes.length} boxes, ${wrong} wrong`;
    if (this.rows.length > 1 || side === 1) panel.overlay.setAttribute("aria-label", `${example.name}: ${panel.note.textContent}`);
  }

  // The best box of the active cluster on the other side, where a filter hides all of its boxes.
  partner(side, boxes, cluster) {
    if (cluster < 0 || this.active[0] === side) return [];
    if (boxes.some(([, box]) => box[CLUSTER] === cluster)) return [];
    return this.detections(side)
      .map((box, position) => [position, box])
      .filter(([, box]) => box[CLUSTER] === cluster)
      .sort((a, b) => b[1][SCORE] - a[1][SCORE])
      .slice(0, 1);
  }

  activeBox() {
    return this.active ? this.detections(this.active[0])[this.active[1]] : undefined;
  }

  // The object that the active box finds, or the closest one of its class. A box of a wrong class
  // was meant for an object of any class.
  targetOf(example) {
    const box = this.activeBox();
    if (!box) return -1;
    if (box[OBJECT] >= 0) return box[OBJECT];
    let best = -1;
    let most = 0.1;
    example.truth.forEach((object, position) => {
      const fits = object[LABEL] === box[LABEL] || box[KIND] === "classification";
      const overlap = fits ? iou(box, object) : 0;
      if (overlap >= most) [most, best] = [overlap, position];
    });
    return best;
  }

  // The cluster of the active box: its members, the box that sums it up, and the move.
  explained(example, side) {
    const box = this.activeBox();
    const cluster = example.clusters[box[CLUSTER]];
    const layers = [];
    if (cluster) {
      for (const member of cluster.members) layers.push(explaining(member, "member"));
      if (cluster.count) layers.push(explaining(cluster.representative, "representative"));
    }
    const before = box[CANDIDATE];
    if (before && side === this.active[0]) {
      const [x1, y1] = middle(before);
      const [x2, y2] = middle(box);
      layers.push(explaining(before, "before"), draw("line", { class: "arrow", x1, y1, x2, y2 }));
    }
    return layers;
  }

  renderDetail(example) {
    const lines = this.active ? this.described(example) : [HINT];
    const paragraphs = lines.map((line) => {
      const paragraph = make("p", this.active ? {} : { class: "hint" });
      paragraph.textContent = line;
      return paragraph;
    });
    this.detail.replaceChildren(...paragraphs);
  }

  described(example) {
    const box = this.activeBox();
    const row = this.subject.rows[this.row(this.active[0])].title;
    const cluster = example.clusters[box[CLUSTER]];
    const target = this.targetOf(example);
    const object = example.truth[target];
    const verdicts = { right: "right", ignored: "on a crowd region", uncounted: "not counted: more than 100 of its class" };
    const verdict = verdicts[box[KIND]] ?? `wrong (${box[KIND]})`;
    let near = `IoU ${box[IOU].toFixed(2)} with the closest object of its class`;
    if (box[KIND] === "right") near = `IoU ${box[IOU].toFixed(2)} with its object`;
    else if (object && object[LABEL] !== box[LABEL]) near = `the object there is: ${this.subject.classes[object[LABEL]]}`;
    else if (box[IOU] === 0) near = "on no object of its class";
    const lines = [
      `${row}: ${this.subject.classes[box[LABEL]]}, score ${box[SCORE].toFixed(3)}, ${verdict}, ${near}.`,
    ];
    if (box[CANDIDATE]) {
      const [x1, y1] = middle(box[CANDIDATE]);
      const [x2, y2] = middle(box);
      const share = iou(box, box[CANDIDATE]).toFixed(2);
      const size = (b) => `${(b[2] - b[0]).toFixed(0)} \u00d7 ${(b[3] - b[1]).toFixed(0)}`;
      let text = `Moved by ${Math.hypot(x2 - x1, y2 - y1).toFixed(1)} px, from ${size(box[CANDIDATE])} to ${size(box)} px; IoU ${share} with the box that it was (dotted).`;
      if (object) text += ` IoU with the object ${iou(box[CANDIDATE], object).toFixed(2)} \u2192 ${iou(box, object).toFixed(2)}.`;
      lines.push(text);
    }
    if (cluster) {
      const members = ["no box", "1 box"][cluster.count] ?? `${cluster.count} boxes`;
      let text = `Cluster: the key scores ${cluster.key[4].toFixed(3)} and suppressed ${members}`;
      text += cluster.count ? " (thin); the dashed box sums them up." : ".";
      if ("s_obj" in cluster) {
        text += ` The stage gives the key the objectness ${cluster.s_obj.toFixed(3)}`;
        if (cluster.count && "s_clu" in cluster) text += ` and the dashed box ${cluster.s_clu.toFixed(3)}`;
        text += ".";
      }
      lines.push(text);
    } else {
      lines.push("Its cluster is not known: no candidate has its source and class.");
    }
    return lines;
  }
}

const VIEWERS = [...document.querySelectorAll("section.viewer")].map(
  (section) => new Viewer(section, DATA.subjects[section.dataset.subject]),
);

// Left and right change the image wherever the focus is, but in a control that needs them itself.
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("select, input")) return;
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const own = event.target.closest("section.viewer");
  const viewer = VIEWERS.find((one) => one.section === own) ?? VIEWERS[0];
  if (!viewer) return;
  if (step) {
    event.preventDefault();
    viewer.open(viewer.number + step);
  } else if (event.key === "Escape") {
    viewer.forget();
  }
});
