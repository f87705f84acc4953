// Latency and outcomes over time, drawn by uPlot. Without it (the wheel `youplot`), tables tell the same.

import { h, s, say } from "./dom.js";
import { clock, count, span } from "./words.js";

const BAND_LOW = 1e-6; // seconds; four bands a decade, as the server counts them
const edge = (band) => BAND_LOW * 10 ** (band / 4);

// What a point is: [time, succeeded, failed, timed out, refused, fallbacks, [p50, p95, p99], [band, count, ...]].
const OUTCOMES = [["succeeded", "--ok"], ["failed", "--bad"], ["timed out", "--late"], ["refused", "--refused"]];
const QUANTILES = [["p50", "--p50"], ["p95", "--p95"], ["p99", "--p99"]];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const words = (splits, tell) => splits.map((v) => (v === null ? "" : tell(v)));

const decades = (low, high) => {
  const all = [];
  for (let at = Math.round(Math.log10(low)); at <= Math.round(Math.log10(high)); at++) all.push(10 ** at);
  return all;
};

function heat(u, points) {
  const ctx = u.ctx, { left, top, width, height } = u.bbox;
  const most = Math.max(1, ...points.flatMap((p) => p[7].filter((_, at) => at % 2)));
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.fillStyle = colour("--heat");
  points.forEach((point, at) => {
    const before = at ? points[at - 1][0] : points.length > 1 ? 2 * point[0] - points[1][0] : point[0] - 2;
    const x1 = u.valToPos(point[0], "x", true), x0 = u.valToPos(Math.max(before, point[0] - 20), "x", true);
    for (let i = 0; i < point[7].length; i += 2) {
      const y0 = u.valToPos(edge(point[7][i] + 1), "y", true), y1 = u.valToPos(edge(point[7][i]), "y", true);
      ctx.globalAlpha = 0.18 + 0.72 * Math.sqrt(point[7][i + 1] / most);
      ctx.fillRect(x0, y0, Math.max(x1 - x0, 1) + 0.5, Math.max(y1 - y0, 1));
    }
  });
  ctx.restore();
}

export class Charts {
  constructor() {
    this.points = [];
    this.now = 0;
    this.boxes = {};
    this.node = h("div", { class: "charts" }, this.box("latency", "Latency", "How long calls took: darker, more calls; lines, percentiles of two seconds"),
      this.box("outcomes", "Outcomes", "Calls a second, by how they ended"), this.table());
    this.seen = new ResizeObserver(() => this.resize());
    this.seen.observe(this.node);
    this.plots = [];
  }

  box(key, title, words) {
    const plot = h("div", { class: "plot" });
    const told = h("p", { class: "told", "aria-live": "polite" });
    const box = h("div", { class: "chart", tabindex: 0, role: "group", "aria-label": `${title}. ${words}. Arrow keys move through time.`,
      onkeydown: (event) => this.step(event) }, h("h3", {}, title), h("p", { class: "quiet" }, words), plot, told);
    this.boxes[key] = { box, plot, told };
    return box;
  }

