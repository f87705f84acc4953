// A card for each integration, kept and brought up to date in place.

import { $, h, put, s, say } from "./dom.js";
import { mark, ribbon } from "./marks.js";
import { count, percent, span, standing, state } from "./words.js";

const made = new Map();
const sparks = new Map(); // id -> [[time, succeeded, failed, timed out, refused, fallbacks], ...]
const SPARKS = 60;

export function rememberSparks(all) {
  sparks.clear();
  for (const [id, points] of Object.entries(all)) sparks.set(id, points);
}

function make(card) {
  const cell = (label) => {
    const value = h("dd", {});
    return [value, h("div", {}, h("dt", {}, label), value)];
  };
  const parts = {}, cells = [];
  for (const [key, label] of [["rate", "calls/s"], ["errors", "errors"], ["p50", "p50"], ["p95", "p95"], ["p99", "p99"],
    ["mean", "average"], ["fallbacks", "fallbacks/min"], ["capacity", "capacity"]]) {
    const [value, box] = cell(label);
    parts[key] = value;
    cells.push(box);
  }
  parts.badge = h("span", { class: "badge" });
  parts.standing = h("span", {});
  parts.ok = s("path", { class: "ok" });
  parts.bad = s("path", { class: "bad" });
  parts.refused = s("path", { class: "refused" });
  parts.ribbon = s("svg", { class: "ribbon", viewBox: "0 0 600 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  parts.name = h("bdi", { class: "name" }, card.name);
  parts.link = h("a", { class: "card", href: `#/i/${card.id}`, "data-id": card.id },
    h("span", { class: "head" }, parts.badge, parts.name),
    h("span", { class: "standing" }, h("span", { class: "type" }, card.type), " ", parts.standing),
    h("dl", { class: "numbers" }, ...cells),
    s("svg", { class: "spark", viewBox: "0 0 240 36", preserveAspectRatio: "none", "aria-hidden": "true" }, parts.refused, parts.ok, parts.bad),
    parts.ribbon);
  parts.box = h("li", {}, parts.link);
  return parts;
}

function spark(parts, points) {
  if (!points || points.length < 2) return;
  const last = points[points.length - 1][0], length = 120;
  const most = Math.max(...points.map((p) => p[1] + p[2] + p[3] + p[4]), 1e-9);
  const x = (p) => Math.max(0, 240 - (last - p[0]) / length * 240).toFixed(1);
  const y = (value) => (35 - value / most * 33).toFixed(1);
  const line = (f) => points.map((p, at) => `${at ? "L" : "M"}${x(p)} ${y(f(p))}`).join("");
  const area = (f) => `${line(f)}L${x(points[points.length - 1])} 36L${x(points[0])} 36Z`;
  put(parts.refused, "d", points.some((p) => p[4]) ? area((p) => p[1] + p[2] + p[3] + p[4]) : "");
  put(parts.ok, "d", area((p) => p[1] + p[2] + p[3]));
  put(parts.bad, "d", points.some((p) => p[2] + p[3]) ? area((p) => p[2] + p[3]) : "");
}

function update(parts, card, now) {
  put(parts.link, "data-trouble", card.trouble);
  if (parts.state !== card.state) {
    parts.state = card.state;
    parts.badge.replaceChildren(mark(card.state), state(card.state).toUpperCase());
    put(parts.badge, "data-state", card.state);
  }
  say(parts.standing, standing(card));
  say(parts.rate, card.rate === null ? "–" : count(card.rate));
  for (const key of ["p50", "p95", "p99", "mean"]) say(parts[key], span(card[key]));
  say(parts.errors, percent(card.errors));
  put(parts.errors, "data-mood", card.errors >= 0.25 ? "bad" : card.errors >= 0.05 ? "warn" : "plain");
  say(parts.fallbacks, count(card.fallbacks));
  put(parts.fallbacks, "data-mood", card.fallbacks ? "warn" : "plain");
  say(parts.capacity, percent(card.capacity));
  put(parts.capacity, "data-mood", card.capacity < 1 ? "warn" : "plain");
  const points = sparks.get(card.id) || [];
  if (card.point && (!points.length || card.point[0] > points[points.length - 1][0])) {
    points.push(card.point);
    if (points.length > SPARKS) points.shift();
    sparks.set(card.id, points);
  }
  spark(parts, points);
  ribbon(parts.ribbon, card.ribbon, now, 600);
}

let announced = new Map();

// What changed its state, for those who hear the page.
export function announce(cards) {
  const words = [];
  for (const card of cards) {
    const before = announced.get(card.id);
    if (before && before !== card.state) words.push(`${card.name} is ${state(card.state)}`);
  }
  announced = new Map(cards.map((card) => [card.id, card.state]));
  if (words.length) say($("said"), words.slice(0, 5).join("; "));
}

export function showCards(frame, wanted) {
  const grid = $("cards"), seen = new Set();
  const matches = (card) => !wanted || `${card.name} ${card.type} ${state(card.state)}`.toLowerCase().includes(wanted);
  const visible = frame.cards.filter(matches);
  for (const card of frame.cards) {
    seen.add(card.id);
    if (!made.has(card.id)) {
      const parts = make(card);
      made.set(card.id, parts);
      grid.append(parts.box);
    }
    update(made.get(card.id), card, frame.now);
  }
  for (const [id, parts] of made) if (!seen.has(id)) { parts.box.remove(); made.delete(id); }
  for (const card of frame.cards) made.get(card.id).box.hidden = !matches(card);
  // Trouble first; but nothing moves away from under a keyboard or a pointer.
  if (!grid.contains(document.activeElement) && !grid.matches(":hover")) {
    const order = frame.cards.map((card) => made.get(card.id).box);
    if (order.some((box, at) => grid.children[at] !== box)) grid.append(...order);
  }
  const left = frame.left_out ? `, ${frame.left_out} more are not shown` : "";
  say($("shown"), wanted || left ? `${visible.length} of ${frame.cards.length} shown${left}` : "");
  $("none").hidden = frame.cards.length > 0;
}

export const focusCard = (id) => { const parts = made.get(id); if (parts) parts.link.focus(); };

// Arrow keys go from card to card, as the eye would.
export function walk(event) {
  const here = event.target.closest(".card");
  if (!here || !["ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp"].includes(event.key)) return;
  const cards = [...document.querySelectorAll("#cards > li:not([hidden]) .card")];
  const at = cards.indexOf(here), box = here.getBoundingClientRect();
  const next = {
    ArrowRight: () => cards[at + 1],
    ArrowLeft: () => cards[at - 1],
    ArrowDown: () => cards.slice(at + 1).find((c) => Math.abs(c.getBoundingClientRect().left - box.left) < 4),
    ArrowUp: () => cards.slice(0, at).reverse().find((c) => Math.abs(c.getBoundingClientRect().left - box.left) < 4),
  }[event.key]();
  if (next) { next.focus(); event.preventDefault(); }
}
