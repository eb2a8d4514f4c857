"use strict";
// Numbers, times and sizes as people read them, and elements that hold nothing but text.

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const Texts = {
  number(value) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
    if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)} k`;
    return String(size >= 100 ? Math.round(value) : +value.toPrecision(3));
  },
  count(value) {
    return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  },
  percent(share) {
    return share === null || share === undefined ? "–" : `${+(100 * share).toPrecision(share < 0.1 ? 2 : 3)} %`;
  },
  bytes(value) {
    if (value === null || value === undefined) return "–";
    let unit = 0;
    while (value >= 999.5 && unit < 5) {
      value /= 1000;
      unit += 1;
    }
    return `${+value.toPrecision(3)} ${["B", "kB", "MB", "GB", "TB", "PB"][unit]}`;
  },
  seconds(value) {
    if (!value) return "–";
    if (value < 1e-3) return `${+(1e6 * value).toPrecision(2)} µs`;
    if (value < 1) return `${+(1e3 * value).toPrecision(3)} ms`;
    return value < 120 ? `${+value.toPrecision(3)} s` : Texts.duration(value);
  },
  duration(value) {
    const seconds = Math.round(value), minutes = Math.floor(seconds / 60), hours = Math.floor(minutes / 60);
    if (hours >= 48) return `${Math.floor(hours / 24)} d ${hours % 24} h`;
    if (hours) return `${hours} h ${minutes % 60} min`;
    return minutes ? `${minutes} min ${seconds % 60} s` : `${+value.toPrecision(2)} s`;
  },
  // A moment after the start: 2:05, or 3:20:00.
  clock(value) {
    const seconds = Math.max(0, Math.round(value)), two = (part) => String(part).padStart(2, "0");
    const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds / 60) % 60;
    return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
  },
};
