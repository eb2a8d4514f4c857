"use strict";
// The plots over time. All share the axis of time and its cursor; events are marked on each.

const TIME_STEPS = [1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];
const EVENT_COLORS = {
  joined: "good", "seen again": "good", hedged: "fair", retried: "fair", draining: "muted", left: "muted",
  more: "muted", ended: "muted",
};
const eventColor = (what) => EVENT_COLORS[what] || "bad";
// Events that a line marks from top to bottom.
const GRAVE = new Set(["died", "lost", "timed out", "not seen"]);

const CHARTS = [
  { title: "Throughput", format: (v) => `${Texts.number(v)} batches/s`, tick: Texts.number,
    series: [{ name: "taken", column: "rate", color: "blue", fill: true }] },
  { title: "Waiting for data", format: Texts.percent, tick: (v) => `${Math.round(100 * v)} %`, max: 1,
    series: [{ name: "trainer waits", column: "wait", color: "amber", fill: true },
             { name: "slots compute", column: "busy", color: "teal" }] },
  { title: "Queue", format: Texts.number, tick: Texts.number, stacked: true,
    series: [{ name: "ready", column: "ready", color: "blue" },
             { name: "ahead of turn", column: "ahead", color: "amber" },
             { name: "leased", column: "leased", color: "grey" },
             { name: "limit", column: "limit", color: "muted", dashed: true }] },
  { title: "Slots", format: Texts.number, tick: Texts.number,
    series: [{ name: "there", column: "slots", color: "blue", fill: true },
             { name: "would keep up", column: "desired", color: "muted", dashed: true }] },
  { title: "Received", format: (v) => `${Texts.bytes(v)}/s`, tick: Texts.bytes, stacked: true,
    series: [{ name: "by shared memory", column: "shared_bytes", color: "teal" },
             { name: "by sockets", column: "socket_bytes", color: "purple" }] },
  { title: "Memory", format: Texts.bytes, tick: Texts.bytes,
    series: [{ name: "trainer", column: "memory", color: "blue" },
             { name: "all workers", column: "workers_memory", color: "teal" }] },
];

function cssColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// Sums of the columns up to each stacked one, the topmost first: it is drawn first, and lower ones over it.
function stack(columns) {
  const sums = [];
  for (const column of columns) {
    const below = sums[0];
    sums.unshift(below ? column.map((value, at) => (value === null ? below[at] : (below[at] || 0) + value)) : column);
  }
  return sums;
}

// A point without values in each gap, so that no line crosses it.
function withGaps(history) {
  const times = history[0];
  const span = times.length > 2 ? (times[times.length - 1] - times[0]) / times.length : 1;
  const gaps = [];
  for (let at = 1; at < times.length; at += 1) if (times[at] - times[at - 1] > Math.max(8, 5 * span)) gaps.push(at);
  if (!gaps.length) return history;
  return history.map((column, number) => {
    const copy = column.slice();
    for (const at of gaps.slice().reverse()) {
      copy.splice(at, 0, number ? null : (times[at - 1] + times[at]) / 2);
    }
    return copy;
  });
}

class Chart {
  constructor(spec, container, events) {
    this.spec = spec;
    this.events = events;
    this.stacked = spec.stacked ? spec.series.filter((one) => !one.dashed) : [];
    this.lines = spec.series.filter((one) => !this.stacked.includes(one));
    this.figure = element("figure", "card chart");
    this.figure.tabIndex = 0;
    const caption = element("figcaption");
    caption.append(element("h2", "", spec.title));
    const legend = element("div", "legend");
    this.at = element("span", "at");
    this.values = spec.series.map((one) => {
      const key = element("span", `key ${one.color}${one.dashed ? " dashed" : ""}`);
      legend.append(key);
      return key;
    });
    legend.append(this.at);
    caption.append(legend);
    this.place = element("div", "plot");
    this.place.setAttribute("role", "img");
    this.place.setAttribute("aria-label", `${spec.title} over time`);
    this.figure.append(caption, this.place);
    container.append(this.figure);
    this.figure.addEventListener("keydown", (event) => this.moveCursor(event));
    this.raw = null;
  }

