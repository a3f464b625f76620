// The list of all images. Only one page of it is in the document, whatever the number of images.

const ON_A_PAGE = 50;
const COLUMNS = ["image", "objects", "before", "after", "change"];

class ImageList {
  constructor(section, subject, viewer) {
    this.subject = subject;
    this.viewer = viewer;
    this.start = 0;
    const hasAfter = subject.after !== null;
    this.columns = hasAfter ? COLUMNS : ["image", "objects", "AP"];
    this.sorted = hasAfter ? 4 : 2;
    this.falls = false;
    this.rows = subject.index.map(([name, objects, before, after, number]) => {
      const gain = before === null || after === null ? null : after - before;
      return { cells: hasAfter ? [name, objects, before, after, gain] : [name, objects, before], number };
    });
    this.search = make("input", { type: "search", placeholder: "name of an image", "aria-label": "name of an image" });
    this.search.addEventListener("input", () => this.turn(0));
    this.count = make("span", { class: "where" });
    this.back = make("button", { type: "button" }, "\u2190");
    this.on = make("button", { type: "button" }, "\u2192");
    this.back.setAttribute("aria-label", "the images before");
    this.on.setAttribute("aria-label", "the next images");
    this.back.addEventListener("click", () => this.turn(this.start - ON_A_PAGE));
    this.on.addEventListener("click", () => this.turn(this.start + ON_A_PAGE));
    this.head = make("tr");
    this.body = make("tbody");
    const tools = make("div", { class: "tools" }, this.search, this.back, this.on, this.count);
    const table = make("table", {}, make("thead", {}, this.head), this.body);
    section.querySelector(".list").append(tools, make("div", { class: "scroll" }, table));
    this.turn(0);
  }

  sort(column) {
    this.falls = this.sorted === column && !this.falls;
    this.sorted = column;
    this.turn(0);
  }

  turn(start) {
    const text = this.search.value.toLowerCase();
    const rows = this.rows.filter((row) => row.cells[0].toLowerCase().includes(text));
    const sign = this.falls ? -1 : 1;
    rows.sort((a, b) => {
      const [x, y] = [a.cells[this.sorted], b.cells[this.sorted]];
      if (x === null || y === null) return (x === null) - (y === null);
      return x < y ? -sign : x > y ? sign : 0;
    });
    this.start = Math.min(Math.max(start, 0), Math.max(rows.length - 1, 0));
    const part = rows.slice(this.start, this.start + ON_A_PAGE);
    this.head.replaceChildren(...this.columns.map((name, column) => this.heading(name, column)));
    this.body.replaceChildren(...part.map((row) => this.line(row)));
    this.count.textContent = rows.length
      ? `${this.start + 1} to ${this.start + part.length} of ${rows.length}`
      : "no image of that name";
    this.back.disabled = this.start === 0;
    this.on.disabled = this.start + ON_A_PAGE >= rows.length;
  }

  heading(name, column) {
    const button = make("button", { type: "button" });
    button.textContent = name + (column === this.sorted ? (this.falls ? " \u2193" : " \u2191") : "");
    button.addEventListener("click", () => this.sort(column));
    const cell = make("th", { scope: "col", class: column ? "number" : "" }, button);
    if (column === this.sorted) cell.setAttribute("aria-sort", this.falls ? "descending" : "ascending");
    return cell;
  }

  line(row) {
    const [name, objects, before, after, gain] = row.cells;
    const title = make("td");
    if (row.number === null) {
      title.textContent = name;
    } else {
      const button = make("button", { type: "button" });
      button.textContent = name;
      button.addEventListener("click", () => this.viewer.show(row.number));
      title.append(button);
    }
    const cells = [String(objects), shown(before)];
    if (row.cells.length > 3) cells.push(shown(after), signed(gain));
    const numbers = cells.map((text) => {
      const cell = make("td", { class: "number" });
      cell.textContent = text;
      return cell;
    });
    if (gain) numbers[3].classList.add(gain > 0 ? "better" : "worse");
    return make("tr", {}, title, ...numbers);
  }
}

for (const section of document.querySelectorAll("section.index")) {
  const number = Number(section.dataset.subject);
  new ImageList(section, DATA.subjects[number], VIEWERS[number]);
}
