"use strict";
// The page: takes a record, from the page itself (a report) or from its server (live), and shows it.
// Every text of a record is set as text, never as markup.

const byId = (id) => document.getElementById(id);

class Page {
  constructor() {
    this.run = null;
    this.columns = [];
    this.charts = null;
    this.isDrawing = false;
    document.addEventListener("visibilitychange", () => this.draw());
  }

  // ---------------------------------------------------------------- what comes

  takeRun(message) {
    this.run = message.run;
    if (this.run) this.run.heat.columns = this.run.heat.columns.map(decode);
    this.takeState(message);
  }

  takeChange(change) {
    const run = this.run;
    if (!run) return;
    run.now = change.now;
    const [at, point] = change.point;
    point.forEach((value, number) => { run.history[number][at] = value; });
    run.events.push(...change.events);
    run.events.splice(0, Math.max(0, run.events.length - 400));
    change.workers.forEach(([number, ...row]) => { run.workers[number] = row; });
    const [column, number, levels] = change.heat;
    run.heat.numbers[column] = number;
    run.heat.columns[column] = decode(levels);
    run.epochs.splice(change.epochs[0], run.epochs.length, ...change.epochs[1]);
    this.draw();
  }

  takeState(message) {
    this.state = message.state;
    this.reason = message.reason;
    this.draw();
  }

  loseServer() {
    this.state = "no server";
    this.draw();
  }

  // ---------------------------------------------------------------- what is shown

  draw() {
    if (this.isDrawing || document.hidden) return;
    this.isDrawing = true;
    requestAnimationFrame(() => {
      this.isDrawing = false;
      this.drawState();
      if (this.run) this.drawRun();
    });
  }

  drawState() {
    const place = byId("state"), now = this.run && this.run.now;
    const hasEnded = /has ended|no trainer runs/.test(this.reason || "");
    const seen = now ? `; last seen ${Texts.duration(now.elapsed_seconds)} after its start` : "";
    const texts = {
      live: "Live",
      report: now ? `A run of ${Texts.duration(now.elapsed_seconds)}` : "A run",
      waiting: `Waiting for a trainer: ${this.reason || "looking for it"}`,
      lost: hasEnded ? `The trainer has ended${seen}` : `The trainer does not answer: ${this.reason}${seen}`,
      "no server": `No connection to \`enqueuer dashboard\`; trying again${seen}`,
    };
    place.className = `state ${this.state === "live" ? "live" : this.state === "report" ? "" : hasEnded ? "" : "lost"}`;
    if (this.state === "waiting") place.className = "state";
    setText(place, texts[this.state] || "Connecting …");
    document.body.dataset.state = hasEnded && this.state === "lost" ? "ended" : this.state || "";
  }

  drawRun() {
    const { now, history } = this.run, isReport = this.state === "report";
    const title = `Trainer ${now.pid} on ${now.host}, Enqueuer ${now.library_version}`;
    setText(byId("trainer"), title);
    document.title = `${now.host} · Enqueuer`;
    for (const id of ["verdict", "tiles", "live-part", "summary"]) byId(id).hidden = false;
    if (isReport) byId("live-part").before(byId("summary"));
    this.drawVerdict(now, isReport);
    this.drawTiles(now, history, isReport);
    if (!this.charts) {
      this.charts = new Charts(byId("charts"), () => this.run.events);
      this.heat = new HeatStripView(byId("heat"));
      this.table = new WorkerTable(byId("workers"));
    }
    this.charts.set(history, this.run.columns);
    this.heat.set(this.run.heat, this.run.workers);
    this.table.set(this.run.workers, now.left_out_count);
    this.drawEvents();
    this.drawTime(now);
    this.drawCauses(now);
    this.drawEpochs();
    this.drawFaults(isReport);
  }

