// One integration: where its breaker stands and why, what came of its calls, and what was decided lately.

import { h, name, s, say } from "./dom.js";
import { Charts } from "./charts.js";
import { controls } from "./controls.js";
import { Machine } from "./machine.js";
import { mark, ribbon } from "./marks.js";
import { ago, clock, count, percent, span, standing, state } from "./words.js";

const table = (label, heads) => {
  const body = h("tbody", {});
  const node = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))), body));
  return { node, body };
};

const part = (title, ...children) => h("section", { class: "part" }, h("h3", {}, title), ...children);
const row = (head, ...cells) => h("tr", {}, h("th", { scope: "row" }, name(head)), ...cells.map((cell) => h("td", {}, cell)));

export class Detail {
  constructor(box, card, about) {
    this.box = box;
    this.machine = new Machine();
    this.charts = new Charts();
    this.heading = h("h2", { tabindex: -1, id: "detail-name" }, name(card.name));
    this.badge = h("span", { class: "badge big" });
    this.standing = h("p", { class: "standing" });
    this.facts = h("dl", { class: "numbers facts" });
    this.why = h("ul", { class: "why" });
    this.ribbon = s("svg", { class: "ribbon tall", viewBox: "0 0 600 10", preserveAspectRatio: "none", role: "img" });
    this.operations = table("Operations", ["operation", "calls", "errors", "average", "p50", "p95", "p99", "retries", "timeouts", "refused", "fallbacks", "shared calls", "hedges"]);
    this.processes = table("Processes", ["process", "pid", "here for", "calls", "errors", "p50", "p95", "p99", "refused", "fallbacks"]);
    this.shared = part("Processes that share it", this.processes.node);
    this.shared.hidden = true;
    this.decisions = h("ol", { class: "decisions" });
    this.audit = h("ol", { class: "decisions" });
    this.operators = part("Operators, at this dashboard", this.audit);
    this.operators.hidden = true;
    box.replaceChildren(
      h("p", {}, h("a", { href: "#/", class: "back", id: "back" }, "← All integrations"), h("span", { class: "quiet" }, " (Esc)")),
      h("div", { class: "title" }, this.badge, this.heading, h("span", { class: "type" }, card.type)),
      this.standing, this.facts,
      h("div", { class: "halves" },
        part("Why", this.why),
        part("State machine", this.machine.node)),
      part("State, last ten minutes", this.ribbon, h("p", { class: "ends" }, h("span", {}, "10 min ago"), this.legend(), h("span", {}, "now")), h("p", { class: "quiet" }, "Where it is blank, nothing is known.")),
      h("section", { class: "part wide" }, this.charts.node),
      part("Operations, rolling window; the last six columns since the start", this.operations.node),
      this.shared,
      part("Recent decisions", this.decisions),
      part("Controls", controls(about, card.id, card.name)),
      this.operators);
  }

  legend() {
    return h("span", { class: "legend" }, ...["CLOSED", "OPEN", "HALF_OPEN", "FORCED_OPEN", "METRICS_ONLY", "DISABLED"].map((word) => h("span", {}, mark(word), ` ${state(word)} `)));
  }

  show(card, now) {
    if (this.state !== card.state) {
      this.state = card.state;
      this.badge.replaceChildren(mark(card.state), state(card.state).toUpperCase());
      this.badge.setAttribute("data-state", card.state);
    }
    say(this.standing, standing(card));
    const facts = [["calls/s", count(card.rate)], ["errors", percent(card.errors)], ["average", span(card.mean)], ["p50", span(card.p50)], ["p95", span(card.p95)],
      ["p99", span(card.p99)], ["refused/s", count(card.refused)], ["fallbacks/min", count(card.fallbacks)], ["capacity", percent(card.capacity)], ["window", span(card.window)]];
    if (!this.facts.children.length) {
      this.facts.append(...facts.map(([label]) => h("div", {}, h("dt", {}, label), h("dd", {}))));
    }
    facts.forEach(([, value], at) => say(this.facts.children[at].lastChild, value));
    this.now = now;
  }

  fill(detail, card, now, audit) {
    if (!detail) return;
    const trip = detail.last_trip && card.state !== "CLOSED" ? [h("li", {}, `Tripped ${ago(detail.last_trip[0])} ago: `, name(detail.last_trip[1]))] : [];
    this.why.replaceChildren(...detail.why.slice(0, 1).map((line) => h("li", {}, name(line))), ...trip,
      ...detail.why.slice(1).map((line) => h("li", {}, name(line))), ...(detail.rules || ["Its settings are known in its processes only."]).map((line) => h("li", { class: "rule" }, line)));
    this.machine.show(card.state, detail.ways);
    ribbon(this.ribbon, detail.ribbon, now, 600);
    const changes = Object.values(detail.ways).reduce((all, times) => all + times, 0);
    this.ribbon.setAttribute("aria-label", `${changes} changes of state in the last ten minutes; now ${state(card.state)}`);
    this.charts.show(detail.points, now);
    this.operations.body.replaceChildren(...detail.operations.map((o) => row(o.name, count(o.count), percent(o.errors), span(o.mean), span(o.p50), span(o.p95), span(o.p99),
      count(o.retries), count(o.timeouts), count(o.rejected), count(o.fallbacks), count(o.deduplicated), count(o.hedges))));
    this.shared.hidden = detail.processes === null;
    if (detail.processes !== null) {
      this.processes.body.replaceChildren(...detail.processes.map((p) => row(p.alive ? p.name : `${p.name} (gone)`, String(p.pid), ago(p.age), count(p.count), percent(p.errors),
        span(p.p50), span(p.p95), span(p.p99), count(p.rejected), count(p.fallbacks))));
    }
    this.decisions.replaceChildren(...(detail.decisions.length ? detail.decisions : [{ kind: "none", text: "no decisions so far", age: null, count: 1 }])
      .map((d) => h("li", { "data-kind": d.kind }, h("span", { class: "when" }, d.age === null ? "" : `${ago(d.age)} ago`), h("span", { class: "kind" }, d.kind === "none" ? "" : d.kind.replace("_", " ")),
        h("span", { class: "what" }, name(d.text), d.count > 1 ? ` (${d.count} times)` : ""))));
    this.operators.hidden = !audit.length;
    this.audit.replaceChildren(...audit.slice().reverse().map((a) => h("li", {}, h("span", { class: "when" }, clock(a.at)), h("span", { class: "kind" }, a.who),
      h("span", { class: "what" }, a.action, " ", name(a.integration)))));
  }

  retheme() { this.charts.make(); }

  close() {
    this.charts.destroy();
    this.box.replaceChildren();
  }
}