  build() {
    if (this.plot) this.plot.destroy();
    const muted = cssColor("muted"), line = cssColor("line"), font = "12px system-ui, sans-serif";
    const drawn = [...this.stacked.slice().reverse(), ...this.lines];
    const axis = { stroke: muted, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1, size: 4 } };
    this.plot = new uPlot({
      width: Math.max(200, this.place.clientWidth), height: 170, legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { sync: { key: "run" }, y: false, drag: { x: false, y: false } },
      scales: {
        x: { time: false },
        y: { range: (u, low, high) => [0, this.spec.max || (high > 0 ? high * 1.1 : 1)] },
      },
      axes: [
        { ...axis, incrs: TIME_STEPS, space: 60, size: 28, values: (u, splits) => splits.map(Texts.clock) },
        { ...axis, size: 62, space: 30, values: (u, splits) => splits.map(this.spec.tick) },
      ],
      series: [{}, ...drawn.map((one) => {
        const color = cssColor(one.color), isArea = this.stacked.includes(one);
        return {
          stroke: color, width: 1.5, points: { show: false }, dash: one.dashed ? [5, 4] : undefined,
          fill: isArea ? color : one.fill ? `${color}38` : undefined,
        };
      })],
      hooks: { setCursor: [() => this.showValues()], draw: [(u) => this.drawEvents(u)] },
    }, this.data || [[], ...drawn.map(() => [])], this.place);
  }

  set(history, columns) {
    const of = (one) => history[1 + columns.indexOf(one.column)];
    this.raw = [history[0], ...this.spec.series.map(of)];
    this.data = [history[0], ...stack(this.stacked.map(of)), ...this.lines.map(of)];
    if (!this.plot) this.build();
    else this.plot.setData(this.data);
    this.showValues();
  }

  fit() {
    const width = Math.max(200, this.place.clientWidth);
    if (this.plot && this.plot.width !== width) this.plot.setSize({ width, height: 170 });
  }

  // The values under the cursor, or the latest ones.
  showValues() {
    if (!this.raw || !this.plot) return;
    const under = this.plot.cursor.idx, last = this.raw[0].length - 1;
    const isUnder = under !== null && under !== undefined && this.plot.cursor.left >= 0;
    const at = isUnder ? Math.min(under, last) : last;
    this.spec.series.forEach((one, number) => {
      const value = at < 0 ? null : this.raw[number + 1][at];
      setText(this.values[number], `${one.name} ${value === null || value === undefined ? "–" : this.spec.format(value)}`);
    });
    setText(this.at, isUnder ? `at ${Texts.clock(this.raw[0][at])}` : "");
  }

  drawEvents(u) {
    const context = u.ctx, { left, top, width, height } = u.bbox;
    context.save();
    for (const [at, what] of this.events()) {
      const x = u.valToPos(at, "x", true);
      if (x < left || x > left + width) continue;
      const name = eventColor(what);
      context.fillStyle = cssColorOnce(name);
      if (GRAVE.has(what)) context.fillRect(Math.round(x), top, devicePixelRatio, height);
      context.fillRect(Math.round(x) - 2 * devicePixelRatio, top, 5 * devicePixelRatio, 4 * devicePixelRatio);
    }
    context.restore();
  }

  moveCursor(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") this.plot.setCursor({ left: -10, top: -10 });
    if (step === undefined || !this.raw || !this.raw[0].length) return;
    event.preventDefault();
    const last = this.raw[0].length - 1, now = this.plot.cursor.left >= 0 ? this.plot.cursor.idx : last;
    const next = Math.min(last, Math.max(0, now + step));
    this.plot.setCursor({ left: this.plot.valToPos(this.raw[0][next], "x"), top: 10 });
  }
}

let cssColors = {};
function cssColorOnce(name) {
  return (cssColors[name] ||= cssColor(name));
}

class Charts {
  constructor(container, events) {
    this.all = CHARTS.map((spec) => new Chart(spec, container, events));
    new ResizeObserver(() => this.all.forEach((one) => one.fit())).observe(container);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      cssColors = {};
      this.all.forEach((one) => one.plot && one.build());
    });
  }

  set(history, columns) {
    const shown = withGaps(history);
    this.all.forEach((one) => one.set(shown, columns));
  }
}