  drawVerdict(now, isReport) {
    const part = byId("verdict");
    const waited = isReport ? waitShare(now) : now.recent_wait_share;
    const decided = now.causes.filter((one) => one.cause !== "too early to tell");
    const main = isReport && decided.length
      ? decided.reduce((one, other) => (other.seconds > one.seconds ? other : one)) : now;
    const isEarly = main.cause === "too early to tell";
    const band = isEarly ? "" : main.cause === "no workers" || waited >= 0.2 ? "bad" : waited >= 0.05 ? "fair" : "good";
    part.className = `card verdict ${band}`;
    setText(byId("verdict-title"), isReport ? "What held this run back for longest" : "What holds the training back");
    setText(byId("sentence"), capital(isEarly ? "too early to tell: 30 seconds and 20 batches are needed" : main.sentence));
    setCure(byId("cure"), main.cure);
    byId("failure").hidden = !(isReport && this.reason);
    if (isReport) this.drawFailure();
  }

  // The traceback stands apart, since its marks fit its lines only in letters of one width.
  drawFailure() {
    const [text, ...traceback] = this.reason.trimEnd().split("\n\n");
    setText(byId("failure-text"), text);
    setText(byId("failure-traceback"), traceback.join("\n\n"));
    byId("failure-traceback").hidden = !traceback.length;
  }

  drawTiles(now, history, isReport) {
    const since = now.elapsed_seconds - now.startup_seconds;
    const rates = history[1 + this.run.columns.indexOf("rate")];
    const rate = isReport ? now.batches_total / Math.max(since, 1e-9) : rates[rates.length - 1];
    const faults = [
      ["retried", now.retries_count], ["skipped", now.skipped_count],
      [now.lost_workers_count === 1 ? "worker lost" : "workers lost", now.lost_workers_count],
      ["timed out", now.timeouts_count], ["malformed", now.malformed_count], ["offences", now.offences_count],
    ].filter(([, count]) => count);
    const left = now.length ? ` of ${Texts.count(now.length)}` : "";
    const wanted = now.desired_slots === null ? "" : `${Texts.count(now.desired_slots)} would keep up`;
    const rows = [
      ["Rate", rate === undefined || rate === null ? "–" : `${Texts.number(rate)}/s`,
        `${Texts.count(now.batches_total)} batches in all`],
      ["Waiting", Texts.percent(isReport ? waitShare(now) : now.recent_wait_share),
        isReport ? "of the time since the first batch" : `of the last ${Texts.duration(now.window_seconds)}`],
      ["Slots", Texts.count(now.slots_count), wanted || `${now.workers_count} workers`],
      ["Epoch", String(now.epoch), `${Texts.count(now.taken_count)}${left} taken`, now.taken_count, now.length],
      ["Queue", `${Texts.count(now.ready_count)} ready`,
        `${Texts.count(now.leased_count)} leased${now.queue_limit ? `, limit ${Texts.count(now.queue_limit)}` : ""}`],
      ["Faults", Texts.count(faults.reduce((sum, [, count]) => sum + count, 0)),
        [...faults.map(([name, count]) => `${count} ${name}`), now.hedges_count ? `${now.hedges_count} hedged` : ""]
          .filter(Boolean).join(", ") || "none"],
    ];
    const place = byId("tiles");
    rows.forEach(([name, value, note, taken, length], number) => {
      const tile = place.children[number] || place.appendChild(newTile());
      const [title, main, bar, small] = tile.children;
      setText(title, name);
      setText(main, value);
      setText(small, note);
      bar.hidden = !length;
      if (length) {
        bar.max = length;
        bar.value = taken;
        bar.setAttribute("aria-label", note);
      }
    });
  }

  drawEvents() {
    const place = byId("events"), events = this.run.events;
    const last = events[events.length - 1], mark = last ? `${events.length} ${last.join(" ")}` : "none";
    if (place.dataset.mark === mark) return;
    place.dataset.mark = mark;
    const lines = events.slice(-200).reverse().map(([at, what, text]) => {
      const line = element("li"), color = eventColor(what);
      line.append(element("span", "at", Texts.clock(at)),
        element("span", color === "muted" ? "" : `${color}-text`, what), element("span", "text", text));
      return line;
    });
    place.replaceChildren(...(lines.length ? lines : [element("li", "none", "none so far")]));
  }

  drawTime(now) {
    const startup = now.startup_seconds, waited = waitedSeconds(now);
    const rest = Math.max(0, now.elapsed_seconds - startup - waited);
    const computed = now.computed_seconds, idle = now.slot_seconds - computed;
    byId("time").replaceChildren(
      bar("Trainer", [["starting", startup, "grey"], ["waiting for data", waited, "amber"], ["training", rest, "blue"]]),
      bar("Slots", [["computing", computed, "teal"], ["idle", idle, "grey"]]));
  }