  table() {
    this.rows = h("tbody", {});
    const heads = ["time", "succeeded/s", "failed/s", "timed out/s", "refused/s", "fallbacks/s", "p50", "p95", "p99"];
    this.details = h("details", { ontoggle: () => this.fill() }, h("summary", {}, "The last two minutes as a table"),
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of the last two minutes" },
        h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))), this.rows)));
    if (!window.uPlot) this.details.open = true;
    return this.details;
  }

  fill() {
    if (!this.details.open) return;
    const rows = this.points.slice(-60).reverse().map((p) => h("tr", {}, h("th", { scope: "row" }, clock(p[0])),
      ...p.slice(1, 6).map((v) => h("td", {}, count(v))), ...(p[6] || [null, null, null]).map((v) => h("td", {}, span(v)))));
    this.rows.replaceChildren(...rows);
  }

  range() {
    const first = this.points.length ? this.points[0][0] : this.now;
    return [this.now - Math.min(600, Math.max(30, this.now - first)), this.now];
  }

  make() {
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    if (!window.uPlot) return;
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    const time = { ...axis, values: (_, splits) => words(splits, (v) => clock(v).slice(0, 8)), space: 90 };
    const common = (key) => ({
      width: Math.max(this.boxes[key].plot.clientWidth, 200), height: 200,
      cursor: { drag: { x: false, y: false }, sync: { key: "failsoft" } },
      legend: { live: true },
    });
    const latency = new window.uPlot({
      ...common("latency"),
      scales: { x: { range: () => this.range() }, y: { distr: 3, range: () => this.limits() } },
      axes: [time, { ...axis, size: 64, splits: (_, __, low, high) => decades(low, high), filter: (_, splits) => splits, values: (_, splits) => words(splits, span) }],
      series: [{ label: "time", value: (_, v) => (v === null ? "–" : clock(v)) },
        ...QUANTILES.map(([label, name], at) => ({ label, stroke: colour(name), width: at === 1 ? 2.2 : 1.6, dash: at === 2 ? [6, 4] : undefined,
          points: { size: 4, show: () => this.points.length < 60 }, value: (_, v) => span(v) }))],
      hooks: { drawClear: [(u) => heat(u, this.points)] },
    }, this.latencies(), this.boxes.latency.plot);
    const bars = window.uPlot.paths.bars({ size: [0.92, 24] });
    const outcomes = new window.uPlot({
      ...common("outcomes"),
      scales: { x: { range: () => this.range() }, y: { range: (_, __, most) => [0, Math.max(most || 0, 1) * 1.08] } },
      axes: [time, { ...axis, size: 64, values: (_, splits) => words(splits, count) }],
      series: [{ label: "time", value: (_, v) => (v === null ? "–" : clock(v)) },
        ...[3, 2, 1, 0].map((k) => ({ label: OUTCOMES[k][0], fill: colour(OUTCOMES[k][1]), width: 0, paths: bars, points: { show: false },
          value: (_, __, ___, i) => (i === null || !this.points[i] ? "–" : count(this.points[i][k + 1])) })),
        { label: "fallbacks", stroke: colour("--fallback"), width: 2, points: { show: false }, value: (_, v) => count(v) }],
    }, this.stacked(), this.boxes.outcomes.plot);
    this.plots = [latency, outcomes];
  }

  limits() {
    let low = Infinity, high = 0;
    for (const point of this.points) {
      for (let i = 0; i < point[7].length; i += 2) {
        low = Math.min(low, edge(point[7][i]));
        high = Math.max(high, edge(point[7][i] + 1));
      }
    }
    if (!high) return [1e-4, 1];
    return [10 ** Math.floor(Math.log10(low) + 1e-9), 10 ** Math.ceil(Math.log10(high) - 1e-9)];
  }

  latencies() {
    return [this.points.map((p) => p[0]), ...[0, 1, 2].map((at) => this.points.map((p) => (p[6] ? p[6][at] : null)))];
  }

  // The first drawn is the highest; each next one covers what is not its own.
  stacked() {
    const sum = (p, most) => { let all = 0; for (let i = 1; i <= most; i++) all += p[i]; return all; };
    return [this.points.map((p) => p[0]), ...[4, 3, 2, 1].map((most) => this.points.map((p) => sum(p, most))), this.points.map((p) => p[5])];
  }

  show(points, now) {
    this.now = now;
    const last = this.points.length ? this.points[this.points.length - 1][0] : 0;
    const fresh = points.filter((p) => p[0] > last);
    this.points = [...this.points, ...fresh].filter((p) => p[0] > now - 600);
    if (!this.plots.length) this.make();
    if (this.plots.length) {
      this.plots[0].setData(this.latencies());
      this.plots[1].setData(this.stacked());
      const last = this.points.length - 1;
      if (last >= 0 && this.at === undefined) for (const plot of this.plots) if (!(plot.cursor.left >= 0)) plot.setLegend({ idx: last });
    }
    if (fresh.length) this.fill();
    this.label();
  }

  label() {
    const p = this.points[this.points.length - 1];
    if (!p) return;
    const [latency, outcomes] = this.told(p);
    for (const [key, text] of [["latency", latency], ["outcomes", outcomes]]) {
      this.boxes[key].plot.setAttribute("role", "img");
      this.boxes[key].plot.setAttribute("aria-label", `Chart. Last: ${text}`);
    }
  }

  told(p) {
    const [p50, p95, p99] = p[6] || [null, null, null];
    return [`${clock(p[0])}: p50 ${span(p50)}, p95 ${span(p95)}, p99 ${span(p99)}`,
      `${clock(p[0])}: ${OUTCOMES.map(([label], at) => `${count(p[at + 1])} ${label}`).join(", ")} a second; ${count(p[5])} fallbacks`];
  }

  step(event) {
    const ways = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 };
    if (!(event.key in ways) || !this.points.length) return;
    event.preventDefault();
    const last = this.points.length - 1;
    const from = this.at === undefined ? last + (ways[event.key] < 0 ? 1 : 0) : this.at;
    this.at = Math.min(Math.max(from + ways[event.key], 0), last);
    const point = this.points[this.at], [latency, outcomes] = this.told(point);
    say(this.boxes.latency.told, latency);
    say(this.boxes.outcomes.told, outcomes);
    for (const plot of this.plots) plot.setCursor({ left: plot.valToPos(point[0], "x"), top: 10 });
  }

  resize() {
    for (const [at, key] of ["latency", "outcomes"].entries()) {
      const width = Math.max(this.boxes[key].plot.clientWidth, 200);
      if (this.plots[at] && this.plots[at].width !== width) this.plots[at].setSize({ width, height: 200 });
    }
  }

  destroy() {
    this.seen.disconnect();
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
  }
}
