// One picture with boxes over it. A detection of the data is
// [x1, y1, x2, y2, class, score, kind, IoU, object, cluster, candidate].

const LABEL = 4, SCORE = 5, KIND = 6, IOU = 7, OBJECT = 8, CLUSTER = 9, CANDIDATE = 10;
const TAG_SIZE = 11;
const RULER = document.createElement("canvas").getContext("2d");

function widthOf(text, size) {
  RULER.font = `100px ${getComputedStyle(document.body).fontFamily}`;
  return (RULER.measureText(text).width * size) / 100;
}

function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

function middle(box) {
  return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2];
}

function area(box) {
  return (box[2] - box[0]) * (box[3] - box[1]);
}

function rectangle(box, kind) {
  return draw("rect", {
    class: kind,
    x: box[0],
    y: box[1],
    width: Math.max(box[2] - box[0], 0.1),
    height: Math.max(box[3] - box[1], 0.1),
  });
}

// A line that explains a box, with a dark rim so that it shows on any picture.
function explaining(box, kind) {
  return draw("g", {}, rectangle(box, "rim"), rectangle(box, kind));
}

// A box that may be pointed at: a dark rim, the coloured line, and the area that is pointed at.
function outlined(box, kind) {
  return draw(
    "g",
    { class: kind },
    rectangle(box, "halo"),
    rectangle(box, "box"),
    rectangle(box, "hit"),
  );
}

class Panel {
  constructor(caption) {
    this.title = make("b");
    this.title.textContent = caption;
    this.note = make("span");
    this.image = make("img", { alt: "" });
    this.overlay = draw("svg", { preserveAspectRatio: "none", tabindex: "0", role: "listbox" });
    this.problem = make("p", { class: "problem" });
    this.canvas = make("div", { class: "canvas drawn" }, this.image, this.overlay, this.problem);
    this.caption = make("figcaption", {}, this.title, this.note);
    this.figure = make("figure", { class: "panel" }, this.caption, this.canvas);
  }

  open(example, alt) {
    const [width, height] = example.size;
    this.size = example.size;
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.overlay.setAttribute("aria-label", alt);
    this.image.hidden = example.picture === null;
    if (example.picture === null) this.image.removeAttribute("src");
    else this.image.src = example.picture;
    this.image.alt = alt;
    this.problem.hidden = !example.problem;
    this.problem.textContent = example.problem;
  }

  // Pixels of the image for each pixel of the screen.
  get scale() {
    return this.size[0] / Math.max(this.canvas.clientWidth, 1);
  }

  // Put short texts at the top left corners of boxes where no other text is in the way.
  tag(entries) {
    const size = TAG_SIZE * this.scale;
    const placed = [];
    const tags = [];
    for (const [box, text] of entries) {
      const width = widthOf(text, size) + size * 0.5;
      const height = size * 1.35;
      const left = Math.min(Math.max(box[0], 0), Math.max(this.size[0] - width, 0));
      const spots = [box[1] - height, box[1], box[3], box[3] - height];
      const top = spots.find(
        (y) =>
          y >= 0 &&
          y + height <= this.size[1] &&
          !placed.some((p) => left < p[2] && p[0] < left + width && y < p[3] && p[1] < y + height),
      );
      if (top === undefined) continue;
      placed.push([left, top, left + width, top + height]);
      const label = draw("text", { x: left + size * 0.25, y: top + size, "font-size": size });
      label.textContent = text;
      tags.push(draw("g", { class: "tag" }, draw("rect", { x: left, y: top, width, height }), label));
    }
    return tags;
  }
}