  drawCauses(now) {
    const shown = now.causes.filter((one) => one.wait_seconds >= 0.05 && one.cause !== "the trainer itself");
    byId("causes").replaceChildren(...(shown.length ? shown : [null]).map((one) => {
      if (one === null) return element("li", "", "The trainer waited for nothing worth a word.");
      const line = element("li");
      line.append(element("div", "", `${capital(one.cause)}: the trainer waited for ` +
        `${Texts.duration(one.wait_seconds)} of ${Texts.duration(one.seconds)}`));
      if (one.cause !== "too early to tell") line.append(element("div", "", one.sentence));
      if (one.cure) setCure(line.appendChild(element("div", "cure")), one.cure);
      return line;
    }));
  }

  drawEpochs() {
    const rows = this.run.epochs.slice(-200).map((one) => {
      const row = element("tr"), share = one.seconds ? Math.min(1, one.wait_seconds / one.seconds) : 0;
      const verdict = one.verdict;
      row.append(
        element("td", "", one.first === one.last ? String(one.first) : `${one.first}–${one.last}`),
        element("td", "", verdict ? verdict.cause : "–"),
        element("td", `number ${share >= 0.2 ? "bad-text" : share >= 0.05 ? "fair-text" : ""}`, Texts.percent(share)),
        element("td", "number", Texts.count(one.batches)), element("td", "number", Texts.duration(one.seconds)));
      return row;
    });
    byId("epochs").replaceChildren(...rows);
  }

  drawFaults(isReport) {
    const { faults, faults_count: count } = this.run;
    byId("faults-card").hidden = !isReport;
    if (!isReport) return;
    const lines = faults.map(([at, text]) => {
      const line = element("li", "fault");
      line.append(element("span", "at", Texts.clock(at)), element("span", "text", text));
      return line;
    });
    if (count > faults.length) lines.unshift(element("li", "none", `${count - faults.length} earlier ones are left out`));
    byId("faults").replaceChildren(...(lines.length ? lines : [element("li", "none", "none")]));
  }
}

// ---------------------------------------------------------------- parts

function decode(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// What mends it; commands, between backticks, as code.
function setCure(target, text) {
  const parts = text ? `→ ${text}`.split("`") : [];
  target.replaceChildren(...parts.map((part, number) => (number % 2 ? element("code", "", part) : part)));
}

function waitedSeconds(now) {
  const since = now.elapsed_seconds - now.startup_seconds;
  return now.batches_total ? Math.min(since, Math.max(0, now.wait_seconds - now.startup_wait_seconds)) : 0;
}

function waitShare(now) {
  const since = now.elapsed_seconds - now.startup_seconds;
  return since > 0 ? waitedSeconds(now) / since : 0;
}

function newTile() {
  const tile = element("div", "card tile"), progress = element("progress");
  progress.hidden = true;
  tile.append(element("h2"), element("div", "value"), progress, element("div", "note"));
  return tile;
}

function bar(name, parts) {
  const place = element("div"), stripe = element("div", "bar"), legend = element("div", "legend");
  const total = parts.reduce((sum, [, seconds]) => sum + seconds, 0);
  legend.append(element("span", "at", name));
  for (const [text, seconds, color] of parts) {
    const share = total ? seconds / total : 0, piece = element("span", `key-bar key ${color}`);
    piece.style.width = `${100 * share}%`;
    stripe.append(piece);
    legend.append(element("span", `key ${color}`, `${text} ${Texts.duration(seconds)} (${Texts.percent(share)})`));
  }
  place.append(stripe, legend);
  return place;
}

// ---------------------------------------------------------------- live, or a report

const page = new Page();
window.page = page;

function listen() {
  const source = new EventSource("/events");
  source.addEventListener("run", (event) => page.takeRun(JSON.parse(event.data)));
  source.addEventListener("change", (event) => page.takeChange(JSON.parse(event.data)));
  source.addEventListener("state", (event) => page.takeState(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    page.loseServer();
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 3000);
  });
}

const record = JSON.parse(byId("record").textContent);
if (record === null) listen();
else page.takeRun(record);
