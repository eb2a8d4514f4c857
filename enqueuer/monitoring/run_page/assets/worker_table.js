"use strict";
// The table of workers: sorted by a column, filtered by a text, a hundred rows at most.

const MOST_ROWS = 100;
const GONE = "gone";
const COLUMNS = [
  { title: "Worker", at: 0 },
  { title: "Host", at: 1, wide: true },
  { title: "State", at: 3, short: true },
  { title: "Batches", at: 6, format: Texts.count },
  { title: "p50", at: 9, format: Texts.seconds },
  { title: "p95", at: 10, format: Texts.seconds },
  { title: "Received", at: 7, format: Texts.bytes, wide: true },
  { title: "Memory", at: 12, format: (value) => (value ? Texts.bytes(value) : "–"), wide: true },
  { title: "Computes", at: 11, wide: true, order: (value) => (value ? value[2] : -1),
    format: (value) => (value ? `${value[0]}/${value[1]} for ${Texts.seconds(value[2])}` : "–") },
];

class WorkerTable {
  constructor(container) {
    this.workers = [];
    this.sorted = { column: COLUMNS[5], down: true };
    const controls = element("div", "controls");
    const label = element("label", "", "Filter ");
    this.filter = element("input");
    this.filter.type = "search";
    this.filter.placeholder = "worker, host or state";
    this.filter.addEventListener("input", () => this.draw());
    label.append(this.filter);
    this.count = element("span");
    controls.append(label, this.count);
    const scrolled = element("div", "scrolled");
    scrolled.tabIndex = 0;
    scrolled.setAttribute("role", "region");
    scrolled.setAttribute("aria-labelledby", "workers-title");
    const table = element("table"), head = element("tr"), top = element("thead");
    this.heads = COLUMNS.map((column) => {
      const cell = element("th", this.classOf(column)), button = element("button", "", column.title);
      cell.scope = "col";
      button.type = "button";
      button.addEventListener("click", () => this.sort(column));
      cell.append(button);
      head.append(cell);
      return cell;
    });
    top.append(head);
    this.body = element("tbody");
    table.append(top, this.body);
    scrolled.append(table);
    container.append(controls, scrolled);
  }

  classOf(column) {
    return [column.wide && "wide", column.short && "short", column.format && !column.order && "number"].filter(Boolean).join(" ");
  }

  sort(column) {
    this.sorted = { column, down: this.sorted.column === column ? !this.sorted.down : Boolean(column.format) };
    this.draw();
  }

  set(workers, leftOut) {
    this.workers = workers;
    this.leftOut = leftOut;
    this.draw();
  }

  draw() {
    const { column, down } = this.sorted, text = this.filter.value.trim().toLowerCase();
    const order = (row) => (column.order ? column.order(row[column.at]) : row[column.at]);
    const found = this.workers.filter(
      (row) => !text || `${row[0]} ${row[1]} ${row[3]}`.toLowerCase().includes(text));
    found.sort((one, other) => {
      if ((one[3] === GONE) !== (other[3] === GONE)) return one[3] === GONE ? 1 : -1;
      const a = order(one), b = order(other);
      return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
    });
    const shown = found.slice(0, MOST_ROWS);
    while (this.body.rows.length > shown.length) this.body.lastChild.remove();
    shown.forEach((row, number) => this.fill(this.body.rows[number] || this.newRow(), row));
    this.heads.forEach((cell, number) => {
      if (COLUMNS[number] === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    });
    const all = this.workers.length + (this.leftOut || 0);
    setText(this.count, shown.length < all ? `${shown.length} of ${Texts.count(all)}` : `${all}`);
  }

  newRow() {
    const row = element("tr");
    COLUMNS.forEach((column) => row.append(element("td", this.classOf(column))));
    this.body.append(row);
    return row;
  }

  fill(row, worker) {
    row.className = worker[3] === GONE ? "gone" : "";
    COLUMNS.forEach((column, number) => {
      const value = worker[column.at];
      setText(row.cells[number], column.format ? column.format(value) : String(value));
    });
  }
}
