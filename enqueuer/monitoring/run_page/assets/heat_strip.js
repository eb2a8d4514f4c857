"use strict";
// The workers' item times: a row for each worker, or for some of them where there are many, a column for each span.

const ABSENT = 0, NO_ITEM = 1;
const RAMPS = {
  light: ["#fdf0d2", "#f6c56b", "#e5743a", "#b0242b", "#560b2b"],
  dark: ["#262f45", "#5a2f70", "#ab3d66", "#ee8140", "#fde58f"],
};
const MOST_BANDS = 320;

function secondsOf(level) {
  return 2 ** ((level - 2 + 0.5) / 8 - 20);
}

function ramp(dark) {
  const stops = RAMPS[dark ? "dark" : "light"].map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, number) => {
    const place = (number / 255) * (stops.length - 1), at = Math.min(stops.length - 2, Math.floor(place));
    return stops[at].map((low, part) => Math.round(low + (stops[at + 1][part] - low) * (place - at)));
  });
}

class HeatStripView {
  constructor(container) {
    const plot = element("div", "heat-plot");
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-describedby", "heat-readout");
    plot.append(this.canvas);
    const foot = element("div", "heat-foot");
    this.from = element("span");
    this.until = element("span");
    const scale = element("span", "scale");
    this.fast = element("span");
    this.slow = element("span");
    this.gradient = element("canvas");
    this.gradient.width = 90;
    this.gradient.height = 1;
    this.gradient.setAttribute("aria-hidden", "true");
    scale.append(this.fast, this.gradient, this.slow);
    foot.append(this.from, scale, this.until);
    this.readout = element("p", "readout");
    this.readout.id = "heat-readout";
    container.append(plot, foot, this.readout);
    this.heat = null;
    this.cursor = null;
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.select(null));
    this.canvas.addEventListener("blur", () => this.select(null));
    this.canvas.addEventListener("keydown", (event) => this.move(event));
    new ResizeObserver(() => this.draw()).observe(plot);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  set(heat, workers) {
    this.heat = heat;
    this.workers = workers;
    this.draw();
  }

  // Levels by column and band; of several workers in a band, that of the slowest.
  layOut() {
    const { numbers, columns } = this.heat, rows = this.workers.length;
    this.perBand = Math.max(1, Math.ceil(rows / MOST_BANDS));
    this.bands = Math.ceil(rows / this.perBand);
    this.first = numbers[0];
    this.width = numbers[numbers.length - 1] - this.first + 1;
    this.levels = new Uint8Array(this.width * this.bands);
    const counts = new Uint32Array(256);
    numbers.forEach((number, at) => {
      const column = columns[at], place = number - this.first;
      for (let row = 0; row < column.length && row < rows; row += 1) {
        const cell = Math.floor(row / this.perBand) * this.width + place;
        if (column[row] > this.levels[cell]) this.levels[cell] = column[row];
        counts[column[row]] += 1;
      }
    });
    this.low = quantile(counts, 0.02);
    this.high = Math.max(this.low + 8, quantile(counts, 0.995));
  }

  draw() {
    if (!this.heat || !this.heat.numbers.length || !this.workers.length || !this.canvas.parentElement.clientWidth) return;
    this.layOut();
    const dark = matchMedia("(prefers-color-scheme: dark)").matches, colors = ramp(dark);
    const image = new ImageData(this.width, this.bands), pixels = new Uint32Array(image.data.buffer);
    // A pixel for each level, in the order of bytes of the machine.
    const ofLevel = new Uint32Array(Uint8ClampedArray.from(Array.from({ length: 256 }, (_, level) => {
      if (level === ABSENT) return [0, 0, 0, 0];
      return level === NO_ITEM ? [128, 138, 150, 90] : [...colors[this.place(level)], 255];
    }).flat()).buffer);
    for (let cell = 0; cell < this.levels.length; cell += 1) pixels[cell] = ofLevel[this.levels[cell]];
    const small = new OffscreenCanvas(this.width, this.bands);
    small.getContext("2d").putImageData(image, 0, 0);
    const bandHeight = Math.max(1, Math.min(18, Math.floor(MOST_BANDS / this.bands))), ratio = devicePixelRatio;
    this.bandHeight = bandHeight;
    const width = this.canvas.parentElement.clientWidth, height = bandHeight * this.bands;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
    if (this.cursor) {
      const cellWidth = this.canvas.width / this.width;
      context.strokeStyle = cssColor("focus");
      context.lineWidth = 2 * ratio;
      context.strokeRect(this.cursor[0] * cellWidth, this.cursor[1] * bandHeight * ratio,
        Math.max(cellWidth, 3), Math.max(bandHeight, 3) * ratio);
    }
    this.drawScale(colors);
    const span = this.heat.span;
    setText(this.from, Texts.clock(this.first * span));
    setText(this.until, Texts.clock((this.first + this.width) * span));
    this.canvas.setAttribute("aria-label",
      `${this.workers.length} workers; typical times from ${this.fast.textContent} to ${this.slow.textContent}`);
    this.show();
  }

  place(level) {
    return Math.max(0, Math.min(255, Math.round((255 * (level - this.low)) / (this.high - this.low))));
  }

  drawScale(colors) {
    const context = this.gradient.getContext("2d");
    for (let at = 0; at < 90; at += 1) {
      context.fillStyle = `rgb(${colors[Math.round((255 * at) / 89)].join(" ")})`;
      context.fillRect(at, 0, 1, 1);
    }
    setText(this.fast, Texts.seconds(+secondsOf(this.low).toPrecision(2)));
    setText(this.slow, Texts.seconds(+secondsOf(this.high).toPrecision(2)));
  }

  point(event) {
    if (!this.levels) return;
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const band = Math.floor(((event.clientY - box.top) / box.height) * this.bands);
    this.select([Math.max(0, Math.min(this.width - 1, column)), Math.max(0, Math.min(this.bands - 1, band))]);
  }

  move(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") this.select(null);
    if (!step || !this.levels) return;
    event.preventDefault();
    const [column, band] = this.cursor || [this.width - 1 - step[0], -step[1]];
    this.select([Math.max(0, Math.min(this.width - 1, column + step[0])),
      Math.max(0, Math.min(this.bands - 1, band + step[1]))]);
  }

  select(cursor) {
    this.cursor = cursor;
    this.draw();
  }

  show() {
    if (!this.cursor) {
      const many = this.perBand > 1 ? `a row shows ${this.perBand} workers, the slowest of them; ` : "";
      setText(this.readout, `${many}point at a cell, or use the arrow keys`);
      return;
    }
    const [column, band] = this.cursor, level = this.levels[band * this.width + column];
    const first = this.workers[band * this.perBand];
    const last = this.workers[Math.min(this.workers.length, (band + 1) * this.perBand) - 1];
    const name = first === last ? `${first[0]} on ${first[1]}` : `${first[0]} to ${last[0]}`;
    const time = level === ABSENT ? "absent" : level === NO_ITEM ? "no batch yet" : `about ${Texts.seconds(+secondsOf(level).toPrecision(2))}`;
    setText(this.readout, `${name} at ${Texts.clock((this.first + column) * this.heat.span)}: ${time}`);
  }
}

function quantile(counts, share) {
  let total = 0;
  for (let level = 2; level < 256; level += 1) total += counts[level];
  let below = 0;
  for (let level = 2; level < 256; level += 1) {
    below += counts[level];
    if (total && below >= share * total) return level;
  }
  return 2;
}
