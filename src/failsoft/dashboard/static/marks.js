// A shape for each state, so that colour is never all that tells them apart.

import { s } from "./dom.js";

const SHAPES = {
  CLOSED: () => [s("circle", { cx: 8, cy: 8, r: 6 })],
  OPEN: () => [s("rect", { x: 2, y: 2, width: 12, height: 12 }), s("path", { d: "M5 5l6 6M11 5l-6 6", class: "cut" })],
  HALF_OPEN: () => [s("circle", { cx: 8, cy: 8, r: 5.5, class: "ring" }), s("path", { d: "M8 2.5a5.5 5.5 0 0 0 0 11z" })],
  FORCED_OPEN: () => [s("path", { d: "M5 1h6l4 4v6l-4 4H5l-4-4V5z" }), s("path", { d: "M4 8h8", class: "cut" })],
  METRICS_ONLY: () => [s("path", { d: "M8 1l7 7-7 7-7-7z" })],
  DISABLED: () => [s("circle", { cx: 8, cy: 8, r: 5.5, class: "ring" }), s("path", { d: "M4 12l8-8", class: "line" })],
};

export function mark(state) {
  const shape = SHAPES[state] || SHAPES.DISABLED;
  return s("svg", { viewBox: "0 0 16 16", class: "mark", "data-state": state, "aria-hidden": "true" }, ...shape());
}

// The states of the last `length` seconds as a strip; `segments` are [since when, state].
export function ribbon(node, segments, now, length) {
  const width = 600, first = now - length, rows = [];
  segments.forEach(([since, state], at) => {
    const until = at + 1 < segments.length ? segments[at + 1][0] : now;
    if (until < first) return;
    const x = Math.max(0, (since - first) / length * width);
    const w = Math.max((until - first) / length * width - x, 1.5); // what was short must be seen as well
    rows.push(s("rect", { x: x.toFixed(2), y: 0, width: w.toFixed(2), height: 10, "data-state": state }));
  });
  node.replaceChildren(...rows);
}
