// The six numbers of the first screen.

import { $, h, put, say } from "./dom.js";
import { count, percent, span, state } from "./words.js";

const TILES = [
  ["health", "Health", (m) => {
    const watched = m.total - m.off;
    if (!m.total) return ["–", "nothing to see yet", "off"];
    const words = [m.bad && `${m.bad} refusing calls`, m.warn && `${m.warn} in trouble`, m.off && `${m.off} unguarded`];
    const mood = m.bad ? "bad" : m.warn ? "warn" : "good";
    return [`${m.good} of ${watched}`, words.filter(Boolean).join(", ") || "all healthy", mood];
  }],
  ["breakers", "Circuit breakers", (m) => {
    const open = (m.states.OPEN || 0) + (m.states.FORCED_OPEN || 0);
    const words = Object.entries(m.states).map(([word, n]) => `${n} ${state(word)}`).join(", ");
    return [`${open} open`, open ? [m.refusing.join(", "), ` (${words})`] : words, open ? "bad" : m.states.HALF_OPEN ? "warn" : "good"];
  }],
  ["errors", "Error rate", (m) => {
    const mood = m.errors >= 0.25 ? "bad" : m.errors >= 0.05 || m.erring ? "warn" : "good";
    return [percent(m.errors), m.worst ? [m.worst[0], ` ${percent(m.worst[1])}`] : "no errors lately", m.errors === null ? "off" : mood];
  }],
  ["latency", "Latency, average", (m) => {
    if (!m.slowest) return ["–", "no calls lately", "off"];
    const [name, p50, p95, p99] = m.slowest;
    return [span(m.mean), [name, ` p50 ${span(p50)}, p95 ${span(p95)}, p99 ${span(p99)}`], "plain"];
  }],
  ["fallbacks", "Fallbacks, last minute", (m) => {
    const words = m.fallback_most ? [m.fallback_most, `, ${percent(m.fallback_share)} of all calls`] : "none used";
    return [count(m.fallbacks), words, m.fallbacks ? "warn" : "good"];
  }],
  ["degraded", "Degraded mode", (m) => {
    if (!m.degraded) return ["none", "all at full capacity", "good"];
    return [`${m.degraded} of ${m.total}`, m.lowest.flatMap(([name, share], at) => [name, ` ${percent(share)}${at + 1 < m.lowest.length ? ", " : ""}`]), "warn"];
  }],
];

const made = new Map();

export function showTiles(summary) {
  for (const [key, title, tell] of TILES) {
    if (!made.has(key)) {
      const value = h("dd", { class: "value" }), more = h("dd", { class: "more" });
      const box = h("div", { class: "tile", "data-tile": key }, h("dt", {}, title), value, more);
      made.set(key, { box, value, more, last: "" });
      $("tiles").append(box);
    }
    const tile = made.get(key), [value, words, mood] = tell(summary);
    say(tile.value, value);
    put(tile.box, "data-mood", mood);
    const key2 = JSON.stringify(words);
    if (key2 !== tile.last) {
      tile.last = key2;
      // Names first, each with its number after it.
      const parts = Array.isArray(words) ? words.map((word, at) => (at % 2 ? word : h("bdi", {}, word))) : [words];
      tile.more.replaceChildren(...parts);
    }
  }
}
