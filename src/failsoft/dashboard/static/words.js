// Numbers and states as an operator reads them.

const digits = (value, most = 3) => String(Number(value.toPrecision(most)));

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds === 0) return "0";
  if (seconds < 1e-6) return `${digits(seconds * 1e9)} ns`;
  if (seconds < 1e-3) return `${digits(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${digits(seconds * 1e3)} ms`;
  if (seconds < 60) return `${digits(seconds)} s`;
  return `${digits(seconds / 60)} min`;
}

export function ago(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return "under 1 s";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60), hours = Math.floor(seconds / 3600);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${digits(value / 1e6)} M`;
  if (value >= 1e4) return `${digits(value / 1e3)} k`;
  return value >= 100 ? String(Math.round(value)) : digits(value);
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  const value = share * 100;
  return `${value >= 99.95 || value === 0 ? Math.round(value) : digits(value, value < 1 ? 2 : 3)} %`;
}

export const clock = (epoch) => new Date(epoch * 1000).toLocaleTimeString([], { hour12: false });

export const STATES = {
  CLOSED: "closed", OPEN: "open", HALF_OPEN: "half-open",
  FORCED_OPEN: "forced open", METRICS_ONLY: "metrics only", DISABLED: "disabled",
};

export const state = (word) => STATES[word] || word;

const REASONS = {
  consecutive_failures: "too many failures in a row",
  failure_rate: "too large a share of the calls failed",
  slow_rate: "too large a share of the calls was slow",
  latency: "the latency passed its limit",
  probe_failed: "a probe failed",
  wait_over: "the wait is over, probes may go",
  recovered: "the probes succeeded",
  operator: "an operator said so",
  ramped: "recovered, all the way",
};

export const reason = (word) => REASONS[word] || word;

// The line under a card's name: how long it has been so, why, and what comes next.
export function standing(card) {
  if (card.passes) return "switched off: guards are pass-throughs";
  const parts = [`for ${ago(card.age)}`];
  if (card.state === "OPEN" && card.reason === "consecutive_failures") parts.push(`${card.failures} failures in a row`);
  else if (card.reason) parts.push(reason(card.reason));
  if (card.state === "OPEN" && card.retry_after !== null) {
    parts.push(card.retry_after > 0 ? `calls go again in ${span(card.retry_after)}` : "the next call is a probe");
  }
  if (card.state === "HALF_OPEN") parts.push(`${card.probes} ${card.probes === 1 ? "probe" : "probes"} under way`);
  return parts.join(" · ");
}
