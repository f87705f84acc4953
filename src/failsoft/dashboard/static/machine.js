// The state machine of a breaker, drawn: where it is now, and which ways it went in the last ten minutes.

import { s } from "./dom.js";
import { state } from "./words.js";

const NODES = {
  CLOSED: [72, 44], OPEN: [348, 44], HALF_OPEN: [210, 142],
  FORCED_OPEN: [72, 214], METRICS_ONLY: [210, 214], DISABLED: [348, 214],
};

// From, to, path, where the label stands, what it means.
const EDGES = [
  ["CLOSED", "OPEN", "M126 36H292", 210, 28, "trips"],
  ["OPEN", "HALF_OPEN", "M362 66Q348 128 268 140", 366, 112, "wait over"],
  ["HALF_OPEN", "OPEN", "M236 120Q262 76 308 66", 240, 88, "probe failed"],
  ["HALF_OPEN", "CLOSED", "M154 138Q76 128 64 68", 62, 112, "recovered"],
];

export class Machine {
  constructor() {
    const tip = s("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      s("path", { d: "M0 0L8 4L0 8Z", class: "tip" }));
    this.edges = EDGES.map(([from, to, d, x, y, words]) => {
      const count = s("tspan", { class: "times" });
      const group = s("g", { class: "edge" }, s("path", { d, "marker-end": "url(#tip)" }),
        s("text", { x, y, "text-anchor": "middle" }, words, count));
      return { from, to, words, group, count };
    });
    this.nodes = Object.entries(NODES).map(([word, [x, y]]) => {
      const group = s("g", { class: "node", "data-state": word },
        s("rect", { x: x - 56, y: y - 21, width: 112, height: 42, rx: 10 }),
        s("text", { x, y: y + 5, "text-anchor": "middle" }, state(word)));
      return { word, group };
    });
    this.node = s("svg", { class: "machine", viewBox: "0 0 420 242", role: "img" },
      s("defs", {}, tip), s("path", { class: "divide", d: "M16 182H404" }),
      s("text", { x: 404, y: 177, "text-anchor": "end", class: "by" }, "said by operators"),
      ...this.edges.map((e) => e.group), ...this.nodes.map((n) => n.group));
  }

  show(now, ways) {
    const told = [];
    for (const edge of this.edges) {
      const times = ways[`${edge.from}>${edge.to}`] || 0;
      edge.count.textContent = times ? ` ×${times}` : "";
      edge.group.classList.toggle("used", times > 0);
      if (times) told.push(`${state(edge.from)} to ${state(edge.to)}: ${times}`);
    }
    for (const { word, group } of this.nodes) group.classList.toggle("live", word === now);
    const words = told.length ? ` In the last ten minutes: ${told.join(", ")}.` : "";
    this.node.setAttribute("aria-label", `State machine: now ${state(now)}.${words}`);
  }
}
